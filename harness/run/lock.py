"""One run at a time on a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.domain import UsageError
from harness.run.access import usable_folder

LOCK_NAME = "run.lock"
"""The lock's file in the run folder; it stays there, only the lock on it comes and goes."""


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Holds the folder for this process until the block ends; the system frees it when the process dies.

    Raises:
        UsageError: another process holds it (its pid is named), or the folder cannot be written.
    """
    path = folder / LOCK_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Opened without truncation: the holder's pid must stay readable for whoever comes second.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error
    try:
        _take(handle, folder)
        with usable_folder(folder):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(handle)


def _take(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise UsageError(
            f"{folder}: another run (pid {pid}) is working in this folder; wait for it or choose another --out"
        ) from error
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be locked ({error.strerror}), as on some network file systems; choose another --out"
        ) from error
