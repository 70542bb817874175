"""Runs on a real Ray cluster of two nodes on this machine: the table of a local run, whatever happens to a node."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_benchmark import write_network

from harness.domain import Verdict
from harness.formats.vnnlib import write_robustness_property
from harness.run.store import Store

pytestmark = [
    # A cluster takes more than a quarter of a minute to start, and several of its processes a share of two cores.
    pytest.mark.nightly,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (the extra 'ray')"),
]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0
INPUTS = 12
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"}


@dataclass
class TwoNodes:
    process: subprocess.Popen[str]
    address: str

    def kill_one(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("kill\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "killed\n"


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    complaints = tmp_path_factory.mktemp("cluster") / "cluster.log"
    with complaints.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("ray_cluster.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=ENVIRONMENT, cwd=ROOT,
            start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert re.fullmatch(r"[\d.]+:\d+", address), complaints.read_text()[-2000:]
            yield TwoNodes(process, address)
        finally:
            process.communicate()


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of two networks with six properties each, and what the dummy says of them."""
    folder = tmp_path_factory.mktemp("listed")
    rows = []
    for seed, name in enumerate(("one", "two")):
        write_network(folder / f"onnx/{name}.onnx.gz", seed, set(), shape=(1, 8, 8))
        for index in range(INPUTS // 2):
            upper = np.full(64, 0.1 + index / 100, np.float32)
            text = write_robustness_property(np.zeros(64, np.float32), upper, index % 10, 10)
            path = folder / f"vnnlib/input_{index:02}.vnnlib"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            rows.append(f"onnx/{name}.onnx.gz,vnnlib/{path.name},30")
    (folder / "instances.csv").write_text("\n".join(rows) + "\n")
    answers = {
        "default": {"verdict": "unsat", "delay": 0.5},
        "answers": {
            "*_03": {"verdict": "unknown", "delay": 0.5},
            "one_*_05": {"exit": 3, "delay": 0.5},
            # These networks' outputs are all zero, and a tie counts: the runner replays what a node found.
            "two_*_04": {"verdict": "sat", "witness": "center", "delay": 0.5},
        },
    }
    (folder / "dummy.json").write_text(json.dumps(answers))
    return folder


def command(listed: Path, out: Path, *more: str) -> list[str]:
    tool = f"dummy:{listed / 'dummy.json'}"
    words = ["run", "--instances", str(listed / "instances.csv"), "--tool", tool, "--out", str(out), *more]
    return [sys.executable, "-m", "harness", *words]


def run(listed: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(listed, out, *more), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip


def table(out: Path) -> list[tuple[Any, ...]]:
    with Store.open(out / "results.db") as store:
        return [(r.key, r.variant, r.index, r.verdict, r.tool_verdict, r.stage, r.message) for r in store.rows()]


def decided(out: Path) -> int:
    if not (out / "results.db").is_file():
        return 0
    with Store.read(out / "results.db") as store:
        return len(store.rows())


def wait_for(out: Path, rows: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE_S
    while decided(out) < rows:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no results came"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def expected(listed: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The table of a local run."""
    out = tmp_path_factory.mktemp("local")
    assert run(listed, out).returncode == 1, "one row is an error on purpose"
    rows = table(out)
    assert Counter(row[3].value for row in rows) == {"unsat": 8, "unknown": 2, "error": 1, "sat": 1}
    return rows


def test_an_interruption_ends_the_workers_and_leaves_a_folder_that_goes_on_here(
    two_nodes: TwoNodes, listed: Path, expected: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    out, ray = tmp_path / "ray", ("--executor", "ray", "--ray-address", two_nodes.address)
    with subprocess.Popen(
        command(listed, out, *ray), cwd=ROOT, env=ENVIRONMENT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        wait_for(out, 2, process)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert f"--executor ray --ray-address {two_nodes.address}" in said
    assert 2 <= decided(out) < INPUTS
    here = run(listed, out, "--executor", "local", "--resume")
    assert here.returncode == 1, here.stderr
    assert table(out) == expected


def bench(out: Path, *more: str) -> list[tuple[Any, ...]]:
    """The table of a shipped benchmark's six first inputs, decided by our engine."""
    limits = ["--inputs", "6", "--max-domains", "50", "--timeout", "60"]
    done = subprocess.run(
        [sys.executable, "-m", "harness", "bench", "cifar10_cnnb", *limits, "--out", str(out), *more],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=10 * PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return table(out)


def test_our_engine_decides_on_nodes_what_it_decides_here(two_nodes: TwoNodes, tmp_path: Path) -> None:
    there = bench(tmp_path / "ray", "--executor", "ray", "--ray-address", two_nodes.address, "--chunk", "2")
    assert there == bench(tmp_path / "here")
    assert {Verdict.SAT, Verdict.UNSAT} <= {row[3] for row in there}, "the comparison is of too little"


def test_a_node_killed_in_the_middle_changes_nothing_in_the_table(
    two_nodes: TwoNodes, listed: Path, expected: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    out, ray = tmp_path / "ray", ("--executor", "ray", "--ray-address", two_nodes.address, "--chunk", "3")
    with subprocess.Popen(
        command(listed, out, *ray, "--json"), cwd=ROOT, env=ENVIRONMENT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        wait_for(out, 2, process)
        two_nodes.kill_one()
        at_the_kill = decided(out)
        said, complaints = process.communicate(timeout=PATIENCE_S)
    assert at_the_kill < INPUTS, "the node was killed too late to show anything"
    assert process.returncode == 1, complaints
    assert table(out) == expected
    summary = json.loads(said)
    assert summary["complete"]
    assert summary["provenance"]["executor"]["address"] == two_nodes.address
    assert "is lost" in (out / "logs/ray.log").read_text()

    # An error is tried again on a resume, which asks the same executor; nothing else is.
    again = run(listed, out, "--resume")
    assert again.returncode == 1, again.stderr
    assert f"{INPUTS - 1} of {INPUTS} were decided earlier" in again.stderr
    assert table(out) == expected
