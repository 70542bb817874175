"""The results of one run in one SQLite file: a row for each judged result, one transaction each.

A process killed at any moment leaves every result that `Store.add` returned from, and a file that opens again. The
columns are described in docs/results-schema.md, and a test compares that page with the table made here.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from harness.domain import Counterexample, EngineRecord, InstanceResult, Job, UsageError
from harness.formats.engine_protocol import decode_record
from harness.run import schema
from harness.run.access import readable_store, reading_connection
from harness.run.digests import create_digests, edited, fits_meta, has_digests, note_result, wrong_rows
from harness.run.meta import Meta
from harness.run.stored import Place, StoredResult, row_to_result


class Store:
    """An open results file; use it as a context manager, from one thread.

    Several processes may read while one writes; that only one writes is what `harness.run.lock.run_lock` is for.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._db = connection
        self._rows = schema.ROWS
        self.meta = Meta(path, connection)
        """The run's header: a mutable mapping of JSON values, each set in a transaction of its own."""

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> Self:
        """Returns the store in the file `path`.

        Args:
            path: the SQLite file.
            create: make the file, and its folder, where it is missing.

        Raises:
            UsageError: missing without `create`, not a results store, damaged, of a newer version, or not accessible.
        """
        with readable_store(path):
            if not create and not path.is_file():
                raise UsageError(f"{path}: no results there; start a run with that folder first, or check the path")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"{path.parent}: cannot be made ({error.strerror}); choose another --out") from error
            connection = sqlite3.connect(path, timeout=30.0)
            try:
                _prepare(path, connection, create)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Returns the store in the file `path` as it is now, for reading only.

        Needs no right to write, neither to the file nor to its folder; what a run adds meanwhile is not seen.

        Raises:
            UsageError: missing, not a results store, damaged, of a newer version, or not readable.
        """
        with readable_store(path):
            if not path.is_file():
                raise UsageError(f"{path}: no results there; start a run with that folder first, or check the path")
            connection = reading_connection(path)
            try:
                version = _check(path, connection, _tables(connection))
            except BaseException:
                connection.close()
                raise
        store = cls(path, connection)
        if version == 1:
            store._rows = schema.ROWS_OF_1
        return store

    @classmethod
    def is_begun(cls, path: Path) -> bool:
        """Returns whether a run has left anything in the file `path`: a header or a result.

        False where there is no file, and where a run was ended before it wrote either. Nothing is changed.

        Raises:
            UsageError: as `read`.
        """
        with readable_store(path):
            if not path.exists():
                return False
            with closing(reading_connection(path)) as connection:
                if not _tables(connection):
                    return False
        with cls.read(path) as store:
            return bool(len(store.meta) or store.holds_results())

    def close(self) -> None:
        """Closes the file; results stay."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, result: InstanceResult, *, tool: str, finished_at: datetime | None = None) -> bool:
        """Stores a result durably before it returns; a final result is never replaced.

        Args:
            result: with verdict `error` it may be replaced later by another result of the same job.
            tool: name of the tool of the run.
            finished_at: when the result was known; None: now.

        Returns:
            Whether the result was stored; False where a final one of the same job, variant and index stood already.

        Raises:
            UsageError: the file cannot be written.
        """
        row = schema.result_columns(result, tool, finished_at or datetime.now(UTC))
        with readable_store(self._path), self._db:
            stored = self._db.execute(schema.INSERT, row).rowcount > 0
            if stored:
                note_result(self._db, row)
        return stored

    def adopt(self, job: Job) -> bool:
        """Gives a job the final result that its key has already under another variant or index.

        Two rows of a list may name the same network and property (VNN-COMP lists do); they are decided once.

        Returns:
            Whether the job has a final result now.
        """
        row = schema.job_columns(job)
        with readable_store(self._path), self._db:
            if self._db.execute(schema.IS_FINAL, row).fetchone():
                return True
            adopted = self._db.execute(schema.ADOPT, row).rowcount > 0
            if adopted:
                note_result(self._db, row)
        return adopted

    def holds_results(self) -> bool:
        """Returns whether there is any row, of whatever verdict."""
        with readable_store(self._path):
            return self._db.execute(schema.ANY_ROW).fetchone() is not None

    def finished_keys(self) -> frozenset[str]:
        """Returns the keys of all jobs with a final result: every verdict but `error`.

        An error says that something broke, not what is true of the instance, so a resumed run tries it again.
        """
        with readable_store(self._path):
            return frozenset(key for (key,) in self._db.execute(schema.FINAL_KEYS))

    def rows(self, places: Iterable[Place] | None = None) -> list[StoredResult]:
        """Returns the stored results, ordered by variant, index and key, without their heavy values.

        Args:
            places: only these rows. A run resumed with other limits, another tool or fewer inputs leaves rows of
                before in the store, so whoever aggregates a run passes the places it planned. None: all.
        """
        wanted = None if places is None else frozenset(places)
        with readable_store(self._path):
            found = [row_to_result(row) for row in self._db.execute(self._rows)]
        return found if wanted is None else [row for row in found if row.place in wanted]

    def edited(self) -> tuple[list[tuple[str, int]], list[str]]:
        """Returns what was changed by SQL since it was written; see `digests.edited`."""
        with readable_store(self._path):
            return edited(self._db)

    def counterexample(self, key: str) -> Counterexample | None:
        """Returns the counterexample of a job as it was judged; None where there is none."""
        with readable_store(self._path):
            row = self._db.execute(schema.COUNTEREXAMPLE, (key,)).fetchone()
            if row is None:
                return None
            return Counterexample(_array(*row[:2]), None if row[2] is None else _array(*row[2:]))

    def record(self, key: str) -> EngineRecord | None:
        """Returns what our engine kept of a job, with root margins and masks; None where it said nothing."""
        with readable_store(self._path):
            row = self._db.execute(schema.RECORD, (key,)).fetchone()
        if row is None:
            return None
        margins, domains, entered, neurons, nonlinear, masks = row
        return decode_record(
            {
                "root_margins": None if margins is None else json.loads(margins),
                "domains": domains,
                "entered_bab": entered,
                "neurons": neurons,
                "unstable_nonlinear": nonlinear or 0,
                "unstable": None if masks is None else json.loads(masks),
            }
        )


