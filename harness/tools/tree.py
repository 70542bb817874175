"""The processes below one process: which there are, what memory and processor time they take, and when it is too much.

Read from `/proc`; the standard library alone, because the supervising process (`harness.tools.keeper`) starts with it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

MARK = "LGBENCH_TREE"
"""Environment variable by which processes are found whose supervising process was killed."""

POLL_S = 0.1
"""Seconds between two looks at processes that are far from their limits."""

_END_ROUNDS, _END_PAUSE_S = 100, 0.02
_SHORTEST_POLL_S = 0.004
_GROWTH = 8 * 2**30
"""Bytes a second that processes are held to be able to take; a look comes before they could be 5 % over."""
_TOLERANCE = 0.05
_RESERVE_SHARE = 16
_MOST_RESERVED = 2**30
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_CGROUP = Path("/sys/fs/cgroup")


def descendants(pid: int) -> list[int]:
    """Returns the living processes below `pid`, without itself and without those that only wait to be reaped.

    A process that lost its parent is below `pid` only where that is its reaper (`PR_SET_CHILD_SUBREAPER`).
    """
    if not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists():
        return _psutil_descendants(pid)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for child in _children(waiting.pop()):
            waiting.append(child)
            if _state(child) not in ("", "Z", "X"):
                found.append(child)
    return found


def _children(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - many times a second
            with suppress(OSError):
                yield from map(int, _text(f"/proc/{pid}/task/{thread}/children").split())


def _psutil_descendants(pid: int) -> list[int]:
    """Returns the same where the kernel does not list children, by looking at every process there is."""
    import psutil

    found = []
    with suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
    return found


def marked(value: str) -> list[int]:
    """Returns the living processes that were started with `MARK=value` in their environment, wherever they stand."""
    wanted = f"{MARK}={value}".encode()
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        with suppress(OSError, ValueError):
            if wanted in Path(f"/proc/{int(name)}/environ").read_bytes().split(b"\0") and _state(int(name)) != "Z":
                found.append(int(name))
    return found


def end_marked(value: str) -> None:
    """Kills the processes that `marked` finds, and whatever they start meanwhile."""
    for _ in range(_END_ROUNDS):
        left = marked(value)
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            return
        sleep(_END_PAUSE_S)


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of a process; 0 where it is gone."""
    try:
        return int(_text(f"/proc/{pid}/statm").split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def proportional_bytes(pid: int) -> int:
    """Returns the resident memory of a process, with pages that others share divided among them; 0 where it is gone."""
    with suppress(OSError, IndexError):
        for line in _text(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return resident_bytes(pid)


def cpu_seconds(pid: int) -> float:
    """Returns the processor seconds of a process and of those children that it reaped; 0 where it is gone."""
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / _TICKS if len(fields) > 14 else 0.0


def total_bytes() -> int:
    """Returns the memory that this process and its relatives may take: the machine's, or the container's if less."""
    limit, _ = _cgroup_memory()
    machine = _meminfo().get("MemTotal", 2**63)
    return machine if limit is None else min(machine, limit)


def free_bytes() -> int:
    """Returns how much of that is left without swapping."""
    limit, used = _cgroup_memory()
    machine = _meminfo().get("MemAvailable", 2**63)
    return machine if limit is None else min(machine, limit - used)


def reserve_bytes() -> int:
    """Returns how much memory has to stay free, so that the machine does not swap: a sixteenth, at most 1 GiB."""
    return min(total_bytes() // _RESERVE_SHARE, _MOST_RESERVED)


class Look(NamedTuple):
    """What a look at some processes' memory showed."""

    broken: str
    """`memory`: they take more than they may. `host`: the machine runs out of memory. Empty: neither."""
    pause_s: float
    """When to look again at the latest."""


class MemoryLimit:
    """Says when processes take too much memory together, early enough that they are at most a tenth over.

    How soon to look again follows from how much is left: the nearer the limit, the sooner.
    """

    def __init__(self, limit: int | None, reserve: int | None = None) -> None:
        """Starts with no process seen.

        Args:
            limit: bytes of all processes together; None: only the machine's memory counts.
            reserve: bytes of the machine's memory that have to stay free; None: `reserve_bytes()`.
        """
        self._limit = limit
        self._reserve = reserve_bytes() if reserve is None else reserve
        self._spared, self._ask_again = 0, 0.0
        self._shared, self._count_again = 0, 0.0
        self.peak = 0
        """Greatest resident memory that was seen, in bytes."""

    def look(self, pids: Iterable[int]) -> Look:
        """Looks at processes now. Pages that they share are counted once where that decides.

        Processes that are found to take too much are left stopped where counting needed that; they are to be killed.
        """
        pids = list(pids)
        each = [resident_bytes(pid) for pid in pids]
        used = sum(each)
        # One process alone may be beyond the limit, whatever it shares.
        if self._limit is not None and max(each, default=0) <= self._limit < used:
            if used - self._shared > self._limit or monotonic() >= self._count_again:
                self._shared = used - min(used, self._counted_once(pids, self._limit))
            used -= self._shared
        self.peak = max(self.peak, used)
        if self._limit is not None and used > self._limit:
            return Look("memory", 0.0)
        spare = self._spare()
        # Processes that hold next to nothing are not what fills the machine, and their end would help nobody.
        if spare < 0 and used > self._reserve:
            return Look("host", 0.0)
        room = spare if self._limit is None else min(spare, _most(self._limit) - used)
        return Look("", _pause(room))

    def _counted_once(self, pids: list[int], limit: int) -> int:
        """Returns the resident memory of processes, shared pages counted once; they go on only if that is allowed."""
        began = monotonic()
        # Counting a GiB takes the kernel some 20 ms, in which what is not stopped could take another tenth of it.
        stopped = [pid for pid in pids if _state(pid) not in ("T", "t") and _signal(pid, signal.SIGSTOP)]
        used = sum(map(proportional_bytes, pids))
        if used <= limit:
            for pid in stopped:
                _signal(pid, signal.SIGCONT)
        # What was shared may have become a process's own by then. Nobody is stopped for more than half of the time.
        ended = monotonic()
        self._count_again = ended + max(ended - began, _pause(_most(limit) - used))
        return used

    def _spare(self) -> int:
        """Returns what the machine can spare; asked again only when it could have changed much."""
        if monotonic() >= self._ask_again:
            self._spared = free_bytes() - self._reserve
            self._ask_again = monotonic() + _pause(self._spared)
        return self._spared


def watch_closely() -> int:
    """Has this thread get a processor as soon as it wants one, where that is permitted; returns its niceness before.

    What fills memory is as a rule what keeps the processors busy, and a late look is one too late.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    return before


def _most(limit: int) -> int:
    """Returns what processes should not have passed when they are looked at again."""
    return int(limit * (1 + _TOLERANCE))


def _pause(room: int) -> float:
    """Returns the seconds until the next look at what has so many bytes left to take."""
    return min(max(room / _GROWTH, _SHORTEST_POLL_S), POLL_S)


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:  # noqa: PTH123 - many times a second
        return stream.read()


def _stat(pid: int) -> list[str]:
    """Returns the fields of a process after its name, which may hold blanks and brackets; none where it is gone."""
    with suppress(OSError):
        return _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return []


def _signal(pid: int, number: int) -> bool:
    """Sends a signal; returns whether the process got it."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _state(pid: int) -> str:
    return next(iter(_stat(pid)), "")


def _meminfo() -> dict[str, int]:
    found = {}
    with suppress(OSError):
        for line in _text("/proc/meminfo").splitlines():
            name, _, rest = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                found[name] = int(rest.split()[0]) * 1024
    return found


def _cgroup_memory() -> tuple[int | None, int]:
    """Returns the container's limit, None where there is none, and how much of it cannot be had back."""
    for folder, limit_file, used_file in (
        (_CGROUP, "memory.max", "memory.current"),
        (_CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            limit = int(_text(f"{folder}/{limit_file}"))
            used = int(_text(f"{folder}/{used_file}"))
            stat = dict(line.split() for line in _text(f"{folder}/memory.stat").splitlines())
        except (OSError, ValueError):
            continue
        cached = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
        return limit, max(used - cached, 0)
    return None, 0
