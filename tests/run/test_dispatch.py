from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from harness.domain import Job, ToolAnswer, Verdict
from harness.run.dispatch import MAX_LOSSES, Chunk, ChunkSizes, Dispatch
from harness.tools.contract import Answered

MakeJob = Callable[..., Job]
UNSAT, ERROR = ToolAnswer(Verdict.UNSAT, 1.0, 1.0), ToolAnswer(Verdict.ERROR, 1.0, 1.0, message="broken")


def jobs_of(make_job: MakeJob, **counts: int) -> list[Job]:
    return [make_job(f"{name}{k}", variant=name, index=k) for name, count in counts.items() for k in range(count)]


def keys(chunk: Chunk | None) -> list[str]:
    assert chunk is not None
    return [job.key for job in chunk.jobs]


@pytest.mark.parametrize(
    ("waiting", "workers", "size"), [(1000, 4, 32), (96, 4, 8), (90, 4, 8), (12, 4, 2), (1, 4, 2), (100, 0, 32)]
)
def test_chunks_shrink_as_less_is_left(waiting: int, workers: int, size: int) -> None:
    assert ChunkSizes(least=2, most=32, rounds=3).size(waiting, workers) == size


@pytest.mark.parametrize("sizes", [(0, 4, 3), (5, 4, 3), (1, 4, 0)])
def test_impossible_sizes_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="no chunk sizes"):
        ChunkSizes(*sizes)


def test_a_chunk_is_of_one_network_and_networks_come_one_after_the_other(make_job: MakeJob) -> None:
    jobs = jobs_of(make_job, x=3, y=3)
    mixed = [job for pair in zip(jobs[:3], jobs[3:], strict=True) for job in pair]
    dispatch = Dispatch(mixed, batched=True, sizes=ChunkSizes(2, 2))
    taken = [keys(dispatch.take(1, 0.0)) for _ in range(4)]
    assert taken == [["x0", "x1"], ["x2"], ["y0", "y1"], ["y2"]]
    assert (dispatch.waiting, dispatch.open) == (0, 6)


def test_answers_count_once_and_only_those_of_the_chunk(make_job: MakeJob) -> None:
    jobs = jobs_of(make_job, x=2)
    dispatch = Dispatch(jobs, batched=True)
    chunk = dispatch.take(1, 0.0)
    assert chunk is not None
    assert dispatch.answered(chunk, "x0", UNSAT) == Answered(jobs[0], UNSAT)
    assert dispatch.answered(chunk, "x0", ERROR) is None
    assert dispatch.answered(chunk, "stranger", UNSAT) is None
    assert dispatch.open == 1


def test_a_lost_workers_jobs_go_first_then_alone_then_to_an_error(make_job: MakeJob) -> None:
    dispatch = Dispatch(jobs_of(make_job, x=4), batched=True, sizes=ChunkSizes(2, 2))
    attempts = []
    for _ in range(MAX_LOSSES):
        chunk = dispatch.take(1, 0.0)
        attempts.append(keys(chunk))
        found = dispatch.ended(chunk, "the node is gone") if chunk is not None else []
        if len(chunk.jobs if chunk else ()) == 1 and len(attempts) == 3:
            # The other job of the pair is alone as well.
            other = dispatch.take(1, 0.0)
            assert keys(other) == ["x1"]
            assert other is not None
            assert dispatch.answered(other, "x1", UNSAT) is not None
    assert attempts == [["x0", "x1"], ["x0", "x1"], ["x0"], ["x0"]]
    ((job, answer),) = found
    assert (job.key, answer.verdict) == ("x0", Verdict.ERROR)
    assert answer.message == "its worker was lost 4 times, the last: the node is gone"
    assert keys(dispatch.take(1, 0.0)) == ["x2", "x3"], "the others are not held responsible"


