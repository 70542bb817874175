"""A child process that talks in lines: in a session of its own, never outliving its parent, ended as a whole group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, Full, Queue
from time import monotonic, sleep
from types import TracebackType
from typing import IO, NamedTuple, Self
from uuid import uuid4

from harness.domain import LgBenchError
from harness.tools import tree
from harness.tools.guard import MemoryGuard

_LEASH = Path(__file__).with_name("leash.py")
_LOG_TAIL = 4096
_WAITING_LINES = 10_000
_PIPE_PATIENCE_S = 1.0
_POLL_S = 0.01

MAX_LINE = 256 * 2**20
"""Characters of the longest line that is read; a child that writes a longer one is broken."""


class ChildEndedError(LgBenchError):
    """The child will write nothing more; the message says how it ended, in one line."""


class Line(NamedTuple):
    """A line that the child wrote, and when it came."""

    text: str
    at: float
    """On the clock of `time.monotonic`, when the line was read from the pipe, however late it is asked for."""


class LineProcess:
    """A running child with lines in and lines out; a context manager that ends it.

    Standard error is appended to a log file. The child and everything it starts form a process group of their own, so
    that a Ctrl-C in the terminal reaches only the parent, and `end` reaches all of them. When the parent dies, whatever
    the cause, the kernel kills the child (Linux; the thread that started it counts as the parent, so start it from one
    that lives as long as the child is wanted); its own children have to notice the closed pipes.
    """

    def __init__(
        self,
        command: Sequence[str],
        log_path: Path,
        *,
        settings: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        """Starts the child.

        Args:
            command: program and arguments; no shell is involved.
            log_path: file that standard error is appended to; its folder is made.
            settings: environment variables set for the child in addition to those inherited.
            cwd: working directory of the child; None: this process's.
            memory_bytes: that the child and everything below it may take together; None: what the machine can spare.
                It is killed when it takes more.

        Raises:
            OSError: the log cannot be opened, or no process can be started.
        """
        leash = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid())]
        self._mark = uuid4().hex
        leash += [f"{name}={value}" for name, value in {**(settings or {}), tree.MARK: self._mark}.items()]
        log_path.parent.mkdir(parents=True, exist_ok=True)
        self._log_path = log_path
        with log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [*leash, "--", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=cwd,
                start_new_session=True,
                encoding="utf-8",
                errors="replace",
            )
        self._lines: Queue[Line | None] = Queue(_WAITING_LINES)
        self._ending = threading.Event()
        self._writers: list[threading.Thread] = []
        self._reader = threading.Thread(target=self._read, name="lines of a child", daemon=True)
        self._reader.start()
        self._guard = MemoryGuard(self._process.pid, memory_bytes)

    @property
    def pid(self) -> int:
        """The child's process id, which is also that of its group."""
        return self._process.pid

    def send(self, line: str) -> None:
        """Hands a line to the child without waiting for it to be read; a child that is gone is noticed when reading."""
        # A thread, because a child that does not read would block the parent once the pipe is full.
        self._writers = [writer for writer in self._writers if writer.is_alive()]
        writer = threading.Thread(target=_write, args=(self._pipe(self._process.stdin), line), daemon=True)
        self._writers.append(writer)
        writer.start()

    def next_line(self, timeout_s: float) -> Line | None:
        """Returns the child's next line, without its line end; None when none came within `timeout_s` seconds.

        Raises:
            ChildEndedError: the child closed its output, or wrote a line longer than `MAX_LINE`.
        """
        try:
            line = self._lines.get(timeout=max(timeout_s, 0.0))
        except Empty:
            return None
        if line is None:
            self._lines.put(None)
            raise ChildEndedError(self._obituary())
        return line

    def end(self, grace_s: float = 2.0) -> int:
        """Ends the child and its whole group: TERM, `grace_s` seconds later KILL; returns its exit status.

        A status below 0 is the negative number of the signal that ended it. Calling it again changes nothing.
        """
        self._ending.set()
        if self._process.returncode is None:
            self._guard.end()
            # The child is not reaped before the last signal: until then its number cannot become another group's.
            self._signal(signal.SIGTERM)
            self._exit(grace_s)
            self._signal(signal.SIGKILL)
            self._process.wait()
            # What left the group, or lost its parent, is known by its environment.
            tree.end_marked(self._mark)
            self._reader.join(_PIPE_PATIENCE_S)
            # A process that left the group may still hold a pipe; closing our end would wait for it.
            if not self._reader.is_alive():
                _close(self._pipe(self._process.stdout))
            for writer in self._writers:
                writer.join(_PIPE_PATIENCE_S)
            if not any(writer.is_alive() for writer in self._writers):
                _close(self._pipe(self._process.stdin))
        return self._process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _read(self) -> None:
        stdout = self._pipe(self._process.stdout)
        while text := stdout.readline(MAX_LINE):
            if not text.endswith("\n") or not self._put(Line(text[:-1], monotonic())):
                break
        self._put(None)

    def _put(self, line: Line | None) -> bool:
        """Queues a line, waiting while the reader is behind; returns False once the child is being ended."""
        while True:
            try:
                self._lines.put(line, timeout=0.1)
            except Full:
                if self._ending.is_set():
                    return False
            else:
                return True

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _exit(self, timeout_s: float) -> str | None:
        """Waits for the child to exit, without reaping it; returns how it did, None when it has not."""
        deadline = monotonic() + timeout_s
        while True:
            state = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if state is not None:
                exited = state.si_code == os.CLD_EXITED
                return f"exit status {state.si_status}" if exited else f"killed by {_signal_name(state.si_status)}"
            if monotonic() >= deadline:
                return None
            sleep(_POLL_S)

    def _obituary(self) -> str:
        """Returns how the child ended and the last line of its log."""
        if self._process.returncode is not None:
            return "it was ended"
        if self._guard.complaint:
            return self._guard.complaint
        how = self._exit(1.0) or "it closed its output but did not exit"
        last = self._last_log_line()
        return f"{how}: {last}" if last else how

    def _last_log_line(self) -> str:
        with self._log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - _LOG_TAIL))
            lines = log.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    @staticmethod
    def _pipe(stream: IO[str] | None) -> IO[str]:
        if stream is None:
            raise RuntimeError("the child was started without this pipe")
        return stream


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _write(stream: IO[str], text: str) -> None:
    with suppress(OSError, ValueError):
        stream.write(text)
        stream.flush()


def _close(stream: IO[str]) -> None:
    with suppress(OSError):
        stream.close()
