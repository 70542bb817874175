"""Which figures a run has, and the numbers in them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.analysis.study import analyse
from harness.cli.report import report
from harness.domain import UsageError
from harness.report.details import Details, LayerShare
from harness.report.gallery import golden_transfers, make_gallery, read_transfers
from harness.report.golden import golden_run
from harness.report.merge import merge_runs, merge_transfers, run_names
from harness.report.page import render
from harness.report.run_plots import cactus_plate, layers_plate, margins_plate, overlap_plates
from harness.report.source import Run
from harness.report.strip import strip_layout, strip_plate
from harness.report.tables import inputs_table
from harness.report.wording import run_facts

MakeRun = Callable[..., Run]
TITLES = {"baseline": "Base", "grafted_min": "Min"}


def test_a_cactus_curve_counts_what_was_decided_and_not_skipped(synthetic_run: MakeRun) -> None:
    run = synthetic_run(30)
    plate = cactus_plate(analyse(run.rows, run.summary), TITLES, "5 s")
    assert plate is not None
    base = [(count, seconds) for name, count, seconds in plate.rows if name == "Base"]
    wanted = sorted(row.work_s for row in run.rows if row.variant == "baseline" and row.result_set in ("AT", "VS"))
    assert base == list(enumerate(wanted, 1))
    timeless = [replace(row, work_s=0.0) for row in run.rows]
    assert cactus_plate(analyse(timeless, run.summary), TITLES, "5 s") is None
    wall = cactus_plate(analyse(run.rows, run.summary | {"timeout_on": "wall"}), TITLES, "5 s")
    assert wall is not None
    assert wall.columns[2] == "wall_s"
    assert [row[2] for row in wall.rows] == [2 * float(str(row[2])) for row in plate.rows]


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
    """The thesis counts the two inputs without a grafted record as not in the grafted set."""
    overlaps, titles = analyse(published_run.rows, published_run.summary).overlaps, {"baseline": "b", "grafted": "g"}
    plates = {plate.name: plate for plate in overlap_plates(overlaps, titles, whole=True)}
    assert list(plates) == ["overlap_VS", "overlap_VF", "overlap_AT", "overlap_SK"]
    regions = {row[0]: row[-1] for row in plates["overlap_VS"].rows}
    assert regions == {"10": 360 - 333, "01": 496 - 333, "11": 333}
    assert "Without a result under the other network: 997, 998; counted" in plates["overlap_VS"].caption
    assert "Without" not in plates["overlap_AT"].caption


def test_inputs_without_a_result_are_in_no_overlap_and_named(published_run: Run) -> None:
    overlaps, titles = analyse(published_run.rows, published_run.summary).overlaps, {"baseline": "b", "grafted": "g"}
    plate = overlap_plates(overlaps, titles)[0]
    assert {row[0]: row[-1] for row in plate.rows} == {"10": 358 - 333, "01": 496 - 333, "11": 333}
    assert "997, 998; left out" in plate.caption


def test_networks_of_one_title_stay_apart(synthetic_run: MakeRun) -> None:
    run = synthetic_run(20, ("baseline", "grafted_min"))
    plates = overlap_plates(analyse(run.rows, run.summary).overlaps, {"baseline": "same", "grafted_min": "same"})
    assert plates[0].columns == ("region", "baseline", "grafted_min", "inputs")


def test_the_strip_has_a_stripe_for_every_result(synthetic_run: MakeRun) -> None:
    run = synthetic_run(30, ("baseline", "grafted_min"), keep=lambda row: row.variant == "baseline" or row.index < 29)
    lines = inputs_table(["baseline", "grafted_min"], run.rows)
    plate = strip_plate(lines, TITLES)
    assert str(plate.drawing).count("Z") == 60
    assert "no result" in str(plate.drawing)
    assert plate.rows[29][2] == ""
    assert strip_layout(1000, 4) == (100, 6.4, 9.0)


def test_transfers_of_a_run_folder_are_shown(tmp_path: Path, synthetic_run: MakeRun) -> None:
    assert read_transfers(tmp_path) == []
    one = {
        "from": "baseline", "to": "grafted_min", "count": 10, "clean_misclassified": 4, "attack_fails": 3,
        "attack_works_same_class": 2, "attack_works_other_class": 1,
    }  # fmt: skip
    (tmp_path / "transfer.json").write_text(json.dumps({"transfers": [one]}))
    found = read_transfers(tmp_path)
    assert found == [one]
    run = synthetic_run(20)
    text = " ".join(render(run, transfers=found).split())
    assert "figure-transfer" in text
    own = [row.result_set for row in run.rows if row.variant == "grafted_min"]
    right, robust = sum(name != "SK" for name in own), sum(name in ("VS", "VF") for name in own)
    assert f"60.0 %<br><small>{5 * right:.1f} %</small>" in text
    assert f"30.0 %<br><small>{5 * robust:.1f} %</small>" in text
    (tmp_path / "transfer.json").write_text('{"from": "a"}')
    with pytest.raises(UsageError, match="is no transfer"):
        read_transfers(tmp_path)


def test_published_results_are_a_page_with_the_thesis_figures(shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / "golden" / "cnn_b"
    run = golden_run(folder)
    gallery = make_gallery(
        run, analyse(run.rows, run.summary), inputs_table(["baseline", "grafted"], run.rows), golden_transfers(folder)
    )
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
    assert "Grafted: 3 of 1000 inputs have no record." in text
    for heading in ("Overlaps", "Transitions", "Transfer"):
        figure = {"Overlaps": "4.6", "Transitions": "4.7", "Transfer": "4.9"}[heading]
        assert f'<h2>{heading} <span class="quiet">(the thesis\' figure {figure})</span></h2>' in text
    assert "thesis, provided models" in text
    assert "36.04" in text
    assert "this run" not in re.findall(r'<tr class="ours">.*?</tr>', text)[0]


def test_published_times_are_shown_with_those_of_the_attack(shared_dir: Path) -> None:
    """The thesis' means of 16.52 s and 5.41 s leave the attack's seconds out (see the test of the analysis)."""
    run = golden_run(shared_dir / "golden" / "cnn_b")
    study = analyse(run.rows, run.summary)
    means = [network.times["VS+VF"] for network in study.networks]
    assert study.clock == "wall"
    assert [one.mean for one in means if one is not None] == pytest.approx([18.3, 8.1], abs=0.1)


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
    study = analyse(merged.rows, merged.summary)
    assert [(pair.source, pair.target) for pair in study.pairs] == [
        ("a: baseline", "b: baseline"), ("a: grafted_min", "b: grafted_min"),
    ]  # fmt: skip
    assert {one.n for pair in study.pairs for one in pair.differences} == {15}
    text = " ".join(render(merged).split())
    assert "adjusted by Holm for the 2 comparisons" in text
    assert "<h2>Runs</h2>" in text
    assert "This run is not finished" in text
    other = Run({**second.summary, "benchmark": "other"}, second.rows)
    with pytest.raises(UsageError, match="only runs over the same inputs"):
        merge_runs({"a": first, "b": other})


def test_conditions_that_differ_between_runs_are_not_those_of_the_first(synthetic_run: MakeRun) -> None:
    first = synthetic_run(5)
    same = dict(run_facts(merge_runs({"a": first, "b": first}).summary))
    assert same == dict(run_facts(first.summary)) | {"Inputs": same["Inputs"]}
    longer = Run({**first.summary, "timeout_s": 99.0, "arithmetic": "real", "rules": "2022"}, first.rows)
    merged = merge_runs({"a": first, "b": longer})
    facts = dict(run_facts(merged.summary))
    assert facts["Limit"] == facts["Judged and proved"] == "not the same for all runs, see the table of runs"
    text = " ".join(render(merged).split())
    assert '<td class="message">as usual</td>' in text
    assert "Judged by: VNN-COMP&#39;s rules of 2022; Proofs: of the network&#39;s exact values" in text
    assert "Judged and proved" not in render(merge_runs({"a": first, "b": first}))


def test_transfers_of_several_runs_carry_the_names_of_their_runs() -> None:
    one = {"from": "baseline", "to": "grafted_min", "count": 0}
    assert merge_transfers({"a": [one], "b": []}) == [one | {"from": "a: baseline", "to": "a: grafted_min"}]


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
