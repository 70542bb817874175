"""Checksums of rows: bytes that change in the file behind the program's back are noticed before anyone believes them.

SQLite checks the structure of its pages, not what stands in them: a bit that flips in a time or a verdict would be
read as if it had been measured. Changes made by SQL are no damage, whoever makes them: triggers take back the digests
of rows that are changed, and only this program writes new ones. A result carries its digest itself, so that whatever
part of a file is left can be checked.
"""

# ruff: noqa: S608 - statements are put together from the constants of this file and of `schema`.

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b

from harness.run import schema

Value = str | bytes | int | float | None

RESULT_COLUMNS = tuple(name for name in schema.COLUMNS if name != "digest")
"""What a result's digest is of, in this order. A migration that adds columns has to write the digests anew."""
META_COLUMNS = ("name", "value")

_BYTES = 16
_OF_RESULT = f"digest({', '.join(RESULT_COLUMNS)})"
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
_NOTE_RESULTS = f"UPDATE results SET digest = {_OF_RESULT}"
_NOTE_RESULT = f"{_NOTE_RESULTS} WHERE key = :key AND variant = :variant AND idx = :idx"
_NOTE_METAS = "INSERT OR REPLACE INTO meta_digests SELECT name, digest(name, value) FROM meta"
_NOTE_META = f"{_NOTE_METAS} WHERE name = ?"
_WRONG = (
    f"SELECT (SELECT COUNT(*) FROM results WHERE digest IS NOT NULL AND digest IS NOT {_OF_RESULT}) + "
    "(SELECT COUNT(*) FROM meta_digests d LEFT JOIN meta m USING (name) "
    "WHERE m.name IS NULL OR d.digest IS NOT digest(m.name, m.value))"
)
_EDITED_RESULTS = "SELECT variant, idx FROM results WHERE digest IS NULL ORDER BY variant, idx"
_EDITED_METAS = "SELECT name FROM meta WHERE name NOT IN (SELECT name FROM meta_digests) ORDER BY name"


def digest(*values: Value) -> bytes:
    """Returns the digest of a row's values: 16 bytes that differ when a value or its type does."""
    state = blake2b(digest_size=_BYTES)
    for value in values:
        text = value if isinstance(value, bytes) else repr(value).encode("utf-8", "surrogatepass")
        state.update(f"{type(value).__name__}:{len(text)}:".encode() + text)
    return state.digest()


def know_digests(connection: sqlite3.Connection) -> None:
    """Makes `digest` known to a connection, as every one needs it that checks or changes rows."""
    function: Callable[..., bytes] = digest
    connection.create_function("digest", -1, function, deterministic=True)


def has_digests(connection: sqlite3.Connection) -> bool:
    """Returns whether the store is one of since there are digests."""
    query = "SELECT 1 FROM sqlite_master WHERE name = 'meta_digests'"
    return connection.execute(query).fetchone() is not None


def create_digests(connection: sqlite3.Connection) -> None:
    """Makes what is missing of column, table and triggers, and writes the digest of every row as it is now."""
    if "digest" not in {row[1] for row in connection.execute("PRAGMA table_info(results)")}:
        connection.execute(f"ALTER TABLE results ADD COLUMN digest {schema.COLUMNS['digest']}")
    for statement in (*_CREATE, _NOTE_RESULTS, _NOTE_METAS):
        connection.execute(statement)


def note_result(connection: sqlite3.Connection, row: Mapping[str, Value]) -> None:
    """Writes the digest of the row with that key, variant and idx, in the transaction that wrote the row."""
    connection.execute(_NOTE_RESULT, {name: row[name] for name in schema.IDENTITY})


def note_meta(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """Writes the digests of values of the header, in the transaction that wrote them."""
    connection.executemany(_NOTE_META, [(name,) for name in names])


def edited(connection: sqlite3.Connection) -> tuple[list[tuple[str, int]], list[str]]:
    """Returns what others have changed by SQL: variant and index of results, and names of the header's values.

    In a store without digests nothing is known of it.
    """
    if not has_digests(connection):
        return [], []
    return connection.execute(_EDITED_RESULTS).fetchall(), [name for (name,) in connection.execute(_EDITED_METAS)]


def wrong_rows(connection: sqlite3.Connection) -> int:
    """Returns how many rows are not what was written; in a store without digests none."""
    if not has_digests(connection):
        return 0
    (count,) = connection.execute(_WRONG).fetchone()
    return int(count)