def test_what_was_answered_before_a_worker_was_lost_stays(make_job: MakeJob) -> None:
    dispatch = Dispatch(jobs_of(make_job, x=2), batched=True)
    chunk = dispatch.take(1, 0.0)
    assert chunk is not None
    dispatch.answered(chunk, "x0", UNSAT)
    assert dispatch.ended(chunk, "gone") == []
    assert keys(dispatch.take(1, 0.0)) == ["x1"]
    assert dispatch.answered(chunk, "x1", UNSAT) is None, "a lost worker's late word counts for nothing"


def test_idle_workers_get_copies_of_what_is_late_once_nothing_waits(make_job: MakeJob) -> None:
    jobs = jobs_of(make_job, x=4)
    dispatch = Dispatch(jobs, batched=True, sizes=ChunkSizes(4, 4), copy_after_s=10.0)
    slow = dispatch.take(2, 0.0)
    assert slow is not None
    assert dispatch.take(2, 9.0) is None, "it has only begun"
    copy = dispatch.take(2, 11.0)
    assert keys(copy) == ["x2", "x3"]
    assert copy is not None
    assert copy.copies
    assert keys(dispatch.take(2, 11.0)) == ["x1"]
    assert keys(dispatch.take(2, 11.0)) == ["x0"]
    assert dispatch.take(2, 11.0) is None, "each job runs twice at most"
    assert dispatch.answered(copy, "x3", UNSAT) == Answered(jobs[3], UNSAT)
    assert dispatch.answered(slow, "x3", ERROR) is None
    assert dispatch.answered(slow, "x2", UNSAT) is not None
    assert not dispatch.is_needed(copy)
    assert dispatch.is_needed(slow)


def test_a_worker_that_has_answered_all_is_not_dismissed(make_job: MakeJob) -> None:
    dispatch = Dispatch(jobs_of(make_job, x=4), batched=True, sizes=ChunkSizes(2, 2))
    chunk = dispatch.take(1, 0.0)
    assert chunk is not None
    for key in keys(chunk):
        dispatch.answered(chunk, key, UNSAT)
    assert dispatch.is_needed(chunk), "it only has to say that it is free for the next chunk"
    assert dispatch.ended(chunk, "") == []
    assert not dispatch.is_needed(chunk)


def test_an_error_waits_for_the_other_copy(make_job: MakeJob) -> None:
    jobs = jobs_of(make_job, x=2)
    dispatch = Dispatch(jobs, batched=True, copy_after_s=0.0)
    first = dispatch.take(2, 0.0)
    second, third = dispatch.take(2, 1.0), dispatch.take(2, 1.0)
    assert first is not None
    assert second is not None
    assert third is not None
    assert (keys(second), keys(third)) == (["x1"], ["x0"])
    assert dispatch.answered(first, "x1", ERROR) is None
    assert dispatch.answered(second, "x1", UNSAT) == Answered(jobs[1], UNSAT)
    assert dispatch.answered(third, "x0", ERROR) is None
    assert dispatch.ended(first, "gone") == [Answered(jobs[0], ERROR)], "the only word there is"
    assert dispatch.open == 0


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_each_job_is_decided_exactly_once(make_job: MakeJob, seed: int) -> None:
    """Workers that are slow, break or answer nonsense, in random order."""
    rng = random.Random(seed)
    jobs = jobs_of(make_job, x=rng.randrange(1, 60), y=rng.randrange(0, 40))
    dispatch = Dispatch(jobs, batched=bool(seed % 2), copy_after_s=3.0)
    running: list[Chunk] = []
    decided: Counter[str] = Counter()
    for now in range(100_000):
        if not dispatch.open:
            break
        if len(running) < 4 and (chunk := dispatch.take(4, float(now))) is not None:
            running.append(chunk)
            continue
        chunk = rng.choice(running)
        event = rng.random()
        if event < 0.1 or not dispatch.is_needed(chunk):
            running.remove(chunk)
            decided.update(found.job.key for found in dispatch.ended(chunk, "gone"))
        else:
            said = dispatch.answered(chunk, rng.choice(chunk.jobs).key, ERROR if event < 0.3 else UNSAT)
            decided.update([said.job.key] if said is not None else [])
    assert decided == {job.key: 1 for job in jobs}
