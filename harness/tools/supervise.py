"""Programs of others, run to their end under limits: on wall time, processor time, memory and cores, children included.

Nothing that such a program starts outlives the call, whether it ignores TERM, leaves its group or loses its parent.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from harness.domain import LgBenchError
from harness.tools import tree

_KEEPER = Path(__file__).with_name("keeper.py")
_ENDING_S = 15.0
_LATE_S = 60.0
"""Seconds beyond all limits after which the supervising process is held to be hung."""
_LOG_TAIL = 4096
MOST_LOG_BYTES = 256 * 2**20
"""That one step may print: a tool that never stops would fill the disk that the results are on."""


class SupervisionError(LgBenchError):
    """The supervising process ended without a report; the message says how."""


@dataclass(frozen=True, slots=True)
class ToolBounds:
    """What a tool of others may use beside its time; enters its identity."""

    memory_gib: float | None = None
    """GiB of memory of all its processes together; None: what there is."""
    cores: int | None = None
    """Number of processor cores; None: all."""
    cpu_s: float | None = None
    """Processor seconds of all its processes together, for one instance; None: wall time alone counts."""

    @property
    def memory_bytes(self) -> int | None:
        """`memory_gib` in bytes."""
        return None if self.memory_gib is None else int(self.memory_gib * 2**30)

    def words(self) -> dict[str, float | int | None]:
        """Returns the bounds as JSON values."""
        return {"memory_gib": self.memory_gib, "cores": self.cores, "cpu_s": self.cpu_s}


@dataclass(frozen=True, slots=True)
class Step:
    """A program to run."""

    command: Sequence[str]
    """Program and arguments; no shell is involved."""
    wall_s: float
    """Seconds after which it is ended."""
    cwd: Path


@dataclass(frozen=True, slots=True)
class StepReport:
    """How a program ended."""

    status: int
    """Exit status; below 0 the negative number of the signal that ended it."""
    seconds: float
    """Wall seconds until it ended or was told to."""
    cpu_s: float
    """Processor seconds, children included."""
    peak_bytes: int
    """Greatest resident memory of all its processes together that was seen, and no less than that of each by itself."""
    stopped: str
    """Which limit ended it: `wall`, `cpu`, `memory`, or `host` where the machine ran out of memory; `output` where it
    printed too much; `asked` where nobody waits any more; empty for none."""
    left_behind: int
    """Processes that were still running after it had ended (known of the last step), and were killed."""

    def how(self) -> str:
        """Returns in words how it ended."""
        if self.status < 0:
            try:
                return f"killed by {signal.Signals(-self.status).name}"
            except ValueError:
                return f"killed by signal {-self.status}"
        return f"exit status {self.status}"

    def words(self) -> str:
        """Returns everything in one line, for a log."""
        spent = f"{self.seconds:.2f} s, {self.cpu_s:.2f} s of processor time, {self.peak_bytes / 2**30:.3f} GiB"
        stopped = f"{self.stopped} limit, " if self.stopped else ""
        left = f", {self.left_behind} processes left behind" if self.left_behind else ""
        return f"{stopped}{self.how()}, {spent}{left}"


def supervise(
    steps: Sequence[Step],
    log: Path,
    bounds: ToolBounds | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    kill_after_s: float = 0.5,
    reserve_bytes: int | None = None,
) -> list[StepReport]:
    """Runs programs one after another and returns a report of each that was begun.

    A step is begun only when the one before it ended with status 0. Standard input is empty, standard output and error
    are appended to the log. A limit ends the step and everything that all steps started: TERM, `kill_after_s` seconds
    later KILL; a limit on memory, or on what is printed (`MOST_LOG_BYTES`), KILL at once. After the last step whatever
    is left is killed. Limits on processor time are looked at ten times a second, on memory more often the nearer the
    limit is, so that it is not passed by more than a tenth. A program is also ended before it drives the machine into
    swap.

    Args:
        steps: at least one.
        log: file; its folder is made.
        bounds: limits of each step; None: only its wall time.
        environment: of the programs; None: this process's.
        kill_after_s: seconds between TERM and KILL.
        reserve_bytes: of the machine's memory that stay free; None: a sixteenth, at most 1 GiB.

    Raises:
        SupervisionError: the supervising process was killed, or does not end.
        OSError: the log cannot be written, or no process can be started.
    """
    bounds = bounds or ToolBounds()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab"):
        pass
    specification = {
        "steps": [{"command": list(step.command), "wall_s": step.wall_s, "cwd": str(step.cwd)} for step in steps],
        "log": str(log.absolute()),
        "memory_bytes": bounds.memory_bytes,
        "reserve_bytes": reserve_bytes,
        "cpu_s": bounds.cpu_s,
        "log_bytes": MOST_LOG_BYTES,
        "cores": _cores(bounds.cores),
        "kill_after_s": kill_after_s,
    }
    mark = uuid4().hex
    with subprocess.Popen(
        [sys.executable, "-I", str(_KEEPER), json.dumps(specification)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ if environment is None else environment) | {tree.MARK: mark},
        start_new_session=True,
    ) as keeper:
        try:
            # It reports when all is over. One that is stopped, or hangs itself, is not waited for.
            reports = [stream for stream in (keeper.stdout,) if stream is not None]
            if not select.select(reports, [], [], sum(step.wall_s for step in steps) + _LATE_S)[0]:
                keeper.kill()
            written, complaint = _read(keeper.stdout), _read(keeper.stderr)
        finally:
            _finish(keeper)
    try:
        return [StepReport(**report) for report in json.loads(written)]
    except (ValueError, TypeError) as error:
        # Its first process died with it, but not what that had started.
        tree.end_marked(mark)
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise SupervisionError(f"the supervising process ended early ({last or keeper.returncode})") from error


def last_line(log: Path, start: int = 0) -> str:
    """Returns the last line of a log after byte `start` that is not blank; empty where there is none."""
    with log.open("rb") as stream:
        stream.seek(max(start, stream.seek(0, os.SEEK_END) - _LOG_TAIL))
        lines = stream.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def foreign_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Returns this process's environment as a program of others needs it, with `settings` added.

    Variables that would make it load our Python packages, or that set our own commands' options, are left out, and so
    is our virtual environment's folder in PATH.
    """
    ours = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV"}
    own_programs = str(Path(sys.prefix) / "bin") if sys.prefix != sys.base_prefix else None
    found: dict[str, str] = {}
    for name, value in os.environ.items():
        if name in ours or (name.startswith("LGBENCH_") and name != "LGBENCH_VENV"):
            continue
        if name == "PATH":
            found[name] = os.pathsep.join(part for part in value.split(os.pathsep) if part != own_programs)
        else:
            found[name] = value
    return found | dict(settings)


def _cores(count: int | None) -> list[int]:
    """Returns which cores may be used; empty: no choice is made."""
    if count is None or not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))[:count]


def _read(stream: IO[bytes] | None) -> bytes:
    return b"" if stream is None else stream.read()


def _finish(keeper: subprocess.Popen[Any]) -> None:
    """Waits for the keeper to end what it runs, which it does when its standard input is closed."""
    if keeper.stdin is not None:
        with suppress(OSError):
            keeper.stdin.close()
    try:
        keeper.wait(_ENDING_S)
    except subprocess.TimeoutExpired:
        keeper.kill()
