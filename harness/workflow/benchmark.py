"""The main job: a benchmark's networks on its first test images, from the specification to the report.

Each step leaves files or rows that the next start finds again, so a run that was stopped anywhere is continued by
starting it once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis.summary import RunHeader
from harness.config import BenchmarkSpec
from harness.data.datasets import load_images
from harness.data.images import ImageSet
from harness.domain import Job, UsageError
from harness.formats.onnx_file import open_session
from harness.judging.clean import clean_outputs, clean_result
from harness.judging.judge import Judge
from harness.run.identity import JobPlanner
from harness.run.store import Store
from harness.tools.contract import Tool
from harness.workflow.device import Machine, this_machine
from harness.workflow.execute import Decider, Ledger, ProgressRelay, ToolFactory, execute, make_tool, tool_options
from harness.workflow.finish import PlannedRun, note_start
from harness.workflow.folder import earlier_header, float_images, open_run, write_benchmark
from harness.workflow.header import planned_header
from harness.workflow.options import Reporter, RunOptions, RunPlan, RunSummary
from harness.workflow.place import Place, open_place, remembered_executor
from harness.workflow.plan import CheckedNetwork, check_networks, plan_benchmark, resumed_options


@dataclass(frozen=True, slots=True, eq=False)
class _Inputs:
    """Everything that was read and checked before the run folder is touched."""

    spec: BenchmarkSpec
    plan: RunPlan
    networks: Sequence[CheckedNetwork]
    images: ImageSet


def run_benchmark(
    spec: BenchmarkSpec,
    options: RunOptions,
    reporter: Reporter,
    *,
    machine: Machine | None = None,
    tool_factory: ToolFactory = make_tool,
) -> RunSummary:
    """Runs a benchmark, or what is left of it, and returns what it left in its folder.

    An interruption (`KeyboardInterrupt`) does not lose what is decided: summary and report are written of that, and the
    returned value says that the run was interrupted.

    Args:
        spec: the benchmark.
        options: the user's wishes.
        reporter: is told of the progress.
        machine: what the device is chosen from; None: this machine.
        tool_factory: makes the verifier.

    Raises:
        UsageError: something in the specification, the options, the networks, the data or the folder cannot be used.
            Then earlier results are as they were.
    """

    def begun() -> RunHeader | None:
        here = options.out or plan_benchmark(spec, options, machine or this_machine()).out
        return earlier_header(here, resume=True)

    options = remembered_executor(options, begun)
    with open_place(options, machine) as place:
        return _run_at(place, spec, options, reporter, tool_factory)


def _run_at(
    place: Place, spec: BenchmarkSpec, options: RunOptions, reporter: Reporter, tool_factory: ToolFactory
) -> RunSummary:
    folder = options.out or plan_benchmark(spec, options, place.machine).out
    earlier = earlier_header(folder, resume=options.resume)
    if earlier is not None and (earlier.benchmark, earlier.eps) != (spec.name, spec.eps):
        same = earlier.benchmark == spec.name
        there, here = (f" with radius {eps}" if same else "" for eps in (earlier.eps, spec.eps))
        raise UsageError(
            f"{folder}: holds a run of {earlier.benchmark}{there}, not of {spec.name}{here}; choose another --out"
        )
    plan = plan_benchmark(spec, resumed_options(replace(options, out=folder), earlier), place.machine)
    images = load_images(spec.dataset, "test", options.data, plan.inputs)
    _check_images(spec, images)
    inputs = _Inputs(spec, plan, check_networks(spec, plan.variants), images)
    relay = ProgressRelay(reporter)
    tool = tool_factory(plan, folder, relay)
    executor = place.executor(plan, tool, tool_options(plan, folder, relay), reporter.step)
    header = _header(inputs, tool, earlier)
    with open_run(folder, resume=options.resume) as store:
        note_start(header, store)
        reporter.planned(plan)
        return _run(inputs, store, Decider(tool, executor), reporter, relay, header)


def _run(
    inputs: _Inputs, store: Store, decider: Decider, reporter: Reporter, relay: ProgressRelay, header: RunHeader
) -> RunSummary:
    reporter.step("writing the properties")
    manifests = {network.variant: network.manifest for network in inputs.networks if network.manifest is not None}
    run = PlannedRun(inputs.plan, header, manifests, _plan_jobs(inputs, decider.tool))

    def clean_checks(ledger: Ledger, judge: Judge) -> None:
        for network in inputs.networks:
            jobs = [job for job in ledger.open_jobs() if job.variant == network.variant]
            if jobs:
                reporter.step(f"clean check of {network.variant}")
                _clean_check(inputs, network, jobs, ledger, judge)

    return execute(run, store, decider, reporter, relay, first=clean_checks)


def _plan_jobs(inputs: _Inputs, tool: Tool) -> list[Job]:
    spec, plan = inputs.spec, inputs.plan
    instances = write_benchmark(
        plan.out,
        inputs.networks,
        inputs.images,
        eps=spec.eps,
        classes=spec.classes,
        dataset=spec.dataset,
        timeout_s=plan.limits.timeout_s,
    )
    planner = JobPlanner(tool.identity())
    return [
        planner.plan(instance, variant, index, plan.limits)
        for variant, listed in instances.items()
        for index, instance in enumerate(listed)
    ]


def _clean_check(inputs: _Inputs, network: CheckedNetwork, jobs: Sequence[Job], ledger: Ledger, judge: Judge) -> None:
    """Stores a result for each job whose unperturbed image the network misclassifies; no tool is asked about those."""
    indices = np.array([job.index for job in jobs])
    images, labels = float_images(inputs.images)[indices], inputs.images.labels[indices]
    outputs = clean_outputs(open_session(network.model), images)
    for job, x, y, label in zip(jobs, images, outputs, labels, strict=True):
        if int(y.argmax()) != int(label):
            ledger.add(clean_result(job, x, y, judge))


def _check_images(spec: BenchmarkSpec, images: ImageSet) -> None:
    if images.images[0].size != spec.inputs_size:
        raise UsageError(
            f"{spec.source}: input_shape has {spec.inputs_size} values, an image of {spec.dataset} has "
            f"{images.images[0].size}; correct input_shape or dataset"
        )
    if int(images.labels.max()) >= spec.classes:
        raise UsageError(f"{spec.source}: {spec.dataset} has more than {spec.classes} classes; correct classes")


def _header(inputs: _Inputs, tool: Tool, earlier: RunHeader | None) -> RunHeader:
    spec, plan = inputs.spec, inputs.plan
    hashes = {network.variant: network.sha256 for network in inputs.networks}
    return replace(
        planned_header(plan, hashes, tool, earlier),
        eps=spec.eps,
        baseline=spec.baseline if spec.baseline in plan.variants else None,
        titles={name: spec.variant(name).title for name in plan.variants},
        published=[row.model_dump() for row in spec.published if row.variant in plan.variants],
    )
