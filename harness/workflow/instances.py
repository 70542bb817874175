"""A plain list of instances: the same run as a benchmark's, without labels and so without a clean check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.analysis.summary import RunHeader
from harness.domain import (
    Instance,
    InstanceResult,
    Job,
    Limits,
    UnsupportedPropertyError,
    UsageError,
    Verdict,
    printable_line,
)
from harness.formats.competition import file_stem
from harness.formats.instances import ListedInstance, read_list
from harness.judging.judge import Judge, one_line
from harness.judging.replay import Rules
from harness.run.identity import JobPlanner
from harness.run.stored import Place as RowPlace
from harness.run.stored import job_place
from harness.workflow.device import Machine, choose_device
from harness.workflow.execute import Decider, Ledger, ProgressRelay, ToolFactory, execute, make_tool, tool_options
from harness.workflow.finish import PlannedRun, note_start
from harness.workflow.folder import BENCHMARK_FOLDER, earlier_header, open_run
from harness.workflow.header import planned_header
from harness.workflow.limits import make_limits
from harness.workflow.options import Reporter, RunOptions, RunPlan, RunSummary
from harness.workflow.place import Place, cluster_settings, device_on, open_place, remembered_executor
from harness.workflow.plan import DEFAULT_TOOL, chosen_arithmetic, named_tool, resumed_options, spelt_out, tool_bounds
from harness.workflow.several import JoinedRows

_PARTS = ("1.0", "2.0", BENCHMARK_FOLDER)
"""Folders of VNN-COMP's layout since 2026, and of our run folder, that do not name the benchmark."""

_WISHES = ("inputs", "timeout_s", "variants")
"""Options that choose from a list, or lower its limits; a header does not tell them otherwise."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row that is to be decided."""

    index: int
    """Position in the list, from 0."""
    variant: str
    listed: ListedInstance
    """With the limit that the row gets."""

    @property
    def instance(self) -> Instance:
        """Network, property and limit."""
        return self.listed.instance


def run_instances(
    path: Path,
    options: RunOptions,
    reporter: Reporter,
    *,
    machine: Machine | None = None,
    tool_factory: ToolFactory = make_tool,
) -> RunSummary:
    """Decides the rows of an instances.csv, or what is left of them, grouped by network.

    A row whose files are missing or cannot be read is an `error` that says so; the others are decided.
    `options.inputs` takes the first rows, `options.variants` the networks of those names (their files' stems), and
    `options.timeout_s` lowers each limit to itself. What a run leaves, and what an interruption does, is as in
    `run_benchmark`.

    Raises:
        UsageError: the list, an option or the folder cannot be used.
    """
    out = options.out
    if out is None:
        raise UsageError("a list of instances needs --out DIR for its results")
    options = remembered_executor(options, lambda: earlier_header(out, resume=True))
    with open_place(options, machine) as place:
        return _run_at(place, path, out, options, reporter, tool_factory)


def _run_at(
    place: Place, path: Path, out: Path, options: RunOptions, reporter: Reporter, tool_factory: ToolFactory
) -> RunSummary:
    earlier = earlier_header(out, resume=options.resume)
    name = _benchmark_name(path)
    if earlier is not None and (earlier.benchmark, earlier.labelled) != (name, False):
        raise UsageError(f"{out}: holds a run of {earlier.benchmark}, not of {path}; choose another --out")
    wishes = _resumed_wishes(options, earlier)
    rows = _select(read_list(path), wishes)
    plan = _plan(name, out, wishes, rows, place.machine)
    relay = ProgressRelay(reporter)
    tool = tool_factory(plan, out, relay)
    executor = place.executor(plan, tool, tool_options(plan, out, relay), reporter.step)
    planned = _plan_jobs(rows, plan, JobPlanner(tool.identity()))
    jobs = planned.jobs
    hashes = {job.variant: job.network_sha256 for job in jobs if job.network_sha256}
    header = replace(
        planned_header(plan, hashes, tool, earlier),
        inputs_of=Counter(job.variant for job in jobs),
        asked={name: getattr(wishes, name) for name in _WISHES},
        labelled=False,
    )
    with open_run(out, resume=options.resume) as store:
        note_start(header, store)
        reporter.planned(plan)
        planned.joined.write()
        run = PlannedRun(plan, header, {}, jobs, planned.originals)
        return execute(run, store, Decider(tool, executor), reporter, relay, first=_settle(planned.settled))


@dataclass(frozen=True, slots=True)
class _Planned:
    """The jobs of all rows."""

    joined: JoinedRows
    jobs: list[Job] = field(default_factory=list)
    settled: list[InstanceResult] = field(default_factory=list)
    """Results of rows that no tool can be asked about."""
    originals: dict[RowPlace, Path] = field(default_factory=dict)
    """Row to the property of several networks that its job's was made of."""


