"""`lgbench export` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_benchmark import INPUTS, make_benchmark

from harness.cli.main import main


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_benchmark(tmp_path_factory.mktemp("benchmark")).source)


def test_export_and_check(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    wishes = ["--instances", "3", "--inputs", str(INPUTS), "--gzip"]
    assert main(["export", spec, "--out", str(out), *wishes, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["instances"], done["timeout_sum_s"], done["versions"]) == (3, 540.0, ["1.0", "2.0"])
    assert main(["export", "--check", str(out)]) == 0
    said = capsys.readouterr().out
    assert said == f"{out}: 1.0, 2.0: 6 instances, 4 properties, 4 networks run; well-formed\n"


def test_problems_are_lines_and_exit_code_2(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["export", spec, "--out", str(out), "--instances", "1", "--inputs", str(INPUTS)]) == 0
    path = out / "1.0/instances.csv"
    path.write_text(path.read_text().replace("180", "soon"))
    capsys.readouterr()
    assert main(["export", "--check", str(out)]) == 2
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{path}:1: the time limit 'soon'")
    assert main(["export", "--check", str(out), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert (report["problems"][0]["file"], report["problems"][0]["line"]) == (str(path), 1)


def test_options_come_from_the_environment(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("TIMEOUT", "9000"), ("INPUTS", str(INPUTS)), ("TWO_NETWORK", "1"), ("ALL", "1")):
        monkeypatch.setenv(f"LGBENCH_EXPORT_{name}", value)
    assert main(["export", spec, "--out", str(tmp_path / "out"), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    # All six inputs that both networks get right, two questions each; six hours would hold two instances.
    assert (done["instances"], done["versions"]) == (12, ["2.0"])


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["export"], "name a benchmark and --out DIR, or --check DIR"),
        (["export", "SPEC"], "name a benchmark and --out DIR"),
        (["export", "SPEC", "--check", "x"], "goes without NAME"),
        (["export", "--check", "nowhere"], "nowhere: no benchmark"),
        (["export", "--check", "x", "--range", "1", "0"], "LOW is above HIGH"),
        (["export", "nothing", "--out", "x"], "there is no benchmark 'nothing'"),
        (["export", "SPEC", "--out", "x", "--instances", "500"], "six hours"),
        (["export", "--check", "x", "--two-network"], "--two-network goes without --check"),
        (["export", "--check", "x", "--all"], "--all goes without --check"),
        (["export", "SPEC", "--out", "x", "--range", "0", "1"], "--range is for --check"),
        (["export", "SPEC", "--out", "x", "--delta", "2"], "--delta is for --two-network"),
        (["export", "SPEC", "--out", "x", "--all", "--instances", "4"], "--instances goes without --all"),
    ],
)
def test_wrong_usage(spec: str, arguments: list[str], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([spec if part == "SPEC" else part for part in arguments]) == 2
    said = capsys.readouterr()
    assert what in said.err
    assert not said.out
    assert not Path("x").exists()
