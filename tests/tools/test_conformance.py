"""The eight toy networks: their answers are what is claimed, and every kind of wrong tool is found out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from harness.domain import Counterexample, Job, ToolAnswer, Verdict
from harness.formats.vnnlib import parse_property
from harness.judging.judge import Judge
from harness.tools.conformance import LATE_S, TIMEOUT_CASE_S, Case, Outcome, cases, check_tool, conforms
from harness.tools.dummy import DummyTool
from harness.tools.toy_networks import CONVOLUTION_MAX, CORNER_MAX

CASES = {case.name: case for case in cases()}
WITNESSES = {
    "sat": [1, 1],
    "strictness": [1, -1],
    "boxes": [1, -1],
    "witness": [1, 1, 0, 0, 0, 0, 1, 0, 1, 1, 0, 1],
}


def run(case: Case, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(case.network)
    shape = session.get_inputs()[0].shape
    return np.stack([session.run(None, {"x": one.reshape(shape).astype(np.float32)})[0][0] for one in x])


def right(job: Job) -> ToolAnswer:
    case = CASES[job.variant]
    x = np.array(WITNESSES[case.name], np.float32) if case.expected is Verdict.SAT else None
    return ToolAnswer(case.expected, 1.0, 1.0, counterexample=None if x is None else Counterexample(x))


def check(tmp_path: Path, say: Callable[[Job], ToolAnswer]) -> dict[str, Outcome]:
    tool = DummyTool(say, batched=False)
    return {one.case.name: one for one in check_tool(tool, Judge().judge, tmp_path, 60.0)}


def test_there_are_eight() -> None:
    assert len(CASES) == 8
    assert {case.expected for case in CASES.values()} == {Verdict.SAT, Verdict.UNSAT}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.expected is Verdict.UNSAT])
def test_unsat_is_out_of_reach_at_all_corners_and_at_random_points(name: str) -> None:
    case = CASES[name]
    (one,) = parse_property(case.prop, name).cases
    rng = np.random.default_rng(0)
    random = rng.uniform(one.box.lower, one.box.upper, (2000, one.box.size))
    corners = np.array(
        list(itertools.product(*zip(one.box.lower, one.box.upper, strict=True)))[:: 2 ** max(0, one.box.size - 11)]
    )
    greatest = run(case, np.vstack([random, corners]))[:, 0].max()
    (threshold,) = -one.polytopes[0].rhs
    assert greatest < threshold - 0.2


def test_bounds_that_are_known_by_thinking() -> None:
    """The convolution's is not attained, the corner's is."""
    assert run(CASES["conv"], np.random.default_rng(1).uniform(0, 1, (500, 16))).max() <= CONVOLUTION_MAX
    assert run(CASES["witness"], np.array([WITNESSES["witness"]]))[0, 0] == CORNER_MAX


def test_the_right_answers_conform(tmp_path: Path) -> None:
    outcomes = check(tmp_path, right)
    assert {one.status for one in outcomes.values()} == {"passed"}, outcomes
    assert conforms(list(outcomes.values()))


def test_a_transposed_witness_fails(tmp_path: Path) -> None:
    def say(job: Job) -> ToolAnswer:
        if job.variant != "witness":
            return right(job)
        x = np.array(WITNESSES["witness"], np.float32).reshape(2, 2, 3)
        return ToolAnswer(
            Verdict.SAT, 1.0, 1.0, counterexample=Counterexample(np.ascontiguousarray(x.transpose(1, 0, 2)).ravel())
        )

    outcomes = check(tmp_path, say)
    assert [name for name, one in outcomes.items() if one.status == "failed"] == ["witness"]
    assert "spec_not_violated" in outcomes["witness"].message


@pytest.mark.parametrize("said", [Verdict.SAT, Verdict.UNSAT, Verdict.ERROR])
def test_one_answer_to_everything_does_not_conform(tmp_path: Path, said: Verdict) -> None:
    outcomes = check(tmp_path, lambda _job: ToolAnswer(said, 1.0, 1.0))
    failed = {name for name, one in outcomes.items() if one.status == "failed"}
    wrong = {name for name, case in CASES.items() if said is Verdict.ERROR or case.expected is not said}
    assert failed >= wrong
    assert not conforms(list(outcomes.values()))
    assert all(outcomes[name].message for name in failed)


def test_an_incomplete_verifier_conforms_but_one_that_decides_nothing_does_not(tmp_path: Path) -> None:
    def say(job: Job) -> ToolAnswer:
        answer = right(job)
        return answer if answer.verdict is Verdict.UNSAT else ToolAnswer(Verdict.UNKNOWN, 1.0, 1.0)

    outcomes = check(tmp_path, say)
    assert {one.status for one in outcomes.values()} == {"passed", "undecided"}
    assert conforms(list(outcomes.values()))
    silent = check(tmp_path, lambda _job: ToolAnswer(Verdict.UNKNOWN, 1.0, 1.0))
    assert silent["timeout"].status == "passed"
    assert not conforms(list(silent.values()))


@pytest.mark.parametrize(
    ("seconds", "status"), [(TIMEOUT_CASE_S + LATE_S / 2, "passed"), (TIMEOUT_CASE_S + 2 * LATE_S, "failed")]
)
def test_the_limit_has_to_be_noticed(tmp_path: Path, seconds: float, status: str) -> None:
    def say(job: Job) -> ToolAnswer:
        return right(job) if job.variant != "timeout" else ToolAnswer(Verdict.TIMEOUT, seconds, seconds)

    assert check(tmp_path, say)["timeout"].status == status
