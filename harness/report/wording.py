"""Numbers, limits and times of a run as words for readers of its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.analysis.statistics import Share
from harness.report.sentences import inputs_in_words

CLOCKS = {"work": "work (batch mode)", "wall": "wall-clock time (competition mode: one input at a time)"}
"""What a time limit is on, in words."""


def seconds(value: float) -> str:
    """Returns a duration for readers, with two significant figures below ten seconds."""
    if value >= 3600:
        return f"{value / 3600:.1f} h"
    if value >= 60:
        return f"{value / 60:.1f} min"
    return f"{value:.0f} s" if value >= 10 else f"{value:.2g} s"


def share(count: int, n: int) -> str:
    """Returns a share for readers: `333 of 360, 92.5 %`."""
    percent = Share(count, n).percent
    return f"{count} of {n}" if percent is None else f"{count} of {n}, {percent:.1f} %"


def probability(p: float) -> str:
    """Returns a p-value for readers; very small ones only with what they are below."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


PROOFS = {"real": "of the network's exact values; rounding of float32 evaluations is not covered"}
"""Arithmetic to what proofs are of, where it is not the usual."""

_OF_EACH = "not the same for all runs, see the table of runs"


def run_facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns what was run, as pairs of a name and words; what is not known is left out."""
    runs = summary.get("runs", [])
    limit = f"{summary['timeout_s']:g} s of {CLOCKS[summary['timeout_on']]} for each input"
    if summary["max_domains"] is not None:
        limit += f", at most {summary['max_domains']} domains"
    if len({(one["timeout_s"], one["timeout_on"], one["max_domains"]) for one in runs}) > 1:
        limit = _OF_EACH
    judging = judging_facts(summary)
    if any(one["judging"] != judging for one in runs):
        judging = [("Judged and proved", _OF_EACH)]
    eps = summary["eps"]
    unfinished = not summary["complete"] and not summary.get("golden")
    facts = [
        ("Protocol", summary["protocol"]),
        ("Device", summary["device"]),
        ("Verifier", summary["tool"]),
        *judging,
        ("Inputs", inputs_in_words(summary)),
        ("Radius", "" if eps is None else f"{_fraction(eps)} in the maximum norm"),
        ("Limit", limit),
        ("Seed", "" if summary["seed"] is None else str(summary["seed"])),
        ("Started", moment(summary["started_at"])),
        ("Finished", "not yet" if unfinished else moment(summary["finished_at"])),
    ]
    return [(name, text) for name, text in facts if text]


def judging_facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns what an answer of the run had to be, where that is not the usual: the present rules go without saying."""
    rules, proofs = summary.get("rules", "2026"), PROOFS.get(summary.get("arithmetic", ""), "")
    facts = [("Judged by", "" if rules == "2026" else f"VNN-COMP's rules of {rules}"), ("Proofs", proofs)]
    return [(name, text) for name, text in facts if text]


def moment(text: str) -> str:
    """Returns an ISO 8601 time in UTC for readers, to the second; other text as it is."""
    day, mark, rest = text.partition("T")
    if not mark:
        return text
    clock = rest.removesuffix("Z").removesuffix("+00:00")
    return f"{day} {clock.split('.')[0]}{' UTC' if clock != rest else ''}"


def _fraction(eps: float) -> str:
    steps = eps * 255
    exact = abs(steps - round(steps, 1)) < 1e-9
    return f"{steps:g}/255 = {eps:.6f}" if exact else f"{eps:g}"
