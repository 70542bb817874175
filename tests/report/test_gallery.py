"""Which figures a run has, and the numbers in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.report import report
from harness.domain import UsageError
from harness.report.details import Details, LayerShare
from harness.report.gallery import golden_transfers, make_gallery, read_transfers
from harness.report.merge import golden_run, merge_runs, run_names
from harness.report.page import render
from harness.report.run_plots import cactus_plate, layers_plate, margins_plate, overlap_plates
from harness.report.source import Run
from harness.report.strip import strip_layout, strip_plate
from harness.report.tables import inputs_table

MakeRun = Callable[..., Run]
TITLES = {"baseline": "Base", "grafted_min": "Min"}


def test_a_cactus_curve_counts_what_was_decided_and_not_skipped(synthetic_run: MakeRun) -> None:
    run = synthetic_run(30)
    plate = cactus_plate(run.rows, TITLES, "5 s")
    assert plate is not None
    base = [(count, seconds) for name, count, seconds in plate.rows if name == "Base"]
    wanted = sorted(row.work_s for row in run.rows if row.variant == "baseline" and row.result_set in ("AT", "VS"))
    assert base == list(enumerate(wanted, 1))
    timeless = [replace(row, work_s=0.0) for row in run.rows]
    assert cactus_plate(timeless, TITLES, "5 s") is None


def test_margins_and_layers_are_drawn_where_they_are_known() -> None:
    assert margins_plate(Details(), TITLES) is None
    assert layers_plate(Details(), TITLES) is None
    details = Details(
        {("baseline", 0): -1.0, ("baseline", 1): 2.0, ("grafted_min", 0): 0.5},
        (LayerShare("baseline", "relu1", 8, 25.0, 2),),
    )
    plate = margins_plate(details, TITLES)
    assert plate is not None
    assert sum(int(str(row[-1])) for row in plate.rows) == 3
    layers = layers_plate(details, TITLES)
    assert layers is not None
    assert layers.rows == [("Base", "relu1", 8, 25.0, 2)]


def test_overlaps_of_the_published_sets(published_run: Run) -> None:
    plates = {plate.name: plate for plate in overlap_plates(published_run.rows, {"baseline": "b", "grafted": "g"})}
    assert list(plates) == ["overlap_VS", "overlap_VF", "overlap_AT", "overlap_SK"]
    regions = {row[0]: row[-1] for row in plates["overlap_VS"].rows}
    assert regions == {"10": 358 - 333, "01": 496 - 333, "11": 333}
    assert "997 have a result" in plates["overlap_VS"].caption
    assert "2 lack one" in plates["overlap_VS"].caption


def test_networks_of_one_title_stay_apart(synthetic_run: MakeRun) -> None:
    plates = overlap_plates(synthetic_run(20).rows, {"baseline": "same", "grafted_min": "same"})
    assert plates[0].columns == ("region", "baseline", "grafted_min", "inputs")


def test_the_strip_has_a_stripe_for_every_result(synthetic_run: MakeRun) -> None:
    run = synthetic_run(30, ("baseline", "grafted_min"), keep=lambda row: row.variant == "baseline" or row.index < 29)
    lines = inputs_table(["baseline", "grafted_min"], run.rows)
    plate = strip_plate(lines, TITLES)
    assert str(plate.drawing).count("Z") == 60
    assert "no result yet" in str(plate.drawing)
    assert plate.rows[29][2] == ""
    assert strip_layout(1000, 4) == (100, 6.4, 9.0)


def test_transfers_of_a_run_folder_are_shown(tmp_path: Path, synthetic_run: MakeRun) -> None:
    assert read_transfers(tmp_path) == []
    one = {
        "from": "baseline", "to": "grafted_min", "count": 10, "clean_misclassified": 4, "attack_fails": 3,
        "attack_works_same_class": 2, "attack_works_other_class": 1, "words": "Of 10 counterexamples <b>.",
    }  # fmt: skip
    (tmp_path / "transfer.json").write_text(json.dumps({"transfers": [one]}))
    found = read_transfers(tmp_path)
    assert found == [one]
    text = render(synthetic_run(20), transfers=found)
    assert "Of 10 counterexamples &lt;b&gt;." in text
    assert "figure-transfer" in text
    (tmp_path / "transfer.json").write_text('{"from": "a"}')
    with pytest.raises(UsageError, match="is no transfer"):
        read_transfers(tmp_path)


def test_published_results_are_a_page_with_the_thesis_figures(shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / "golden" / "cnn_b"
    run = golden_run(folder)
    gallery = make_gallery(run, inputs_table(["baseline", "grafted"], run.rows), golden_transfers(folder))
    names = [plate.name for plate in gallery.plates]
    assert {"result_sets", "transition_baseline_grafted", "overlap_VS", "transfer"} <= set(names)
    assert gallery.transfer is not None
    assert gallery.transfer.rows == [("baseline", "grafted", 75, 85, 30, 4)]
    page = tmp_path / "golden.html"
    outcome = CliRunner().invoke(
        report, ["--golden", str(folder), "--out", str(page), "--no-figures"], catch_exceptions=False
    )
    assert outcome.output.strip() == str(page)
    text = " ".join(page.read_text(encoding="utf-8").split())
    for share in (
        "156 of 192, 81.2 %",
        "81 of 194, 41.8 %",
        "81 of 182, 44.5 %",
        "333 of 360, 92.5 %",
        "47 of 73, 64.4 %",
    ):
        assert share in text
    assert "Records are missing in the published results" in text


def test_several_runs_are_one_page(synthetic_run: MakeRun) -> None:
    first = synthetic_run(20)
    second = synthetic_run(20, ("baseline", "grafted_min"), keep=lambda row: row.index < 15)
    merged = merge_runs({"a": first, "b": second})
    assert list(merged.summary["variants"]) == [
        "a: baseline", "a: grafted_min", "a: grafted_norank", "b: baseline", "b: grafted_min",
    ]  # fmt: skip
    assert [(moved["from"], moved["to"]) for moved in merged.summary["transitions"]] == [
        ("a: baseline", "b: baseline"), ("a: grafted_min", "b: grafted_min"),
    ]  # fmt: skip
    assert merged.summary["transitions"][0]["only_in_from"] == 5
    text = render(merged)
    assert "<h2>Runs</h2>" in text
    assert "This run is not finished" in text
    other = Run({**second.summary, "benchmark": "other"}, second.rows)
    with pytest.raises(UsageError, match="only runs over the same inputs"):
        merge_runs({"a": first, "b": other})


def test_runs_are_named_by_as_much_of_their_path_as_is_needed(tmp_path: Path) -> None:
    assert run_names([tmp_path / "x" / "a", tmp_path / "y" / "b"]) == ["a", "b"]
    assert run_names([tmp_path / "x" / "a", tmp_path / "y" / "a"]) == ["x/a", "y/a"]
    with pytest.raises(UsageError, match="named twice"):
        run_names([tmp_path, tmp_path])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a run folder"),
        (["a", "--golden", "b"], "one or the other"),
        (["a", "--figures", "x", "--no-figures"], "exclude"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], words: str) -> None:
    outcome = CliRunner().invoke(report, arguments)
    assert outcome.exit_code == 2
    assert words in outcome.output
