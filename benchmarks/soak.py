"""`python -m benchmarks.soak`: what the runner itself costs an instance, and whether its memory stays flat.

A list of instances goes through the whole workflow (planning, scheduling, judging, storing, files, report) with a
dummy for a verifier, which answers at once: three fifths `unsat`, a fifth `timeout`, a fifth `sat` with a
counterexample that is replayed. Networks have two inputs, so that what is measured is ours and not the reading of large
properties.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.table import columns
from harness.domain import Counterexample, InstanceResult, Job, ResultSet, Stage, ToolAnswer, Verdict
from harness.formats.compressed import write_gz
from harness.tools import toy_networks, tree
from harness.tools.contract import OnProgress, Tool
from harness.tools.dummy import DummyTool
from harness.workflow.instances import run_instances
from harness.workflow.options import RunOptions, RunPlan

MOST_MS = 10.0
"""What an instance may cost (issue: soak)."""
MOST_REPORT_S = 15.0
"""What a report may take for 4 networks and 1,000 inputs (issue: report); asked here of all instances."""
POINTS = 20
"""Of the memory curve."""
WARM = 0.2
"""Share of the instances before memory is held to have settled: libraries load, caches fill."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The process after some instances."""

    decided: int
    wall_s: float
    """Since the first step of the run."""
    cpu_s: float
    """Processor seconds of the process since then."""
    memory_mib: float
    """Resident."""


@dataclass(slots=True)
class Curve:
    """A reporter that samples its own process at every step, and every so many results."""

    every: int
    began: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)
    samples: list[Sample] = field(default_factory=list)
    steps: dict[str, Sample] = field(default_factory=dict)
    decided_so_far: int = 0

    def now(self) -> Sample:
        """Returns a sample of this moment."""
        memory = tree.resident_bytes(os.getpid()) / 2**20
        return Sample(self.decided_so_far, time.perf_counter() - self.began, time.process_time() - self.cpu, memory)

    def planned(self, plan: RunPlan) -> None:  # noqa: ARG002
        """Notes the end of planning."""
        self.steps["planned"] = self.now()

    def step(self, text: str) -> None:
        """Notes the beginning of a step."""
        self.steps[text] = self.now()

    def resumed(self, sets: Mapping[str, Mapping[ResultSet, int]]) -> None:  # noqa: ARG002
        """Notes the moment before the first instance."""
        self.steps["resumed"] = self.now()

    def working(self, job: Job, stage: str, domains: int) -> None:
        """Does nothing."""

    def decided(self, result: InstanceResult) -> None:  # noqa: ARG002
        """Counts a result, and samples now and then."""
        self.decided_so_far += 1
        if self.decided_so_far % self.every == 0:
            self.samples.append(self.now())


@dataclass(frozen=True, slots=True)
class Soak:
    """What a soak showed."""

    instances: int
    samples: tuple[Sample, ...]
    planning: Sample
    """Seconds are those of planning alone, and so on below."""
    deciding: Sample
    finishing: Sample
    """Conflicts, summary, counterexamples and report."""
    opening: Sample
    """Reading and checking the finished store again, as `show` and a resume begin."""
    peak_mib: float
    sets: Mapping[str, int]

    @property
    def wall_ms(self) -> float:
        """Wall milliseconds an instance from the tool's answer to the next."""
        return 1000 * self.deciding.wall_s / self.instances

    @property
    def cpu_ms(self) -> float:
        """The same in processor time, which other programs on the host do not stretch."""
        return 1000 * self.deciding.cpu_s / self.instances

    @property
    def growth_bytes(self) -> float:
        """Bytes of memory that one more instance costs, by a line through the samples after the first fifth."""
        settled = [s for s in self.samples if s.decided >= WARM * self.instances]
        if len(settled) < 2:
            return 0.0
        slope = np.polyfit([s.decided for s in settled], [s.memory_mib for s in settled], 1)[0]
        return float(slope) * 2**20

    def as_json(self) -> dict[str, Any]:
        """Returns everything as JSON values."""
        rest = {"wall_ms": self.wall_ms, "cpu_ms": self.cpu_ms, "growth_bytes": self.growth_bytes}
        return asdict(self) | rest


