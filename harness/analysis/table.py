"""The one table that analysis works on: a row for each judged result.

Everything in this package is a pure function of such rows. Only `rows_from_store` and `rows_from_published` know where
rows come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.domain import DECIDED, ResultSet, Stage, UsageError, Verdict
from harness.domain import result_set as classify
from harness.formats.published import PublishedRun, PublishedTimes, read_published, read_published_times
from harness.run.stored import StoredResult


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One input of one network and what is held to be true of it."""

    variant: str
    """Which network of the benchmark."""
    index: int
    """Position of the test input in its data set."""
    verdict: Verdict
    """The judged verdict."""
    stage: Stage | None = None
    """The deciding stage; None where nothing was decided or the tool does not say."""
    wall_s: float = 0.0
    """Seconds from handing the instance over to its answer."""
    work_s: float = 0.0
    """Seconds: the instance's share of the batches it sat in."""
    domains: int = 0
    """Branch-and-bound domains visited."""
    entered_bab: bool = False
    """Whether root bounds left the instance open."""
    neurons: int = 0
    """Activation neurons of the network, grafted ones included; 0 where the tool does not say."""
    unstable: int | None = None
    """Neurons unstable at the root, grafted ones included; None where no mask was recorded."""
    unstable_nonlinear: int | None = None
    """The same without grafted neurons; None where no mask was recorded."""
    message: str = ""
    """Why the verdict is unknown or error; else empty."""

    @property
    def result_set(self) -> ResultSet:
        """The result set that the row falls into."""
        return classify(self.verdict, self.stage)

    @property
    def decided(self) -> bool:
        """Whether the verdict is sat or unsat."""
        return self.verdict in DECIDED


def by_variant(rows: Iterable[ResultRow]) -> dict[str, dict[int, ResultRow]]:
    """Returns variant to input index to row, both in the order of first appearance.

    Raises:
        ValueError: an input of a variant has two rows; which one holds is for the caller to say.
    """
    table: dict[str, dict[int, ResultRow]] = {}
    for row in rows:
        of_variant = table.setdefault(row.variant, {})
        if row.index in of_variant:
            raise ValueError(f"input {row.index} of '{row.variant}' has two results")
        of_variant[row.index] = row
    return table


def rows_from_store(results: Iterable[StoredResult]) -> list[ResultRow]:
    """Returns one row for each variant and input, ordered by variant and index.

    Where an input has results under several job keys (a run resumed with other limits), the one finished last holds;
    pass `Store.rows(places)` with the planned places to choose otherwise.
    """
    latest: dict[tuple[str, int], StoredResult] = {}
    for result in results:
        place = (result.variant, result.index)
        if place not in latest or latest[place].finished_at <= result.finished_at:
            latest[place] = result
    return [_row_from_result(latest[place]) for place in sorted(latest)]


def _row_from_result(result: StoredResult) -> ResultRow:
    return ResultRow(
        result.variant,
        result.index,
        result.verdict,
        result.stage,
        result.wall_s,
        result.work_s,
        result.domains,
        result.entered_bab,
        result.neurons,
        result.unstable,
        result.unstable_nonlinear,
        result.message,
    )


_PUBLISHED_LISTS: Mapping[str, tuple[Verdict, Stage | None]] = {
    "skipped_examples": (Verdict.SAT, Stage.CLEAN),
    "attack_successes": (Verdict.SAT, Stage.ATTACK),
    "verification_success": (Verdict.UNSAT, None),
    "verification_failure": (Verdict.UNKNOWN, None),
}


def rows_from_published(path: Path, times: Path | None = None, *, attack_time: bool = True) -> list[ResultRow]:
    """Returns the rows of a published run in the thesis' form: index lists for `Baseline` and `Grafted`.

    Rows come in the order of their index, `baseline` before `grafted`. The file names the deciding stage of verified
    inputs only; without `times`, times and domains are unknown and stay 0.

    Args:
        path: the index lists as JSON.
        times: the verifier's rows as npz, for seconds and domains. Both clocks get the same seconds: images were
            taken one after the other.
        attack_time: whether the attack's seconds count; the thesis' means leave them out.

    Raises:
        UsageError: a file is missing or has another form.
    """
    taken = {} if times is None else read_published_times(times)
    rows: list[ResultRow] = []
    for name, run in read_published(path).items():
        variant = name.lower()
        try:
            rows += _published_variant(variant, run, taken.get(variant, {}), attack_time)
        except ValueError as error:
            raise UsageError(f"{path}: not a published result file ({error}); use incomplete or bab") from error
    return rows


def _published_variant(
    variant: str, run: PublishedRun, times: Mapping[int, PublishedTimes], attack_time: bool
) -> list[ResultRow]:
    rows = []
    for name, (verdict, stage) in _PUBLISHED_LISTS.items():
        for index in run.lists[name]:
            decided_by = Stage(run.stages[index]) if index in run.stages else stage
            took = times.get(index, PublishedTimes())
            seconds = took.verifier_s + (took.attack_s if attack_time else 0.0)
            rows.append(
                ResultRow(variant, index, verdict, decided_by, seconds, seconds, took.domains, took.entered_bab)
            )
    return sorted(rows, key=lambda row: row.index)
