"""Which jobs go to whom: the state of a run that is spread over workers which come, go and break.

Pure: no process, no clock, no network. The Ray driver feeds it with what happens, and so does the simulation of
`benchmarks/scale_out.py`.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.domain import Job, ToolAnswer, Verdict
from harness.run.executors import batches, group_of
from harness.tools.contract import Answered

MAX_LOSSES = 4
"""Workers that a job may lose before it is held to be the reason: alone from its third attempt on."""
_ALONE_AFTER = 2


@dataclass(frozen=True, slots=True)
class ChunkSizes:
    """How many jobs of one network a worker gets at once: many at first, so that batches pay, few at the end."""

    least: int = 2
    most: int = 32
    rounds: int = 3
    """A worker's first chunk is this part of its even share of all jobs; what is left is divided anew each time."""

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most or self.rounds < 1:
            raise ValueError(f"no chunk sizes: {self.least} to {self.most} jobs in {self.rounds} rounds")

    def size(self, waiting: int, workers: int) -> int:
        """Returns the size of the next chunk (guided self-scheduling).

        Args:
            waiting: jobs that no worker has yet.
            workers: workers that share them.
        """
        share = math.ceil(waiting / (self.rounds * max(workers, 1)))
        return min(max(share, self.least), self.most)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Jobs of one network and one set of limits that a worker decides together."""

    number: int
    jobs: tuple[Job, ...]
    copies: bool = False
    """Whether another worker has these jobs as well: the first answer counts."""


@dataclass(slots=True)
class _Running:
    """A chunk that a worker has, and what it has not answered yet."""

    chunk: Chunk
    since: float
    waiting: dict[str, Job] = field(default_factory=dict)


class Dispatch:
    """The jobs of a run: waiting, running on some worker or two, decided. Each is decided exactly once.

    New chunks come from one network after the other, in the order of the jobs. A job whose worker is lost waits again
    and goes first; from its third attempt on it is given alone, and after `MAX_LOSSES` lost workers it is an `error`.
    Once nothing waits, whoever asks gets copies of what the longest-running worker has not answered yet; each job runs
    twice at most at a time. An `error` counts only when no other worker is at the job.

    Args:
        jobs: no two of one key.
        batched: whether the tool shares its work over the jobs of a network.
        sizes: of chunks.
        copy_after_s: seconds that a chunk runs before copies of its jobs are handed out.
    """

    def __init__(
        self, jobs: Sequence[Job], *, batched: bool, sizes: ChunkSizes | None = None, copy_after_s: float = 10.0
    ) -> None:
        self._open = {job.key: job for job in jobs}
        # A tool that takes jobs one by one gets chunks all the same: each hand-over costs.
        self._groups = deque(deque(group) for group in batches(jobs, batched=True))
        self._waiting = len(self._open)
        self._again: deque[Job] = deque()
        self._running: dict[int, _Running] = {}
        self._runs: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()
        self._doubtful: dict[str, Answered] = {}
        self._sizes = sizes or ChunkSizes(least=2 if batched else 1)
        self._copy_after_s = copy_after_s
        self._number = 0

    @property
    def open(self) -> int:
        """Number of jobs that are not decided."""
        return len(self._open)

    @property
    def waiting(self) -> int:
        """Number of jobs that no worker has."""
        return self._waiting + len(self._again)

    def take(self, workers: int, now: float) -> Chunk | None:
        """Returns what an idle worker has to do, and notes that it does; None where there is nothing for it now.

        Args:
            workers: number of workers, this one among them.
            now: seconds on any clock that does not go back.
        """
        if self._again:
            return self._start(self._next_again(workers), now)
        if self._groups:
            size, group = self._sizes.size(self._waiting, workers), self._groups[0]
            jobs = [group.popleft() for _ in range(min(size, len(group)))]
            if not group:
                self._groups.popleft()
            self._waiting -= len(jobs)
            return self._start(jobs, now)
        copies = self._late_jobs(now)
        return self._start(copies, now, copies=True) if copies else None

    def answered(self, chunk: Chunk, key: str, answer: ToolAnswer) -> Answered | None:
        """Takes what a worker says of a job of its chunk; returns the answer that counts, None for none (yet)."""
        running = self._running.get(chunk.number)
        if running is None or running.waiting.pop(key, None) is None:
            return None
        self._runs[key] -= 1
        job = self._open.get(key)
        if job is None:
            return None
        found = Answered(job, answer)
        if answer.verdict is Verdict.ERROR and self._runs[key]:
            self._doubtful[key] = found
            return None
        return self._decided(found)

    def ended(self, chunk: Chunk, reason: str) -> list[Answered]:
        """Notes that nobody works on a chunk any more; returns what its unanswered jobs come to, where they are final.

        Args:
            chunk: handed out by `take`.
            reason: why it ended before all was answered, in one line.
        """
        running = self._running.pop(chunk.number, None)
        found = []
        for key in running.waiting if running is not None else ():
            self._runs[key] -= 1
            job = self._open.get(key)
            if job is None or self._runs[key]:
                continue
            self._losses[key] += 1
            if key in self._doubtful:
                found.append(self._decided(self._doubtful[key]))
            elif self._losses[key] >= MAX_LOSSES:
                message = f"its worker was lost {self._losses[key]} times, the last: {reason}"
                found.append(self._decided(Answered(job, ToolAnswer(Verdict.ERROR, 0.0, 0.0, message=message))))
            else:
                self._again.append(job)
        return found

    def is_needed(self, chunk: Chunk) -> bool:
        """Returns whether a running chunk has an undecided job to answer, or has answered all and is ending."""
        running = self._running.get(chunk.number)
        # Who has said everything is about to be free; ending it would cost the start of another worker.
        return running is not None and (not running.waiting or any(key in self._open for key in running.waiting))

    def _decided(self, found: Answered) -> Answered:
        del self._open[found.job.key]
        self._doubtful.pop(found.job.key, None)
        return found

    def _start(self, jobs: Sequence[Job], now: float, *, copies: bool = False) -> Chunk:
        self._number += 1
        chunk = Chunk(self._number, tuple(jobs), copies)
        self._running[chunk.number] = _Running(chunk, now, {job.key: job for job in jobs})
        self._runs.update(job.key for job in jobs)
        return chunk

    def _next_again(self, workers: int) -> list[Job]:
        first = self._again.popleft()
        if self._losses[first.key] >= _ALONE_AFTER:
            return [first]
        size, group = self._sizes.size(len(self._again) + 1, workers), group_of(first)
        jobs, left = [first], deque[Job]()
        for job in self._again:
            fits = len(jobs) < size and group_of(job) == group and self._losses[job.key] < _ALONE_AFTER
            (jobs if fits else left).append(job)
        self._again = left
        return jobs

    def _late_jobs(self, now: float) -> list[Job]:
        """Returns half of what the longest-running chunk has open and nobody else has; empty where nothing is late."""
        for running in self._running.values():
            if now - running.since < self._copy_after_s:
                break
            late = [job for key, job in running.waiting.items() if key in self._open and self._runs[key] == 1]
            if late:
                return late[len(late) // 2 :][: self._sizes.most]
        return []
