"""What the file system and SQLite say of a place that cannot be used, as one clear line."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.domain import UsageError


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
        raise UsageError(
            f"{path}: the results file is damaged ({error}); move it away and run again, or restore a copy"
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


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
