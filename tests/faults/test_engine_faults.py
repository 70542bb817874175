"""What the engine's process can do to a run: die, stop, leak, fork; on a resume everything else is as it was."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import pytest
from tiny_benchmark import Silent, make_benchmark

from harness.config import BenchmarkSpec
from harness.domain import Job, Verdict
from harness.run.machine import Machine
from harness.run.store import Store
from harness.tools.builtin import BuiltinTool, Patience
from harness.tools.contract import Answered, OnProgress, Tool
from harness.workflow.benchmark import run_benchmark
from harness.workflow.options import RunOptions, RunPlan, RunSummary

FAKE = Path(__file__).resolve().parents[1] / "tools" / "fake_engine.py"
INPUTS = 8
MEMORY_GIB = 0.5
LEAST_SILENCE_S = 5.0

pytestmark = pytest.mark.slow


class FaultyEngine(BuiltinTool):
    """Our tool on an engine that misbehaves on the inputs of some numbers."""

    def __init__(self, folder: Path, faults: Mapping[int, str], silence_s: float = 600.0) -> None:
        command = (sys.executable, str(FAKE), str(folder))
        patience = Patience(grace_s=3600.0, silence_s=silence_s)
        super().__init__(folder / "logs", command=command, patience=patience, memory_gib=MEMORY_GIB)
        self.folder, self.faults = folder, faults

    def identity(self) -> str:
        return "the same engine whatever its faults"

    def decide(self, jobs: Sequence[Job]) -> Iterator[Answered]:
        behaviour = {job.key: self.faults[job.index] for job in jobs if job.index in self.faults}
        (self.folder / "behaviour.json").write_text(json.dumps(behaviour))
        return super().decide(jobs)

    def history(self, kind: str) -> list[int]:
        lines = (self.folder / "history.jsonl").read_text().splitlines()
        return [entry[kind] for entry in map(json.loads, lines) if kind in entry]


@pytest.fixture
def spec(tmp_path: Path) -> BenchmarkSpec:
    return make_benchmark(tmp_path, {"base": {1}, "other": set()})


@pytest.fixture
def silence_s() -> float:
    """How long an engine may be silent that has to start within that time, on a host as busy as this one is now."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import harness.formats.engine_protocol"], cwd=FAKE.parents[2], check=True)
    return LEAST_SILENCE_S + 10 * (time.monotonic() - began)


def run(spec: BenchmarkSpec, out: Path, tool: Tool, *, resume: bool = False) -> RunSummary:
    def factory(_plan: RunPlan, _folder: Path, _on_progress: OnProgress) -> Tool:
        return tool

    limit_s = LEAST_SILENCE_S / 2
    options = RunOptions(out=out, inputs=INPUTS, timeout_s=limit_s, variants=("base",), resume=resume, command="")
    return run_benchmark(spec, options, Silent(), machine=Machine((), None, 2), tool_factory=factory)


def stored(out: Path) -> dict[int, tuple[Verdict, str, str]]:
    with Store.read(out / "results.db") as store:
        return {row.index: (row.verdict, row.message, row.finished_at) for row in store.rows()}


@pytest.mark.nightly  # what it measures hangs on the processor's being free when a leak is to be noticed
def test_faults_of_the_engine_cost_the_inputs_at_fault_and_no_other(
    spec: BenchmarkSpec, tmp_path: Path, silence_s: float
) -> None:
    faults = {0: "kill_once", 2: "kill", 3: "stop_once", 4: "leak", 6: "fork_once"}
    tool, out = FaultyEngine(tmp_path, faults, silence_s), tmp_path / "out"
    done = run(spec, out, tool)

    assert (done.errors, done.missing, done.interrupted) == (4, 0, False)
    first = stored(out)
    verdicts = {index: row[0] for index, row in first.items()}
    assert verdicts == {
        **dict.fromkeys((0, 5, 7), Verdict.UNSAT),  # asked again, alone, after 0 had ended the first engine
        **dict.fromkeys((2, 3, 4, 6), Verdict.ERROR),  # that was their second chance
        1: Verdict.SAT,  # misclassified: the engine was not asked
    }
    assert "killed by SIGKILL" in first[2][1]
    assert f"{MEMORY_GIB:.2f} GiB are allowed" in first[4][1]
    assert int((tmp_path / "leaked").read_text()) <= 1.1 * MEMORY_GIB * 2**30
    for pid in tool.history("start") + tool.history("forked"):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    mended = FaultyEngine(tmp_path, {})
    again = run(spec, out, mended, resume=True)
    assert (again.errors, again.missing) == (0, 0)
    second = stored(out)
    kept = {index: row for index, row in first.items() if row[0] is not Verdict.ERROR}
    assert {index: second[index] for index in kept} == kept
    assert {index: row[0] for index, row in second.items()} == dict.fromkeys(range(INPUTS), Verdict.UNSAT) | {
        1: Verdict.SAT
    }


def test_a_full_gpu_is_asked_for_less_and_nothing_is_lost(spec: BenchmarkSpec, tmp_path: Path) -> None:
    class Full(FaultyEngine):
        def decide(self, jobs: Sequence[Job]) -> Iterator[Answered]:
            (self.folder / "behaviour.json").write_text(json.dumps({"most at once": 2}))
            return BuiltinTool.decide(self, jobs)

    tool = Full(tmp_path, {})
    done = run(spec, tmp_path / "out", tool)
    assert (done.errors, done.missing) == (0, 0)
    assert sum(row[0] is Verdict.UNSAT for row in stored(tmp_path / "out").values()) == INPUTS - 1
    assert tool.history("full") == [7, 3, 4]
