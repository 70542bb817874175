"""A run folder as the report reads it: finished, unfinished, damaged."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from harness.analysis.summary import RunHeader
from harness.cli.main import main
from harness.cli.report import report
from harness.cli.show import show
from harness.domain import EngineRecord, Instance, InstanceResult, Job, Limits, Stage, UsageError, Verdict
from harness.report import write_report
from harness.report.source import HEADER_META, JOBS_META, MANIFESTS_META, load_run
from harness.run.store import Store
from harness.run.stored import job_place

HEADER = RunHeader(
    benchmark="tiny",
    variants=("baseline", "grafted"),
    inputs=2,
    timeout_s=5.0,
    device="cpu",
    baseline="baseline",
    titles={"grafted": "Grafted, min"},
    published=({"variant": "grafted", "source": "[thesis]", "VA": 49.2},),
)
START = datetime(2000, 1, 1, tzinfo=UTC)


def result(variant: str, index: int, verdict: Verdict, stage: Stage | None, key: str = "") -> InstanceResult:
    instance = Instance(Path(f"{variant}.onnx"), Path(f"{index}.vnnlib"), 5.0)
    job = Job(key or f"{variant}-{index}", instance, variant, index, Limits(5.0))
    masks = {"relu1": np.array([True, True, False, False]), "relu2": np.array([True, False])}
    entered = stage in (Stage.BAB, None)
    record = EngineRecord(None, 7, masks if entered else None, entered, 6, 2) if stage is not Stage.CLEAN else None
    return InstanceResult(job, verdict, verdict, stage, 2.0, 1.0, record=record)


RESULTS = (
    result("baseline", 0, Verdict.SAT, Stage.CLEAN),
    result("baseline", 1, Verdict.TIMEOUT, None),
    result("grafted", 0, Verdict.UNSAT, Stage.INCOMPLETE),
    result("grafted", 1, Verdict.UNSAT, Stage.BAB),
)


def make_run(folder: Path, results: Iterable[InstanceResult], meta: dict[str, Any] | None = None) -> Path:
    with Store.open(folder / "results.db", create=True) as store:
        for name, value in ({HEADER_META: HEADER.to_json()} if meta is None else meta).items():
            store.meta[name] = value
        for k, one in enumerate(results):
            store.add(one, tool="dummy", finished_at=START + timedelta(seconds=k))
    return folder


def test_rows_carry_what_the_store_has(tmp_path: Path) -> None:
    rows = load_run(make_run(tmp_path, RESULTS)).rows
    assert [(row.variant, row.index) for row in rows] == [
        ("baseline", 0), ("baseline", 1), ("grafted", 0), ("grafted", 1),
    ]  # fmt: skip
    last = rows[-1]
    assert (last.verdict, last.stage, last.wall_s, last.work_s, last.domains) == (
        Verdict.UNSAT, Stage.BAB, 2.0, 1.0, 7,
    )  # fmt: skip
    assert (last.entered_bab, last.neurons, last.unstable, last.unstable_nonlinear) == (True, 6, 3, 2)
    assert rows[0].unstable is None


def test_a_killed_run_is_summed_up_from_its_store(tmp_path: Path) -> None:
    make_run(tmp_path, RESULTS[:3])
    summary = load_run(tmp_path).summary
    assert summary["complete"] is False
    assert summary["variants"]["grafted"]["missing"] == 1
    text = write_report(tmp_path).read_text()
    assert "This run is not finished" in text
    assert "1 of 2 inputs has no result yet" in " ".join(text.split())


def test_the_manifests_of_a_killed_run_count(tmp_path: Path) -> None:
    manifests = {"baseline": {"metrics": {"SA": {"value": 78.1, "n": 10000}}}}
    make_run(tmp_path, RESULTS, {HEADER_META: HEADER.to_json(), MANIFESTS_META: manifests})
    assert load_run(tmp_path).summary["variants"]["baseline"]["SA"] == 78.1


def test_a_finished_run_says_when_it_ended(tmp_path: Path) -> None:
    make_run(tmp_path, RESULTS, {HEADER_META: replace(HEADER, finished_at="2000-01-01T00:00:09Z").to_json()})
    assert load_run(tmp_path).summary["finished_at"] == "2000-01-01T00:00:09Z"
    assert "This run is not finished" not in write_report(tmp_path).read_text()


def test_a_summary_that_was_left_behind_is_not_believed(tmp_path: Path) -> None:
    """The counts of its sets are those of the results, its limit and its figures are not."""
    make_run(tmp_path, RESULTS)
    stale = load_run(tmp_path).summary | {"timeout_s": 99.0}
    (tmp_path / "summary.json").write_text(json.dumps(stale))
    assert load_run(tmp_path).summary["timeout_s"] == 5.0
    (tmp_path / "summary.json").write_text("{")
    assert load_run(tmp_path).summary["timeout_s"] == 5.0


def test_only_planned_jobs_count_and_else_the_last_result(tmp_path: Path) -> None:
    other = result("baseline", 1, Verdict.UNSAT, Stage.BAB, key="other-limits")
    make_run(tmp_path, [*RESULTS, other])
    assert load_run(tmp_path).rows[1].verdict is Verdict.UNSAT
    with Store.open(tmp_path / "results.db") as store:
        store.meta[JOBS_META] = [job_place(one.job) for one in RESULTS]
    assert load_run(tmp_path).rows[1].verdict is Verdict.TIMEOUT


def test_one_key_of_several_rows_counts_only_where_it_is_planned(tmp_path: Path) -> None:
    """A list may name one network and property twice; resumed with fewer rows, the rest of its rows do not count."""
    rows = [result("baseline", index, Verdict.UNSAT, Stage.BAB, key="same") for index in range(4)]
    make_run(tmp_path, rows)
    with Store.open(tmp_path / "results.db") as store:
        store.meta[JOBS_META] = [job_place(one.job) for one in rows[:2]]
    assert load_run(tmp_path).summary["variants"]["baseline"]["sets"]["VS"] == 2


def test_a_folder_without_a_run_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no results there"):
        load_run(tmp_path)


def test_results_without_header_say_what_to_do(tmp_path: Path) -> None:
    make_run(tmp_path, RESULTS, {})
    with pytest.raises(UsageError, match="header is missing; finish the run"):
        load_run(tmp_path)


def test_report_prints_the_path_of_the_page(tmp_path: Path) -> None:
    make_run(tmp_path, RESULTS)
    outcome = CliRunner().invoke(report, [str(tmp_path)], catch_exceptions=False)
    assert outcome.output.strip() == str(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_show_prints_uncut_figures_beside_the_published_ones(tmp_path: Path) -> None:
    make_run(tmp_path, RESULTS[:3])
    lines = CliRunner().invoke(show, [str(tmp_path)], catch_exceptions=False).output.splitlines()
    (grafted,) = [line for line in lines if line.startswith("Grafted, min ")]
    assert grafted.split()[2:] == ["0", "0", "1", "0", "-", "-", "50.00", "-", "-", "1"]
    assert any(line.split()[:4] == ["[thesis]", "-", "-", "49.20"] for line in lines)
    assert "Grafted, min: no result yet for 1 input, which VA counts as not verified." in lines


def test_show_json_is_the_summary(tmp_path: Path) -> None:
    make_run(tmp_path, RESULTS)
    summary = load_run(tmp_path).summary
    assert json.loads(CliRunner().invoke(show, [str(tmp_path), "--json"]).output) == summary


def test_show_csv_has_a_line_for_each_network_and_source(tmp_path: Path) -> None:
    make_run(tmp_path, RESULTS)
    lines = CliRunner().invoke(show, [str(tmp_path), "--csv"]).output.splitlines()
    assert lines == [
        "variant,source,SK,AT,VS,VF,SA,RA,VA,UNR,UNR_nonlinear,errors,missing,wall_s,work_s",
        "baseline,this run,1,0,0,1,50.0,50.0,0.0,50.0,33.33333333333333,0,0,2.0,2.0",
        "grafted,this run,0,0,2,0,100.0,100.0,100.0,50.0,33.33333333333333,0,0,2.0,2.0",
        "grafted,[thesis],,,,,,,49.2,,,,,,",
    ]


def test_show_refuses_two_forms_at_once(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(show, [str(tmp_path), "--json", "--csv"])
    assert outcome.exit_code == 2
    assert "exclude each other" in outcome.output


def of_schema(folder: Path, version: str) -> Path:
    """A finished run as an older or newer program left it."""
    make_run(folder, RESULTS)
    with closing(sqlite3.connect(folder / "results.db")) as db, db:
        db.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (version,))
        if version == "1":
            db.execute("ALTER TABLE results DROP COLUMN prepare_s")
    return folder


def test_a_run_of_schema_1_is_drawn_and_left_as_it_is(tmp_path: Path) -> None:
    folder = of_schema(tmp_path / "run", "1")
    before = (folder / "results.db").read_bytes()
    assert main(["report", str(folder), "--out", str(tmp_path / "page.html"), "--no-figures"]) == 0
    assert "4 of 4 instances were decided" not in (tmp_path / "page.html").read_text()
    assert "3 of 4 instances were decided" in (tmp_path / "page.html").read_text()
    assert (folder / "results.db").read_bytes() == before


@pytest.mark.parametrize("version", ["0", "999"])
@pytest.mark.parametrize("command", ["report", "show"])
def test_a_run_of_another_schema_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, version: str
) -> None:
    folder = of_schema(tmp_path, version)
    earlier = folder / "report.html"
    earlier.write_text("the page of before")
    assert main([command, str(folder)]) == 2
    told = capsys.readouterr().err.strip()
    assert len(told.splitlines()) == 1
    assert f"{folder / 'results.db'}: written with schema {version}" in told
    assert "use the version of lg-bench that made it" in told
    assert earlier.read_text() == "the page of before"
    assert not (folder / "figures").exists()
