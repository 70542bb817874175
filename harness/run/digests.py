"""Checksums of rows: bytes that change in the file behind the program's back are noticed before anyone believes them.

SQLite checks the structure of its pages, not what stands in them: a bit that flips in a time or a verdict would be
read as if it had been measured. Changes made by SQL are no damage, whoever makes them: triggers take back the digests
of rows that are changed, and only this program writes new ones.
"""

# ruff: noqa: S608 - statements are put together from the constants of this file and of `schema`.

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from harness.run import schema

Value = str | bytes | int | float | None

RESULT, META = "result", "meta"
_META_PLACE = f"'{META}', name, '', 0"
_PLACE = ", ".join(schema.IDENTITY)
_BYTES = 16

COLUMNS = {table: tuple(columns) for table, columns in ((RESULT, schema.COLUMNS), (META, ("name", "value")))}
"""What a row's digest is of, in this order. A migration that adds columns has to write the digests anew."""

_CREATE_TABLE = (
    "CREATE TABLE IF NOT EXISTS digests (kind TEXT NOT NULL, key TEXT NOT NULL, variant TEXT NOT NULL, "
    "idx INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (kind, key, variant, idx))"
)
_CREATE = (
    _CREATE_TABLE,
    *(
        f"CREATE TRIGGER IF NOT EXISTS {table}_{event.lower()} {when} {event} ON {table} BEGIN DELETE FROM digests "
        f"WHERE {place.format(row)}; END"
        for table, place in (
            ("results", f"kind = '{RESULT}' AND key = {{0}}.key AND variant = {{0}}.variant AND idx = {{0}}.idx"),
            ("meta", f"kind = '{META}' AND key = {{0}}.name"),
        )
        for when, event, row in (("BEFORE", "INSERT", "NEW"), ("AFTER", "UPDATE", "OLD"), ("AFTER", "DELETE", "OLD"))
    ),
)
_OF_RESULTS = (
    f"INSERT OR REPLACE INTO digests SELECT '{RESULT}', {_PLACE}, digest({', '.join(COLUMNS[RESULT])}) FROM results"
)
_OF_RESULT = f"{_OF_RESULTS} WHERE key = :key AND variant = :variant AND idx = :idx"
_OF_METAS = f"INSERT OR REPLACE INTO digests SELECT {_META_PLACE}, digest(name, value) FROM meta"
_OF_META = f"{_OF_METAS} WHERE name = ?"
_WRONG = (
    f"SELECT d.kind, d.key, d.variant, d.idx FROM digests d LEFT JOIN results r USING ({_PLACE}) "
    f"WHERE d.kind = '{RESULT}' "
    f"AND (r.key IS NULL OR digest({', '.join(f'r.{name}' for name in COLUMNS[RESULT])}) IS NOT d.digest) "
    f"UNION ALL SELECT d.kind, d.key, d.variant, d.idx FROM digests d LEFT JOIN meta m ON m.name = d.key "
    f"WHERE d.kind != '{RESULT}' AND (m.name IS NULL OR digest(m.name, m.value) IS NOT d.digest)"
)


class Digested(NamedTuple):
    """Which row a digest is of."""

    kind: str
    """`result` or `meta`."""
    key: str
    """The job's key, or the name of a value of the header."""
    variant: str
    """Empty for `meta`."""
    idx: int
    """0 for `meta`."""


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


def create_digests(connection: sqlite3.Connection) -> None:
    """Makes the table and its triggers where they are missing, and writes the digest of every row as it is now."""
    for statement in (*_CREATE, _OF_RESULTS, _OF_METAS):
        connection.execute(statement)


def note_result(connection: sqlite3.Connection, place: dict[str, Value]) -> None:
    """Writes the digest of the row with that key, variant and idx, in the transaction that wrote the row."""
    connection.execute(_OF_RESULT, {name: place[name] for name in schema.IDENTITY})


def note_meta(connection: sqlite3.Connection, names: list[str]) -> None:
    """Writes the digests of values of the header, in the transaction that wrote them."""
    connection.executemany(_OF_META, [(name,) for name in names])


def wrong_rows(connection: sqlite3.Connection) -> list[Digested]:
    """Returns the rows that are not what was written: changed, or gone; a store without digests has none."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'digests'").fetchone()
    return [] if found is None else [Digested(*row) for row in connection.execute(_WRONG)]
