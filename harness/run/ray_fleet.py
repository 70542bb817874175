"""The workers of a run on a Ray cluster: started where there is room, heard, and given up when they are lost.

Ray is imported by whoever makes a `Fleet`; nothing else of the package needs it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any, NamedTuple

from harness.domain import Job
from harness.judging.judge import one_line
from harness.run.cluster_protocol import ClusterSettings, RemoteTool
from harness.run.dispatch import Chunk
from harness.run.ray_worker import RayWorker

DEFAULT_CORES = 2
LOOK_S = 5.0
"""Seconds between two looks at which nodes there are."""
SILENCE_S = 90.0
"""A worker with a chunk that says nothing for so long is lost; it beats every ten seconds."""
MAX_FAILURES = 3
"""Workers that a node may lose in a row, without one answer between, before it is put aside."""

logger = logging.getLogger(__name__)

Files = Callable[[Sequence[Job]], Mapping[str, Any]]
"""Returns content hash to Ray object of the files that jobs need."""


@dataclass(slots=True, eq=False)
class Member:
    """A worker as the driver sees it."""

    actor: Any
    node: str
    ready: Any
    """Ray object that is there once the worker can be asked; None from then on."""
    chunk: Chunk | None = None
    stream: Any = None
    """What the worker says of its chunk; None while it has none."""
    files: Mapping[str, Any] = field(default_factory=dict)
    """Keeps the chunk's files alive."""
    heard: float = 0.0


class Heard(NamedTuple):
    """What came from a worker: messages of a chunk, or its end."""

    chunk: Chunk
    messages: Sequence[Any] = ()
    over: bool = False
    reason: str = ""
    """Why it ended before all was said; empty for a regular end."""


def cores_of(settings: ClusterSettings, resources: Mapping[str, float]) -> int:
    """Returns the cores of one worker on a node with those resources."""
    return settings.job_cores or max(1, min(DEFAULT_CORES, int(resources.get("CPU", 0))))


def room(settings: ClusterSettings, resources: Mapping[str, float], device: str) -> int:
    """Returns how many workers fit on a node with those resources; on GPUs each has one of its own."""
    workers = int(resources.get("CPU", 0)) // cores_of(settings, resources)
    return min(workers, int(resources.get("GPU", 0))) if device == "cuda" else workers


