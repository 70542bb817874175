"""Where a run's jobs are decided: on this machine, or spread over a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.analysis.summary import RunHeader
from harness.domain import UsageError
from harness.run.cluster import RayCluster
from harness.run.cluster_protocol import ClusterSettings, RemoteTool
from harness.run.executors import Executor
from harness.tools.contract import Tool
from harness.tools.registry import ToolOptions
from harness.workflow.device import Device, Machine, this_machine
from harness.workflow.options import EXECUTORS, RunOptions, RunPlan

_ONLY_RAY = {"ray_address": "--ray-address", "job_cores": "--job-cores", "chunk": "--chunk"}


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where jobs are decided."""

    machine: Machine
    """What one worker has."""
    cluster: RayCluster | None = None

    def executor(
        self, plan: RunPlan, tool: Tool, options: ToolOptions, on_note: Callable[[str], None]
    ) -> Executor | None:
        """Returns what asks the tool of a plan; None where this process does.

        Args:
            plan: the run.
            tool: the verifier as this process has it.
            options: what it is made with, here and on each node; progress is told to the receiver in them.
            on_note: told in one line what a person should know.

        Raises:
            UsageError: the cluster cannot run the tool.
        """
        if self.cluster is None:
            return None
        remote = RemoteTool(plan.tool, options, tool.identity(), tool.batched, plan.instances)
        self.cluster.prepare(remote, log_dir=options.log_dir, on_progress=options.on_progress, on_note=on_note)
        return self.cluster


@contextmanager
def open_place(options: RunOptions, machine: Machine | None = None) -> Iterator[Place]:
    """Yields where the jobs of a run are to be decided, connected until the block ends.

    Args:
        options: as they are after a resume has added what it remembers.
        machine: of a local run; None: this machine.

    Raises:
        UsageError: there is no such executor, or no such cluster.
    """
    settings = cluster_settings(options)
    if settings is None:
        yield Place(machine or this_machine())
        return
    with RayCluster(settings) as cluster:
        yield Place(cluster.offer.machine, cluster)


def remembered_executor(options: RunOptions, earlier: Callable[[], RunHeader | None]) -> RunOptions:
    """Returns the options with the executor of the run that is resumed, where none is asked for.

    Args:
        options: as asked for.
        earlier: returns that run's header; called only where it matters.
    """
    if options.executor is not None or not options.resume:
        return options
    header = earlier()
    wishes = {} if header is None else executor_options(header.provenance)
    return replace(options, **{name: value for name, value in wishes.items() if getattr(options, name) is None})


def cluster_settings(options: RunOptions) -> ClusterSettings | None:
    """Returns how a run uses a Ray cluster; None for a run of this machine.

    Raises:
        UsageError: an option has a value that makes no sense.
    """
    executor = options.executor or "local"
    if executor not in EXECUTORS:
        raise UsageError(f"there is no executor '{executor}'; choose from {', '.join(EXECUTORS)}")
    if executor == "ray":
        try:
            return ClusterSettings(options.ray_address, options.job_cores, options.chunk)
        except ValueError as error:
            raise UsageError(f"{error}; correct --job-cores or --chunk") from error
    for name, option in _ONLY_RAY.items():
        if getattr(options, name) is not None:
            raise UsageError(f"{option} is for --executor ray; leave it out, or add that")
    return None


def device_on(cluster: ClusterSettings | None, device: Device) -> Device:
    """Returns the device with the words for where it is."""
    return device if cluster is None else Device(device.name, f"{device.words} a job, on Ray")


def executor_provenance(plan: RunPlan) -> dict[str, Any]:
    """Returns how a run uses a cluster, as JSON values; a resume takes it from here."""
    return {} if plan.cluster is None else {"executor": {"name": "ray", **asdict(plan.cluster)}}


def executor_options(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that `executor_provenance` noted."""
    noted = dict(provenance.get("executor") or {})
    if not noted:
        return {}
    return {
        "executor": noted["name"],
        "ray_address": noted["address"],
        "job_cores": noted["job_cores"],
        "chunk": noted["chunk"],
    }
