"""Result sets and their denominators (thesis, section 4.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from harness.analysis.table import ResultRow
from harness.domain import ResultSet, Stage

SET_ORDER: tuple[ResultSet, ...] = (ResultSet.SK, ResultSet.AT, ResultSet.VS, ResultSet.VF)
"""The order of rows and columns wherever sets are listed."""

STAGE_ORDER: tuple[Stage, ...] = (Stage.CLEAN, Stage.ATTACK, Stage.INCOMPLETE, Stage.BAB)
"""The order in which an instance passes the stages."""

UNSTATED = "unstated"
"""Key of decided results whose tool does not say which stage decided."""


def set_sizes(rows: Iterable[ResultRow]) -> dict[str, int]:
    """Returns the size of each set in `SET_ORDER`, empty ones included; they add up to the number of rows."""
    counts = Counter(row.result_set for row in rows)
    return {name.value: counts[name] for name in SET_ORDER}


def stage_counts(rows: Iterable[ResultRow]) -> dict[str, int]:
    """Returns how many results each stage decided, in `STAGE_ORDER`, then `UNSTATED`.

    Only sat and unsat count as decided, so the counts add up to the number of rows less the set VF.
    """
    counts = Counter(row.stage for row in rows if row.decided)
    return {stage.value: counts[stage] for stage in STAGE_ORDER} | {UNSTATED: counts[None]}
