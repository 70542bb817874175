"""Networks and properties on a node of a cluster: kept by content, fetched once, checked before use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from harness.domain import LgBenchError
from harness.files import write_atomically
from harness.run.identity import content_sha256

MAX_BYTES = 4 * 2**30
MIN_AGE_S = 3600.0
"""A file used later than this many seconds ago may be in use."""
_PRUNE_EVERY = 2**28


class NodeCache:
    """Files by the SHA-256 of their uncompressed content, below one folder that all workers of a node share.

    A file is handed out only after its content was hashed in this process, so what another program left there is never
    taken for it. Workers that fetch the same file at once write it twice, each atomically.
    """

    def __init__(self, folder: Path, fetch: Callable[[str], bytes], max_bytes: int = MAX_BYTES) -> None:
        """Makes the folder, for this user alone.

        Args:
            folder: of the cache.
            fetch: returns the bytes of a file, as they are at their origin (gzipped or not), by content hash.
            max_bytes: what is kept; the files that nobody used for the longest time go first, none of the last hour.

        Raises:
            LgBenchError: the folder belongs to somebody else, or cannot be made.
        """
        self._folder, self._fetch, self._max_bytes = folder, fetch, max_bytes
        self._checked: dict[Path, str] = {}
        self._written = 0
        self.fetched = 0
        """Files that this process fetched."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid != os.getuid():
                raise LgBenchError(f"{folder}: belongs to another user")
        except OSError as error:
            raise LgBenchError(f"{folder}: cannot be made ({error.strerror})") from error
        self._prune()

    def path(self, sha256: str, name: str) -> Path:
        """Returns a file with that content and the last part of that name, fetched if it is not there.

        Raises:
            LgBenchError: what is fetched has another content, or cannot be written.
        """
        path = self._folder / sha256[:2] / sha256 / Path(name).name
        if self._checked.get(path) == sha256 and path.is_file():
            with suppress(OSError):
                os.utime(path)
            return path
        if not self._holds(path, sha256):
            data = self._fetch(sha256)
            self.fetched += 1
            self._write(path, data)
            if not self._holds(path, sha256):
                path.unlink(missing_ok=True)
                raise LgBenchError(f"{name}: what arrived is not the file that was planned; it changed during the run")
        self._checked[path] = sha256
        return path

    def _holds(self, path: Path, sha256: str) -> bool:
        if not path.is_file():
            return False
        with suppress(LgBenchError):
            if content_sha256(path) == sha256:
                os.utime(path)
                return True
        return False

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_atomically(path, data)
        except OSError as error:
            raise LgBenchError(f"{path}: cannot be written ({error.strerror})") from error
        self._written += len(data)
        if self._written >= _PRUNE_EVERY:
            self._prune()

    def _prune(self) -> None:
        """Removes the files used longest ago until the rest fits; other workers may do so at the same time."""
        self._written = 0
        found, total, now = [], 0, time.time()
        for path in self._folder.glob("*/*/*"):
            with suppress(OSError):
                state = path.stat()
                total += state.st_size
                found.append((state.st_mtime, state.st_size, path))
        for used, size, path in sorted(found):
            if total <= self._max_bytes or now - used < MIN_AGE_S:
                break
            with suppress(OSError):
                path.unlink()
                path.parent.rmdir()
            total -= size