def _plan_jobs(rows: Sequence[_Row], plan: RunPlan, planner: JobPlanner) -> _Planned:
    """Returns the jobs of all rows, and the results of those that no tool can be asked about.

    A row of several networks becomes one of a single network; where that cannot be, it is `unknown` with the reason. A
    row whose files cannot be read is an `error`.
    """
    planned = _Planned(JoinedRows(plan.out, planner))

    def settle(job: Job, verdict: Verdict, message: str) -> Job:
        planned.settled.append(InstanceResult(job, verdict, None, None, 0.0, 0.0, message=one_line(message)))
        return job

    for row in rows:
        given = row.variant, row.index, make_limits(row.instance.timeout_s, plan.limits.max_domains)
        try:
            planned.jobs.append(_plan_job(row, given, planned, planner))
        except UnsupportedPropertyError as error:
            job = planner.plan(planned.joined.unjoined(row.listed), *given)
            planned.jobs.append(settle(job, Verdict.UNKNOWN, f"{row.listed.where}: {error}"))
        except UsageError as error:
            job = planner.unreadable(row.instance, *given)
            message = str(error) if row.listed.problem else f"{row.listed.where}: {error}"
            planned.jobs.append(settle(job, Verdict.ERROR, message))
    return planned


def _plan_job(row: _Row, given: tuple[str, int, Limits], planned: _Planned, planner: JobPlanner) -> Job:
    if row.listed.problem:
        raise UsageError(row.listed.problem)
    if not row.listed.networks:
        return planner.plan(row.instance, *given)
    instance = planned.joined.instance(row.listed)
    job = planner.plan(instance, *given)
    planned.originals[job_place(job)] = row.instance.property
    return job


def _settle(results: Sequence[InstanceResult]) -> Callable[[Ledger, Judge], None]:
    def settle(ledger: Ledger, _judge: Judge) -> None:
        for result in results:
            ledger.add(result)

    return settle


def _resumed_wishes(options: RunOptions, earlier: RunHeader | None) -> RunOptions:
    """Returns the options with what was left open as the earlier run was asked for it.

    Its variants, limit and number of inputs are no wishes: a list has limits of its own, and counts by network.
    """
    wishes = dict(earlier.asked) if earlier is not None else {}
    if wishes.get("variants") is not None:
        wishes["variants"] = tuple(wishes["variants"])
    given = {name: value for name in _WISHES if (value := getattr(options, name)) is not None}
    asked: dict[str, Any] = dict.fromkeys(_WISHES) | wishes | given
    return replace(resumed_options(options, earlier), **asked)


def _benchmark_name(path: Path) -> str:
    """Returns the name of the folder that a list stands in, above those that only say which part of it this is.

    Of one that is no text what can be written into results.csv.
    """
    named = (folder.name for folder in path.resolve().parents if folder.name not in _PARTS)
    return printable_line(next(named, "")) or "instances"


def _select(listed: Sequence[ListedInstance], options: RunOptions) -> list[_Row]:
    names = _variant_names([row.instance for row in listed])
    chosen = None if options.variants is None else set(options.variants)
    unknown = sorted((chosen or set()) - set(names.values()))
    if unknown:
        raise UsageError(
            f"the list has no network '{unknown[0]}'; choose from {', '.join(dict.fromkeys(names.values()))}"
        )
    count = len(listed) if options.inputs is None else options.inputs
    rows = [
        _Row(index, names[row.instance.network], replace(row, instance=_lowered(row.instance, options.timeout_s)))
        for index, row in enumerate(listed[: max(count, 0)])
        if chosen is None or names[row.instance.network] in chosen
    ]
    if not rows:
        raise UsageError("no instance is left to decide; ask for more with --inputs or --variants")
    return rows


def _variant_names(instances: Sequence[Instance]) -> dict[Path, str]:
    """Returns network file to a name: the file's stem, or its path in the list where two stems are the same."""
    written = {instance.network: instance.network_name for instance in instances}
    stems = {path: _network_stem(path, name) for path, name in written.items()}
    counts = Counter(stems.values())
    return {path: stem if counts[stem] == 1 else written[path] for path, stem in stems.items()}


def _network_stem(path: Path, name: str) -> str:
    # A list of several networks is no path; its instance's path is named after all of them.
    return file_stem(path.name if name.startswith("[") else name)


def _lowered(instance: Instance, timeout_s: float | None) -> Instance:
    if timeout_s is None or timeout_s >= instance.timeout_s:
        return instance
    limit = make_limits(timeout_s, None).timeout_s
    return Instance(instance.network, instance.property, limit, instance.network_name, instance.property_name)


def _plan(name: str, out: Path, options: RunOptions, rows: Sequence[_Row], machine: Machine) -> RunPlan:
    sizes = Counter(row.variant for row in rows)
    longest = max(row.instance.timeout_s for row in rows)
    cluster = cluster_settings(options)
    device = device_on(cluster, choose_device(options.device or "auto", machine))
    options = named_tool(options)
    seed, tool = options.seed or 0, options.tool or DEFAULT_TOOL
    return RunPlan(
        benchmark=name,
        title=name,
        protocol="instances",
        out=out,
        variants=tuple(sizes),
        inputs=max(sizes.values()),
        limits=make_limits(longest, options.max_domains),
        device=device,
        tool=tool,
        seed=seed,
        instances=len(rows),
        command=spelt_out(replace(options, out=out, device=device.name, tool=tool, seed=seed)),
        tool_dir=options.tool_dir,
        bounds=tool_bounds(options),
        cluster=cluster,
        rules=Rules(options.rules or Rules.Y2026),
        arithmetic=chosen_arithmetic(options),
    )
