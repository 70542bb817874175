"""What a page or a table is made from: the summary and the rows of one run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.analysis.summary import RunHeader, build_summary
from harness.analysis.table import ResultRow, rows_from_store
from harness.domain import UsageError
from harness.judging.conflicts import find_conflicts
from harness.report.details import Details, read_details
from harness.run.store import Store
from harness.run.stored import StoredResult

SUMMARY_FILE = "summary.json"
STORE_FILE = "results.db"

HEADER_META = "header"
"""Name in the store's meta: the run's `RunHeader` as JSON, written before the first result."""
NEXT_HEADER_META = "next_header"
"""Name in the store's meta: the header of a resume that has planned nothing yet; null once it has."""
MANIFESTS_META = "manifests"
"""Name in the store's meta: variant to its network's manifest."""
JOBS_META = "jobs"
"""Name in the store's meta: key, variant and index of each job that the run planned last."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as its readers see it."""

    summary: Mapping[str, Any]
    """The content of `summary.json`."""
    rows: tuple[ResultRow, ...]
    """Ordered by variant and index."""
    details: Details = field(default_factory=Details, compare=False)
    """What figures need beside the rows."""


def load_run(folder: Path, *, details: bool = False) -> Run:
    """Returns the run in a folder, finished or not, made from its store.

    `summary.json` is for others: it may be older than the results, so it is never read here.

    Args:
        folder: the run folder.
        details: whether margins, masks and counterexamples are read too, which takes longer.

    Raises:
        UsageError: no run there, a damaged file, or one of a newer program.
    """
    with Store.read(folder / STORE_FILE) as store:
        results = planned_rows(store)
        rows = tuple(rows_from_store(results))
        header, conflicts = read_header(store, folder), stored_conflicts(store)
        manifests = store.meta.get(MANIFESTS_META) or {}
        found = read_details(store, results, manifests) if details else Details()
    return Run(build_summary(rows, header, manifests, conflicts), rows, found)


def read_header(store: Store, folder: Path) -> RunHeader:
    """Returns the header of the run in a folder.

    Args:
        store: open, for reading.
        folder: what errors name.

    Raises:
        UsageError: it is missing or incomplete.
    """
    header = store.meta.get(HEADER_META)
    if header is None:
        raise UsageError(f"{folder}: the run's header is missing; finish the run with the same command and --resume")
    return RunHeader.from_json(header)


def stored_conflicts(store: Store) -> list[dict[str, Any]]:
    """Returns the soundness conflicts among all results of a store, those of earlier plans too, as JSON values."""
    return [asdict(conflict) for conflict in find_conflicts(row.claim for row in store.rows())]


def planned_rows(store: Store) -> list[StoredResult]:
    """Returns the results of the jobs that the run planned last; all results where no plan was recorded."""
    planned = store.meta.get(JOBS_META)
    return store.rows(None if planned is None else [(key, variant, index) for key, variant, index in planned])
