"""`lgbench tool`, and `--tool` of `lgbench run`: names, folders of scripts, resuming, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.cli.main import main
from harness.formats.compressed import gzip_bytes
from harness.formats.vnnlib2_writer import write_difference_query
from harness.run.store import Store
from harness.tools import toy_networks

ROOT = Path(__file__).resolve().parents[2]
DUMMY = ROOT / "adapters" / "dummy"


@pytest.fixture
def instances(tmp_path: Path) -> Path:
    """Two instances that the middle of the box violates, in a benchmark's folder."""
    folder = tmp_path / "toys"
    for name, threshold in (("a", 1.0), ("b", 1.2)):
        network, prop = folder / "onnx" / "net.onnx.gz", folder / "vnnlib" / f"{name}.vnnlib"
        network.parent.mkdir(parents=True, exist_ok=True)
        prop.parent.mkdir(exist_ok=True)
        network.write_bytes(gzip_bytes(toy_networks.absolute_sum()))
        box = toy_networks.box([(0.5, 1.0)] * 2)
        prop.write_text(toy_networks.prop(2, 2, [(box, toy_networks.at_least(threshold))]))
    path = folder / "instances.csv"
    path.write_text("".join(f"onnx/net.onnx,vnnlib/{name}.vnnlib,30\n" for name in "ab"))
    return path


def told(tmp_path: Path, **answer: object) -> str:
    path = tmp_path / "told.json"
    path.write_text(json.dumps(answer))
    return f"dummy:{path}"


def words(out: Path) -> list[str]:
    return [line.split(",")[4] for line in (out / "results.csv").read_text().splitlines()]


