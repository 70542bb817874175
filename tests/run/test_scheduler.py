from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.domain import Counterexample, InstanceResult, Job, Limits, Stage, ToolAnswer, UsageError, Verdict
from harness.judging.judge import Judge
from harness.run.scheduler import RunOutcome, run_jobs
from harness.run.store import Store
from harness.tools.contract import Answered
from harness.tools.dummy import DummyTool

MakeJob = Callable[..., Job]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "results.db", create=True) as opened:
        yield opened


def unsat(job: Job) -> ToolAnswer:
    del job
    return ToolAnswer(Verdict.UNSAT, 1.0, 0.5, Stage.INCOMPLETE)


class OddTool:
    """A tool whose `decide` is any function, however broken."""

    name, batched = "odd", True

    def __init__(self, decide: Callable[[Sequence[Job]], Any]) -> None:
        self._decide = decide

    def identity(self) -> str:
        return "odd"

    def decide(self, jobs: Sequence[Job]) -> Iterator[Answered]:
        found: Iterator[Answered] = self._decide(jobs)
        return found


def verdicts(store: Store) -> dict[str, Verdict]:
    return {row.key: row.verdict for row in store.rows()}


def test_each_job_is_decided_judged_and_stored(store: Store, make_job: MakeJob) -> None:
    jobs = [make_job(key, index=index) for index, key in enumerate("abc")]
    told: list[InstanceResult] = []
    outcome = run_jobs(jobs, DummyTool(unsat), Judge(), store, told.append)
    assert outcome == RunOutcome(done=3, skipped_finished=0, errors=0, interrupted=False)
    assert verdicts(store) == dict.fromkeys("abc", Verdict.UNSAT)
    assert [result.job for result in told] == jobs
    assert {row.tool for row in store.rows()} == {"dummy"}


def test_each_result_is_stored_before_it_is_told_and_before_the_next_is_asked_for(
    store: Store, make_job: MakeJob
) -> None:
    stored_when_asked: list[int] = []

    def answer(job: Job) -> ToolAnswer:
        stored_when_asked.append(len(store.rows()))
        return unsat(job)

    def told(result: InstanceResult) -> None:
        assert result.job.key in verdicts(store)

    run_jobs([make_job(key) for key in "abc"], DummyTool(answer), Judge(), store, told)
    assert stored_when_asked == [0, 1, 2]


def test_finished_jobs_are_not_decided_again_and_errors_are(store: Store, make_job: MakeJob) -> None:
    answers = {"a": Verdict.UNSAT, "b": Verdict.ERROR, "c": Verdict.TIMEOUT}
    jobs = [make_job(key) for key in answers]
    first = run_jobs(jobs, DummyTool(lambda job: ToolAnswer(answers[job.key], 1, 1)), Judge(), store)
    assert first == RunOutcome(3, 0, errors=1, interrupted=False)

    again = DummyTool(unsat)
    assert run_jobs(jobs, again, Judge(), store) == RunOutcome(1, 2, errors=0, interrupted=False)
    assert again.batches == [(jobs[1],)]
    assert verdicts(store) == {"a": Verdict.UNSAT, "b": Verdict.UNSAT, "c": Verdict.TIMEOUT}


def test_a_batched_tool_gets_the_jobs_of_one_network_and_one_set_of_limits(store: Store, make_job: MakeJob) -> None:
    short = Limits(5.0)
    jobs = [
        make_job("a", variant="x"),
        make_job("b", variant="y"),
        make_job("c", variant="x", limits=short),
        make_job("d", variant="x"),
    ]
    tool = DummyTool(unsat)
    run_jobs(jobs, tool, Judge(), store)
    assert [[job.key for job in batch] for batch in tool.batches] == [["a", "d"], ["b"], ["c"]]


def test_a_tool_that_is_not_batched_gets_one_job_at_a_time(store: Store, make_job: MakeJob) -> None:
    tool = DummyTool(unsat, batched=False)
    run_jobs([make_job(key) for key in "abc"], tool, Judge(), store)
    assert [[job.key for job in batch] for batch in tool.batches] == [["a"], ["b"], ["c"]]


