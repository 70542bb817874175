"""The tables of the store: columns, statements, and how a result becomes a row. See docs/results-schema.md."""

# ruff: noqa: S608 - statements are put together from the constants of this file; every value is a parameter.

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np

from harness.domain import Counterexample, EngineRecord, InstanceResult, Job, Verdict
from harness.domain import result_set as classify
from harness.formats.engine_protocol import encode_record
from harness.run.stored import ROW_COLUMNS

SCHEMA_VERSION = 2
"""Version of the tables; a store of a newer version is refused, an older one is read, and migrated where it is written:
version 1 has no `prepare_s`."""

COLUMNS: dict[str, str] = {
    "key": "TEXT NOT NULL",
    "variant": "TEXT NOT NULL",
    "idx": "INTEGER NOT NULL",
    "network": "TEXT NOT NULL",
    "network_sha256": "TEXT NOT NULL",
    "property": "TEXT NOT NULL",
    "property_sha256": "TEXT NOT NULL",
    "tool": "TEXT NOT NULL",
    "timeout_s": "REAL NOT NULL",
    "timeout_on": "TEXT NOT NULL",
    "max_domains": "INTEGER",
    "verdict": "TEXT NOT NULL",
    "tool_verdict": "TEXT",
    "stage": "TEXT",
    "result_set": "TEXT NOT NULL",
    "wall_s": "REAL NOT NULL",
    "work_s": "REAL NOT NULL",
    "prepare_s": "REAL NOT NULL DEFAULT 0",
    "message": "TEXT NOT NULL",
    "witness_verdict": "TEXT",
    "witness_message": "TEXT",
    "counterexample_x": "BLOB",
    "counterexample_x_dtype": "TEXT",
    "counterexample_y": "BLOB",
    "counterexample_y_dtype": "TEXT",
    "domains": "INTEGER",
    "entered_bab": "INTEGER",
    "neurons": "INTEGER",
    "unstable": "INTEGER",
    "unstable_nonlinear": "INTEGER",
    "root_margins": "TEXT",
    "unstable_masks": "TEXT",
    "finished_at": "TEXT NOT NULL",
    "digest": "BLOB",
}
"""Column to its SQL declaration, in the table's order."""

IDENTITY = ("key", "variant", "idx")
"""A key is content, and a list may hold the same content twice: each row of the list has its own result."""

_FINAL = f"verdict != '{Verdict.ERROR.value}'"
_WRITTEN = [name for name in COLUMNS if name != "digest"]  # which `digests` adds
_NAMES = ", ".join(_WRITTEN)
_VALUES = ", ".join(f":{name}" for name in _WRITTEN)
_REPLACED = ", ".join(f"{name} = excluded.{name}" for name in _WRITTEN if name not in IDENTITY)
_UPSERT = f"ON CONFLICT ({', '.join(IDENTITY)}) DO UPDATE SET {_REPLACED} WHERE NOT results.{_FINAL}"
_OF_JOB = ("variant", "idx", "network", "property")
_ADOPTED = ", ".join(f":{name}" if name in _OF_JOB else name for name in _WRITTEN)

