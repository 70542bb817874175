"""The analysis of the published CNN-B results gives the thesis' figures exactly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.analysis.metrics import robust_bounds
from harness.analysis.overlaps import set_overlap, set_overlaps
from harness.analysis.paired import differences_of_pairs
from harness.analysis.stages import VERIFIED_OR_FAILED, stage_table, times_by_set
from harness.analysis.study import Analysis, analyse
from harness.analysis.subsets import subset_hypotheses
from harness.analysis.summary import RunHeader, build_summary
from harness.analysis.table import ResultRow, rows_from_published
from harness.domain import ResultSet, UsageError

HEADER = RunHeader("cifar10_cnnb", ("baseline", "grafted"), 1000, 180.0, "A40", baseline="baseline")


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> Path:
    return shared_dir / "golden" / "cnn_b"


@pytest.fixture(scope="module")
def rows(golden: Path) -> list[ResultRow]:
    return rows_from_published(golden / "results_pretrained.json", golden / "verified_ret.npz", attack_time=False)


@pytest.fixture(scope="module")
def study(rows: list[ResultRow]) -> Analysis:
    return analyse(rows, build_summary(rows, HEADER, {}))


def of(rows: list[ResultRow], variant: str) -> list[ResultRow]:
    return [row for row in rows if row.variant == variant]


@pytest.mark.parametrize(
    ("which", "part", "inside", "size", "percent", "whole_size", "percent_of_whole"),
    [
        ("SK", "baseline", 156, 192, 81.25, 246, 63.41),
        ("AT", "baseline", 81, 194, 41.75, 182, 44.51),
        ("VS", "baseline", 333, 360, 92.5, 496, 67.14),
        ("VF", "grafted", 47, 73, 64.38, 253, 18.58),
    ],
)
def test_the_four_hypotheses_hold_as_far_as_the_thesis_says(
    rows: list[ResultRow],
    which: str,
    part: str,
    inside: int,
    size: int,
    percent: float,
    whole_size: int,
    percent_of_whole: float,
) -> None:
    found = {one.which.value: one for one in subset_hypotheses(rows, "baseline", "grafted")}[which]
    assert (found.part, found.inside, found.size, found.whole_size) == (part, inside, size, whole_size)
    assert found.percent == pytest.approx(percent, abs=0.005)
    assert found.percent_of_whole == pytest.approx(percent_of_whole, abs=0.005)
    assert len(found.exceptions) + len(found.unrecorded) + inside == size
    assert not found.holds


def test_the_two_inputs_without_a_grafted_record_are_named_everywhere(study: Analysis) -> None:
    (pair,) = study.pairs
    verified = pair.subsets[2]
    assert verified.unrecorded == (997, 998)
    assert (verified.recorded, len(verified.exceptions)) == (358, 25)
    assert verified.percent_recorded == pytest.approx(100 * 333 / 358)
    assert pair.overlaps[2].unrecorded == {"10": (997, 998)}
    assert {one.unpaired for one in pair.differences} == {2}
    raw = study.to_json()
    assert raw["pairs"][0]["missing_in_to"] == [997, 998]
    assert raw["networks"]["grafted"]["missing"] == [997, 998]
    assert (raw["networks"]["baseline"]["unrecorded"], raw["networks"]["grafted"]["unrecorded"]) == (1, 3)


def test_the_regions_of_the_venn_diagrams(rows: list[ResultRow]) -> None:
    regions = {one.which.value: dict(one.overlap.regions) for one in set_overlaps(rows, ("baseline", "grafted"))}
    assert regions == {
        "SK": {"10": 36, "01": 90, "11": 156},
        "AT": {"10": 113, "01": 101, "11": 81},
        "VS": {"10": 27, "01": 163, "11": 333},
        "VF": {"10": 206, "01": 26, "11": 47},
    }
    verified = set_overlap(rows, ResultSet.VS, ("baseline", "grafted"))
    assert {region: len(inputs) for region, inputs in verified.members.items()} == regions["VS"]


def test_the_stages_decided_what_was_published(rows: list[ResultRow]) -> None:
    for variant, incomplete, bab, failed in (("baseline", 157, 203, 253), ("grafted", 367, 129, 73)):
        table = {row.stage: row.sets for row in stage_table(of(rows, variant))}
        assert (table["incomplete"]["VS"], table["bab"]["VS"], table["undecided"]["VF"]) == (incomplete, bab, failed)
        assert sum(sum(sets.values()) for sets in table.values()) == len(of(rows, variant))


@pytest.mark.parametrize(
    ("variant", "mean", "total", "entered"), [("baseline", 16.52, 11235, 456), ("grafted", 5.41, 4594, 202)]
)
def test_the_times_are_the_published_ones(
    golden: Path, rows: list[ResultRow], variant: str, mean: float, total: float, entered: int
) -> None:
    found = times_by_set(of(rows, variant))[VERIFIED_OR_FAILED]
    assert found is not None
    assert found.mean == pytest.approx(mean, abs=0.005)
    with_attack = rows_from_published(golden / "results_pretrained.json", golden / "verified_ret.npz")
    assert sum(row.work_s for row in of(with_attack, variant)) == pytest.approx(total, abs=1)
    assert sum(row.entered_bab for row in of(rows, variant)) == entered


def test_without_times_there_are_no_time_statistics(golden: Path) -> None:
    rows = rows_from_published(golden / "results_pretrained.json")
    assert set(times_by_set(of(rows, "baseline")).values()) == {None}


def test_the_true_robust_accuracy_lies_between_vs_and_vs_with_vf(rows: list[ResultRow]) -> None:
    bounds = robust_bounds(of(rows, "baseline"), 999)
    assert (bounds.low, bounds.high) == (pytest.approx(100 * 360 / 999), pytest.approx(100 * 613 / 999))
    wider = robust_bounds(of(rows, "grafted"), 1000)
    assert (wider.low, wider.high, wider.missing) == (pytest.approx(49.6), pytest.approx(57.2), 3)


def test_what_grafting_changed_is_more_than_noise(rows: list[ResultRow]) -> None:
    correct, verified = differences_of_pairs(rows, [("baseline", "grafted")], ["SA", "VA"])
    assert (verified.both, verified.lost, verified.gained, verified.n) == (333, 25, 163, 997)
    assert verified.words.startswith("more than noise")
    assert (correct.lost, correct.gained) == (90, 36)
    assert not correct.noise


def test_the_analysis_is_json(study: Analysis) -> None:
    raw = study.to_json()
    assert json.loads(json.dumps(raw, allow_nan=False)) == raw
    assert raw["pairs"][0]["matrix"] == [[156, 30, 5, 1], [75, 81, 20, 18], [2, 16, 333, 7], [13, 55, 138, 47]]
    assert raw["networks"]["baseline"]["sets"] == {"SK": 192, "AT": 194, "VS": 360, "VF": 253}
    assert study.network("grafted").sets["VS"] == 496
    with pytest.raises(KeyError):
        study.network("nobody")


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive"])
def test_damaged_times_are_one_clear_line(tmp_path: Path, golden: Path, content: bytes) -> None:
    path = tmp_path / "times.npz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="no published times") as caught:
        rows_from_published(golden / "results_pretrained.json", path)
    assert "\n" not in str(caught.value)
