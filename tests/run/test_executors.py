"""The executor that asks the tool from this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from harness.domain import Job, ToolAnswer, Verdict
from harness.run.executors import LocalExecutor
from harness.tools.contract import Answered

MakeJob = Callable[..., Job]


class Keeping:
    """A tool that keeps something between its calls, and notes what happens to it."""

    name, batched = "keeping", True

    def __init__(self) -> None:
        self.seen: list[str] = []

    def identity(self) -> str:
        return "keeping"

    def decide(self, jobs: Sequence[Job]) -> Iterator[Answered]:
        self.seen.append(jobs[0].variant)
        for job in jobs:
            yield Answered(job, ToolAnswer(Verdict.UNSAT, 1.0, 1.0))

    def close(self) -> None:
        self.seen.append("closed")


def test_a_tool_is_closed_behind_its_last_batch(make_job: MakeJob) -> None:
    tool = Keeping()
    jobs = [make_job("a"), make_job("b", variant="grafted"), make_job("c")]
    assert len(list(LocalExecutor().answers(jobs, tool))) == 3
    assert tool.seen == ["baseline", "grafted", "closed"]


@pytest.mark.parametrize("taken", [1, 2])
def test_a_tool_is_closed_when_nobody_wants_more(taken: int, make_job: MakeJob) -> None:
    tool = Keeping()
    answers = LocalExecutor().answers([make_job("a"), make_job("b", variant="grafted")], tool)
    for _ in range(taken):
        next(answers)
    answers.close()
    assert tool.seen[-1] == "closed"
