"""What is left of a damaged results file: the rows that are still what was written, in a new file."""

# ruff: noqa: S608 - statements are put together from constants of `digests`.

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness.domain import UsageError
from harness.run import digests
from harness.run.access import DamagedStoreError, readable_store
from harness.run.store import Store

SCRATCH = ".mend-"
"""How the name of a folder begins in which a file is mended; one that is there without a run was left by a kill."""
_LEAST_ROW = 40
"""Bytes that no row is smaller than, so that a file of a size holds no more rows than that."""
_PAGE_COUNT_AT = 28
_MOST_TIMES = 1000
"""A file that says that it was longer than so many times what it is has a damaged head."""


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What became of a damaged results file."""

    kept: int
    """Results that are in the new file; each is what was written."""
    header: bool
    """Whether the run's header is in it too; without it a resume has to be told its options again."""
    aside: Path
    """The damaged file, as it was."""
    reason: str
    """What was wrong, in one line."""

    def words(self, path: Path) -> str:
        """Returns what a user has to know, in one line."""
        header = "" if self.header else "; the run's header is lost, so give its options again"
        return (
            f"{path}: was damaged; {self.kept} results are good and kept, the others are decided again{header}. "
            f"The damaged file is now {self.aside.name}. {self.reason}"
        )


class _Good(NamedTuple):
    """What of a file is what was written."""

    results: list[dict[str, Any]]
    header: dict[str, str]


def mend_store(path: Path) -> Salvaged | None:
    """Leaves a good store in place of a damaged one, with every row that is still what was written.

    The damaged file stays beside it as `<name>.damaged-1` (or the next number that is free). Killed at any moment, it
    leaves one of the two files in place. To be called by whoever holds the folder's lock.

    Returns:
        What was saved; None where the file is not damaged: it is good, or there is none, or a run was ended before it
        had made its tables, or it is none of ours.

    Raises:
        UsageError: nothing of it can be saved, and it is as it was; or what is new cannot be written.
    """
    if not path.exists() or not path.stat().st_size:
        return None
    try:
        with Store.read(path) as store:
            # A row that looks as if it had been changed by SQL is told from a damaged one only when it is read.
            store.rows()
    except UsageError as error:
        if _is_damage(error):
            return _mend(path, error)
    return None


def _is_damage(error: UsageError) -> bool:
    """Returns whether the file itself is at fault, and not who may read it, or that it is none of ours."""
    cause = error.__cause__
    # What SQLite calls a plain error: names that a changed byte has made unknown, a file format of no version.
    plain = isinstance(cause, sqlite3.OperationalError) and cause.sqlite_errorcode == sqlite3.SQLITE_ERROR
    return isinstance(error, DamagedStoreError) or plain


def _mend(path: Path, error: UsageError) -> Salvaged:
    with readable_store(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=SCRATCH) as scratch:
        good = _good_rows(path, Path(scratch))
        if not good.results and not good.header:
            raise error
        fresh = Path(scratch, "fresh.db")
        _write(fresh, good)
        aside = _put_aside(path)
        for suffix in ("-wal", "-shm"):
            # Its log would be taken for the new file's.
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        fresh.replace(path)
    return Salvaged(len(good.results), bool(good.header), aside, str(error.__cause__))


