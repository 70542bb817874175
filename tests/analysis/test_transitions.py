"""Transitions, on the published result sets and on rows made up to be awkward."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.analysis.sets import SET_ORDER, set_sizes, stage_counts
from harness.analysis.statistics import Share
from harness.analysis.table import ResultRow, rows_from_published
from harness.analysis.transitions import transition
from harness.domain import ResultSet, Stage, UsageError, Verdict

PUBLISHED_MATRIX = ((156, 30, 5, 1), (75, 81, 20, 18), (2, 16, 333, 7), (13, 55, 138, 47))
SK, AT, VS, VF = SET_ORDER


@pytest.fixture(scope="module")
def published(shared_dir: Path) -> list[ResultRow]:
    return rows_from_published(shared_dir / "golden" / "cnn_b" / "results_pretrained.json")


def test_the_published_sets_have_the_published_sizes(published: list[ResultRow]) -> None:
    baseline = [row for row in published if row.variant == "baseline"]
    grafted = [row for row in published if row.variant == "grafted"]
    assert set_sizes(baseline) == {"SK": 192, "AT": 194, "VS": 360, "VF": 253}
    assert set_sizes(grafted) == {"SK": 246, "AT": 182, "VS": 496, "VF": 73}
    assert (len(baseline), len(grafted)) == (999, 997)
    assert stage_counts(baseline) == {"clean": 192, "attack": 194, "incomplete": 157, "bab": 203, "unstated": 0}
    assert stage_counts(grafted) == {"clean": 246, "attack": 182, "incomplete": 367, "bab": 129, "unstated": 0}


def test_the_published_transitions_come_out_exactly(published: list[ResultRow]) -> None:
    result = transition(published, "baseline", "grafted")
    assert result.matrix == PUBLISHED_MATRIX
    assert result.inputs == 997


def test_inputs_with_a_record_in_one_published_run_only_are_named(published: list[ResultRow]) -> None:
    result = transition(published, "baseline", "grafted")
    assert result.only_in_source == (997, 998)
    assert result.only_in_target == ()
    swapped = transition(published, "grafted", "baseline")
    assert swapped.only_in_target == (997, 998)
    assert swapped.matrix == tuple(zip(*PUBLISHED_MATRIX, strict=True))


@pytest.mark.parametrize(
    ("cell", "of_variant", "of_set", "percent"),
    [
        ((VS, VS), "baseline", VS, 92.5),  # 333 of 360
        ((SK, SK), "baseline", SK, 81.25),  # 156 of 192
        ((AT, AT), "baseline", AT, 41.75),  # 81 of 194
        ((AT, AT), "grafted", AT, 44.5),  # 81 of 182
        ((VF, VF), "grafted", VF, 64.38),  # 47 of 73
    ],
)
def test_the_percentages_of_the_thesis_follow(
    published: list[ResultRow],
    cell: tuple[ResultSet, ResultSet],
    of_variant: str,
    of_set: ResultSet,
    percent: float,
) -> None:
    whole = sum(row.variant == of_variant and row.result_set is of_set for row in published)
    share = Share(transition(published, "baseline", "grafted").count(*cell), whole).percent
    assert share is not None
    assert share == pytest.approx(percent, abs=0.01)


def test_inputs_that_left_and_entered_a_set_are_counted_apart(published: list[ResultRow]) -> None:
    result = transition(published, "baseline", "grafted")
    assert result.discordant(VS) == (2 + 16 + 7, 5 + 20 + 138)
    assert result.discordant(SK) == (30 + 5 + 1, 75 + 2 + 13)


def test_an_unknown_network_gives_an_empty_matrix_and_drops_nothing() -> None:
    rows = [ResultRow("a", 0, Verdict.UNSAT), ResultRow("a", 5, Verdict.SAT, Stage.CLEAN)]
    result = transition(rows, "a", "b")
    assert result.inputs == 0
    assert result.only_in_source == (0, 5)


def test_two_results_of_one_input_are_refused() -> None:
    rows = [ResultRow("a", 3, Verdict.UNSAT), ResultRow("a", 3, Verdict.TIMEOUT)]
    with pytest.raises(ValueError, match="input 3 of 'a'"):
        transition(rows, "a", "a")


def test_stage_counts_leave_out_what_was_not_decided() -> None:
    rows = [
        ResultRow("a", 0, Verdict.UNSAT),
        ResultRow("a", 1, Verdict.TIMEOUT, Stage.BAB),
        ResultRow("a", 2, Verdict.SAT, Stage.BAB),
        ResultRow("a", 3, Verdict.ERROR),
    ]
    assert stage_counts(rows) == {"clean": 0, "attack": 0, "incomplete": 0, "bab": 1, "unstated": 1}
    assert set_sizes(rows) == {"SK": 0, "AT": 1, "VS": 1, "VF": 2}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"status_lists": {"A": {}}, "stage_that_verified": {"A": {}}}'])
def test_a_file_of_another_form_is_one_clear_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(UsageError, match="not a published result file") as caught:
        rows_from_published(path)
    assert "\n" not in str(caught.value)
