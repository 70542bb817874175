"""Checksums of rows: bytes that change in the file behind the program's back are noticed before anyone believes them.

SQLite checks the structure of its pages, not what stands in them: a bit that flips in a time or a verdict would be
read as if it had been measured. Changes made by SQL are no damage, whoever makes them: triggers take back the digests
of rows that are changed, and only this program writes new ones. A result carries its digest itself, so that whatever
part of a file is left can be checked.
"""

# ruff: noqa: S608 - statements are put together from the constants of this file and of `schema`.

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b

from harness.run import schema

Value = str | bytes | int | float | None

RESULT_COLUMNS = tuple(name for name in schema.COLUMNS if name != "digest")
"""What a result's digest is of, in this order. A migration that adds columns has to write the digests anew."""
META_COLUMNS = ("name", "value")

_BYTES = 16
_EDITED = f"CREATE TRIGGER IF NOT EXISTS results_edited AFTER UPDATE OF {', '.join(RESULT_COLUMNS)} ON results"
_CREATE = (
    "CREATE TABLE IF NOT EXISTS meta_digests (name TEXT PRIMARY KEY, digest BLOB NOT NULL)",
    f"{_EDITED} BEGIN UPDATE results SET digest = NULL WHERE rowid = NEW.rowid; END",
    *(
        f"CREATE TRIGGER IF NOT EXISTS meta_{event.lower()} AFTER {event} ON meta "
        f"BEGIN DELETE FROM meta_digests WHERE name = {row}.name; END"
        for event, row in (("INSERT", "NEW"), ("UPDATE", "OLD"), ("DELETE", "OLD"))
    ),
)
_RESULTS = f"SELECT rowid, digest, {', '.join(RESULT_COLUMNS)} FROM results"
_RESULT = f"{_RESULTS} WHERE key = :key AND variant = :variant AND idx = :idx"
_NOTE_RESULT = "UPDATE results SET digest = ? WHERE rowid = ?"
_METAS = "SELECT name, value FROM meta"
_NOTE_META = "INSERT OR REPLACE INTO meta_digests VALUES (?, ?)"
_META_DIGESTS = "SELECT name, digest FROM meta_digests"
_EDITED_RESULTS = "SELECT variant, idx FROM results WHERE digest IS NULL ORDER BY variant, idx"
_EDITED_METAS = "SELECT name FROM meta WHERE name NOT IN (SELECT name FROM meta_digests) ORDER BY name"


def digest(*values: Value) -> bytes:
    """Returns the digest of a row's values: 16 bytes that differ when a value or its type does."""
    state = blake2b(digest_size=_BYTES)
    for value in values:
        text = value if isinstance(value, bytes) else repr(value).encode("utf-8", "surrogatepass")
        state.update(f"{type(value).__name__}:{len(text)}:".encode() + text)
    return state.digest()


def has_digests(connection: sqlite3.Connection) -> bool:
    """Returns whether the store is one of since there are digests."""
    query = "SELECT 1 FROM sqlite_master WHERE name = 'meta_digests'"
    return connection.execute(query).fetchone() is not None


def create_digests(connection: sqlite3.Connection) -> None:
    """Makes what is missing of column, table and triggers, and writes the digest of every row as it is now."""
    if "digest" not in {row[1] for row in connection.execute("PRAGMA table_info(results)")}:
        connection.execute(f"ALTER TABLE results ADD COLUMN digest {schema.COLUMNS['digest']}")
    for statement in _CREATE:
        connection.execute(statement)
    _note_results(connection, connection.execute(_RESULTS))
    _note_metas(connection, connection.execute(_METAS))


def note_result(connection: sqlite3.Connection, row: Mapping[str, Value]) -> None:
    """Writes the digest of the row with that key, variant and idx, in the transaction that wrote the row."""
    _note_results(connection, connection.execute(_RESULT, {name: row[name] for name in schema.IDENTITY}))


def note_meta(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """Writes the digests of values of the header, in the transaction that wrote them."""
    for name in names:
        _note_metas(connection, connection.execute(f"{_METAS} WHERE name = ?", (name,)))


def edited(connection: sqlite3.Connection) -> tuple[list[tuple[str, int]], list[str]]:
    """Returns what others have changed by SQL: variant and index of results, and names of the header's values.

    In a store without digests nothing is known of it.
    """
    if not has_digests(connection):
        return [], []
    return connection.execute(_EDITED_RESULTS).fetchall(), [name for (name,) in connection.execute(_EDITED_METAS)]


def fits_meta(connection: sqlite3.Connection, name: str) -> bool:
    """Returns whether a value of the header is there, and what was written or changed by SQL.

    In a store without digests nobody knows.
    """
    if not has_digests(connection):
        return True
    value = connection.execute(f"{_METAS} WHERE name = ?", (name,)).fetchone()
    noted = connection.execute(f"{_META_DIGESTS} WHERE name = ?", (name,)).fetchone()
    return value is not None and (noted is None or noted[1] == digest(*value))


def wrong_rows(connection: sqlite3.Connection) -> int:
    """Returns how many rows are not what was written; in a store without digests none."""
    if not has_digests(connection):
        return 0
    with _any_text(connection):
        rows = connection.execute(_RESULTS)
        wrong: list[bool] = [noted is not None and noted != digest(*row) for _, noted, *row in rows]
        values: dict[Value, Value] = dict(connection.execute(_METAS))
        metas = connection.execute(_META_DIGESTS)
        wrong += [name not in values or noted != digest(name, values[name]) for name, noted in metas]
    return sum(wrong)


def _note_results(connection: sqlite3.Connection, rows: Iterable[Sequence[Value]]) -> None:
    # As the rows stand in the file: a column's type may have changed a value that was written.
    found = [(digest(*values), rowid) for rowid, _, *values in rows]
    connection.executemany(_NOTE_RESULT, found)


def _note_metas(connection: sqlite3.Connection, rows: Iterable[Sequence[Value]]) -> None:
    found = [(name, digest(name, value)) for name, value in rows]
    connection.executemany(_NOTE_META, found)


@contextmanager
def _any_text(connection: sqlite3.Connection) -> Iterator[None]:
    """Has texts read that are no UTF-8: they fit no digest, and are no reason to count no further."""
    usual = connection.text_factory
    connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
    try:
        yield
    finally:
        connection.text_factory = usual
