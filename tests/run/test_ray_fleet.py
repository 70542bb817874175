"""Workers as the driver sees them, without Ray: a stand-in hands out what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.domain import Job, ToolAnswer, Verdict
from harness.run import ray_fleet
from harness.run.cluster_protocol import ClusterSettings, RemoteTool
from harness.run.dispatch import ChunkSizes, Dispatch
from harness.run.ray_fleet import Fleet, Member
from harness.run.ray_worker import Said
from harness.tools.registry import ToolOptions

MakeJob = Callable[..., Job]


class Ray:
    """Every stream has something at once, and keeps it until it is asked for."""

    def __init__(self) -> None:
        self.killed: list[Any] = []

    def wait(self, streams: Sequence[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return list(streams), []

    def get(self, value: Any) -> Any:
        return value

    def kill(self, actor: Any) -> None:
        self.killed.append(actor)


class Actor:
    """Answers a chunk in one message, and ends the stream in the next."""

    def __init__(self) -> None:
        self.decide = SimpleNamespace(options=lambda num_returns: SimpleNamespace(remote=self.begin))

    def begin(self, jobs: Sequence[Job], files: object) -> Iterator[list[Said]]:
        return iter([[Said(job.key, "unsat", "{}") for job in jobs]])


def fleet_of(ray: Ray, *actors: Actor) -> Fleet:
    tool = RemoteTool("dummy", ToolOptions(Path()), "1", batched=True)
    fleet = Fleet(ray, ClusterSettings(), tool, lambda _: None)
    fleet._members = [Member(actor, "node", None) for actor in actors]
    return fleet


def test_a_worker_is_kept_from_chunk_to_chunk(make_job: MakeJob) -> None:
    ray, worker = Ray(), Actor()
    fleet = fleet_of(ray, worker)
    dispatch = Dispatch([make_job(str(k)) for k in range(6)], batched=True, sizes=ChunkSizes(2, 2))
    chunks = 0
    while dispatch.open:
        for member in fleet.idle:
            chunk = dispatch.take(1, 0.0)
            assert chunk is not None
            fleet.hand_over(member, chunk, {})
            chunks += 1
        for heard in fleet.hear(0.0):
            for said in heard.messages:
                dispatch.answered(heard.chunk, said.key, ToolAnswer(Verdict.UNSAT, 0.0, 0.0))
            if heard.over:
                dispatch.ended(heard.chunk, heard.reason)
        assert fleet.dismiss(dispatch.is_needed) == []
    assert (chunks, ray.killed, len(fleet)) == (3, [], 1)


def test_without_workers_there_is_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(ray_fleet, "sleep", pauses.append)
    assert list(fleet_of(Ray()).hear(1.0)) == []
    assert pauses == [1.0], "else a driver whose nodes are lost takes a core of its own until others join"
