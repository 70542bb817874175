from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from harness.analysis.summary import RunHeader
from harness.cli.main import main
from harness.domain import Instance, InstanceResult, Job, Limits, Stage, Verdict, WitnessCheck, WitnessVerdict
from harness.report.source import HEADER_META
from harness.run.store import Store

FIGURE = ("png", "svg", "csv")


def run_folder(folder: Path, tool: str, verdicts: dict[str, Verdict], seconds: float = 1.0) -> Path:
    """Writes a run of one tool; counterexamples replay."""
    with Store.open(folder / "results.db", create=True) as store:
        header = RunHeader("toy", ("net",), len(verdicts), 20.0, f"machine of {tool}", timeout_on="wall", tool=tool)
        store.meta[HEADER_META] = header.to_json()
        for k, (name, verdict) in enumerate(verdicts.items()):
            instance = Instance(Path("n"), Path("p"), 20.0, "onnx/net.onnx", f"vnnlib/{name}.vnnlib")
            job = Job(f"{tool} {name}", instance, "net", k, Limits(20.0, "wall"), "sha of net", f"sha of {name}")
            sat = verdict is Verdict.SAT
            witness = WitnessCheck(WitnessVerdict.CORRECT) if sat else None
            stage = Stage.BAB if verdict in (Verdict.SAT, Verdict.UNSAT) else None
            store.add(InstanceResult(job, verdict, verdict, stage, seconds, 9.0, witness), tool=tool)
    return folder


@pytest.fixture
def agreeing(tmp_path: Path) -> list[str]:
    ours = {"p": Verdict.UNSAT, "q": Verdict.SAT, "r": Verdict.TIMEOUT}
    one = run_folder(tmp_path / "ours", "builtin", ours)
    other = run_folder(tmp_path / "other", "neuralsat", {"p": Verdict.UNSAT, "q": Verdict.TIMEOUT}, 3.0)
    return [str(one), str(other)]


def test_two_runs_as_json(agreeing: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *agreeing, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["instances"], told["conflicts"], told["disagreements"]) == (3, [], [])
    ours, other = told["tools"]["builtin"], told["tools"]["neuralsat"]
    assert (ours["solved"], ours["unique_solves"], ours["missing"], ours["seconds"]) == (2, ["net_q"], 0, 2.0)
    assert (other["solved"], other["timeout"], other["missing_rows"]) == (1, 1, ["net_r"])
    conditions = {
        "tool": "builtin",
        "source": agreeing[0],
        "machine": "machine of builtin",
        "limits": "20 s",
        "clock": "wall",
    }
    assert ours["conditions"] == conditions


def test_the_files(agreeing: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["compare", *agreeing, "--out", str(out)]) == 0
    figures = {f"{name}.{suffix}" for name in ("cactus", "times-builtin-neuralsat") for suffix in FIGURE}
    tables = {"comparison.html", "comparison.json", "solved.csv", "unique.csv", "missing.csv", "conflicts.csv"}
    assert {path.name for path in out.iterdir()} == figures | tables
    with (out / "times-builtin-neuralsat.csv").open(newline="") as stream:
        assert list(csv.reader(stream))[1:] == [
            ["net_p", "1.0", "True", "3.0", "True"],
            ["net_q", "1.0", "True", "20.0", "False"],
        ]
    page = (out / "comparison.html").read_text()
    agreed = "No tool proved what another's counterexample refutes."
    for words in ("machine of neuralsat", "20 s", "net_q", "net_r", "data:image/svg+xml;base64,", agreed):
        assert words in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    for name in ("cactus", "times-builtin-neuralsat"):
        drawing = ET.parse(out / f"{name}.svg")
        assert drawing.find(".//*[@id='legend_1']") is not None
        assert drawing.find(".//*[@id='axes_1']//*[@id='legend_1']") is None, "the legend may hide points"
    assert str(out / "comparison.html") in capsys.readouterr().err


def test_a_conflict_ends_with_3_and_says_whose_counterexample_replays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = run_folder(tmp_path / "ours", "builtin", {"p": Verdict.UNSAT})
    other = run_folder(tmp_path / "other", "neuralsat", {"p": Verdict.SAT})
    assert main(["compare", str(one), str(other), "--out", str(tmp_path / "out"), "--json"]) == 3
    out, err = capsys.readouterr()
    expected = {"instance": "net_p", "unsat_by": ["builtin"], "sat_by": {"neuralsat": "correct"}, "proved": True}
    assert json.loads(out)["conflicts"] == [expected]
    assert json.loads(out)["tools"]["builtin"]["wrong"] == 1
    assert "CONFLICT: net_p: unsat by builtin; sat by neuralsat (counterexample correct)" in err
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "1 soundness conflict" in page
    assert "No tool proved" not in page


def test_two_runs_of_one_tool_are_told_apart_by_their_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(run_folder(tmp_path / name, "builtin", {"p": Verdict.UNSAT})) for name in ("short", "long")]
    assert main(["compare", *folders, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["tools"]) == {"builtin (short)", "builtin (long)"}


def test_real_competition_results(shared_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared_dir / "vnncomp_results" / "2025"
    verdicts = folder / "official" / "verdicts_small_tol.csv"
    arguments = ["compare", str(folder), "--rules", "2025-small", "--verdicts", str(verdicts), "--json"]
    assert main([*arguments, "--benchmark", "acasxu_2023"]) == 3
    told = json.loads(capsys.readouterr().out)
    with (folder / "official" / "benchmark_scores_small_tol.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["benchmark"] == "acasxu_2023"]
    assert {row["tool"]: int(row["verified"]) for row in rows} == {t: one["unsat"] for t, one in told["tools"].items()}
    assert {row["tool"]: int(row["falsified"]) for row in rows} == {t: one["sat"] for t, one in told["tools"].items()}
    assert [one["unsat_by"] for one in told["conflicts"]] == [["sobolbox"]]
    assert main([*arguments[:-1], "--benchmark", "acasxu_2023"]) == 3
    assert capsys.readouterr().out.count("limit not known\n") == len(told["tools"])
    assert main(arguments) == 2
    assert "several benchmarks; choose one with --benchmark: acasxu_2023, cersyve" in capsys.readouterr().err
    assert main([*arguments, "--benchmark", "none"]) == 2


def test_a_run_beside_competition_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = run_folder(tmp_path / "ours", "builtin", {"p": Verdict.UNSAT, "q": Verdict.SAT})
    table = tmp_path / "theirs" / "pyrat" / "2025_toy" / "results.csv"
    table.parent.mkdir(parents=True)
    table.write_text("".join(f"toy,x/onnx/net.onnx,x/vnnlib/{p}.vnnlib,0,unsat,5\n" for p in "pq"))
    assert main(["compare", str(ours), str(tmp_path / "theirs"), "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["instances"], told["tools"]["pyrat"]["wrong"]) == (2, 1)
    assert told["tools"]["pyrat"]["conditions"]["limits"] == "limit not known"


def test_what_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = run_folder(tmp_path / "ours", "builtin", {"p": Verdict.UNSAT})
    for arguments, said in (
        ([ours], "one tool only"),
        ([ours, tmp_path / "none"], "no such folder"),
        ([ours, tmp_path], "holds no TOOL/YEAR_BENCHMARK/results.csv"),
    ):
        assert main(["compare", *map(str, arguments)]) == 2
        assert said in capsys.readouterr().err