def test_jobs_of_one_key_are_decided_once_and_get_a_row_each(store: Store, make_job: MakeJob) -> None:
    twins = [make_job("k", index=index) for index in (0, 1)]
    tool, told = DummyTool(unsat), list[InstanceResult]()
    assert run_jobs(twins, tool, Judge(), store, told.append) == RunOutcome(2, 0, 0, interrupted=False)
    assert tool.batches == [(twins[0],)]
    assert [row.index for row in store.rows()] == [0, 1]
    assert [result.job.index for result in told] == [0, 1]

    late = make_job("k", variant="copy", index=9)
    assert run_jobs([late], tool, Judge(), store) == RunOutcome(0, 1, 0, interrupted=False)
    assert len(tool.batches) == 1
    assert [(row.variant, row.index) for row in store.rows()] == [("baseline", 0), ("baseline", 1), ("copy", 9)]


def test_no_jobs_ask_no_tool(store: Store) -> None:
    tool = DummyTool(unsat)
    assert run_jobs([], tool, Judge(), store) == RunOutcome(0, 0, 0, interrupted=False)
    assert tool.batches == []


def raises_at_once(jobs: Sequence[Job]) -> Iterator[Answered]:
    raise RuntimeError("no licence")


def raises_after_one(jobs: Sequence[Job]) -> Iterator[Answered]:
    yield Answered(jobs[0], unsat(jobs[0]))
    raise RuntimeError("no licence")


def stops_after_one(jobs: Sequence[Job]) -> Iterator[Answered]:
    yield Answered(jobs[0], unsat(jobs[0]))


def answers_twice(jobs: Sequence[Job]) -> Iterator[Answered]:
    yield Answered(jobs[0], unsat(jobs[0]))
    yield Answered(jobs[0], ToolAnswer(Verdict.SAT, 0, 0))


def is_no_tool(jobs: Sequence[Job]) -> Any:
    return 42


def yields_no_answers(jobs: Sequence[Job]) -> Iterator[Any]:
    yield "unsat"


def answers_nonsense(jobs: Sequence[Job]) -> Iterator[Any]:
    yield jobs[0], unsat(jobs[0])
    yield jobs[1], "unsat"


def returns_a_list(jobs: Sequence[Job]) -> Any:
    return [Answered(jobs[0], unsat(jobs[0]))]


@pytest.mark.parametrize(
    ("decide", "first", "reason"),
    [
        (raises_at_once, Verdict.ERROR, "RuntimeError: no licence"),
        (raises_after_one, Verdict.UNSAT, "RuntimeError: no licence"),
        (stops_after_one, Verdict.UNSAT, "ended without an answer"),
        (answers_twice, Verdict.UNSAT, "ended without an answer"),
        (is_no_tool, Verdict.ERROR, "not iterable"),
        (yields_no_answers, Verdict.ERROR, "the tool failed"),
        (answers_nonsense, Verdict.UNSAT, "cannot be judged"),
        (returns_a_list, Verdict.UNSAT, "ended without an answer"),
    ],
)
def test_a_tool_that_breaks_its_contract_costs_only_the_jobs_it_did_not_answer(
    store: Store, make_job: MakeJob, decide: Callable[[Sequence[Job]], Any], first: Verdict, reason: str
) -> None:
    jobs = [make_job("a"), make_job("b"), make_job("other", variant="other network")]
    run_jobs(jobs, OddTool(decide), Judge(), store)
    found = {row.key: row for row in store.rows()}
    assert found["a"].verdict is first
    assert found["b"].verdict is Verdict.ERROR
    assert reason in found["b"].message
    assert "other" in found, "the next network is still tried"


def test_answers_for_jobs_that_were_not_given_count_for_nothing(store: Store, make_job: MakeJob) -> None:
    jobs, stranger = [make_job("a")], make_job("stranger")

    def decide(given: Sequence[Job]) -> Iterator[Answered]:
        yield Answered(stranger, unsat(stranger))
        yield Answered(given[0], unsat(given[0]))

    run_jobs(jobs, OddTool(decide), Judge(), store)
    assert verdicts(store) == {"a": Verdict.UNSAT}


