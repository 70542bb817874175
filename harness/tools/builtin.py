"""Our engine as a tool: a child process that speaks `harness.formats.engine_protocol`; the engine is never imported."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from harness.domain import Job, ToolAnswer, Verdict
from harness.formats.engine_protocol import EngineRequest, decode_answer, encode_request
from harness.tools.contract import Answered, OnProgress, Progress
from harness.tools.process import ChildEndedError, Line, LineProcess

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).resolve().parents[1]
ENGINE_COMMAND = (sys.executable, "-m", "harness.verifier", "serve")
ENGINE_SETTINGS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
"""Has to stand in the environment before torch is imported: spinning OpenMP threads cost a contended host 3 to 40 times
the run time."""
LOG_NAME = "engine.log"

_SOURCES = ("verifier/**/*.py", "formats/*.py", "domain.py")
_EXCERPT = 80
_GRACE_S = 2.0
_HUNG_GRACE_S = 0.4
"""Seconds between TERM and KILL for an engine that is past its limit."""
_OUT_OF_MEMORY = ("out of memory", "outofmemory", "memoryerror", "can't allocate memory", "bad_alloc")
"""What torch, CUDA, numpy, Python, C++ and we ourselves say of it, in lower case."""
_NO_EVENT = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class Patience:
    """When the engine is held to be hung or broken."""

    grace_s: float = 60.0
    """Seconds beyond the limits: start-up, loading, and how late the engine may notice its limit."""
    late_s: float = 1.5
    """Seconds beyond a limit on wall time for an engine that has answered before: there is nothing left to load."""
    silence_s: float = 900.0
    """Seconds without any event; twice the time limit where that is longer. An engine that works on many instances at
    once, and may decide none for so long, has to say `progress` meanwhile."""
    failures: int = 5
    """Failed requests in a row, without one answer between, after which the engine is given up for these jobs."""


class BuiltinTool:
    """Decides all instances of a network in one engine process, and survives whatever that process does.

    When the engine crashes, writes garbage, leaves instances out or hangs, it is started again and each instance
    without an answer is asked once more, alone, so that the one at fault takes no other with it; if that fails too, the
    answer is an error with the reason. An engine that ran out of memory, the device's or the machine's, is asked for
    half as many at once, and again for half of these, before any is asked alone.

    In competition mode (a limit on wall time) instances are asked one at a time, and one that hangs past its limit and
    grace is a timeout without a second chance.

    `wall_s` is measured here, from handing an instance over for the first time to its answer, with the start of the
    engine where it had to be started; `work_s` is what the engine says, and never more than that.
    """

    def __init__(
        self,
        log_dir: Path,
        *,
        device: str = "cpu",
        seed: int = 0,
        arithmetic: str = "float32",
        command: Sequence[str] = ENGINE_COMMAND,
        patience: Patience | None = None,
        memory_gib: float | None = None,
        on_progress: OnProgress | None = None,
        keep: bool = False,
    ) -> None:
        """Makes the tool; nothing is started yet.

        Args:
            log_dir: folder of the engine's log.
            device: `cpu` or `cuda`.
            seed: of everything random in the engine.
            arithmetic: what `unsat` speaks of, of `ARITHMETICS`.
            command: starts the engine; another one than ours only in tests.
            patience: when to give up waiting; None: the defaults.
            memory_gib: GiB that the engine may take; None: what the machine can spare. It is killed beyond that.
            on_progress: told what the engine is working on, now and then.
            keep: whether an engine that answered all waits for the next call of `decide`, until `close`. The kernel
                ends it with the thread that started it, so all calls have to come from one.
        """
        self._log_path = log_dir.absolute() / LOG_NAME
        self._device = device
        self._seed = seed
        self._arithmetic = arithmetic
        self._command = tuple(command)
        self._patience = patience or Patience()
        self._memory_bytes = None if memory_gib is None else int(memory_gib * 2**30)
        self._on_progress = on_progress
        self._keep = keep
        self._kept: LineProcess | None = None

    @property
    def name(self) -> str:
        """`builtin`."""
        return "builtin"

    @property
    def batched(self) -> bool:
        """True: the engine shares its work over all instances of a network."""
        return True

    def identity(self) -> str:
        """Returns a hash of the engine's sources, those of the formats it reads, torch's version and its choices."""
        digest = sha256()
        for path in sorted({path for pattern in _SOURCES for path in PACKAGE.glob(pattern)}):
            data = path.read_bytes()
            digest.update(f"{path.relative_to(PACKAGE).as_posix()}:{len(data)}:".encode())
            digest.update(data)
        choices = {"seed": self._seed, "device": self._device, "arithmetic": self._arithmetic}
        digest.update(json.dumps({**choices, "torch": _version("torch")}).encode())
        return digest.hexdigest()

    def decide(self, jobs: Sequence[Job]) -> Iterator[Answered]:
        """Yields one answer for each job; see the class for what happens to those that the engine fails on.

        Raises:
            ValueError: the jobs are of more than one network or set of limits, or two have one key.
        """
        if len({(job.instance.network, job.limits) for job in jobs}) > 1 or len({job.key for job in jobs}) < len(jobs):
            raise ValueError("jobs of one call need one network, one set of limits and different keys")
        return _Decision(self, jobs).answers()

    def close(self) -> None:
        """Ends an engine that was kept."""
        child, self._kept = self._kept, None
        if child is not None:
            child.end()

    def take_kept(self) -> LineProcess | None:
        """Returns the engine that an earlier call left, None where there is none; the caller ends it."""
        child, self._kept = self._kept, None
        return child

    def leave(self, child: LineProcess) -> bool:
        """Keeps an engine for the next call; returns False where it is not wanted, and has to be ended."""
        if self._keep:
            self.close()
            self._kept = child
        return self._keep

    def start(self) -> LineProcess:
        """Returns a newly started engine, waiting for requests.

        Raises:
            OSError: the log cannot be written, or no process can be started.
        """
        # From the folder that holds this package, so that the engine that runs is the one `identity` hashed.
        return LineProcess(
            self._command,
            self._log_path,
            settings=ENGINE_SETTINGS,
            cwd=PACKAGE.parent,
            memory_bytes=self._memory_bytes,
        )

    def request(self, batch: Sequence[Job]) -> EngineRequest:
        """Returns what the engine is asked for a batch."""
        first = batch[0]
        properties = {job.key: job.instance.property.absolute() for job in batch}
        choices = self._seed, self._device, self._arithmetic
        return EngineRequest(first.instance.network.absolute(), properties, first.limits, *choices)

    @property
    def patience(self) -> Patience:
        """When the engine is held to be hung or broken."""
        return self._patience

    def report(self, progress: Progress) -> None:
        """Passes on what the engine says of its progress."""
        if self._on_progress is not None:
            self._on_progress(progress)


class _Failure(NamedTuple):
    """Why a request ended before all its instances had an answer."""

    reason: str
    hung: bool = False

    @property
    def out_of_memory(self) -> bool:
        """Whether fewer instances at once might have been decided."""
        return any(words in self.reason.lower() for words in _OUT_OF_MEMORY)


class _Decision:
    """One call of `BuiltinTool.decide`: its open jobs, what was tried, and the engine's process."""

    def __init__(self, tool: BuiltinTool, jobs: Sequence[Job]) -> None:
        self._tool = tool
        self._open = {job.key: job for job in jobs}
        self._handed: dict[str, float] = {}
        self._retried: set[str] = set()
        self._child: LineProcess | None = None
        self._warm = False

    def answers(self) -> Generator[Answered]:
        jobs = list(self._open.values())
        one_by_one = bool(jobs) and jobs[0].limits.timeout_on == "wall"
        batches = deque([[job] for job in jobs] if one_by_one else [jobs] if jobs else [])
        failures = 0
        try:
            self._child = self._tool.take_kept()
            self._warm = self._child is not None
            while batches:
                batch, left = batches.popleft(), len(self._open)
                began = monotonic()
                failure = yield from self._request(batch)
                # One that asks for fewer at once is on its way to an answer, and is no failure in a row.
                smaller = failure is not None and failure.out_of_memory and len(batch) > 1
                failures = 0 if failure is None or len(self._open) < left else failures + (not smaller)
                if failure is None:
                    continue
                logger.warning("the engine failed on %d instances: %s", len(batch), failure.reason)
                self._end_child(_HUNG_GRACE_S if failure.hung else _GRACE_S)
                missing = [job for job in batch if job.key in self._open]
                again = [] if one_by_one and failure.hung else self._again(missing, failure)
                if smaller:
                    batches.extendleft(reversed(again))
                else:
                    batches.extend(again)
                kept = {job.key for part in again for job in part}
                for job in missing:
                    if job.key not in kept:
                        yield self._failed(job, failure, began)
                if failures >= self._tool.patience.failures:
                    reason = f"given up after {failures} failures of the engine in a row, the last: {failure.reason}"
                    for job in list(self._open.values()):
                        yield self._failed(job, _Failure(reason), monotonic())
                    return
            if self._child is not None and self._tool.leave(self._child):
                self._child = None
        finally:
            self._end_child()

    def _again(self, missing: Sequence[Job], failure: _Failure) -> list[list[Job]]:
        """Returns the requests by which instances are tried again that a failed one has left open."""
        open_ones = [job for job in missing if job.key not in self._retried]
        if failure.out_of_memory and len(open_ones) > 2:
            middle = len(open_ones) // 2
            return [open_ones[:middle], open_ones[middle:]]
        self._retried.update(job.key for job in open_ones)
        return [[job] for job in open_ones]

    def _request(self, batch: Sequence[Job]) -> Generator[Answered, None, _Failure | None]:
        """Yields the answers of one request; returns why it ended early, None when all is answered."""
        try:
            self._child = child = self._child or self._tool.start()
        except OSError as error:
            return _Failure(f"the engine cannot be started: {error}")
        asked = {job.key for job in batch}
        now = monotonic()
        for key in asked:
            self._handed.setdefault(key, now)
        child.send(encode_request(self._tool.request(batch)))
        watch = _Watch(batch, self._tool.patience, warm=self._warm)
        while True:
            try:
                line = child.next_line(watch.remaining())
            except ChildEndedError as error:
                return _Failure(f"the engine ended: {error}")
            if line is None:
                return _Failure(watch.complaint(), hung=True)
            try:
                event = _event(line.text)
                if event["event"] == "done":
                    self._warm = True
                    return _Failure(f"the engine left out {len(asked)} of {len(batch)}") if asked else None
                news = self._news(event, line, asked)
            except _NO_EVENT as error:
                return _Failure(f"the engine wrote what is no event ({_excerpt(line.text)}): {error}")
            if isinstance(news, Progress):
                self._tool.report(news)
            else:
                yield news
            watch.heard()

    def _news(self, event: dict[str, Any], line: Line, asked: set[str]) -> Answered | Progress:
        """Returns what an event says; an answer closes its job.

        Raises:
            one of _NO_EVENT: it is not a well-formed event of this request.
        """
        if event["event"] == "progress":
            return Progress(str(event["key"]), str(event["stage"]), int(event["domains"]))
        if event["event"] != "answer":
            raise ValueError(f"unknown event '{event['event']}'")
        key, answer = decode_answer(event)
        if key not in asked:
            raise ValueError("an answer that was not asked for, or given twice")
        asked.remove(key)
        wall_s = line.at - self._handed[key]
        said = answer.work_s
        work_s = min(said, wall_s) if math.isfinite(said) and said >= 0 else wall_s
        return Answered(self._open.pop(key), replace(answer, wall_s=wall_s, work_s=work_s))

    def _failed(self, job: Job, failure: _Failure, began: float) -> Answered:
        del self._open[job.key]
        now = monotonic()
        late = failure.hung and job.limits.timeout_on == "wall"
        verdict = Verdict.TIMEOUT if late else Verdict.ERROR
        wall_s = now - self._handed.get(job.key, now)
        return Answered(job, ToolAnswer(verdict, wall_s, min(now - began, wall_s), message=failure.reason))

    def _end_child(self, grace_s: float = _GRACE_S) -> None:
        child, self._child, self._warm = self._child, None, False
        if child is not None:
            child.end(grace_s)


