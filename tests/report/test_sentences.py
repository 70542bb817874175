"""The three sentences say what the figures say, and no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.analysis.study import analyse
from harness.analysis.summary import RunHeader, build_summary
from harness.analysis.table import ResultRow
from harness.domain import Stage, Verdict
from harness.report.sentences import sentences
from harness.report.source import Run

HEADER = RunHeader("b", ("baseline", "low", "high"), 4, 5.0, "cpu", baseline="baseline")
S, U, T = Verdict.SAT, Verdict.UNSAT, Verdict.TIMEOUT


def rows(variant: str, *verdicts: Verdict) -> list[ResultRow]:
    return [
        ResultRow(variant, k, verdict, Stage.ATTACK if verdict is S else None) for k, verdict in enumerate(verdicts)
    ]


def said(table: list[ResultRow], header: RunHeader = HEADER, manifests: dict[str, Any] | None = None) -> list[str]:
    summary = build_summary(table, header, manifests or {})
    return sentences(summary, analyse(table, summary))


ROWS = rows("baseline", U, T, T, S) + rows("low", U, T, T, S) + rows("high", U, U, U, S)


def test_the_best_network_is_named_with_gains_losses_and_noise() -> None:
    first, second, third = said(ROWS)
    assert first == "8 of 12 instances were decided (4 inputs for each of 3 networks), 4 were not."
    assert second == (
        "high has the highest verified accuracy of the grafted networks: 75.0 % against 25.0 % of the baseline; "
        "2 inputs gained, 0 lost: within noise: only 2 of 4 inputs changed, too few to tell (p = 1) by McNemar's exact "
        "test, adjusted for 2 comparisons."
    )
    assert third == (
        "With it 2 of the baseline's 2 failures are verified and 1 of its 1 verified inputs stay so, "
        "while standard accuracy (this run's inputs) goes from 100.0 % to 100.0 %."
    )


def test_a_network_that_is_as_good_as_the_best_is_named_beside_it() -> None:
    _, second, _ = said(ROWS[:4] + rows("low", U, U, T, U) + rows("high", U, U, U, S))
    assert second.startswith("low has the highest verified accuracy of the grafted networks (the same as high): 75.0 %")


def test_accuracies_of_different_inputs_are_not_compared() -> None:
    manifests = {"baseline": {"metrics": {"SA": {"value": 78.0, "n": 10000}}}}
    third = said(ROWS, manifests=manifests)[2]
    assert "standard accuracy" not in third
    manifests["high"] = {"metrics": {"SA": {"value": 70.0, "n": 10000}}}
    third = said(ROWS, manifests=manifests)[2]
    assert "standard accuracy (whole test set) goes from 78.0 % to 70.0 %" in third


def test_errors_and_missing_results_are_said() -> None:
    broken = [replace(ROWS[1], verdict=Verdict.ERROR), *ROWS[2:]]
    (first, *_) = said(broken)
    assert first.endswith("4 were not, 1 of them by an error, and 1 has no result yet.")


def test_of_a_run_that_goes_on_the_same_inputs_are_compared() -> None:
    """The open inputs of one network are no failures of it: here it has proved more of what it has got to."""
    second = said(rows("baseline", U, T, T, U) + rows("low", U, T) + rows("high", U, U, T))[1]
    assert second.startswith(
        "high, so far the best of the grafted networks, is verified on 2 of the 3 inputs that it and the baseline have "
        "results of, the baseline on 1; 1 input gained, 0 lost: within noise"
    )
    assert (
        said(rows("baseline", U, T))[1] == "No input has a result under the baseline and under a grafted network yet."
    )


def test_a_plain_list_counts_its_instances() -> None:
    header = RunHeader("list", ("a", "b"), 2, 5.0, "cpu", inputs_of={"a": 2, "b": 1}, labelled=False)
    assert said([*rows("a", U, S), *rows("b", T)], header) == [
        "2 of 3 instances were decided (3 in all for 2 networks), 1 was not.",
        "1 were proved, and 1 have a replayed counterexample.",
    ]


def test_a_large_difference_is_more_than_noise(published_run: Run) -> None:
    summary = {**published_run.summary, "golden": True}
    second = sentences(summary, analyse(published_run.rows, summary))[1]
    assert second == (
        "grafted has a verified accuracy of 49.6 % against 36.0 % of the baseline; 163 inputs gained, 25 lost: more "
        "than noise (p < 0.0001) by McNemar's exact test."
    )


def test_the_test_that_words_go_by_is_the_adjusted_one() -> None:
    """Six gained inputs are more than noise of one comparison, and within it where two networks are compared."""
    table = [*rows("baseline", *[T] * 8), *rows("high", *[U] * 6, T, T)]
    alone = replace(HEADER, variants=("baseline", "high"), inputs=8)
    assert "6 inputs gained, 0 lost: more than noise (p = 0.031)" in said(table, alone)[1]
    both = said([*table, *rows("low", *[T] * 8)], replace(HEADER, inputs=8))
    assert "6 inputs gained, 0 lost: within noise (p = 0.062)" in both[1]


def test_several_runs_are_compared_by_their_clearest_difference() -> None:
    table = [*rows("baseline", *[T] * 8), *rows("high", *[U] * 6, T, T)]
    summary = build_summary(table, replace(HEADER, variants=("baseline", "high"), inputs=8), {})
    texts = sentences({**summary, "runs": []}, analyse(table, summary))
    assert texts[1].startswith("The clearest difference in verified inputs is from baseline to high: 6 inputs gained")
    assert texts[2] == "0 of 1 compared pair of networks differ within noise at the 5 % level."