def test_list_names_the_tools(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tool", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == ["auto_lirpa", "builtin", "dummy", "marabou", "neuralsat"]
    assert main(["tool", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["auto_lirpa", "builtin", "dummy", "marabou", "neuralsat"]
    assert "dummy       ready" in lines


def test_check_as_json_and_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "kept"
    assert main(["tool", "check", told(tmp_path, verdict="unsat"), "--json", "--out", str(out)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["tool"], found["conforms"], found["passed"], found["failed"]) == ("dummy", False, 4, 4)
    assert len(found["cases"]) == 8
    wrong = next(case for case in found["cases"] if case["name"] == "sat")
    assert (wrong["expected"], wrong["verdict"], wrong["status"]) == ("sat", "unsat", "failed")
    assert len(list(out.rglob("*.log"))) == 8


def test_check_as_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tool", "check", told(tmp_path, garbage="?")]) == 1
    printed = capsys.readouterr().out
    assert "dummy: 0 of 8 passed; does not conform" in printed
    assert "witness: '?' is no result word" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check"], "name a verifier"),
        (["check", "nix"], "unknown tool 'nix'"),
        (["check", "--tool-dir", "/nonexistent"], "/nonexistent: no such folder"),
        (["check", "dummy", "--timeout", "0"], "positive"),
        (["check", "dummy", "--out", "/"], "is there already"),
    ],
)
def test_usage_errors_of_check(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tool", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_run_with_another_tool_is_judged(tmp_path: Path, instances: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    given = ["run", "--instances", str(instances), "--tool", told(tmp_path, verdict="sat", witness="center")]
    assert main([*given, "--out", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["variants"]["net"]["sets"]["AT"] == 2
    assert words(out) == ["sat", "sat"]
    assert len(list((out / "counterexamples").iterdir())) == 2
    assert len(list((out / "logs" / "dummy").glob("*.log"))) == 2


def test_a_claim_without_a_proof_is_an_error_and_exit_code_1(tmp_path: Path, instances: Path) -> None:
    out = tmp_path / "run"
    given = ["run", "--instances", str(instances), "--tool", told(tmp_path, verdict="sat"), "--out", str(out)]
    assert main(given) == 1
    assert words(out) == ["error", "error"]


def test_the_rules_of_another_year_are_settable_and_kept(
    tmp_path: Path, instances: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A counterexample that states no outputs counts since 2026, and did not before."""
    out = tmp_path / "run"
    given = ["run", "--instances", str(instances), "--out", str(out)]
    told_center = ["--tool", told(tmp_path, verdict="sat", witness="center")]
    assert main([*given, *told_center, "--inputs", "1", "--rules", "2025-small", "--json"]) == 1
    summary = json.loads(capsys.readouterr().out)
    assert summary["rules"] == "2025-small"
    assert "--rules 2025-small" in summary["command"]
    with Store.read(out / "results.db") as store:
        (row,) = store.rows()
    assert row.message.startswith("sat with a wrong counterexample (exec_doesnt_match: ")
    before = (out / "results.db").read_bytes()
    assert main([*given, "--inputs", "2", "--resume", "--rules", "2026"]) == 2
    assert "is judged by those of 2025-small; choose another --out" in capsys.readouterr().err
    assert (out / "results.db").read_bytes() == before
    assert main([*given, "--inputs", "2", "--resume"]) == 1
    assert words(out) == ["error", "error"]


def test_what_proofs_cover_is_our_engines_choice_and_kept(
    tmp_path: Path, instances: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    given = ["run", "--instances", str(instances), "--out", str(out)]
    assert main([*given, "--tool", told(tmp_path, verdict="unsat"), "--arithmetic", "real"]) == 2
    assert "--arithmetic: dummy" in capsys.readouterr().err
    assert not out.exists()
    assert main([*given, "--inputs", "1", "--arithmetic", "real"]) == 0
    capsys.readouterr()
    assert main([*given, "--inputs", "2", "--resume", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["arithmetic"], "--arithmetic real" in summary["command"]) == ("real", True)
    assert "rounding of float32 evaluations is not covered" in (out / "report.html").read_text()


def test_instances_of_several_networks_are_decided_as_one(
    tmp_path: Path, instances: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two differ by 0.25 at (0.5, 0.5); what is not about one shared input is unknown, with the reason."""
    folder, out = instances.parent, tmp_path / "run"
    (folder / "onnx" / "grafted.onnx").write_bytes(toy_networks.grafted())
    query = write_difference_query(np.full(2, 0.5, np.float32), np.ones(2, np.float32), 0.125, (1, 2), (1, 2))
    (folder / "vnnlib" / "apart.vnnlib").write_text(query)
    (folder / "vnnlib" / "untied.vnnlib").write_text(query.replace("(assert (== B[0,1] A[0,1]))\n", ""))
    (folder / "vnnlib" / "broken.vnnlib").write_text(query.replace("(== ", "(= "))
    cell = "\"[('base', 'onnx/net.onnx'), ('graft', 'onnx/grafted.onnx')]\""
    names = ("apart", "untied", "broken")
    instances.write_text("".join(f"{cell},vnnlib/{name}.vnnlib,30\n" for name in names))
    point = "X float32 [1,2]\n0.5\n0.5\nY float32 [1,4]\n0.0\n0.0\n0.0\n0.0\n"
    given = ["run", "--instances", str(instances), "--tool", told(tmp_path, verdict="sat", witness=point)]
    assert main([*given, "--out", str(out)]) == 1
    capsys.readouterr()
    with (out / "results.csv").open(newline="") as stream:
        assert [(row[1], row[4]) for row in csv.reader(stream)] == [
            (cell.strip('"'), word) for word in ("sat", "unknown", "error")
        ]
    (witness,) = (out / "counterexamples").iterdir()
    assert witness.name == "base_graft_apart.counterexample"
    text = (
        "A float32 [1,2]\n0.5\n0.5\nP float32 [1,2]\n1.0\n0.5\nB float32 [1,2]\n0.5\n0.5\nQ float32 [1,2]\n0.75\n0.5\n"
    )
    assert witness.read_text() == text
    with Store.read(out / "results.db") as store:
        messages = [row.message for row in store.rows()]
    assert f"{instances}:2: " in messages[1]
    assert "the input B is not tied to A element by element" in messages[1]
    assert messages[2].startswith(f"{instances}:3: ")
    assert main([*given, "--out", str(out), "--inputs", "2", "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["variants"]["net_grafted"]["sets"]["AT"] == 1


def test_a_folder_of_scripts_is_resumed_as_it_was(
    tmp_path: Path, instances: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "mine", tmp_path / "run"
    shutil.copytree(DUMMY, folder)
    given = ["run", "--instances", str(instances), "--out", str(out)]
    assert main([*given, "--inputs", "1", "--tool-dir", str(folder), "--tool-memory", "2", "--tool-cores", "1"]) == 0
    capsys.readouterr()
    assert main([*given, "--inputs", "2", "--resume", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["tool"] == "mine"
    assert summary["provenance"]["tool_dir"] == str(folder)
    assert summary["provenance"]["tool_bounds"] == {"memory_gib": 2.0, "cores": 1, "cpu_s": None}
    assert f"--tool mine --tool-dir {folder} --tool-memory 2.0 --tool-cores 1" in summary["command"]
    assert words(out) == ["unknown", "unknown"]
    (first, _) = sorted((out / "logs" / "mine").glob("*.log"))
    assert first.read_text().count("run_instance.sh") == 1, "what is decided is not decided again"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--tool", "nix"], "unknown tool 'nix'"),
        (["--tool-dir", "/nonexistent"], "/nonexistent: no such folder"),
        (["--tool", "builtin", "--tool-dir", str(DUMMY)], "is no name"),
        (["--tool", "dummy", "--max-domains", "5"], "--max-domains: dummy counts no domains"),
        (["--tool-memory", "1"], "bounds tools of others"),
        (["--tool", "dummy", "--tool-cpu", "-1"], "--tool-cpu -1: has to be a positive number"),
    ],
)
def test_usage_errors_of_a_run_leave_nothing(
    tmp_path: Path, instances: Path, more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["run", "--instances", str(instances), "--out", str(out), *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not out.exists()
