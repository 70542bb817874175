from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main

Answers = dict[str, list[str]]
SAT_AND_UNSAT: Answers = {"one": ["sat", "unsat"], "two": ["unsat", "timeout"]}


def results(folder: Path, answers: Answers, benchmark: str = "toy", seconds: float = 2.0) -> Path:
    """Writes a results.csv for each tool; instance k is the property k of one network."""
    for tool, words in answers.items():
        path = folder / tool / f"2026_{benchmark}" / "results.csv"
        path.parent.mkdir(parents=True)
        base = f"repo2026/benchmarks/{benchmark}/1.0"
        rows = [
            f"{benchmark},{base}/onnx/a.onnx,{base}/vnnlib/{k}.vnnlib,1,{word},{seconds}"
            for k, word in enumerate(words)
        ]
        rows.append(f"{benchmark},{base}/onnx/test_nano.onnx,{base}/vnnlib/test_nano.vnnlib,1,unsat,0.5")
        path.write_text("\n".join(rows) + "\n")
    return folder


Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command with --json; returns the exit code, the tables and what was said on standard error."""

    def call(*arguments: object) -> tuple[int, dict[str, Any], str]:
        code = main(["score-vnncomp", *map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else {}, err

    return call


@pytest.mark.parametrize("tolerance", ["small", "zero"])
def test_the_official_tables_of_2025_are_reproduced(run: Run, shared_dir: Path, tolerance: str) -> None:
    folder = shared_dir / "vnncomp_results" / "2025"
    official = folder / "official"
    code, tables, err = run(
        folder, "--rules", f"2025-{tolerance}", "--verdicts", official / f"verdicts_{tolerance}_tol.csv"
    )
    with (official / f"benchmark_scores_{tolerance}_tol.csv").open(newline="") as stream:
        expected: dict[str, Any] = {}
        for row in csv.DictReader(stream):
            line = {name: int(row[name]) for name in ("verified", "falsified", "penalty", "points")}
            expected.setdefault(row["benchmark"], {})[row["tool"]] = line | {"percent": float(row["percent"])}
    assert code == 0
    assert all(line.startswith(("CONFLICT: ", "disagreement: ")) for line in err.splitlines())
    refuted = sum(line["penalty"] for line in expected["soundnessbench"].values())
    assert sum(line.startswith("CONFLICT: soundnessbench ") for line in err.splitlines()) <= refuted
    assert "CONFLICT: acasxu_2023 " in err
    totals = dict.fromkeys(tables["totals"], 0.0)
    for lines in tables["benchmarks"].values():
        for tool, line in lines.items():
            totals[tool] += line["percent"]
            line["percent"] = round(line["percent"], 1)
    assert tables["benchmarks"] == expected
    assert tables["totals"] == pytest.approx(totals)


def test_real_witnesses_beside_the_results_are_replayed(run: Run, shared_dir: Path, tmp_path: Path) -> None:
    """Rows and witnesses of three tools; verdicts by replay give the scores that the recomputed verdicts give."""
    source = shared_dir / "vnncomp_results"
    witnesses = source / "2025_acasxu_witnesses"
    with (witnesses / "verdicts_recomputed.csv").open(newline="") as stream:
        verdicts = list(csv.DictReader(stream))
    stated = [
        "benchmark,id,tool,verdict",
        *(f"acasxu_2023,{v['id']},{v['tool']},{v['verdict_2026_rules']}" for v in verdicts),
    ]
    table = tmp_path / "verdicts.csv"
    table.write_text("\n".join(stated) + "\n")
    bare, full = tmp_path / "bare", tmp_path / "full"
    for tool in ("alpha_beta_crown", "nnenum", "pyrat"):
        for folder in (bare, full):
            shutil.copytree(source / "2025" / tool / "2025_acasxu_2023", folder / tool / "2025_acasxu_2023")
        shutil.copytree(witnesses / tool, full / tool / "2025_acasxu_2023", dirs_exist_ok=True)
    instances = tmp_path / "acasxu_2023"
    for name in ("onnx", "vnnlib"):
        shutil.copytree(witnesses / name, instances / name)
    listed = (bare / "nnenum" / "2025_acasxu_2023" / "results.csv").read_text().splitlines()[:-1]
    rows = [row.split(",")[1:3] for row in listed if "test_nano" not in row]
    (instances / "instances.csv").write_text(
        "\n".join(f"onnx/{Path(net).name},vnnlib/{Path(prop).name},116" for net, prop in rows) + "\n"
    )
    code, replayed, _ = run(full, "--instances", tmp_path)
    assert code == 0
    assert replayed["benchmarks"]["acasxu_2023"]["nnenum"]["penalty"] == 1
    assert run(bare, "--instances", tmp_path, "--verdicts", table)[1] == replayed
    assert run(full, "--instances", tmp_path, "--verdicts", table)[1] == replayed


def test_a_witness_that_is_missing_where_others_are_is_penalised(run: Run, shared_dir: Path, tmp_path: Path) -> None:
    witnesses = shared_dir / "vnncomp_results" / "2025_acasxu_witnesses"
    net, good, bad = "ACASXU_run2a_1_2_batch_2000", "prop_2", "prop_3"
    tool = tmp_path / "results" / "pyrat" / "2025_acasxu"
    tool.mkdir(parents=True)
    (tool / "results.csv").write_text("".join(f"a,onnx/{net}.onnx,vnnlib/{p}.vnnlib,0,sat,1\n" for p in (good, bad)))
    shutil.copy(witnesses / "pyrat" / f"{net}_{good}.counterexample", tool)
    (tmp_path / "b" / "acasxu").mkdir(parents=True)
    listed = tmp_path / "b" / "acasxu" / "instances.csv"
    listed.write_text("".join(f"onnx/{net}.onnx,vnnlib/{p}.vnnlib,1\n" for p in (good, bad)))
    for name in ("onnx", "vnnlib"):
        (listed.parent / name).symlink_to(witnesses / name)
    _, tables, _ = run(tmp_path / "results", "--instances", tmp_path / "b")
    line = tables["benchmarks"]["acasxu"]["pyrat"]
    assert (line["falsified"], line["penalty"], line["points"]) == (1, 1, -140)


def test_no_row_of_a_verdict_earns_nothing_and_is_told(run: Run, tmp_path: Path) -> None:
    folder = results(tmp_path / "r", SAT_AND_UNSAT)
    code, tables, err = run(folder, "--rules", "2025-small")
    assert code == 0
    assert {tool: line["points"] for tool, line in tables["benchmarks"]["toy"].items()} == {"one": 10, "two": 10}
    assert tables["totals"] == {"one": 100.0, "two": 100.0}
    assert err.splitlines() == [
        "note: toy: nothing is known of 1 counterexamples of one",
        "CONFLICT: toy 0 a_0: unsat by two; sat by one (not checked)",
    ]


@pytest.mark.parametrize(
    ("worth", "code", "kind"),
    [("correct", 3, "CONFLICT"), ("unsupported", 3, "CONFLICT"), ("spec_not_violated", 0, "disagreement")],
)
def test_a_conflict_is_named_and_ends_with_3_where_that_is_asked_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth: str, code: int, kind: str
) -> None:
    folder, verdicts = results(tmp_path / "r", SAT_AND_UNSAT), tmp_path / "v.csv"
    verdicts.write_text(f"benchmark,id,tool,verdict\ntoy,0,one,{worth}\n")
    given = [folder, "--rules", "2025-zero", "--verdicts", verdicts]
    assert run(*given)[0] == 0
    found, tables, err = run(*given, "--fail-on-conflict")
    assert (found, err) == (code, f"{kind}: toy 0 a_0: unsat by two; sat by one ({worth})\n")
    assert set(tables) == {"benchmarks", "totals"}
    monkeypatch.setenv("LGBENCH_SCORE_VNNCOMP_FAIL_ON_CONFLICT", "1")
    assert run(*given)[0] == code


def test_verdicts_decide_and_folders_without_results_are_ignored(run: Run, tmp_path: Path) -> None:
    folder = results(tmp_path / "r", SAT_AND_UNSAT)
    (folder / "official" / "2026_toy").mkdir(parents=True)
    (folder / "README.md").touch()
    verdicts = tmp_path / "v.csv"
    verdicts.write_text("benchmark,id,tool,verdict\ntoy,0,one,correct\nelsewhere,0,one,no_ce\ntoy,99,other,no_ce\n")
    _, tables, _ = run(folder, "--rules", "2025-zero", "--verdicts", verdicts)
    assert tables == {
        "benchmarks": {
            "toy": {
                "one": {"verified": 1, "falsified": 1, "penalty": 0, "points": 20, "percent": 100.0},
                "two": {"verified": 0, "falsified": 0, "penalty": 1, "points": -150, "percent": 0.0},
            }
        },
        "totals": {"one": 100.0, "two": 0.0},
    }


def test_late_answers_of_2026_need_the_limits(run: Run, tmp_path: Path) -> None:
    folder = results(tmp_path / "r", {"one": ["unsat", "unsat"]})
    listed = tmp_path / "i" / "toy" / "1.0" / "instances.csv"
    listed.parent.mkdir(parents=True)
    listed.write_text("onnx/a.onnx,vnnlib/0.vnnlib,2\nonnx/a.onnx,vnnlib/1.vnnlib,1.9\n")
    for given in (tmp_path / "i", listed.parent):
        _, tables, err = run(folder, "--instances", given)
        assert (tables["benchmarks"]["toy"]["one"]["points"], err) == (10, "")
    _, tables, err = run(folder)
    assert tables["benchmarks"]["toy"]["one"]["points"] == 20
    assert "limits are not known without --instances" in err


def test_tables_of_other_lengths_are_aligned_by_instance(run: Run, tmp_path: Path) -> None:
    folder = results(tmp_path / "r", {"one": ["timeout", "unsat", "sat"], "two": ["unsat", "unsat", "unsat"]})
    short = folder / "one" / "2026_toy" / "results.csv"
    short.write_text("".join(short.read_text().splitlines(keepends=True)[1:]))
    verdicts = tmp_path / "v.csv"
    verdicts.write_text("benchmark,id,tool,verdict\ntoy,2,one,correct\n")
    _, tables, err = run(folder, "--rules", "2025-small", "--verdicts", verdicts)
    assert {tool: line["points"] for tool, line in tables["benchmarks"]["toy"].items()} == {"one": 20, "two": -130}
    assert err.startswith("note: toy: one has no row for 1 of 3 instances\nCONFLICT: toy 2 a_2: ")


def word(folder: Path) -> str:
    path = folder / "two" / "2026_toy" / "results.csv"
    path.write_text(path.read_text().replace("timeout", "perhaps"))
    return f"{path}:2: 'perhaps' is no result word"


def stranger(folder: Path) -> str:
    path = folder / "two" / "2026_toy" / "results.csv"
    path.write_text(path.read_text().replace("vnnlib/1.", "vnnlib/7."))
    return f"{path}:2: the instance 'a_7' is not in one's results.csv"


def two_years(folder: Path) -> str:
    shutil.copytree(folder / "two" / "2026_toy", folder / "two" / "2025_toy")
    return "the folders 2025_toy, 2026_toy are one benchmark"


@pytest.mark.parametrize("spoil", [word, stranger, two_years])
def test_mistakes_in_results_are_named(run: Run, tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    folder = results(tmp_path / "r", SAT_AND_UNSAT)
    said = spoil(folder)
    code, tables, err = run(folder, "--rules", "2025-small")
    assert (code, tables) == (2, {})
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("toy,0,one,fine", "v.csv:2: 'fine' is no witness verdict"),
        ("toy,2,one,correct", "v.csv:2: 'toy' has 2 instances, ids end at 1"),
        ("toy,1,one,correct", "v.csv:2: one answered 'unsat' there, not sat"),
    ],
)
def test_mistakes_in_verdicts_are_named(run: Run, tmp_path: Path, row: str, said: str) -> None:
    (tmp_path / "v.csv").write_text(f"benchmark,id,tool,verdict\n{row}\n")
    code, _, err = run(results(tmp_path / "r", SAT_AND_UNSAT), "--verdicts", tmp_path / "v.csv")
    assert code == 2
    assert said in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("onnx/a.onnx,vnnlib/0.vnnlib,-1\n", "instances.csv:1: the time limit '-1'"),
        ("onnx/a.onnx,vnnlib/0.vnnlib,inf\n", "instances.csv:1: the time limit 'inf'"),
        ("onnx/a.onnx,vnnlib/0.vnnlib,5\n", "results.csv:2: the instance 'a_1' is not in"),
        (None, "has no toy/instances.csv"),
    ],
)
def test_mistakes_in_limits_are_named(run: Run, tmp_path: Path, text: str | None, said: str) -> None:
    listed = tmp_path / "i" / "toy" / "instances.csv"
    listed.parent.mkdir(parents=True)
    if text is not None:
        listed.write_text(text)
    code, _, err = run(results(tmp_path / "r", SAT_AND_UNSAT), "--instances", tmp_path / "i")
    assert code == 2
    assert said in err


def test_a_folder_without_results_and_one_that_is_missing(run: Run, tmp_path: Path) -> None:
    assert "holds no TOOL/YEAR_BENCHMARK/results.csv" in run(tmp_path)[2]
    assert "no such folder" in run(tmp_path / "none")[2]
    assert run(tmp_path)[0] == run(tmp_path / "none")[0] == 2


def test_the_tables_for_readers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = tmp_path / "v.csv"
    verdicts.write_text("benchmark,id,tool,verdict\ntoy,0,one,correct\n")
    folder = results(tmp_path / "r", SAT_AND_UNSAT)
    assert main(["score-vnncomp", str(folder), "--rules", "2022", "--verdicts", str(verdicts)]) == 0
    out, err = capsys.readouterr()
    assert "fastest" in out
    assert "CONFLICT: toy 0 a_0: unsat by two; sat by one (correct)" in err
