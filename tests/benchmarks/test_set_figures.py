from __future__ import annotations

import pytest
from answers import answer, case, of_set

from benchmarks.figures import bab_wall, contradiction, engine_wall
from harness.domain import Verdict, WitnessVerdict

SAT, UNSAT, UNKNOWN, TIMEOUT, ERROR = Verdict.SAT, Verdict.UNSAT, Verdict.UNKNOWN, Verdict.TIMEOUT, Verdict.ERROR


@pytest.mark.parametrize(
    ("verdict", "label", "wrong"),
    [
        (UNSAT, SAT, True),
        (UNSAT, UNSAT, False),
        (UNSAT, None, False),
        (SAT, UNSAT, True),
        (SAT, SAT, False),
        (SAT, None, False),
        (UNKNOWN, SAT, False),
        (TIMEOUT, UNSAT, False),
        (ERROR, UNSAT, False),
    ],
)
def test_an_answer_contradicts_only_the_opposite_label(verdict: Verdict, label: Verdict | None, wrong: bool) -> None:
    assert (contradiction(answer(verdict, label)) is not None) is wrong


@pytest.mark.parametrize("replay", [None, *(v for v in WitnessVerdict if not v.value.startswith("correct"))])
def test_a_sat_that_does_not_replay_is_wrong_whatever_the_label(replay: WitnessVerdict | None) -> None:
    for label in (SAT, UNSAT, None):
        found = contradiction(answer(ERROR, label, said=SAT, replay=replay))
        assert found is not None
        assert "does not replay" in found


def test_a_late_wrong_answer_is_wrong() -> None:
    assert contradiction(answer(TIMEOUT, SAT, said=UNSAT)) is not None


def test_verdicts_stages_and_domains_are_counted() -> None:
    found = of_set(answer(SAT, SAT, key="0"), answer(UNSAT, UNSAT, key="1", domains=7), answer(UNKNOWN, UNSAT, key="2"))
    assert found.verdicts == {"sat": 1, "unsat": 1, "unknown": 1}
    assert found.stages == {"attack sat": 1, "bab unsat": 1}
    assert (found.right, found.domains, found.wrong, found.complete) == (2, 7, (), True)


def test_the_last_of_those_solved_before() -> None:
    answers = [answer(SAT, key="0", at_s=1.5), answer(UNSAT, key="1", at_s=3.5)]
    found = of_set(*answers)
    assert (found.before, found.before_solved, found.before_s) == (2, 2, 3.5)
    late = answer(UNKNOWN, key="2", at_s=9.0)
    assert of_set(*answers, late).before_s is None
    # A case without any answer was not solved either.
    assert of_set(*answers, cases=[*(a.case for a in answers), case("2")]).before_s is None
    # One that nobody solved before may take as long as it likes.
    assert of_set(*answers, cases=[*(a.case for a in answers), case("2", before=False)]).before_s == 3.5


def test_a_wrong_answer_does_not_count_as_solved() -> None:
    found = of_set(answer(UNSAT, SAT))
    assert (found.before_solved, found.before_s, len(found.wrong), found.right) == (0, None, 1, 0)


def test_missing_answers_are_said() -> None:
    found = of_set(answer(SAT), cases=[case("0"), case("1")])
    assert (found.cases, found.complete) == (2, False)


def test_wall_time_of_the_engine_is_summed_over_networks() -> None:
    answers = [
        answer(SAT, wall_s=3.0, network="a.onnx"),
        answer(SAT, wall_s=5.0, network="a.onnx"),
        answer(SAT, wall_s=2.0, network="b.onnx"),
    ]
    assert engine_wall(answers) == 7.0


def test_branch_and_bound_gets_its_share_of_the_wall_time() -> None:
    easy = answer(SAT, work_s=2.0, seconds={"attack": 2.0})
    hard = answer(UNSAT, work_s=6.0, seconds={"attack": 0.5, "bab": 5.5}, domains=10)
    assert bab_wall([easy, hard], 4.0) == pytest.approx(4.0 * 5.5 / 8)
    unsaid = answer(UNSAT, work_s=6.0, domains=10)
    assert bab_wall([easy, unsaid], 4.0) == pytest.approx(4.0 * 6 / 8)
    assert bab_wall([], 4.0) == 0.0


def test_rates_are_over_the_seconds_of_branch_and_bound() -> None:
    one = answer(UNSAT, work_s=4.0, wall_s=4.0, seconds={"bab": 4.0}, domains=100, multiply_adds=10**9)
    found = of_set(one)
    assert found.bab_s == 4.0
    assert found.domains_per_s == 25.0
    assert found.kernel_gflops == pytest.approx(0.5)


def test_no_rate_is_made_up() -> None:
    found = of_set(answer(SAT))
    assert (found.domains_per_s, found.kernel_gflops, found.seconds) == (None, None, None)
    # Operations that only some instances counted are no total.
    mixed = [answer(UNSAT, key="0", domains=5, multiply_adds=10), answer(UNSAT, key="1", domains=5)]
    assert of_set(*mixed).kernel_gflops is None


def test_seconds_by_stage_are_summed() -> None:
    answers = [answer(SAT, seconds={"attack": 1.0}), answer(UNSAT, seconds={"attack": 0.5, "bab": 2.0})]
    assert of_set(*answers).seconds == {"attack": 1.5, "bab": 2.0}
