"""The header of a run: JSON values by name, kept in the store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from harness.run.access import readable_store
from harness.run.digests import note_meta

_RESERVED = "schema_version"


class Meta(MutableMapping[str, Any]):
    """A mapping of names to JSON values over the store's `meta` table; each change is a transaction of its own.

    The schema's version is kept in the same table and is not part of the mapping. Every access raises a `UsageError`
    where the file cannot be read or written.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._db = connection

    def __getitem__(self, name: str) -> Any:
        query = "SELECT value FROM meta WHERE name = ? AND name != ?"
        with readable_store(self._path):
            row = self._db.execute(query, (name, _RESERVED)).fetchone()
        if row is None:
            raise KeyError(name)
        with readable_store(self._path):
            return json.loads(row[0])

    def __setitem__(self, name: str, value: Any) -> None:
        self.set_all({name: value})

    def set_all(self, values: Mapping[str, Any]) -> None:
        """Sets several values in one transaction: a reader, or the next start, sees all of them or none."""
        if _RESERVED in values:
            raise ValueError(f"'{_RESERVED}' is the store's own")
        texts = [(name, json.dumps(value)) for name, value in values.items()]
        with readable_store(self._path), self._db:
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", texts)
            note_meta(self._db, values)

    def __delitem__(self, name: str) -> None:
        with readable_store(self._path), self._db:
            count = self._db.execute("DELETE FROM meta WHERE name = ? AND name != ?", (name, _RESERVED)).rowcount
        if not count:
            raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        with readable_store(self._path):
            names = self._db.execute("SELECT name FROM meta WHERE name != ? ORDER BY name", (_RESERVED,)).fetchall()
        return (name for (name,) in names)

    def __len__(self) -> int:
        with readable_store(self._path):
            (count,) = self._db.execute("SELECT COUNT(*) FROM meta WHERE name != ?", (_RESERVED,)).fetchone()
        return int(count)
