"""The three sentences say what the figures say, and no more."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from harness.analysis.summary import RunHeader, build_summary
from harness.analysis.table import ResultRow
from harness.domain import Stage, Verdict
from harness.report.sentences import sentences
from harness.report.source import Run
from harness.report.tables import interval_table, paired_table

HEADER = RunHeader("b", ("baseline", "low", "high"), 4, 5.0, "cpu", baseline="baseline")
S, U, T = Verdict.SAT, Verdict.UNSAT, Verdict.TIMEOUT


def rows(variant: str, *verdicts: Verdict) -> list[ResultRow]:
    return [
        ResultRow(variant, k, verdict, Stage.ATTACK if verdict is S else None) for k, verdict in enumerate(verdicts)
    ]


ROWS = rows("baseline", U, T, T, S) + rows("low", U, T, T, S) + rows("high", U, U, U, S)


def test_the_best_network_is_named_with_gains_losses_and_noise() -> None:
    first, second, third = sentences(build_summary(ROWS, HEADER, {}))
    assert first == "8 of 12 instances were decided (4 inputs for each of 3 networks), 4 were not."
    assert second == (
        "high has the highest verified accuracy of the grafted networks: 75.0 % against 25.0 % of the baseline; "
        "2 inputs gained, 0 lost, which is within noise (McNemar's exact test, p = 0.5)."
    )
    assert third == (
        "With it 2 of the baseline's 2 failures are verified and 1 of its 1 verified inputs stay so, "
        "while standard accuracy (this run's inputs) goes from 100.0 % to 100.0 %."
    )


def test_accuracies_of_different_inputs_are_not_compared() -> None:
    manifests = {"baseline": {"metrics": {"SA": {"value": 78.0, "n": 10000}}}}
    third = sentences(build_summary(ROWS, HEADER, manifests))[2]
    assert "standard accuracy" not in third
    manifests["high"] = {"metrics": {"SA": {"value": 70.0, "n": 10000}}}
    third = sentences(build_summary(ROWS, HEADER, manifests))[2]
    assert "standard accuracy (whole test set) goes from 78.0 % to 70.0 %" in third


def test_errors_and_missing_results_are_said() -> None:
    broken = [replace(ROWS[1], verdict=Verdict.ERROR), *ROWS[2:]]
    (first, *_) = sentences(build_summary(broken, HEADER, {}))
    assert first.endswith("4 were not, 1 of them by an error, and 1 have no result yet.")


def test_a_plain_list_counts_its_instances() -> None:
    header = RunHeader("list", ("a", "b"), 2, 5.0, "cpu", inputs_of={"a": 2, "b": 1}, labelled=False)
    summary = build_summary([*rows("a", U, S), *rows("b", T)], header, {})
    assert sentences(summary) == [
        "2 of 3 instances were decided (3 in all for 2 networks), 1 were not.",
        "1 were proved, and 1 have a replayed counterexample.",
    ]


def test_a_large_difference_is_more_than_noise(published_run: Run) -> None:
    assert "which is more than noise" in sentences(published_run.summary)[1]
    (paired,) = paired_table(published_run.summary)
    assert (paired.lost, paired.gained, paired.noise) == (25, 163, False)


def test_intervals_have_the_denominator_of_their_figure(synthetic_run: Callable[..., Run]) -> None:
    summary: dict[str, Any] = json.loads(json.dumps(synthetic_run(60).summary))
    summary["variants"]["baseline"] |= {"SA": 78.1}
    summary["variants"]["baseline"]["measured"]["SA"] = {"n": 10000}
    found = {(row.title, row.metric): row for row in interval_table(summary)}
    whole, run = found["Synthetic baseline", "SA"], found["Synthetic baseline", "VA"]
    assert (whole.n, whole.conditions) == (10000, "whole test set")
    assert (run.n, run.conditions) == (60, "this run's inputs")
    assert whole.high - whole.low < run.high - run.low
    assert all(row.low <= row.percent <= row.high for row in found.values())
