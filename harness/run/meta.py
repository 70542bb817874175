"""The header of a run: JSON values by name, kept in the store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, MutableMapping
from typing import Any

_RESERVED = "schema_version"


class Meta(MutableMapping[str, Any]):
    """A mapping of names to JSON values over the store's `meta` table; each change is a transaction of its own.

    The schema's version is kept in the same table and is not part of the mapping.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def __getitem__(self, name: str) -> Any:
        row = self._db.execute("SELECT value FROM meta WHERE name = ? AND name != ?", (name, _RESERVED)).fetchone()
        if row is None:
            raise KeyError(name)
        return json.loads(row[0])

    def __setitem__(self, name: str, value: Any) -> None:
        if name == _RESERVED:
            raise ValueError(f"'{_RESERVED}' is the store's own")
        text = json.dumps(value)
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, text))

    def __delitem__(self, name: str) -> None:
        with self._db:
            if not self._db.execute("DELETE FROM meta WHERE name = ? AND name != ?", (name, _RESERVED)).rowcount:
                raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        names = self._db.execute("SELECT name FROM meta WHERE name != ? ORDER BY name", (_RESERVED,)).fetchall()
        return (name for (name,) in names)

    def __len__(self) -> int:
        (count,) = self._db.execute("SELECT COUNT(*) FROM meta WHERE name != ?", (_RESERVED,)).fetchone()
        return int(count)
