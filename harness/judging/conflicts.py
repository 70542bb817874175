"""Soundness conflicts: one answer proves what a replayed counterexample refutes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from harness.domain import Verdict, WitnessCheck, WitnessVerdict


@dataclass(frozen=True, slots=True)
class Claim:
    """What one result asserts of a network and a property, both identified by content."""

    network_sha256: str
    property_sha256: str
    source: str
    """Who says so: the tool's name, or whatever tells two answers apart."""
    tool_verdict: Verdict | None
    """The tool's own word, in time or late: a false proof is false at any time. None where no tool was asked."""
    witness: WitnessCheck | None
    """The replay of the counterexample, where one was claimed (the unperturbed input of a clean check is one)."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A property that was called proved and has a counterexample: at least one answer is wrong."""

    network_sha256: str
    property_sha256: str
    unsat_by: tuple[str, ...]
    """Sources that answered unsat, sorted."""
    sat_by: tuple[str, ...]
    """Sources whose counterexample replayed as `correct`, sorted. One on tolerance proves nothing (VNN-COMP 2026)."""


def refutes(witnesses: Iterable[WitnessVerdict | None]) -> bool:
    """Returns whether a counterexample is correct: whoever answered unsat is wrong."""
    return WitnessVerdict.CORRECT in witnesses


def puts_in_question(witnesses: Collection[WitnessVerdict | None]) -> bool:
    """Returns whether counterexamples put an unsat in question: one refutes it, or nobody knows what one is worth.

    They do not where every one was replayed and proves nothing.
    """
    return refutes(witnesses) or None in witnesses or WitnessVerdict.UNSUPPORTED in witnesses


def find_conflicts(claims: Iterable[Claim]) -> tuple[Conflict, ...]:
    """Returns every network and property of which one claim is unsat and another has a correct counterexample.

    Claims without hashes cannot be matched and are left out. The order is that of the hashes.
    """
    proved: dict[tuple[str, str], set[str]] = {}
    refuted: dict[tuple[str, str], set[str]] = {}
    for claim in claims:
        instance = (claim.network_sha256, claim.property_sha256)
        if not all(instance):
            continue
        if claim.tool_verdict is Verdict.UNSAT:
            proved.setdefault(instance, set()).add(claim.source)
        if claim.witness is not None and claim.witness.verdict is WitnessVerdict.CORRECT:
            refuted.setdefault(instance, set()).add(claim.source)
    return tuple(
        Conflict(*instance, tuple(sorted(proved[instance])), tuple(sorted(refuted[instance])))
        for instance in sorted(proved.keys() & refuted.keys())
    )
