"""The scheduler: jobs in, judged and stored results out, whatever the tool does and wherever it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from harness.domain import InstanceResult, Job, ToolAnswer, Verdict
from harness.judging.judge import Judge, one_line
from harness.run.executors import Executor, ExecutorLostError, LocalExecutor
from harness.run.store import Store
from harness.tools.contract import Tool

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a call of `run_jobs` ended; each job counts once."""

    done: int
    """Results stored by this call, errors among them."""
    skipped_finished: int
    """Jobs that had a final result before."""
    errors: int
    """Results of this call whose verdict is `error`; a resumed run tries them again."""
    interrupted: bool
    """Whether jobs were left undecided: somebody asked to stop, or the executor was lost."""


def run_jobs(
    jobs: Sequence[Job],
    tool: Tool,
    judge: Judge,
    store: Store,
    on_result: Callable[[InstanceResult], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    executor: Executor | None = None,
) -> RunOutcome:
    """Decides every job that has no final result yet; each answer is judged and stored before the next is awaited.

    A tool that raises, answers for jobs it was not given, answers twice or not at all costs those jobs an `error`,
    never the run. On KeyboardInterrupt, or when `should_stop` says so, the tool's processes are ended and everything
    decided so far is in the store.

    Args:
        jobs: jobs of any networks and limits. Jobs of one key are decided once, and each gets its row.
        tool: decides; a batched tool gets all jobs of one network and one set of limits at once, another one by one.
        judge: turns answers into results.
        store: keeps them; final results in it are not decided again.
        on_result: told of each stored result, in the order of storing.
        should_stop: asked before each result is awaited.
        executor: where the tool is asked; None: from this process.

    Raises:
        UsageError: the store cannot be written.
    """
    finished = store.finished_keys()
    waiting: dict[str, list[Job]] = {}
    skipped = 0
    for job in jobs:
        if job.key in finished:
            store.adopt(job)
            skipped += 1
        else:
            waiting.setdefault(job.key, []).append(job)
    done = errors = 0
    first = [same[0] for same in waiting.values()]
    stop = should_stop or (lambda: False)
    try:
        with closing(_decided(first, tool, judge, executor or LocalExecutor())) as results:
            while waiting and not stop():
                result = next(results)
                own = [replace(result, job=job) for job in waiting[result.job.key]]
                for one in own:
                    store.add(one, tool=tool.name)
                # Only now: an interruption before this line leaves the job open, and the run says so.
                del waiting[result.job.key]
                done += len(own)
                errors += len(own) if result.verdict is Verdict.ERROR else 0
                if on_result is not None:
                    for one in own:
                        on_result(one)
    except KeyboardInterrupt:
        if waiting:
            logger.warning("interrupted; what is decided is kept")
    except ExecutorLostError as error:
        logger.warning("ended with %d jobs open: %s", len(waiting), error)
    return RunOutcome(done, skipped, errors, interrupted=bool(waiting))


def _decided(jobs: Sequence[Job], tool: Tool, judge: Judge, executor: Executor) -> Generator[InstanceResult]:
    with closing(executor.answers(jobs, tool)) as answers:
        for job, answer in answers:
            yield _judged(job, answer, judge)


def _judged(job: Job, answer: ToolAnswer, judge: Judge) -> InstanceResult:
    try:
        return judge.judge(job, answer)
    except Exception as error:
        logger.exception("the answer for %s cannot be judged", job.key)
        message = one_line(f"the answer cannot be judged: {type(error).__name__}: {error}")
        return InstanceResult(job, Verdict.ERROR, None, None, 0.0, 0.0, message=message)
