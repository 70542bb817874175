"""What the engine decided of one instance."""

from __future__ import annotations

from typing import NamedTuple

from harness.domain import Counterexample, Stage, Verdict
from harness.verifier.bab import REASONS, Outcome, SearchResult


class Decision(NamedTuple):
    """An instance's answer, before it is told."""

    verdict: Verdict
    stage: Stage | None = None
    witness: Counterexample | None = None
    message: str = ""


def decided(result: SearchResult) -> Decision | None:
    """Returns what the outcome of an instance's search says of it; None: its tree is larger than that."""
    stage = Stage.BAB if result.branched else Stage.INCOMPLETE
    if result.outcome is Outcome.PROVED:
        return Decision(Verdict.UNSAT, stage)
    if result.outcome is Outcome.FALSIFIED:
        return Decision(Verdict.SAT, Stage.BAB if result.branched else Stage.ATTACK, result.counterexample)
    if result.outcome is Outcome.STOPPED:
        return Decision(Verdict.TIMEOUT)
    return None if result.outcome is Outcome.LARGE else Decision(Verdict.UNKNOWN, message=REASONS[result.outcome])
