"""Kills a child that takes more memory than it may, or than the machine can spare."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

from harness.tools import tree


class MemoryGuard:
    """Watches a child and everything below it from a thread of its own, however busy the rest of the process is."""

    def __init__(self, pid: int, limit: int | None = None, reserve: int | None = None) -> None:
        """Starts to watch.

        Args:
            pid: the child, which leads a process group of its own and is not reaped before `end`.
            limit: bytes of memory of all its processes together; None: only the machine's memory counts.
            reserve: bytes of the machine's memory that have to stay free; None: `tree.reserve_bytes()`.
        """
        self._pid = pid
        self._limit = limit
        self._memory = tree.MemoryLimit(limit, reserve)
        self._over = threading.Event()
        self._complaint = ""
        self._thread = threading.Thread(target=self._watch, name="memory of a child", daemon=True)
        self._thread.start()

    @property
    def complaint(self) -> str:
        """Why the child was killed, in one line; empty where it was not."""
        return self._complaint

    @property
    def peak_bytes(self) -> int:
        """Greatest resident memory of the child and everything below it that was seen."""
        return self._memory.peak

    def end(self) -> None:
        """Stops watching; to be called before the child is reaped, whose number could then become another's."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        tree.watch_closely()
        pause = 0.0
        while not self._over.wait(pause):
            below = tree.descendants(self._pid)
            look = self._memory.look([self._pid, *below])
            if look.broken:
                self._complaint = self._words(look.broken)
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._pid, signal.SIGKILL)
                for pid in below:
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
                return
            pause = look.pause_s

    def _words(self, broken: str) -> str:
        used = f"{self._memory.peak / 2**30:.2f} GiB of memory"
        if broken == "memory" and self._limit is not None:
            return f"out of memory: it used {used}, {self._limit / 2**30:.2f} GiB are allowed, and was killed"
        return f"out of memory: it used {used}, the machine had none to spare, and it was killed"