CREATE_META = "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)"
CREATE_RESULTS = (
    f"CREATE TABLE results ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())}, "
    f"PRIMARY KEY ({', '.join(IDENTITY)}))"
)
INSERT = f"INSERT INTO results ({_NAMES}) VALUES ({_VALUES}) {_UPSERT}"
"""Stores a row; one that is final already stays."""
ADOPT = f"INSERT INTO results ({_NAMES}) SELECT {_ADOPTED} FROM results WHERE key = :key AND {_FINAL} LIMIT 1 {_UPSERT}"
"""Copies the final row of a key for another job of the same key."""
IS_FINAL = f"SELECT 1 FROM results WHERE key = :key AND variant = :variant AND idx = :idx AND {_FINAL}"
FINAL_KEYS = f"SELECT DISTINCT key FROM results WHERE {_FINAL}"
ANY_ROW = "SELECT 1 FROM results LIMIT 1"
ROWS = f"SELECT {', '.join(ROW_COLUMNS)} FROM results ORDER BY variant, idx, key"
ROWS_OF_1 = ROWS.replace("prepare_s", "0.0")
"""The same of a store of version 1, which may be open for reading alone."""
MIGRATE_FROM_1 = f"ALTER TABLE results ADD COLUMN prepare_s {COLUMNS['prepare_s']}"
SET_VERSION = f"UPDATE meta SET value = '{SCHEMA_VERSION}' WHERE name = 'schema_version'"
COUNTEREXAMPLE = (
    "SELECT counterexample_x, counterexample_x_dtype, counterexample_y, counterexample_y_dtype "
    f"FROM results WHERE key = ? AND counterexample_x IS NOT NULL ORDER BY {_FINAL} DESC LIMIT 1"
)
"""Of several rows of a key one may still hold what an earlier attempt claimed: an error, which is tried again."""
RECORD = (
    "SELECT root_margins, domains, entered_bab, neurons, unstable_nonlinear, unstable_masks "
    f"FROM results WHERE key = ? AND domains IS NOT NULL ORDER BY {_FINAL} DESC LIMIT 1"
)


def job_columns(job: Job) -> dict[str, Any]:
    """Returns the columns that say which row of the list a result belongs to, and its key."""
    return {
        "key": job.key,
        "variant": job.variant,
        "idx": job.index,
        "network": job.instance.network_name or job.instance.network.name,
        "property": job.instance.property_name or job.instance.property.name,
    }


def result_columns(result: InstanceResult, tool: str, finished_at: datetime) -> dict[str, Any]:
    """Returns every column of a result's row."""
    job, limits, witness = result.job, result.job.limits, result.witness
    row: dict[str, Any] = {
        "network_sha256": job.network_sha256,
        "property_sha256": job.property_sha256,
        "tool": tool,
        "timeout_s": limits.timeout_s,
        "timeout_on": limits.timeout_on,
        "max_domains": limits.max_domains,
        "verdict": result.verdict.value,
        "tool_verdict": None if result.tool_verdict is None else result.tool_verdict.value,
        "stage": None if result.stage is None else result.stage.value,
        "result_set": classify(result.verdict, result.stage).value,
        "wall_s": result.wall_s,
        "work_s": result.work_s,
        "prepare_s": result.prepare_s,
        "message": result.message,
        "witness_verdict": None if witness is None else witness.verdict.value,
        "witness_message": None if witness is None else witness.message,
        "finished_at": finished_at.astimezone(UTC).isoformat(timespec="milliseconds"),
    }
    return job_columns(job) | row | _counterexample_columns(result.counterexample) | _record_columns(result.record)


def _counterexample_columns(counterexample: Counterexample | None) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in ("x", "y"):
        array = None if counterexample is None else getattr(counterexample, name)
        little = None if array is None else np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        row[f"counterexample_{name}"] = None if little is None else little.tobytes()
        row[f"counterexample_{name}_dtype"] = None if little is None else little.dtype.str
    return row


def _record_columns(record: EngineRecord | None) -> dict[str, Any]:
    names = ("domains", "entered_bab", "neurons", "unstable", "unstable_nonlinear", "root_margins", "unstable_masks")
    if record is None:
        return dict.fromkeys(names)
    raw = encode_record(record)
    masks, margins = record.unstable, raw["root_margins"]
    return {
        "domains": record.domains,
        "entered_bab": int(record.entered_bab),
        "neurons": record.neurons,
        "unstable": None if masks is None else int(sum(int(mask.sum()) for mask in masks.values())),
        "unstable_nonlinear": None if masks is None else record.unstable_nonlinear,
        "root_margins": None if margins is None else json.dumps(margins),
        "unstable_masks": None if masks is None else json.dumps(raw["unstable"]),
    }
