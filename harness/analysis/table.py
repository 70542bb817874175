"""The one table that analysis works on: a row for each judged result.

Everything in this package is a pure function of such rows. Only `rows_from_store` and `rows_from_published` know where
rows come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.domain import ResultSet, Stage, UsageError, Verdict
from harness.domain import result_set as classify
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
        return self.verdict in (Verdict.SAT, Verdict.UNSAT)


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


def rows_from_published(path: Path) -> list[ResultRow]:
    """Returns the rows of a published run in the thesis' form: index lists for `Baseline` and `Grafted`.

    Rows come in the order of their index, `baseline` before `grafted`. The files name the deciding stage of verified
    inputs only; times and domains are not in them and stay 0.

    Raises:
        UsageError: the file is missing or has another form.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        rows: list[ResultRow] = []
        for variant, lists in raw["status_lists"].items():
            stages = {
                int(index): Stage(stage)
                for stage, indices in raw["stage_that_verified"][variant].items()
                for index in indices
            }
            rows += _published_variant(variant.lower(), lists, stages)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: not a published result file ({type(error).__name__}: {error}); "
            "expected JSON with status_lists and stage_that_verified"
        ) from error
    return rows


def _published_variant(
    variant: str, lists: Mapping[str, Sequence[int]], stages: Mapping[int, Stage]
) -> list[ResultRow]:
    rows = [
        ResultRow(variant, int(index), verdict, stages.get(int(index), stage))
        for name, (verdict, stage) in _PUBLISHED_LISTS.items()
        for index in lists[name]
    ]
    return sorted(rows, key=lambda row: row.index)
