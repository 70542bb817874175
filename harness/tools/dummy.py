"""A tool that answers what it is told: for tests and demonstrations of everything around a tool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from harness.domain import Job, ToolAnswer
from harness.files import sha256_bytes
from harness.tools.contract import Answered


class DummyTool:
    """Answers every job with what a function says of it, in the order given, within this process."""

    def __init__(self, answer: Callable[[Job], ToolAnswer], *, batched: bool = True, label: str = "") -> None:
        """Makes a dummy.

        Args:
            answer: what is said of a job; what it raises, the tool raises.
            batched: whether it wants all jobs of a network at once.
            label: goes into the identity; two dummies that answer differently need different ones.
        """
        self._answer = answer
        self._batched = batched
        self._label = label
        self.batches: list[tuple[Job, ...]] = []
        """The jobs of each call of `decide` so far."""

    @property
    def name(self) -> str:
        """`dummy`."""
        return "dummy"

    @property
    def batched(self) -> bool:
        """Whether `decide` wants all jobs of one network at once."""
        return self._batched

    def identity(self) -> str:
        """Returns a hash of the label."""
        return sha256_bytes(f"dummy:{self._label}".encode())

    def decide(self, jobs: Sequence[Job]) -> Iterator[Answered]:
        """Yields what the function says of each job."""
        self.batches.append(tuple(jobs))
        for job in jobs:
            yield Answered(job, self._answer(job))
