"""The commands as a user calls them, with our engine in its own process, on networks of 64 neurons."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_benchmark import INPUTS, make_benchmark

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 300.0

pytestmark = pytest.mark.slow


def environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("LGBENCH_")}
    return own | {"PYTHONPATH": str(REPOSITORY), "OMP_WAIT_POLICY": "PASSIVE"}


def lgbench(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=folder,
        env=environment() | settings,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the benchmark `tiny` and its finished run in `whole`."""
    folder = tmp_path_factory.mktemp("bench")
    make_benchmark(folder)
    done = lgbench(folder, "bench", "tiny", "--max-domains", "200", "--timeout", "60", "--out", "whole")
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


def sets(folder: Path) -> dict[str, dict[str, int]]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return {name: block["sets"] for name, block in summary["variants"].items()}


def test_every_input_is_in_one_set_and_both_answers_occur(bench: Path) -> None:
    found = sets(bench / "whole")
    assert all(sum(counts.values()) == INPUTS for counts in found.values())
    assert found["base"]["SK"] == 1
    assert found["other"]["SK"] == 2
    assert sum(counts["VS"] for counts in found.values()) > 0
    assert sum(counts["AT"] for counts in found.values()) > 0


def test_the_table_stands_beside_the_published_figures(bench: Path) -> None:
    shown = lgbench(bench, "show", "whole").stdout
    assert "a paper" in shown
    assert "78.10" in shown


def test_a_killed_run_ends_like_an_uninterrupted_one(bench: Path) -> None:
    command = [sys.executable, "-m", "harness", "bench", "tiny", "--out", "killed"]
    limits = ["--max-domains", "200", "--timeout", "60"]
    child = subprocess.Popen([*command, *limits], cwd=bench, env=environment(), stdout=subprocess.DEVNULL)
    decided = wait_for_results(bench / "killed/results.db", 1, child)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = rows(bench / "killed/results.db")
    assert 0 < decided <= len(before) < 2 * INPUTS, "killed too late to show anything"
    again = lgbench(bench, "bench", "tiny", "--out", "killed", "--resume")
    assert again.returncode == 0, again.stderr
    after = rows(bench / "killed/results.db")
    assert {key: after[key] for key in before} == before
    assert sets(bench / "killed") == sets(bench / "whole")


def test_docker_stop_leaves_a_resumable_run(bench: Path) -> None:
    command = [sys.executable, "-m", "harness", "bench", "tiny", "--out", "stopped"]
    child = subprocess.Popen(
        command, cwd=bench, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    wait_for_results(bench / "stopped/results.db", 1, child)
    child.terminate()
    shown, _ = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 1
    assert "--resume" in shown
    assert 0 < len(rows(bench / "stopped/results.db")) < 2 * INPUTS, "stopped too late to show anything"
    assert lgbench(bench, "bench", "tiny", "--out", "stopped", "--resume").returncode == 0
    assert sum(sets(bench / "stopped")["base"].values()) == INPUTS


def test_options_come_from_the_environment_too(bench: Path) -> None:
    done = lgbench(bench, "bench", "tiny", "--out", "few", "--variants", "base", "--json", LGBENCH_BENCH_INPUTS="2")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["inputs"] == 2


def test_verify_says_the_verdict_on_its_first_line(bench: Path) -> None:
    with sqlite3.connect(bench / "whole/results.db") as database:
        wanted = database.execute("SELECT network, property, verdict FROM results WHERE stage != 'clean'").fetchall()
    by_verdict = {verdict: (network, prop) for network, prop, verdict in wanted}
    folder = bench / "whole/benchmark"
    for verdict in ("sat", "unsat"):
        network, prop = by_verdict[verdict]
        done = lgbench(bench, "verify", str(folder / network), str(folder / prop), "--timeout", "60")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[0] == verdict
        assert (lines[1].startswith("((X_0 ") and lines[-1].endswith("))")) if verdict == "sat" else lines[1:] == []


def test_a_list_gives_the_same_answers(bench: Path) -> None:
    done = lgbench(bench, "run", "--instances", "whole/benchmark/instances.csv", "--inputs", "3", "--out", "listed")
    assert done.returncode == 0, done.stderr
    answers = {place: verdict for place, (verdict, _) in rows(bench / "listed/results.db").items()}
    whole = {place: verdict for place, (verdict, _) in rows(bench / "whole/results.db").items()}
    assert answers == {("base", index): whole["base", index] for index in range(3)}


def rows(path: Path) -> dict[tuple[str, int], tuple[str, str]]:
    """Variant and index to verdict and the time of the result."""
    with sqlite3.connect(path) as database:
        found = database.execute("SELECT variant, idx, verdict, finished_at FROM results").fetchall()
    return {(variant, index): (verdict, at) for variant, index, verdict, at in found}


def wait_for_results(path: Path, count: int, child: subprocess.Popen[Any]) -> int:
    """Waits until the store has `count` results, or the child has ended; returns how many there are."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            found = len(rows(path)) if path.exists() else 0
        except sqlite3.OperationalError:
            found = 0
        if found >= count or child.poll() is not None:
            return found
        time.sleep(0.05)
    raise AssertionError("no results came")
