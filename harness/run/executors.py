"""Where jobs are decided: the contract of an executor, and the one that asks the tool from this process."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Protocol

from harness.domain import Job, LgBenchError, Limits, ToolAnswer, Verdict
from harness.tools.contract import Answered, Tool

logger = logging.getLogger(__name__)

Group = tuple[Path, str, Limits]
"""What the jobs of one call of a batched tool share: the network's file, its content's hash, and the limits."""


class ExecutorLostError(LgBenchError):
    """Nothing decides jobs any more; what is decided stays, and the message says what happened."""


class Executor(Protocol):
    """Has a tool decide jobs, wherever that is."""

    def answers(self, jobs: Sequence[Job], tool: Tool) -> Generator[Answered]:
        """Yields exactly one answer for each job, in any order, however the tool behaves; closing it ends the work.

        Args:
            jobs: of any networks and limits, no two of one key.
            tool: the verifier, as it is known in this process.

        Raises:
            ExecutorLostError: the rest of the jobs cannot be decided now.
        """


class LocalExecutor:
    """Asks the tool from this process, one batch after another."""

    def answers(self, jobs: Sequence[Job], tool: Tool) -> Generator[Answered]:
        """Yields exactly one answer for each job; a batched tool gets all jobs of a network and its limits at once.

        A tool that keeps something for the next batch is closed behind the last one.
        """
        try:
            for batch in batches(jobs, batched=tool.batched):
                yield from answers_of(batch, tool)
        finally:
            _close(tool)


def group_of(job: Job) -> Group:
    """Returns what a job shares with those that a tool may be given together with it."""
    return job.instance.network, job.network_sha256, job.limits


def batches(jobs: Sequence[Job], *, batched: bool) -> list[list[Job]]:
    """Returns the jobs as a tool takes them, in the order of first appearance.

    Args:
        jobs: of any networks and limits.
        batched: whether the tool takes all jobs of one network and one set of limits; else it takes them one by one.
    """
    if not batched:
        return [[job] for job in jobs]
    groups: dict[Group, list[Job]] = {}
    for job in jobs:
        groups.setdefault(group_of(job), []).append(job)
    return list(groups.values())


def answers_of(batch: Sequence[Job], tool: Tool) -> Generator[Answered]:
    """Yields exactly one answer for each job of a batch, however the tool behaves.

    A tool that raises, answers twice, for other jobs or not at all costs its open jobs an `error`.
    """
    missing = {job.key: job for job in batch}
    began = monotonic()
    reason = "the tool ended without an answer"
    try:
        answers = iter(tool.decide(batch))
        try:
            for given, answer in answers:
                job = missing.pop(given.key, None)
                if job is None:
                    logger.warning("%s answered for a job that it was not asked, or twice: %s", tool.name, given.key)
                else:
                    yield Answered(job, answer)
        finally:
            _close(answers)
    except Exception as error:
        logger.exception("%s failed", tool.name)
        reason = f"the tool failed: {type(error).__name__}: {error}"
    for job in missing.values():
        spent = monotonic() - began
        yield Answered(job, ToolAnswer(Verdict.ERROR, spent, spent, message=reason))


def _close(ended: Iterator[Answered] | Tool) -> None:
    close = getattr(ended, "close", None)
    if close is not None:
        close()
