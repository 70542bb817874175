from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from answers import answer, case, of_set

from benchmarks.cases import SETTINGS
from benchmarks.startup import StartupFigures
from benchmarks.targets import TARGETS, Standing, TargetRow, compare
from harness.domain import Verdict


def row(rows: list[TargetRow], name: str, what: str) -> TargetRow:
    (found,) = [r for r in rows if (r.set, r.what) == (name, what)]
    return found


def test_targets_are_of_known_sets_and_have_one_bound() -> None:
    for target in TARGETS:
        assert target.set in SETTINGS
        assert (target.at_least is None) != (target.at_most is None)


def test_nothing_measured_is_neither_reached_nor_missed() -> None:
    assert {r.standing for r in compare({}, None)} == {Standing.NOT_MEASURED}


@pytest.mark.parametrize(("proved", "standing"), [(42, Standing.MISSED), (43, Standing.REACHED)])
def test_counts_are_compared(proved: int, standing: Standing) -> None:
    figures = replace(of_set(answer(Verdict.UNSAT)), verdicts={"unsat": proved})
    found = row(compare({"cnn_a": figures}, None), "cnn_a", "proved")
    assert (found.value, found.standing) == (proved, standing)


def test_a_count_that_a_shorter_run_reaches_is_reached() -> None:
    for proved, standing in ((42, Standing.NOT_MEASURED), (43, Standing.REACHED)):
        figures = replace(of_set(answer(Verdict.UNSAT), full=False), verdicts={"unsat": proved})
        assert row(compare({"cnn_a": figures}, None), "cnn_a", "proved").standing is standing


@pytest.mark.parametrize("short", [{"full": False}, {"cases": [case("0"), case("1")]}])
def test_a_shorter_run_reaches_no_times_and_misses_no_counts(short: dict[str, Any]) -> None:
    hard = answer(Verdict.UNSAT, domains=10**6, work_s=4.0, wall_s=4.0, seconds={"bab": 4.0})
    rows = compare({"cnn_a": of_set(hard, **short)}, None)
    assert row(rows, "cnn_a", "proved").standing is Standing.NOT_MEASURED
    assert row(rows, "cnn_a", "branch and bound").standing is Standing.REACHED


def test_a_full_run_without_the_figure_has_missed_it() -> None:
    figures = of_set(answer(Verdict.UNKNOWN))
    found = row(compare({"cnn_a": figures}, None), "cnn_a", "the 94 that alpha,beta-CROWN solves")
    assert (found.value, found.standing) == (None, Standing.MISSED)


@pytest.mark.parametrize(("sat_s", "standing"), [(2.6, Standing.REACHED), (2.62, Standing.MISSED)])
def test_startup(sat_s: float, standing: Standing) -> None:
    startup = StartupFigures((1.0, 2.0, 9.0), (sat_s,) * 3, (5.0,) * 3)
    assert row(compare({}, startup), "startup", "one trivial instance, whole process").standing is standing


def test_wrong_answers_miss_their_target_wherever_they_are() -> None:
    right, wrong = of_set(answer(Verdict.SAT)), of_set(answer(Verdict.UNSAT, Verdict.SAT))
    assert row(compare({"cnn_a": right}, None), "all run", "wrong answers").standing is Standing.REACHED
    found = row(compare({"cnn_a": right, "oval21": wrong}, None), "all run", "wrong answers")
    assert (found.value, found.standing) == (1, Standing.MISSED)
