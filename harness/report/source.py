"""What a page or a table is made from: the summary and the rows of one run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.analysis.sets import SET_ORDER
from harness.analysis.summary import SUMMARY_SCHEMA, RunHeader, build_summary
from harness.analysis.table import ResultRow, rows_from_store
from harness.domain import UsageError
from harness.judging.conflicts import find_conflicts
from harness.run.store import Store

SUMMARY_FILE = "summary.json"
STORE_FILE = "results.db"

HEADER_META = "header"
"""Name in the store's meta: the run's `RunHeader` as JSON, written before the first result."""
MANIFESTS_META = "manifests"
"""Name in the store's meta: variant to its network's manifest."""
KEYS_META = "keys"
"""Name in the store's meta: the job keys that the run planned last."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as its readers see it."""

    summary: Mapping[str, Any]
    """The content of `summary.json`."""
    rows: tuple[ResultRow, ...]
    """Ordered by variant and index."""


def load_run(folder: Path) -> Run:
    """Returns the run in a folder, finished or not.

    An unfinished run may have no `summary.json`, or one that is older than its results: then the summary is made from
    the store, whose header was written when the run began.

    Raises:
        UsageError: no run there, a damaged file, or one of a newer program.
    """
    with Store.open(folder / STORE_FILE) as store:
        keys = store.meta.get(KEYS_META)
        rows = tuple(rows_from_store(store.rows(keys)))
        conflicts = [asdict(conflict) for conflict in find_conflicts(row.claim for row in store.rows())]
        header = store.meta.get(HEADER_META)
        manifests = store.meta.get(MANIFESTS_META) or {}
    summary = read_summary(folder / SUMMARY_FILE)
    if summary is not None and _is_current(summary, rows):
        return Run(summary, rows)
    if header is None:
        reason = "has no summary.json" if summary is None else "has results that are not in its summary.json"
        raise UsageError(f"{folder}: {reason}; finish the run with the same command and --resume")
    return Run(build_summary(rows, RunHeader.from_json(header), manifests, conflicts), rows)


def read_summary(path: Path) -> dict[str, Any] | None:
    """Returns the document in `path`; None where there is no such file.

    Raises:
        UsageError: the file is damaged or of another schema.
    """
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); finish the run again with --resume") from error
    schema = summary.get("schema") if isinstance(summary, dict) else None
    if schema != SUMMARY_SCHEMA:
        raise UsageError(
            f"{path}: written with schema {schema}, this program reads schema {SUMMARY_SCHEMA}; "
            "use the version of lg-bench that made it, or run it again"
        )
    return dict(summary)


def _is_current(summary: Mapping[str, Any], rows: tuple[ResultRow, ...]) -> bool:
    stored = {(name, size.value): 0 for name in summary["variants"] for size in SET_ORDER}
    for row in rows:
        place = (row.variant, row.result_set.value)
        if place not in stored:
            return False
        stored[place] += 1
    return all(summary["variants"][name]["sets"][size] == count for (name, size), count in stored.items())
