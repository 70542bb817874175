"""Runs programs one after another under limits that hold for everything they start: `keeper.py SPECIFICATION`.

A process of its own (run by path with `python -I`), because it becomes the reaper of its descendants: a process that
leaves its group or session, or whose parent died, is still among them. It reads no standard input; the end of it means
that nobody waits any more. See `harness.tools.supervise` for the specification and the reports on standard output.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

if __name__ == "__main__":
    # Isolated as this process is, it would not find the package that it is part of, or find another that is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness.tools import tree

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_KILL_PATIENCE_S = 10.0
_CANNOT_START = 127


class Keeper:
    """Runs the steps of a specification; everything they started is gone when it is done."""

    def __init__(self, specification: dict[str, Any]) -> None:
        """Takes over reaping, and the signals by which it can be stopped."""
        self._spec = specification
        self._asked = False
        self._exited: dict[int, int] = {}
        self._greatest = 0
        self._niceness = tree.watch_closely()
        self._wake, wake = os.pipe()
        for end in (self._wake, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def run(self) -> list[dict[str, Any]]:
        """Returns one report for each step begun; a step is begun only when the one before it ended with status 0."""
        reports: list[dict[str, Any]] = []
        with open(self._spec["log"], "ab") as log:  # noqa: PTH123 - as short a start as can be
            for step in self._spec["steps"]:
                reports.append(self._step(step, log))
                if reports[-1]["status"] != 0 or reports[-1]["stopped"]:
                    break
        reports[-1]["left_behind"] = self._end_all(0.0)
        return reports

    def _step(self, step: dict[str, Any], log: Any) -> dict[str, Any]:
        used, began, self._greatest = self._cpu_s([]), monotonic(), 0
        most_printed = os.fstat(log.fileno()).st_size + self._spec["log_bytes"]
        report: dict[str, Any] = {"stopped": "", "peak_bytes": 0, "left_behind": 0}
        try:
            child = subprocess.Popen(
                step["command"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=step["cwd"],
                start_new_session=True,
                preexec_fn=self._prepare,  # noqa: PLW1509 - this process has one thread
            )
        except OSError as error:
            log.write(f"{step['command'][0]}: {error.strerror}\n".encode())
            return report | {"status": _CANNOT_START, "seconds": 0.0, "cpu_s": 0.0}
        memory = tree.MemoryLimit(self._spec["memory_bytes"], self._spec["reserve_bytes"])
        while not self._ended(child.pid):
            live = tree.descendants(os.getpid())
            look = memory.look(live)
            report["stopped"] = look.broken or self._broken(step, monotonic() - began, self._cpu_s(live) - used)
            if not report["stopped"] and os.fstat(log.fileno()).st_size > most_printed:
                report["stopped"] = "output"
            if report["stopped"]:
                break
            self._wait(min(look.pause_s, max(step["wall_s"] - (monotonic() - began), 0.0) + 0.001))
        seconds = monotonic() - began
        if report["stopped"]:
            # What takes memory or disk beyond its limit would go on with it in the time to clean up.
            self._end_all(0.0 if report["stopped"] in ("memory", "host", "output") else self._spec["kill_after_s"])
        # Popen would wait for it otherwise, and it is reaped already.
        child.returncode = status = self._exited.get(child.pid, -int(signal.SIGKILL))
        cpu_s = self._cpu_s(tree.descendants(os.getpid())) - used
        peak = max(memory.peak, self._greatest)
        return report | {"status": status, "seconds": seconds, "cpu_s": cpu_s, "peak_bytes": peak}

    def _prepare(self) -> None:
        _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        os.setpriority(os.PRIO_PROCESS, 0, self._niceness)
        if self._spec["cores"]:
            os.sched_setaffinity(0, self._spec["cores"])

    def _ask(self, _number: int, _frame: object) -> None:
        self._asked = True

    def _wait(self, seconds: float) -> None:
        """Waits until a child ends, somebody asks to stop, or the time is over."""
        ready, _, _ = select.select([self._wake] if self._asked else [self._wake, sys.stdin], [], [], seconds)
        if self._wake in ready:
            with suppress(BlockingIOError):
                os.read(self._wake, 4096)
        if sys.stdin in ready:
            self._asked = True

    def _broken(self, step: dict[str, Any], wall_s: float, cpu_s: float) -> str:
        if self._asked:
            return "asked"
        if wall_s >= step["wall_s"]:
            return "wall"
        if self._spec["cpu_s"] is not None and cpu_s > self._spec["cpu_s"]:
            return "cpu"
        return ""

    def _ended(self, pid: int) -> bool:
        """Reaps everything that ended; returns whether `pid` is among it."""
        while True:
            try:
                found, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if found == 0:
                break
            self._exited[found] = os.waitstatus_to_exitcode(status)
            # What the kernel saw of one process at its greatest, between two looks.
            self._greatest = max(self._greatest, usage.ru_maxrss * 1024)
        return pid in self._exited

    @staticmethod
    def _cpu_s(live: list[int]) -> float:
        """Returns the processor seconds of all that live and of all that were reaped."""
        reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
        return reaped.ru_utime + reaped.ru_stime + sum(map(tree.cpu_seconds, live))

    def _end_all(self, term_s: float) -> int:
        """Ends all descendants: TERM, `term_s` seconds later KILL until none is left; returns how many there were."""
        self._ended(0)
        live = tree.descendants(os.getpid())
        count = len(live)
        if term_s > 0:
            self._signal(live, signal.SIGTERM, signal.SIGCONT)
            end = monotonic() + term_s
            while live and monotonic() < end:
                sleep(0.02)
                self._ended(0)
                live = tree.descendants(os.getpid())
        end = monotonic() + _KILL_PATIENCE_S
        while live and monotonic() < end:
            # Whatever they start meanwhile is found in the next round.
            self._signal(live, signal.SIGKILL)
            sleep(0.01)
            self._ended(0)
            live = tree.descendants(os.getpid())
        return count

    @staticmethod
    def _signal(pids: list[int], *numbers: int) -> None:
        for pid in pids:
            for number in numbers:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    json.dump(Keeper(json.loads(sys.argv[1])).run(), sys.stdout)