def test_a_tool_cannot_swap_the_instance_behind_a_key(store: Store, make_job: MakeJob) -> None:
    real, forged = make_job("a", index=0), make_job("a", index=77)
    run_jobs([real], OddTool(lambda _: iter([Answered(forged, unsat(forged))])), Judge(), store)
    assert [row.index for row in store.rows()] == [0]


def test_a_false_counterexample_is_an_error_of_its_row(store: Store, make_job: MakeJob) -> None:
    lie = ToolAnswer(Verdict.SAT, 1, 1, Stage.ATTACK, Counterexample(np.zeros(2, np.float32)))
    outcome = run_jobs([make_job("a")], DummyTool(lambda _: lie), Judge(), store)
    assert outcome.errors == 1
    (row,) = store.rows()
    assert (row.verdict, row.tool_verdict) == (Verdict.ERROR, Verdict.SAT)
    assert "unsupported" in row.message  # there is no such network to replay it on


class Closing(OddTool):
    """Answers everything, and remembers whether it was let go properly."""

    closed = False

    def __init__(self) -> None:
        super().__init__(self._answers)

    def _answers(self, jobs: Sequence[Job]) -> Iterator[Answered]:
        try:
            for job in jobs:
                if job.key == "interrupt":
                    raise KeyboardInterrupt
                yield Answered(job, unsat(job))
        finally:
            self.closed = True


def test_asking_to_stop_keeps_what_is_decided_and_ends_the_tool(store: Store, make_job: MakeJob) -> None:
    tool = Closing()
    jobs = [make_job(key) for key in "abcd"]
    outcome = run_jobs(jobs, tool, Judge(), store, should_stop=lambda: len(store.rows()) == 2)
    assert outcome == RunOutcome(2, 0, 0, interrupted=True)
    assert set(verdicts(store)) == {"a", "b"}
    assert tool.closed


def test_asking_to_stop_at_once_asks_no_tool(store: Store, make_job: MakeJob) -> None:
    tool = DummyTool(unsat)
    assert run_jobs([make_job()], tool, Judge(), store, should_stop=lambda: True).interrupted
    assert tool.batches == []


def test_asking_to_stop_after_the_last_job_interrupts_nothing(store: Store, make_job: MakeJob) -> None:
    outcome = run_jobs([make_job()], DummyTool(unsat), Judge(), store, should_stop=lambda: bool(store.rows()))
    assert not outcome.interrupted


def test_an_interruption_in_the_tool_keeps_what_is_decided(store: Store, make_job: MakeJob) -> None:
    tool = Closing()
    outcome = run_jobs([make_job(key) for key in ("a", "interrupt", "c")], tool, Judge(), store)
    assert outcome == RunOutcome(1, 0, 0, interrupted=True)
    assert set(verdicts(store)) == {"a"}
    assert tool.closed


def test_an_interruption_while_results_are_told_keeps_them_and_ends_the_tool(store: Store, make_job: MakeJob) -> None:
    def told(_: InstanceResult) -> None:
        raise KeyboardInterrupt

    tool = Closing()
    assert run_jobs([make_job("a"), make_job("b")], tool, Judge(), store, told).interrupted
    assert set(verdicts(store)) == {"a"}
    assert tool.closed


def test_an_interruption_while_the_last_result_is_stored_leaves_its_job_open(
    store: Store, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "add", interrupted)
    assert run_jobs([make_job("a")], DummyTool(unsat), Judge(), store) == RunOutcome(0, 0, 0, interrupted=True)


def test_a_store_that_cannot_be_written_ends_the_run_and_the_tool(
    store: Store, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> bool:
        raise UsageError("disk full")

    monkeypatch.setattr(store, "add", full)
    tool = Closing()
    with pytest.raises(UsageError, match="disk full"):
        run_jobs([make_job("a"), make_job("b")], tool, Judge(), store)
    assert tool.closed
