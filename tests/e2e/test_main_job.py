"""The commands as a user calls them, with our engine in its own process, on networks of 64 neurons."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest
from tiny_benchmark import INPUTS, make_benchmark

from harness.run.store import Store

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 300.0
HOLDERS = 1000

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
    store = held_store(bench / "killed", "(SELECT COUNT(*) FROM results WHERE tool_verdict IS NOT NULL) = 3", factors=6)
    command = [sys.executable, "-m", "harness", "bench", "tiny", "--out", "killed"]
    limits = ["--max-domains", "200", "--timeout", "60"]
    with ended_in_any_case(
        subprocess.Popen([*command, *limits], cwd=bench, env=environment(), stdout=DEVNULL)
    ) as child:
        # The fourth answer of the verifier is never stored: the kill hits the run in the middle of that transaction.
        wait_for_answers(store, 3, child)
        child.send_signal(signal.SIGKILL)
        child.wait()
    before = rows(store)
    assert answered(store) == 3
    assert len(before) < 2 * INPUTS
    release(store)
    again = lgbench(bench, "bench", "tiny", "--out", "killed", "--resume")
    assert again.returncode == 0, again.stderr
    after = rows(store)
    assert {key: after[key] for key in before} == before
    assert sets(bench / "killed") == sets(bench / "whole")


def test_docker_stop_leaves_a_resumable_run(bench: Path) -> None:
    # Each answer takes a moment to store, so the signal comes while the verifier's answers are coming in.
    store = held_store(bench / "stopped", "1", factors=2, last=20)
    command = [sys.executable, "-m", "harness", "bench", "tiny", "--out", "stopped"]
    process = subprocess.Popen(command, cwd=bench, env=environment(), stdout=subprocess.PIPE, stderr=DEVNULL, text=True)
    with ended_in_any_case(process) as child:
        wait_for_answers(store, 1, child)
        child.terminate()
        shown, _ = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 1
    assert "--resume" in shown
    assert answered(store) > 0
    assert len(rows(store)) < 2 * INPUTS, "stopped too late to show anything"
    release(store)
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


def answered(path: Path) -> int:
    """Results that the verifier was asked for."""
    with sqlite3.connect(path) as database:
        (count,) = database.execute("SELECT COUNT(*) FROM results WHERE tool_verdict IS NOT NULL").fetchone()
    return int(count)


def held_store(folder: Path, when: str, factors: int, last: int = HOLDERS) -> Path:
    """Returns a new store in which storing an answer of the verifier takes long: a trigger counts a huge product.

    Args:
        folder: the run folder to make.
        when: SQL condition under which an answer takes long.
        factors: the product has `HOLDERS ** factors * last` rows; six are more than can ever be counted.
        last: see `factors`.
    """
    folder.mkdir()
    path = folder / "results.db"
    Store.open(path, create=True).close()
    product = ", ".join(["holders"] * factors).replace("holders", "holders AS h{}").format(*range(factors))
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE holders (x)")
        database.executemany("INSERT INTO holders VALUES (?)", [(x,) for x in range(HOLDERS)])
        database.execute(
            f"CREATE TRIGGER hold BEFORE INSERT ON results WHEN NEW.tool_verdict IS NOT NULL AND {when} "
            f"BEGIN SELECT SUM(h0.x * last.x) FROM {product}, holders AS last WHERE last.x < {last}; END"
        )
    database.close()
    return path


def release(path: Path) -> None:
    """Makes a held store an ordinary one."""
    with sqlite3.connect(path) as database:
        database.execute("DROP TRIGGER hold")
        database.execute("DROP TABLE holders")
    database.close()


@contextmanager
def ended_in_any_case(child: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def wait_for_answers(path: Path, count: int, child: subprocess.Popen[Any]) -> None:
    """Waits until the store has `count` answers of the verifier."""
    deadline = time.monotonic() + PATIENCE_S
    while answered(path) < count:
        assert child.poll() is None, "the run was over before it was hit"
        assert time.monotonic() < deadline, "no answers came"
        time.sleep(0.02)
