"""The program as it is called, with the real engine on a few easy cases."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.engine", "--out", str(out), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def short(cases: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return run("--sets", "cnn_a", "--limit", "2", "--timeout", "20", "--cases", str(cases), "--json", out=out)


@pytest.mark.slow
def test_a_short_run_is_measured_kept_and_compared(shared_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    done = short(shared_dir / "vnncomp_cases", out)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    assert json.loads(out.read_text()) == [record]
    figures = record["sets"]["cnn_a"]
    assert figures["verdicts"] == {"sat": 2}
    assert (figures["complete"], figures["full"]) == (True, False)
    assert figures["peak_bytes"] > 2**26
    assert figures["matmul_gflops"] > 0
    assert done.stderr == "cnn_a: 2/2\n"


@pytest.mark.slow
def test_an_answer_against_its_label_fails_the_benchmark(shared_dir: Path, tmp_path: Path) -> None:
    original, cases = shared_dir / "vnncomp_cases" / "sdp_cifar_cnn_a", tmp_path / "sdp_cifar_cnn_a"
    cases.mkdir()
    for name in ("onnx", "vnnlib"):
        (cases / name).symlink_to(original / name)
    (cases / "instances.csv").write_text((original / "instances.csv").read_text())
    (cases / "labels.csv").write_text((original / "labels.csv").read_text().replace(",sat,", ",unsat,"))
    done = short(tmp_path, tmp_path / "r.json")
    assert done.returncode == 1
    assert done.stderr.count("WRONG") == 2


@pytest.mark.parametrize(
    "arguments",
    [("--sets", "cnn_x"), ("--sets", "acasxu", "--cases", "/nowhere"), ("--limit", "0"), ("--timeout", "x")],
)
def test_usage_errors(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*arguments, out=tmp_path / "r.json")
    assert done.returncode == 2
    assert "error" in done.stderr
    assert not (tmp_path / "r.json").exists()