def _array(data: object, dtype: object) -> NDArray[Any]:
    try:
        return np.frombuffer(data, np.dtype(dtype))  # type: ignore[call-overload, no-any-return]
    except TypeError as error:
        raise ValueError(f"a counterexample is no array of {dtype!r}: {error}") from error


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _prepare(path: Path, connection: sqlite3.Connection, create: bool) -> None:
    """Checks the schema of an existing store, or makes it in one transaction."""
    tables = _tables(connection)
    if not tables and create:
        # Write-ahead logging lets `show` and `report` read while the run writes. With synchronous=NORMAL a killed
        # process loses nothing; a power cut may lose the last results, never the file.
        connection.execute("PRAGMA journal_mode = WAL")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(schema.CREATE_META)
            connection.execute(schema.CREATE_RESULTS)
            connection.execute("INSERT INTO meta VALUES ('schema_version', ?)", (str(schema.SCHEMA_VERSION),))
            create_digests(connection)
        tables = {"meta", "results"}
    connection.execute("PRAGMA synchronous = NORMAL")
    version = _check(path, connection, tables)
    if version < schema.SCHEMA_VERSION or not has_digests(connection):
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            if version == 1:
                connection.execute(schema.MIGRATE_FROM_1)
                connection.execute(schema.SET_VERSION)
            create_digests(connection)


def _check(path: Path, connection: sqlite3.Connection, tables: set[str]) -> int:
    """Returns the version of the tables; raises where they are not those of a store that this program reads."""
    if not {"meta", "results"} <= tables:
        raise UsageError(f"{path}: not a results store of this program; choose another --out or move the file away")
    (version,) = connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone() or ("0",)
    if not 1 <= int(version) <= schema.SCHEMA_VERSION:
        if not fits_meta(connection, "schema_version"):
            raise sqlite3.DatabaseError("its version is not what was written")
        raise UsageError(
            f"{path}: written with schema {version}, this program reads schemas 1 to {schema.SCHEMA_VERSION}; "
            f"use the version of lg-bench that made it, or choose another --out"
        )
    (state,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if state != "ok":
        raise sqlite3.DatabaseError(state)
    # Digests are of the columns of today; those of an older version are written anew when it is migrated.
    wrong = wrong_rows(connection) if int(version) == schema.SCHEMA_VERSION else 0
    if wrong:
        raise sqlite3.DatabaseError(f"{wrong} of its rows are not what was written")
    return int(version)