def _put_aside(path: Path) -> Path:
    """Gives the file a second name, with its log, and returns it; the first is still there."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", ""):
        source, target = path.with_name(path.name + suffix), aside.with_name(aside.name + suffix)
        if source.exists() and (source.stat().st_size or not suffix):
            try:
                os.link(source, target)
            except OSError:
                shutil.copyfile(source, target)
    return aside


def _good_rows(path: Path, scratch: Path) -> _Good:
    """Returns what fits its digest.

    A second look takes the first page, which says where the tables are, from a new store.
    """
    copy = scratch / "copy.db"
    for second in (False, True):
        _copy(path, copy)
        if second:
            _replace_first_page(copy, scratch)
        with suppress(sqlite3.Error), _raw(copy) as connection:
            good = _fitting(connection, copy.stat().st_size // _LEAST_ROW)
            if good.results or good.header:
                return good
    return _Good([], {})


def _fitting(connection: sqlite3.Connection, most: int) -> _Good:
    rows = _rows(connection, "results", (*digests.RESULT_COLUMNS, "digest"), most)
    results = [row for row in rows if row.pop("digest") == digests.digest(*row.values())]
    noted = {row["name"]: row["digest"] for row in _rows(connection, "meta_digests", ("name", "digest"), most)}
    header = {
        row["name"]: row["value"]
        for row in _rows(connection, "meta", digests.META_COLUMNS, most)
        if row["name"] != "schema_version" and noted.get(row["name"]) == digests.digest(*row.values())
    }
    return _Good(results, header)


def _rows(connection: sqlite3.Connection, table: str, columns: tuple[str, ...], most: int) -> Iterator[dict[str, Any]]:
    """Yields every row of a table that can be read, one by one: what stands behind a broken page is not lost."""
    query = f"SELECT {', '.join(columns)} FROM {table} NOT INDEXED WHERE rowid = ?"
    last = most
    with suppress(sqlite3.Error):
        last = min(most, connection.execute(f"SELECT MAX(rowid) FROM {table}").fetchone()[0] or 0)
    for rowid in range(1, last + 1):
        try:
            row = connection.execute(query, (rowid,)).fetchone()
        except sqlite3.Error:
            continue
        if row is not None:
            yield dict(zip(columns, row, strict=True))


def _write(path: Path, good: _Good) -> None:
    Store.open(path, create=True).close()
    names = ", ".join(digests.RESULT_COLUMNS)
    values = ", ".join(f":{name}" for name in digests.RESULT_COLUMNS)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(f"INSERT OR REPLACE INTO results ({names}) VALUES ({values})", good.results)
        connection.executemany("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", good.header.items())
        digests.create_digests(connection)
    Store.read(path).close()


def _copy(path: Path, copy: Path) -> None:
    for suffix in ("", "-wal"):
        source, target = path.with_name(path.name + suffix), copy.with_name(copy.name + suffix)
        target.unlink(missing_ok=True)
        if source.exists():
            shutil.copyfile(source, target)
    copy.with_name(f"{copy.name}-shm").unlink(missing_ok=True)
    with copy.open("r+b") as stream:
        head = stream.read(_PAGE_COUNT_AT + 4)
        stated = int.from_bytes(head[_PAGE_COUNT_AT:], "big") * (int.from_bytes(head[16:18], "big") or 65536)
        # SQLite reads nothing at all of a file that is shorter than it says, so a copy gets its length back.
        if len(head) == _PAGE_COUNT_AT + 4 and path.stat().st_size < stated <= _MOST_TIMES * path.stat().st_size:
            stream.truncate(stated)


def _replace_first_page(copy: Path, scratch: Path) -> None:
    """Writes a new store's first page over that of `copy`.

    A wrong guess is harmless: every row has to fit its digest.
    """
    template = scratch / "template.db"
    if not template.exists():
        Store.open(template, create=True).close()
    data = bytearray(copy.read_bytes())
    page = bytearray(template.read_bytes())
    size = int.from_bytes(page[16:18], "big") or 65536
    first = page[:size]
    first[_PAGE_COUNT_AT : _PAGE_COUNT_AT + 4] = (len(data) // size).to_bytes(4, "big")
    data[:size] = first
    copy.write_bytes(data)
    # The log has pages of the old beginning, perhaps this one.
    copy.with_name(f"{copy.name}-wal").unlink(missing_ok=True)


@contextmanager
def _raw(path: Path) -> Iterator[sqlite3.Connection]:
    """Yields a connection to a copy that reads what it can, text that is none included."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        # A broken page is not to be looked at more often than its rows are asked for.
        connection.execute("PRAGMA cell_size_check = OFF")
        yield connection