class Fleet:
    """All workers of one run.

    Args:
        ray: the module, connected to a cluster.
        settings: how the cluster is used.
        tool: what the workers run.
        note: told in one line what a person should know.
        worker: what runs on the nodes.
    """

    def __init__(
        self,
        ray: Any,
        settings: ClusterSettings,
        tool: RemoteTool,
        note: Callable[[str], None],
        worker: type[RayWorker] = RayWorker,
    ) -> None:
        self._ray, self._settings, self._tool, self._note, self._worker = ray, settings, tool, note, worker
        self._members: list[Member] = []
        self._failures: Counter[str] = Counter()
        self._aside: dict[str, str] = {}
        self._next_look = 0.0

    def __len__(self) -> int:
        """Workers that are ready or being started."""
        return len(self._members)

    @property
    def idle(self) -> list[Member]:
        """Workers that are ready and have nothing to do."""
        return [member for member in self._members if member.ready is None and member.chunk is None]

    @property
    def is_ready(self) -> bool:
        """Whether some worker is ready."""
        return any(member.ready is None for member in self._members)

    @property
    def problem(self) -> str:
        """Why nodes were put aside, the last one's reason; empty where none was."""
        return next(reversed(self._aside.values()), "")

    def recruit(self, wanted: int) -> None:
        """Starts workers on nodes that have room, up to `wanted` in all; looks at the nodes only now and then."""
        now = monotonic()
        if now < self._next_look or len(self._members) >= wanted:
            return
        self._next_look = now + LOOK_S
        device = self._tool.options.device
        for node in self._ray.nodes():
            name, resources = node["NodeID"], node["Resources"]
            if not node["Alive"] or name in self._aside:
                continue
            here = sum(member.node == name for member in self._members)
            for _ in range(min(room(self._settings, resources, device) - here, wanted - len(self._members))):
                self._start(name, cores_of(self._settings, resources))

    def hand_over(self, member: Member, chunk: Chunk, files: Mapping[str, Any]) -> None:
        """Gives an idle worker a chunk."""
        member.chunk, member.files, member.heard = chunk, files, monotonic()
        member.stream = member.actor.decide.options(num_returns="streaming").remote(chunk.jobs, files)

    def hear(self, timeout_s: float) -> Iterator[Heard]:
        """Yields what workers say of their chunks, waiting up to `timeout_s` for the first of it; some may be lost."""
        pairs = ((member.stream if member.ready is None else member.ready, member) for member in self._members)
        waiting = {awaited: member for awaited, member in pairs if awaited is not None}
        if waiting:
            ready, rest = self._ray.wait(list(waiting), num_returns=1, timeout=timeout_s)
            if ready and rest:
                more, _ = self._ray.wait(rest, num_returns=len(rest), timeout=0)
                ready += more
            for one in ready:
                yield from self._take(waiting[one])
        else:
            # Nobody is left, or all are idle: whoever asks must not do so without a pause until nodes join.
            sleep(timeout_s)
        now = monotonic()
        for member in [m for m in self._members if m.stream is not None and now - m.heard > SILENCE_S]:
            yield from self._lose(member, f"it said nothing for {SILENCE_S:.0f} s")

    def dismiss(self, is_needed: Callable[[Chunk], bool]) -> list[Chunk]:
        """Ends the workers whose chunk nobody needs any more; returns those chunks."""
        ended = [(m, m.chunk) for m in self._members if m.chunk is not None and not is_needed(m.chunk)]
        for member, _ in ended:
            self._end(member)
        return [chunk for _, chunk in ended]

    def end(self) -> None:
        """Ends all workers, and with them their tools."""
        for member in list(self._members):
            self._end(member)

    def _start(self, node: str, cores: int) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor = (
            self._ray.remote(self._worker)
            .options(
                num_cpus=cores,
                num_gpus=1 if self._tool.options.device == "cuda" else 0,
                max_restarts=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            )
            .remote(self._tool.to_json(), cores)
        )
        self._members.append(Member(actor, node, actor.ready.remote()))

    def _take(self, member: Member) -> Iterator[Heard]:
        member.heard = monotonic()
        try:
            if member.ready is not None:
                self._welcome(member, self._ray.get(member.ready))
                return
            messages = self._ray.get(next(member.stream))
        except StopIteration:
            chunk, member.chunk, member.stream, member.files = member.chunk, None, None, {}
            if chunk is not None:
                yield Heard(chunk, over=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, this worker is of no use any more
            yield from self._lose(member, one_line(f"{type(error).__name__}: {error}"))
        else:
            if messages:
                self._failures[member.node] = 0
            if member.chunk is not None:
                yield Heard(member.chunk, messages)

    def _welcome(self, member: Member, card: Mapping[str, str]) -> None:
        member.ready = None
        if card["problem"]:
            self._end(member)
            self._put_aside(member.node, f"{card['host']}: {card['problem']}")

    def _lose(self, member: Member, reason: str) -> Iterator[Heard]:
        self._end(member)
        self._failures[member.node] += 1
        logger.warning("a worker on node %s is lost: %s", member.node, reason)
        if self._failures[member.node] >= MAX_FAILURES:
            self._put_aside(member.node, f"lost {MAX_FAILURES} workers in a row, the last: {reason}")
        if member.chunk is not None:
            yield Heard(member.chunk, over=True, reason=reason)

    def _put_aside(self, node: str, reason: str) -> None:
        if node not in self._aside:
            self._aside[node] = reason
            self._note(f"node {node[:8]} is not used: {reason}")

    def _end(self, member: Member) -> None:
        if member in self._members:
            self._members.remove(member)
            self._ray.kill(member.actor)
            # There may be room for another one.
            self._next_look = min(self._next_look, monotonic() + 1.0)
