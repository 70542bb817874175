"""Which stage decided, with what outcome and in what time; and how many inputs were decided within a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness.analysis.sets import SET_ORDER, STAGE_ORDER, UNSTATED, set_sizes
from harness.analysis.table import ResultRow
from harness.domain import ResultSet, Stage

UNDECIDED = "undecided"
"""Key of results that no stage decided: the set VF."""


@dataclass(frozen=True, slots=True)
class StageRow:
    """What one stage decided of one network's inputs."""

    stage: str
    """A stage, `UNSTATED` or `UNDECIDED`."""
    sets: dict[str, int]
    """Result set to inputs, in `SET_ORDER`."""
    work_s: float
    """Seconds that these inputs took in all stages."""
    domains: int
    """Domains that they visited."""

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return sum(self.sets.values())

    def to_json(self) -> dict[str, Any]:
        """Returns the row as JSON values."""
        return {"inputs": self.inputs, "sets": dict(self.sets), "work_s": self.work_s, "domains": self.domains}


def stage_table(rows: Sequence[ResultRow]) -> tuple[StageRow, ...]:
    """Returns a row for each stage in its order, then `UNSTATED` and `UNDECIDED`; empty ones are included.

    Every result is in one of them, so the counts add up to the number of rows.

    Args:
        rows: the results of one network.
    """
    groups: dict[str, list[ResultRow]] = {name: [] for name in (*STAGE_ORDER, UNSTATED, UNDECIDED)}
    for row in rows:
        groups[UNDECIDED if not row.decided else UNSTATED if row.stage is None else row.stage].append(row)
    return tuple(
        StageRow(str(name), set_sizes(own), sum(row.work_s for row in own), sum(row.domains for row in own))
        for name, own in groups.items()
    )


@dataclass(frozen=True, slots=True)
class TimeStatistics:
    """Seconds that a group of inputs took, summed up."""

    n: int
    total: float
    mean: float
    median: float
    p90: float
    """The 90th percentile, interpolated linearly."""
    max: float

    def to_json(self) -> dict[str, Any]:
        """Returns the figures as JSON values, unrounded."""
        return asdict(self)


def time_statistics(seconds: Iterable[float]) -> TimeStatistics | None:
    """Returns the statistics of measured seconds; None of none."""
    values = np.fromiter(seconds, np.float64)
    if not values.size:
        return None
    median, p90 = np.percentile(values, (50, 90))
    return TimeStatistics(
        int(values.size), float(values.sum()), float(values.mean()), float(median), float(p90), float(values.max())
    )


ASKED = "asked"
"""Key of the inputs that a tool was asked for: all but the misclassified ones."""
VERIFIED_OR_FAILED = "VS+VF"
"""Key of the inputs that the attack left to the verifier; the thesis' mean times are over these."""


def times_by_set(rows: Iterable[ResultRow], clock: str = "work") -> dict[str, TimeStatistics | None]:
    """Returns the time statistics of one network's inputs: `ASKED`, then AT, VS, VF and `VERIFIED_OR_FAILED`.

    Misclassified inputs take no tool's time and are in none. Where the source has no times (all are 0), and of empty
    groups, there are no statistics.

    Args:
        rows: the results of one network.
        clock: `work` for `work_s`, `wall` for `wall_s`.
    """
    asked = [row for row in rows if row.result_set is not ResultSet.SK]
    if not any(_seconds(row, clock) for row in asked):
        asked = []
    attacked, verified, failed = (
        [row for row in asked if row.result_set is name] for name in SET_ORDER if name is not ResultSet.SK
    )
    groups = {
        ASKED: asked,
        ResultSet.AT.value: attacked,
        ResultSet.VS.value: verified,
        ResultSet.VF.value: failed,
        VERIFIED_OR_FAILED: verified + failed,
    }
    return {name: time_statistics(_seconds(row, clock) for row in own) for name, own in groups.items()}


def decided_over_time(rows: Iterable[ResultRow], clock: str = "work") -> tuple[float, ...]:
    """Returns the seconds after which each decided input was decided, ascending: the k-th is when k inputs were.

    Misclassified inputs are left out: nothing had to be decided. This is the curve of a cactus or survival plot.

    Args:
        rows: the results of one network.
        clock: `work` for `work_s`, `wall` for `wall_s`.
    """
    return tuple(sorted(_seconds(row, clock) for row in rows if row.decided and row.stage is not Stage.CLEAN))


def _seconds(row: ResultRow, clock: str) -> float:
    if clock not in ("work", "wall"):
        raise ValueError(f"there is no clock '{clock}'; use work or wall")
    return row.wall_s if clock == "wall" else row.work_s
