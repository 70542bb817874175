"""SA, RA, VA and UNR with their denominators."""

from __future__ import annotations

import pytest

from harness.analysis.metrics import robust_accuracy, standard_accuracy, unstable_ratio, verified_accuracy
from harness.analysis.table import ResultRow
from harness.domain import Stage, UsageError, Verdict

ROWS = [
    ResultRow("a", 0, Verdict.SAT, Stage.CLEAN),
    ResultRow("a", 1, Verdict.SAT, Stage.ATTACK),
    ResultRow("a", 2, Verdict.UNSAT, Stage.INCOMPLETE),
    ResultRow("a", 3, Verdict.UNSAT, Stage.BAB, entered_bab=True, neurons=200, unstable=40, unstable_nonlinear=10),
    ResultRow("a", 4, Verdict.TIMEOUT, None, entered_bab=True, neurons=200, unstable=60, unstable_nonlinear=30),
]
MANIFEST = {
    "variant": "a",
    "metrics": {
        "SA": {"value": 78.1, "n": 10000},
        "RA": {"value": 61.19, "n": 10000, "attack": "pgd-100", "restarts": 1},
    },
}


def test_the_manifest_states_sa_and_ra_of_the_whole_test_set() -> None:
    sa, ra = standard_accuracy(ROWS, 9, MANIFEST), robust_accuracy(ROWS, 9, MANIFEST)
    assert (sa.value, sa.measured) == (78.1, {"n": 10000})
    assert (ra.value, ra.measured) == (61.19, {"n": 10000, "attack": "pgd-100", "restarts": 1})


@pytest.mark.parametrize("manifest", [None, {}, {"metrics": {}}, {"metrics": None}])
def test_without_a_manifest_the_runs_inputs_give_both(manifest: dict[str, object] | None) -> None:
    sa, ra = standard_accuracy(ROWS, 5, manifest), robust_accuracy(ROWS, 5, manifest)
    assert (sa.value, sa.measured) == (80.0, {"n": 5, "inputs": "this run's"})
    assert (ra.value, ra.measured) == (60.0, {"n": 5, "inputs": "this run's", "attack": "this run's"})


def test_a_part_of_the_runs_inputs_gives_neither() -> None:
    """Misclassified inputs are stored first: of a killed run the part would say SA 0 %."""
    for measure in (standard_accuracy, robust_accuracy):
        metric = measure(ROWS[:1], 5, None)
        assert (metric.value, metric.measured["n"]) == (None, 5)
        assert measure([], 0, None).value is None


@pytest.mark.parametrize("stated", [{"value": 70.0}, {"n": 10}, {"value": "high", "n": 10}, [], 78.1])
def test_a_figure_without_its_denominator_is_refused(stated: object) -> None:
    with pytest.raises(UsageError, match="SA without a value in percent and its n"):
        standard_accuracy(ROWS, 5, {"variant": "a", "metrics": {"SA": stated}})


def test_va_is_over_the_planned_inputs() -> None:
    assert verified_accuracy(ROWS, 5).value == 40.0
    assert verified_accuracy(ROWS, 10).value == 20.0
    assert verified_accuracy([], 10).value == 0.0


def test_unr_averages_over_inputs_that_entered_branch_and_bound() -> None:
    unr = unstable_ratio(ROWS)
    assert unr.all == pytest.approx(25.0)
    assert unr.nonlinear == pytest.approx(10.0)
    assert (unr.inputs, unr.unrecorded) == (2, 0)


def test_unr_is_null_when_none_entered_and_counts_what_was_not_recorded() -> None:
    assert unstable_ratio(ROWS[:3]).all is None
    unr = unstable_ratio([*ROWS, ResultRow("a", 5, Verdict.UNSAT, Stage.BAB, entered_bab=True, neurons=200)])
    assert unr.all == pytest.approx(25.0)
    assert (unr.inputs, unr.unrecorded) == (2, 1)