class _Watch:
    """How long a request may still take, and how long the engine may be silent."""

    def __init__(self, batch: Sequence[Job], patience: Patience, *, warm: bool) -> None:
        limits = batch[0].limits
        if limits.timeout_on == "wall":
            self._total = limits.timeout_s + (patience.late_s if warm else patience.grace_s)
        else:
            # Batch limits are on shares of the work, and reading files is nobody's share: twice their sum is enough.
            self._total = 2 * limits.timeout_s * len(batch) + patience.grace_s
        self._silence = min(self._total, max(patience.silence_s, 2 * limits.timeout_s))
        self._end = monotonic() + self._total
        self._next_event = monotonic() + self._silence

    def heard(self) -> None:
        """Notes that the engine said something; counted from now, not from when its line came."""
        self._next_event = monotonic() + self._silence

    def remaining(self) -> float:
        """Returns the seconds until patience ends."""
        return min(self._end, self._next_event) - monotonic()

    def complaint(self) -> str:
        """Returns why patience ended."""
        if monotonic() >= self._end:
            return f"the engine was not done after {self._total:.0f} s and was killed"
        return f"the engine said nothing for {self._silence:.0f} s and was killed"


def _event(text: str) -> dict[str, Any]:
    event = json.loads(text)
    if not isinstance(event, dict):
        raise ValueError("not an object")
    return event


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= _EXCERPT else text[:_EXCERPT] + "...")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
