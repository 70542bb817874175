from __future__ import annotations

import pytest

from harness.domain import Verdict, WitnessCheck, WitnessVerdict
from harness.judging.conflicts import Claim, Conflict, find_conflicts, puts_in_question, refutes


def unsat(source: str, network: str = "n", prop: str = "p") -> Claim:
    return Claim(network, prop, source, Verdict.UNSAT, None)


def sat(source: str, network: str = "n", prop: str = "p", witness: WitnessVerdict = WitnessVerdict.CORRECT) -> Claim:
    return Claim(network, prop, source, Verdict.SAT, WitnessCheck(witness))


def test_a_proof_and_a_counterexample_of_one_instance_conflict() -> None:
    claims = [unsat("ours"), sat("other"), unsat("third"), unsat("ours", prop="q"), sat("other", network="m")]
    assert find_conflicts(claims) == (Conflict("n", "p", ("ours", "third"), ("other",)),)


def test_the_clean_input_refutes_a_proof_although_no_tool_said_sat() -> None:
    clean = Claim("n", "p", "clean check", None, WitnessCheck(WitnessVerdict.CORRECT))
    assert find_conflicts([clean, unsat("ours")]) == (Conflict("n", "p", ("ours",), ("clean check",)),)


@pytest.mark.parametrize("witness", [w for w in WitnessVerdict if w is not WitnessVerdict.CORRECT])
def test_only_a_correct_counterexample_proves_anything(witness: WitnessVerdict) -> None:
    assert find_conflicts([unsat("ours"), sat("other", witness=witness)]) == ()


@pytest.mark.parametrize("said", [v for v in Verdict if v is not Verdict.UNSAT])
def test_only_unsat_is_refuted(said: Verdict) -> None:
    assert find_conflicts([Claim("n", "p", "ours", said, None), sat("other")]) == ()


def test_claims_without_hashes_match_nothing() -> None:
    assert find_conflicts([unsat("ours", network=""), sat("other", network="")]) == ()


def test_conflicts_come_in_the_order_of_their_hashes() -> None:
    claims = [claim for name in "cab" for claim in (unsat("ours", network=name), sat("other", network=name))]
    assert [conflict.network_sha256 for conflict in find_conflicts(claims)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("witnesses", "refuted", "in_question"),
    [
        ([], False, False),
        ([WitnessVerdict.CORRECT, WitnessVerdict.NO_CE], True, True),
        ([WitnessVerdict.CORRECT_UP_TO_TOLERANCE, WitnessVerdict.SPEC_NOT_VIOLATED], False, False),
        ([WitnessVerdict.SPEC_NOT_VIOLATED, WitnessVerdict.UNSUPPORTED], False, True),
        ([WitnessVerdict.SPEC_NOT_VIOLATED, None], False, True),
    ],
)
def test_what_nobody_could_look_at_puts_a_proof_in_question_too(
    witnesses: list[WitnessVerdict | None], refuted: bool, in_question: bool
) -> None:
    assert (refutes(witnesses), puts_in_question(witnesses)) == (refuted, in_question)
