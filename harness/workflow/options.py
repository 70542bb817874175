"""What a run is asked for, what it resolves to, who is told of its progress, and what it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harness.domain import ARITHMETICS, InstanceResult, Job, Limits, ResultSet
from harness.judging.replay import Rules
from harness.run.cluster_protocol import ClusterSettings
from harness.tools.supervise import ToolBounds
from harness.workflow.device import Device

EXECUTORS = ("local", "ray")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The user's wishes; None leaves the choice to the protocol, and on a resume to what the folder's run was."""

    out: Path | None = None
    """The run folder."""
    protocol: str | None = None
    """`full` or `cpu`; None: by device."""
    inputs: int | None = None
    timeout_s: float | None = None
    """Seconds an input; for a plain list of instances: lowers each limit to it."""
    max_domains: int | None = None
    device: str | None = None
    """`auto`, `cpu` or `cuda`."""
    variants: tuple[str, ...] | None = None
    tool: str | None = None
    tool_dir: Path | None = None
    """Folder with VNN-COMP's scripts; without `tool` its name is the tool's."""
    tool_memory: float | None = None
    """GiB that a tool of others may use."""
    tool_cores: int | None = None
    """Processor cores that it may use."""
    tool_cpu: float | None = None
    """Processor seconds that it may use for one instance."""
    rules: str | None = None
    """What counterexamples are judged by, one of `Rules`."""
    seed: int | None = None
    arithmetic: str | None = None
    """What our engine's `unsat` speaks of, of `ARITHMETICS`."""
    executor: str | None = None
    """Of `EXECUTORS`; None: from this process."""
    ray_address: str | None = None
    """`host:port` of a Ray cluster."""
    job_cores: int | None = None
    """Processor cores of one worker on Ray."""
    chunk: int | None = None
    """The most inputs that a worker on Ray gets at once."""
    resume: bool = False
    data: Path | None = None
    """Folder with the data sets; None: the embedded first 1,000 test images."""
    command: str = ""
    """What was called, without its options (`lgbench bench cifar10_cnnb`); a plan appends every choice to it."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run with every choice made."""

    benchmark: str
    title: str
    protocol: str
    """`full`, `cpu`, `custom`, or `instances` for a plain list."""
    out: Path
    variants: tuple[str, ...]
    inputs: int
    """Inputs of each network; for a plain list of instances the number of rows of the longest network."""
    limits: Limits
    device: Device
    tool: str
    seed: int
    instances: int
    """Jobs of the whole run."""
    command: str
    """The command that makes this run, every choice spelt out; with ` --resume` it continues it."""
    tool_dir: Path | None = None
    """Folder of the tool's scripts, absolute; None for a tool that is known by its name."""
    bounds: ToolBounds = field(default_factory=ToolBounds)
    """What a tool of others may use."""
    cluster: ClusterSettings | None = None
    """How the run uses a Ray cluster; None for a run of this machine."""
    rules: Rules = Rules.Y2026
    """What counterexamples are judged by."""
    arithmetic: str = ARITHMETICS[0]
    """What our engine's `unsat` speaks of."""


class Reporter(Protocol):
    """Is told what a run does; the only way in which the workflow speaks to people."""

    def planned(self, plan: RunPlan) -> None:
        """Everything is checked, the folder is ours, and nothing is decided yet."""

    def step(self, text: str) -> None:
        """A step begins that takes a moment, in a few words."""

    def resumed(self, sets: Mapping[str, Mapping[ResultSet, int]]) -> None:
        """The folder has these final results from earlier, by variant and set; called once, also with none."""

    def working(self, job: Job, stage: str, domains: int) -> None:
        """The tool works on a job just now, as it says itself: in which stage, after how many domains."""

    def decided(self, result: InstanceResult) -> None:
        """One more input is decided and stored."""


@dataclass(frozen=True, slots=True, eq=False)
class RunSummary:
    """What a run left behind."""

    folder: Path
    summary: Mapping[str, Any]
    """The content of `summary.json`."""
    report: Path
    interrupted: bool
    """Whether the run was stopped before every input was decided; it can be resumed."""

    @property
    def errors(self) -> int:
        """Number of results with the verdict `error`."""
        return sum(int(block["errors"]) for block in self.summary["variants"].values())

    @property
    def missing(self) -> int:
        """Number of planned inputs without a result."""
        return sum(int(block["missing"]) for block in self.summary["variants"].values())

    @property
    def conflicts(self) -> int:
        """Number of soundness conflicts."""
        return len(self.summary["conflicts"])
