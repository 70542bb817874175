"""What the file system and SQLite say of a place that cannot be used, as one clear line."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from harness.domain import UsageError


class DamagedStoreError(UsageError):
    """A results file is not what was written into it; the message says what is wrong and what to do."""


@contextmanager
def readable_store(path: Path) -> Iterator[None]:
    """Turns what SQLite and the system say of a broken or inaccessible results file into a usage error."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except (sqlite3.OperationalError, OSError) as error:
        raise UsageError(
            f"{path}: the results cannot be read or written ({_reason(error)}); check permissions and free space"
        ) from error
    except (sqlite3.DatabaseError, ValueError) as error:
        raise DamagedStoreError(
            f"{path}: the results file is damaged ({error}); the run saves what is good of it with --resume, "
            "or move it away and run again, or restore a copy"
        ) from error


@contextmanager
def usable_folder(folder: Path) -> Iterator[None]:
    """Turns a refusal of the file system into a usage error that names the file, or the folder where none is known."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{error.filename2 or error.filename or folder}: cannot be read or written ({_reason(error)}); "
            "check permissions and free space, or choose another --out"
        ) from error


def reading_connection(path: Path) -> sqlite3.Connection:
    """Returns a connection that sees one state of the database and changes nothing, whoever owns file and folder.

    A run that is still working is read as it is now; one that was killed is read with what stands in its log.

    Raises:
        sqlite3.Error: the file is no database, or cannot be read.
    """
    try:
        return _snapshot(_connect(path, "mode=ro"))
    except sqlite3.OperationalError as error:
        # A write-ahead log needs files beside the database, and these cannot be made in somebody else's folder.
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise
    wal = _log_of(path)
    if not wal.exists() or wal.stat().st_size == 0:
        return _snapshot(_connect(path, "immutable=1"))
    return _snapshot(_copy_with_log(path))


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", timeout=30.0, uri=True, isolation_level=None)


def _snapshot(connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        # A transaction sees the state of its first read.
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _copy_with_log(path: Path) -> sqlite3.Connection:
    """Returns the database in memory: results that only the log of a killed run has are lost to an immutable view."""
    copied = sqlite3.connect(":memory:", isolation_level=None)
    with tempfile.TemporaryDirectory(prefix="lgbench-") as scratch:
        copy = Path(scratch, path.name)
        shutil.copyfile(path, copy)
        shutil.copyfile(_log_of(path), _log_of(copy))
        with closing(sqlite3.connect(copy)) as source:
            source.backup(copied)
    return copied


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
