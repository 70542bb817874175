"""How long a run takes on many workers: a formula, and a simulation of discrete events that checks it.

The simulation uses the class that hands out jobs on a cluster (`harness.run.dispatch`) and job times of a real run;
what runner and driver spend are measured figures (`python -m benchmarks.scale_out overhead`).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from harness.domain import Instance, Job, Limits, ToolAnswer, Verdict
from harness.run.dispatch import Chunk, ChunkSizes, Dispatch

LIMITS = Limits(600.0, "work", 1000)
UNSAT = ToolAnswer(Verdict.UNSAT, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that everything but deciding takes, on one core each."""

    input_s: float
    """The runner, for an input: its property written, hashed, and its clean checks."""
    answer_s: float
    """The runner, for an answer: decoding, judging, storing."""
    relay_s: float
    """The driver, for an answer."""
    chunk_s: float
    """The driver, for a chunk: files put, jobs handed over."""
    start_s: float
    """A worker, until it is ready; all start at once."""
    row_s: float
    """The runner, for a row of the summary and the report at the end."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a run is spread over."""

    workers: int
    speed: float = 1.0
    """How many times as fast a worker decides as the one that the job times are of."""
    lost: float = 0.0
    """Workers lost in an hour, as a share of all; each comes back after `Costs.start_s`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds of a run by what they went to."""

    before_s: float
    """The runner alone: files and clean checks."""
    deciding_s: float
    """From the first worker's start to the last answer stored."""
    after_s: float
    """The runner alone: summary and report."""
    busy: float
    """Share of the workers' time in `deciding_s` that went to jobs whose answer counted."""
    runner_busy: float
    """Share of `deciding_s` that the slower of runner and driver was at work."""

    @property
    def total_s(self) -> float:
        """Seconds of the whole run."""
        return self.before_s + self.deciding_s + self.after_s


def formula(inputs: int, times: Mapping[str, Sequence[float]], cluster: Cluster, costs: Costs) -> Outcome:
    """Returns what a run takes on paper: whichever of workers and runner is slower, between what is serial anyway.

    Args:
        inputs: of each network.
        times: network to the seconds of its jobs, as measured.
        cluster: where it runs.
        costs: of all else.
    """
    jobs = inputs * len(times)
    work = inputs * sum(fmean(seconds) for seconds in times.values()) / cluster.speed
    longest = max(max(seconds) for seconds in times.values()) / cluster.speed
    serial = max(jobs * costs.answer_s, jobs * costs.relay_s)
    # On average the last job of the last worker is half done when the others have nothing left.
    spread = work / cluster.workers + (longest / 2 if cluster.workers > 1 else 0.0)
    deciding = costs.start_s + max(spread, serial)
    busy = work / (cluster.workers * deciding)
    return Outcome(inputs * costs.input_s, deciding, jobs * costs.row_s, busy, serial / deciding)


def simulate(
    inputs: int, times: Mapping[str, Sequence[float]], cluster: Cluster, costs: Costs, sizes: ChunkSizes, seed: int = 0
) -> Outcome:
    """Returns what a run takes when every job, chunk, answer and loss is played through; arguments as `formula`.

    A worker decides the jobs of its chunk one after another, each for a time drawn from those measured of its network.
    Answers and chunks wait for the runner's side, which serves them one by one.
    """
    return _Simulation(inputs, times, cluster, costs, sizes, random.Random(seed)).run()


class _Simulation:
    """One run's clock, queue of events, and servers."""

    def __init__(
        self,
        inputs: int,
        times: Mapping[str, Sequence[float]],
        cluster: Cluster,
        costs: Costs,
        sizes: ChunkSizes,
        rng: random.Random,
    ) -> None:
        self._inputs, self._cluster, self._costs, self._rng = inputs, cluster, costs, rng
        self._jobs, self._seconds = _jobs(inputs, times, cluster.speed, rng)
        self._dispatch = Dispatch(self._jobs, batched=True, sizes=sizes)
        self._events: list[tuple[float, int, int, int]] = []
        """When, a tie-breaker, which worker, which of its chunk's jobs is done (-1: it has none)."""
        self._count = 0
        self._chunks: dict[int, Chunk] = {}
        self._idle: set[int] = set()
        self._free_at = self._served = self._useful = 0.0

    def run(self) -> Outcome:
        for worker in range(self._cluster.workers):
            self._push(self._costs.start_s, worker, -1)
        end = 0.0
        while self._dispatch.open:
            now, _, worker, place = heapq.heappop(self._events)
            if place >= 0 and self._answer(now, worker, place):
                end = max(end, self._free_at)
            self._go_on(now, worker, place)
        jobs, costs = len(self._jobs), self._costs
        deciding = max(end, self._free_at)
        busy = self._useful / (self._cluster.workers * deciding)
        return Outcome(
            self._inputs * costs.input_s, deciding, jobs * costs.row_s, busy, min(self._served / deciding, 1.0)
        )

    def _answer(self, now: float, worker: int, place: int) -> bool:
        """Notes that a job is done; returns whether its answer counts."""
        chunk = self._chunks[worker]
        job = chunk.jobs[place]
        if self._dispatch.answered(chunk, job.key, UNSAT) is None:
            return False
        self._useful += self._seconds[job.index]
        self._serve(now, max(self._costs.answer_s, self._costs.relay_s))
        return True

    def _go_on(self, now: float, worker: int, place: int) -> None:
        """Has a worker begin its next job, of a new chunk where the old one is over or not needed any more."""
        chunk = self._chunks.get(worker)
        if chunk is not None and self._is_lost(worker, chunk, place, now):
            return
        if chunk is not None and place + 1 < len(chunk.jobs) and self._dispatch.is_needed(chunk):
            self._push(now + self._seconds[chunk.jobs[place + 1].index], worker, place + 1)
            return
        if chunk is not None:
            self._dispatch.ended(self._chunks.pop(worker), "over")
        new = self._dispatch.take(self._cluster.workers, now)
        if new is None:
            # Asks again as the driver's loop does.
            self._push(now + 1.0, worker, -1)
            return
        self._chunks[worker] = new
        begun = self._serve(now, self._costs.chunk_s)
        self._push(begun + self._seconds[new.jobs[0].index], worker, 0)

    def _is_lost(self, worker: int, chunk: Chunk, place: int, now: float) -> bool:
        if not self._cluster.lost or place < 0:
            return False
        if self._rng.random() > self._cluster.lost * self._seconds[chunk.jobs[place].index] / 3600:
            return False
        del self._chunks[worker]
        self._dispatch.ended(chunk, "lost")
        self._push(now + self._costs.start_s, worker, -1)
        return True

    def _serve(self, now: float, seconds: float) -> float:
        """Has the runner's side do something; returns when that is done."""
        self._free_at = max(self._free_at, now) + seconds
        self._served += seconds
        return self._free_at

    def _push(self, at: float, worker: int, place: int) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, worker, place))


def _jobs(
    inputs: int, times: Mapping[str, Sequence[float]], speed: float, rng: random.Random
) -> tuple[list[Job], list[float]]:
    """Returns the jobs of a run, network by network, and the seconds of each by its index."""
    jobs, seconds = [], []
    for name, measured in times.items():
        instance = Instance(Path(f"{name}.onnx"), Path("input.vnnlib"), LIMITS.timeout_s)
        for one in rng.choices(measured, k=inputs):
            jobs.append(Job(f"{len(jobs):x}", instance, name, len(jobs), LIMITS))
            seconds.append(one / speed)
    return jobs, seconds
