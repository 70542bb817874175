"""From stored results to the files that people and programs read."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.analysis.summary import RunHeader, build_summary
from harness.analysis.table import rows_from_store
from harness.domain import Job, LgBenchError
from harness.files import write_atomically
from harness.report import write_report
from harness.report.source import (
    HEADER_META,
    JOBS_META,
    MANIFESTS_META,
    NEXT_HEADER_META,
    SUMMARY_FILE,
    stored_conflicts,
)
from harness.run.outputs import write_counterexamples, write_results_csv
from harness.run.store import Store
from harness.run.stored import Place, job_place
from harness.workflow.manifest import MANIFEST_META, leave_manifest
from harness.workflow.options import RunPlan, RunSummary
from harness.workflow.transfer import leave_transfers, measure_transfers

RESULTS_FILE = "results.csv"
COUNTEREXAMPLE_FOLDER = "counterexamples"

logger = logging.getLogger(__name__)


def now() -> str:
    """Returns the present moment as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True, eq=False)
class PlannedRun:
    """Everything that a run decides on and records of itself."""

    plan: RunPlan
    header: RunHeader
    manifests: Mapping[str, Mapping[str, Any]]
    """Variant to its network's manifest, where it has one."""
    jobs: Sequence[Job]
    originals: Mapping[Place, Path] = field(default_factory=dict)
    """Row to the property that its job's was made from, where that is another: counterexamples are of this one."""

    @property
    def places(self) -> list[Place]:
        """The rows of all planned jobs, in their order."""
        return [job_place(job) for job in self.jobs]


def note_start(header: RunHeader, store: Store) -> None:
    """Records what a run was asked for before anything else is made, so that no kill can lose it.

    The header of an earlier run stays until `note_plan`: it belongs to the jobs that were planned with it. What a
    resume asks for is kept beside it for the next one.
    """
    if HEADER_META in store.meta:
        store.meta[NEXT_HEADER_META] = header.to_json()
    else:
        store.meta.set_all({HEADER_META: header.to_json(), JOBS_META: []})


def note_plan(run: PlannedRun, store: Store) -> None:
    """Records what is planned, before the first result, so that also a killed run can be read and resumed."""
    planned = {MANIFESTS_META: dict(run.manifests), JOBS_META: run.places, HEADER_META: run.header.to_json()}
    store.meta.set_all({**planned, NEXT_HEADER_META: None, MANIFEST_META: None})


def finish(run: PlannedRun, store: Store, *, interrupted: bool) -> RunSummary:
    """Writes summary.json, results.csv, counterexamples/, transfer.json and report.html from the planned jobs' results.

    Only those count: a folder that was resumed with other limits or fewer inputs also has the rows of before. Conflicts
    are looked for among all. An interruption after which every planned job has its row has left nothing to go on with,
    and is none.
    """
    folder = run.plan.out
    results = store.rows(run.places)
    interrupted = interrupted and len(results) < len(run.places)
    header = replace(run.header, finished_at="" if interrupted else now())
    summary = build_summary(rows_from_store(results), header, run.manifests, stored_conflicts(store))
    store.meta[HEADER_META] = header.to_json()
    properties = {job_place(job): job.instance.property for job in run.jobs} | dict(run.originals)
    write_counterexamples(store, results, folder / COUNTEREXAMPLE_FOLDER, properties)
    write_results_csv(folder / RESULTS_FILE, run.plan.benchmark, run.jobs, results)
    write_atomically(folder / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
    leave_manifest(replace(run, header=header), store)
    if not interrupted:
        _show_examples(run)
    return RunSummary(folder, summary, write_report(folder), interrupted)


def _show_examples(run: PlannedRun) -> None:
    """Shows counterexamples to other networks where there is a baseline: for the report, no result depends on it."""
    if run.header.baseline is None or len(run.header.variants) < 2:
        return
    try:
        leave_transfers(run.plan.out, measure_transfers(run.plan.out))
    except LgBenchError as error:
        logger.warning("counterexamples are not shown to other networks: %s", error)
