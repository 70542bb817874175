"""A worker on a node of a Ray cluster: one tool on its own cores or GPU, asked for one chunk of jobs after another."""

from __future__ import annotations

import fcntl
import json
import os
import queue
import socket
import tempfile
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from harness.domain import Job, LgBenchError, ToolAnswer, Verdict
from harness.run.cluster_protocol import RemoteTool, encode_said
from harness.run.executors import answers_of
from harness.run.machine import this_machine
from harness.run.node_cache import NodeCache
from harness.tools.contract import Answered, Progress, Tool
from harness.tools.registry import ToolOptions, make_tool

BEAT_S = 10.0
"""A worker that is alive says something at least this often while it has a chunk."""
PROGRESS_S = 2.0
"""Least seconds between two words on what is being worked on."""


class Said(NamedTuple):
    """An answer on its way to the runner."""

    key: str
    verdict: str
    line: str
    """The `answer` event as JSON text; nobody on the way has to read it."""


class Doing(NamedTuple):
    """Progress on its way to the runner."""

    line: str
    """The `progress` event as JSON text."""


class _Over(NamedTuple):
    """The end of a chunk."""

    error: Exception | None


class RayWorker:
    """What runs in a Ray actor; imports Ray only to fetch files.

    Args:
        tool: as `RemoteTool.to_json` has it.
        cores: processor cores that the tool may use.
    """

    def __init__(self, tool: Mapping[str, Any], cores: int) -> None:
        self._wanted = RemoteTool.from_json(tool)
        root = node_folder()
        self._claims = claim_cores(root / "cores", cores)
        self._files: Mapping[str, Any] = {}
        self._cache = NodeCache(root / "files", self._fetch)
        options = replace(
            self._wanted.options,
            log_dir=root / "logs" / f"{socket.gethostname()}-{os.getpid()}",
            on_progress=self._progress,
            keep=True,
        )
        self._problem = ""
        try:
            self._tool = self.make(self._wanted.name, options)
            self._problem = self._misfit()
        except LgBenchError as error:
            self._problem = str(error)
        self._chunks: queue.SimpleQueue[Sequence[Job]] = queue.SimpleQueue()
        self._said: queue.SimpleQueue[Said | Doing | _Over] = queue.SimpleQueue()
        self._told = 0.0
        # The kernel ends a tool's process with the thread that started it, so one thread serves all chunks.
        threading.Thread(target=self._serve, name="tool", daemon=True).start()

    def make(self, name: str, options: ToolOptions) -> Tool:
        """Returns the tool of that name; a worker of another kind, such as a benchmark's, makes its own."""
        return make_tool(name, options)

    def ready(self) -> dict[str, Any]:
        """Returns the host's name and why this worker cannot be used; the reason is empty for one that can."""
        return {"host": socket.gethostname(), "problem": self._problem}

    def decide(self, jobs: Sequence[Job], files: Mapping[str, Any]) -> Generator[list[Said | Doing]]:
        """Yields what the tool says of each job, as it says it; an empty list is a sign of life.

        Args:
            jobs: of one network and one set of limits, with their files' places on the runner's machine.
            files: content hash to the Ray object that holds a file.
        """
        self._files = files
        self._chunks.put(jobs)
        while True:
            said = self._drain()
            yield [one for one in said if not isinstance(one, _Over)]
            for one in said:
                if isinstance(one, _Over):
                    if one.error is not None:
                        raise one.error
                    return

    def _misfit(self) -> str:
        if self._wanted.options.device == "cuda" and not (this_machine().gpus and this_machine().torch_cuda):
            return "has no GPU, or a torch without CUDA"
        if self._tool.identity() != self._wanted.identity:
            return f"has another {self._tool.name} (or another revision of lg-bench); install the runner's there"
        return ""

    def _drain(self) -> list[Said | Doing | _Over]:
        """Returns what was said since, waiting for the first of it."""
        found: list[Said | Doing | _Over] = []
        with suppress(queue.Empty):
            found.append(self._said.get(timeout=BEAT_S))
            while True:
                found.append(self._said.get_nowait())
        return found

    def _serve(self) -> None:
        while True:
            jobs = self._chunks.get()
            error: Exception | None = None
            try:
                for job, answer in self._answers(jobs):
                    line = json.dumps(encode_said(job.key, answer)) + "\n"
                    self._said.put(Said(job.key, answer.verdict.value, line))
            except Exception as raised:  # noqa: BLE001 - handed to the driver, which gives the jobs to another worker
                error = raised
            self._said.put(_Over(error))

    def _answers(self, jobs: Sequence[Job]) -> Generator[Answered]:
        here = []
        for job in jobs:
            try:
                here.append(self._localised(job))
            except LgBenchError as error:
                yield Answered(job, ToolAnswer(Verdict.ERROR, 0.0, 0.0, message=str(error)))
        for batch in [here] if self._tool.batched and here else [[job] for job in here]:
            yield from answers_of(batch, self._tool)

    def _localised(self, job: Job) -> Job:
        instance = job.instance
        own = replace(
            instance,
            network=self._cache.path(job.network_sha256, instance.network.name),
            property=self._cache.path(job.property_sha256, instance.property.name),
        )
        return replace(job, instance=own)

    def _fetch(self, sha256: str) -> bytes:
        # The driver has said so of the job already; any other error would lose this worker, and its other jobs.
        if sha256 not in self._files:
            raise LgBenchError("a file cannot be read where the run is")
        import ray

        # Ray brings an object to a node once, however many workers ask for it there.
        data: bytes = ray.get(self._files[sha256])
        return data

    def _progress(self, progress: Progress) -> None:
        now = monotonic()
        if now - self._told >= PROGRESS_S:
            self._told = now
            self._said.put(Doing(json.dumps({"event": "progress", **progress._asdict()}) + "\n"))


def node_folder() -> Path:
    """Returns the folder of this node and user, in the system's temporary folder, made for this user alone."""
    folder = Path(tempfile.gettempdir()) / f"lgbench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def claim_cores(folder: Path, count: int) -> list[int]:
    """Binds this process to `count` cores that no other worker of this node has; returns what holds the claim.

    Ray counts cores but binds nobody, and a verifier takes all that it sees. The claim ends with the process. Where too
    few cores are free (nodes that overlap), those of others are shared; where there are no more than asked for, all are
    used.

    Args:
        folder: where workers of one machine meet.
        count: cores wanted.
    """
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) <= count:
        return []
    folder.mkdir(mode=0o700, exist_ok=True)
    handles, taken = [], []
    for core in cores:
        handle = os.open(folder / str(core), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        handles.append(handle)
        taken.append(core)
        if len(taken) == count:
            break
    shared = [core for core in cores if core not in taken]
    os.sched_setaffinity(0, [*taken, *shared[: count - len(taken)]])
    return handles
