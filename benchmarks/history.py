"""Earlier measurements: kept in files that only grow, and looked up for comparison."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.domain import UsageError
from harness.files import write_atomically

Record = Mapping[str, Any]
SCHEMA = 1
SAME = ("timeout_s", "cases", "skipped")
"""Settings in which two measurements of a set have to agree to be compared."""


def results_file(folder: Path, record: Record) -> Path:
    """Returns the file that a record is kept in: one for each day and commit."""
    commit = str(record["commit"] or "unknown").removesuffix("-dirty")[:7]
    return folder / f"{str(record['started'])[:10]}-{commit}.json"


def keep(path: Path, record: Record) -> None:
    """Adds a record to a file's list; an earlier state of the same measurement is replaced, nothing else is.

    Raises:
        UsageError: the file exists and holds something else.
    """
    others = [old for old in read(path) if old.get("started") != record["started"]] if path.exists() else []
    write_atomically(path, json.dumps([*others, record], indent=1) + "\n")


def read(path: Path) -> list[Record]:
    """Returns the records of one file.

    Raises:
        UsageError: the file cannot be read, or is no list of records.
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as measurements ({error}); move it away") from error
    if not isinstance(records, list) or not all(isinstance(r, dict) and "started" in r for r in records):
        raise UsageError(f"{path}: holds no list of measurements; move it away")
    return records


def read_all(paths: Iterable[Path]) -> list[Record]:
    """Returns the records of all files, oldest first."""
    records = [record for path in paths for record in read(path)]
    return sorted(records, key=lambda record: str(record["started"]))


def of_arithmetic(records: Iterable[Record], arithmetic: str) -> list[Record]:
    """Returns the records of measurements whose `unsat` spoke of the same; those that do not say are of float32."""
    return [record for record in records if record.get("arithmetic", "float32") == arithmetic]


def last_of(records: Sequence[Record], name: str, now: Mapping[str, Any], before: str) -> Mapping[str, Any] | None:
    """Returns the last earlier figures of a set that were taken with the same settings; None where there are none.

    Args:
        records: oldest first.
        name: of the set.
        now: the set's figures that they are compared with.
        before: when those were started; only older ones count.
    """
    for record in reversed(records):
        found = record.get("sets", {}).get(name)
        if found is None or str(record["started"]) >= before or not found.get("complete", True):
            continue
        if all(found.get(key) == now.get(key) for key in SAME):
            return {**found, "started": record["started"], "commit": record.get("commit")}
    return None
