"""The contract of a verifier: it is given instances and yields answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from harness.domain import Job, ToolAnswer


class Answered(NamedTuple):
    """A job and what the tool said of it."""

    job: Job
    answer: ToolAnswer


class Progress(NamedTuple):
    """What a tool works on just now; a tool that says nothing of it is as good."""

    key: str
    """Of the job. It is the tool's word: there may be no such job."""
    stage: str
    """In the tool's own words."""
    domains: int
    """Branch-and-bound domains of that job so far."""


OnProgress = Callable[[Progress], None]
"""Is told of progress now and then; what it raises ends the tool's work."""


class Tool(Protocol):
    """Anything that decides instances: our engine, a folder of VNN-COMP scripts, a Docker image.

    A tool is untrusted: it may crash, hang or lie. The runner relies only on what is written here.
    """

    @property
    def name(self) -> str:
        """Short name, as `--tool` takes it."""

    @property
    def batched(self) -> bool:
        """Whether `decide` wants all jobs of one network at once (else it is called with one job at a time)."""

    def identity(self) -> str:
        """Returns a hash of everything in the tool that determines its answers; part of every job's key."""

    def decide(self, jobs: Sequence[Job]) -> Iterator[Answered]:
        """Yields exactly one answer for each job, as it is found, in any order.

        All jobs are of one network and one set of limits. A crash or a hang of the tool becomes an answer with
        `Verdict.ERROR` or `Verdict.TIMEOUT`, never an exception. Closing the iterator ends every process that the
        tool started.
        """
