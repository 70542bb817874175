"""Deciding what is open: the step between planned jobs and stored results."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.domain import InstanceResult, Job, LgBenchError, ResultSet, UsageError
from harness.judging.judge import Judge
from harness.run.executors import Executor
from harness.run.scheduler import run_jobs
from harness.run.store import Store
from harness.run.stored import Place, job_place
from harness.tools import registry
from harness.tools.contract import OnProgress, Progress, Tool
from harness.workflow.finish import PlannedRun, finish, note_plan
from harness.workflow.folder import LOG_FOLDER
from harness.workflow.options import Reporter, RunPlan, RunSummary

logger = logging.getLogger(__name__)

MOST_PROPERTIES = 2000
"""Properties that are kept once they were read, of some 50 KB each for CIFAR-10: memory stays flat in longer runs."""

ToolFactory = Callable[[RunPlan, Path, OnProgress], Tool]
"""Makes the tool of a plan; the path is the run folder, below which it may write logs."""


def make_tool(plan: RunPlan, folder: Path, on_progress: OnProgress) -> Tool:
    """Returns the registered tool that a plan names; it logs below the run folder.

    Raises:
        UsageError: there is no such tool, or it cannot be bounded by a number of domains.
    """
    options = tool_options(plan, folder, on_progress)
    if plan.limits.max_domains is not None and (plan.tool, plan.tool_dir) != (registry.INTERNAL, None):
        raise UsageError(f"--max-domains: {plan.tool} counts no domains; leave it out, or take {registry.INTERNAL}")
    return registry.make_tool(plan.tool, options)


def tool_options(plan: RunPlan, folder: Path, on_progress: OnProgress) -> registry.ToolOptions:
    """Returns what the tool of a plan is made with."""
    return registry.ToolOptions(
        log_dir=folder / LOG_FOLDER,
        device=plan.device.name,
        seed=plan.seed,
        arithmetic=plan.arithmetic,
        on_progress=on_progress,
        category=plan.benchmark,
        folder=plan.tool_dir,
        bounds=plan.bounds,
        keep=True,  # one start of the engine for all networks
    )


class Decider(NamedTuple):
    """Who decides a run's jobs, and where."""

    tool: Tool
    executor: Executor | None = None
    """None: the tool is asked from this process."""


class ProgressRelay:
    """Tells a reporter what the tool works on, job by job; made before the tool, which is made before the jobs.

    Args:
        reporter: is told.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._jobs: Mapping[str, Job] = {}

    def expect(self, jobs: Sequence[Job]) -> None:
        """Takes the jobs that progress may be of; of rows with the same key the first stands for all."""
        self._jobs = {job.key: job for job in reversed(jobs)}

    def __call__(self, progress: Progress) -> None:
        """Passes on progress of a known job; what a tool says of others is its own affair."""
        job = self._jobs.get(progress.key)
        if job is not None:
            self._reporter.working(job, progress.stage, progress.domains)


class Ledger:
    """The planned jobs of a run and which of them are still open.

    Args:
        store: holds the results.
        jobs: every planned job.
        tool: name of the run's tool.
        reporter: is told of each result.
    """

    def __init__(self, store: Store, jobs: Sequence[Job], tool: str, reporter: Reporter) -> None:
        self._store, self._jobs, self._tool, self._reporter = store, jobs, tool, reporter
        self._settled: set[Place] = set()

    def open_jobs(self) -> list[Job]:
        """Returns the jobs without a final result, in the planned order; those that `add` settled are not among them.

        An error that was found without a tool is not final, but no tool of this start could mend it.
        """
        finished = self._store.finished_keys()
        waiting = [job for job in self._jobs if job_place(job) not in self._settled]
        return [job for job in waiting if not (job.key in finished and self._store.adopt(job))]

    def announce(self) -> None:
        """Tells the reporter of the final results that the folder has from earlier."""
        rows = self._store.rows(map(job_place, self._jobs))
        counts = Counter((row.variant, row.result_set) for row in rows if row.final)
        sets: dict[str, Mapping[ResultSet, int]] = {
            variant: {name: counts[variant, name] for name in ResultSet}
            for variant in dict.fromkeys(job.variant for job in self._jobs)
        }
        self._reporter.resumed(sets)

    def add(self, result: InstanceResult) -> None:
        """Stores a result that no tool was needed for, and tells the reporter."""
        self._store.add(result, tool=self._tool)
        self._settled.add(job_place(result.job))
        self._reporter.decided(result)

    def decide(self, decider: Decider, judge: Judge) -> bool:
        """Has every open job decided; returns whether that was interrupted before the last one."""
        told, jobs = self._reporter.decided, self.open_jobs()
        done = run_jobs(jobs, decider.tool, judge, self._store, on_result=told, executor=decider.executor)
        return done.interrupted


def execute(
    run: PlannedRun,
    store: Store,
    decider: Decider,
    reporter: Reporter,
    relay: ProgressRelay,
    first: Callable[[Ledger, Judge], None] | None = None,
) -> RunSummary:
    """Decides every planned job that has no final result yet, and writes what the folder is read by.

    An interruption (`KeyboardInterrupt`) loses nothing that is decided: the files are written of that, and the returned
    value says so.

    Args:
        run: what is planned.
        store: of the run folder.
        decider: the tool, and where it is asked.
        reporter: is told of the progress.
        relay: what the tool tells of its progress.
        first: settles what needs no tool, before the tool is asked for the rest.
    """
    note_plan(run, store)
    # A property is shared by all networks, and reading it costs more than any replay: none is read twice.
    judge = Judge(run.plan.rules, properties=min(run.plan.inputs, MOST_PROPERTIES))
    ledger = Ledger(store, run.jobs, decider.tool.name, reporter)
    relay.expect(run.jobs)
    ledger.announce()
    try:
        if first is not None:
            first(ledger, judge)
        interrupted = ledger.decide(decider, judge)
        _note_change(run, decider)
    except KeyboardInterrupt:
        interrupted = True
    reporter.step("writing summary and report")
    return finish(run, store, interrupted=interrupted)


def _note_change(run: PlannedRun, decider: Decider) -> None:
    """Says so where the tool is not the planned one any more: nobody can tell which of both has answered what."""
    if decider.executor is not None:
        return
    try:
        now = decider.tool.identity()
    except (LgBenchError, OSError) as error:
        now = f"none: {error}"
    if now != run.header.provenance.get("tool_identity"):
        logger.warning(
            "%s was changed while it decided; answers of this start may be of either version: decide anew with --out",
            decider.tool.name,
        )