def write_list(folder: Path, instances: int, networks: int) -> Path:
    """Writes toy networks, a property each for a share of the instances, and the list; returns the list's path.

    The networks are one function in different bytes; properties differ in what they ask, so every job has its own key.
    """
    model = onnx.load_from_string(toy_networks.absolute_sum())
    for number in range(networks):
        model.doc_string = f"network {number}"
        write_gz(folder / f"onnx/net{number}.onnx.gz", model.SerializeToString())
    each, box = -(-instances // networks), toy_networks.box([(0.5, 1.0), (0.5, 1.0)])
    for index in range(each):
        # The middle of the box reaches 1.5.
        text = toy_networks.prop(2, 2, [(box, toy_networks.at_least(1.0 + 0.4 * index / each))])
        write_gz(folder / f"vnnlib/p{index:05d}.vnnlib.gz", text.encode())
    pairs = [(number, index) for number in range(networks) for index in range(each)][:instances]
    path = folder / "instances.csv"
    path.write_text("".join(f"onnx/net{n}.onnx,vnnlib/p{i:05d}.vnnlib,20\n" for n, i in pairs))
    return path


def answer(job: Job) -> ToolAnswer:
    """Returns what the dummy says: by the row's number, so that no property gets two answers that conflict."""
    kind = int(job.instance.property_name.removesuffix(".vnnlib")[-5:]) % 5
    if kind == 0:
        middle = Counterexample(np.array([0.75, 0.75], np.float32))
        return ToolAnswer(Verdict.SAT, 0.0, 0.0, Stage.ATTACK, middle)
    if kind == 1:
        return ToolAnswer(Verdict.TIMEOUT, 20.0, 20.0)
    return ToolAnswer(Verdict.UNSAT, 0.0, 0.0, Stage.INCOMPLETE)


def soak(folder: Path, instances: int, networks: int) -> Soak:
    """Returns what a run of that many instances showed; the run folder stays at `folder/run`."""
    listed = write_list(folder, instances, networks)
    curve = Curve(max(instances // POINTS, 1))
    options = RunOptions(out=folder / "run", device="cpu", command="lgbench run")

    def factory(_plan: RunPlan, _folder: Path, _on_progress: OnProgress) -> Tool:
        return DummyTool(answer, batched=False)

    done = run_instances(listed, options, curve, tool_factory=factory)
    end, steps = curve.now(), curve.steps
    finish = steps["writing summary and report"]
    again = Curve(1)
    run_instances(listed, RunOptions(out=folder / "run", resume=True, command=""), again, tool_factory=factory)
    return Soak(
        instances=instances,
        samples=tuple(curve.samples),
        planning=steps["planned"],
        deciding=_difference(steps["resumed"], finish),
        finishing=_difference(finish, end),
        opening=_difference(again.steps["planned"], again.steps["resumed"]),
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        sets={name: sum(block["sets"][name] for block in done.summary["variants"].values()) for name in ResultSet},
    )


def _difference(first: Sample, last: Sample) -> Sample:
    return Sample(last.decided - first.decided, last.wall_s - first.wall_s, last.cpu_s - first.cpu_s, last.memory_mib)


def lines(found: Soak) -> list[str]:
    """Returns the figures and the memory curve as text."""
    phases = (
        ("planning", found.planning),
        ("deciding", found.deciding),
        ("summary and report", found.finishing),
        ("a resume's reading", found.opening),
    )
    rows = [["", "wall s", "cpu s", "MiB"]]
    rows += [[name, f"{s.wall_s:.2f}", f"{s.cpu_s:.2f}", f"{s.memory_mib:.0f}"] for name, s in phases]
    greatest = max((s.memory_mib for s in found.samples), default=1.0)
    curve = [
        [f"{s.decided:,}", f"{s.wall_s:.1f}", f"{s.memory_mib:.1f}", "#" * round(50 * s.memory_mib / greatest)]
        for s in found.samples
    ]
    growth = f"{found.growth_bytes:.0f} bytes more an instance after the first fifth"
    report = f"{found.finishing.wall_s:.1f} s wall, {found.finishing.cpu_s:.1f} s of processor time"
    return [
        f"{found.instances:,} instances: {', '.join(f'{name} {count:,}' for name, count in found.sets.items())}",
        *columns(rows),
        f"an instance: {found.wall_ms:.2f} ms wall, {found.cpu_ms:.2f} ms of processor time (asked: {MOST_MS:g} ms)",
        f"memory: {growth}, {found.peak_mib:.0f} MiB at most",
        f"report and summary: {report} (asked: {MOST_REPORT_S:g} s for 4,000 inputs)",
        *columns([["decided", "wall s", "MiB", ""], *curve]),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the soak; returns 0 where an instance cost no more than is asked, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--networks", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where list and run are left; default: a temporary folder")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="lgbench-soak-") as scratch:
        found = soak(options.folder or Path(scratch), options.instances, options.networks)
    print(json.dumps(found.as_json(), indent=2) if options.json else "\n".join(lines(found)))
    return 0 if found.cpu_ms <= MOST_MS else 1


if __name__ == "__main__":
    sys.exit(main())
