"""The four subset hypotheses on what grafting does to the result sets (thesis, section 4.3), each with its exceptions.

Ideally a grafted network only gains: what was verified stays verified, and what it cannot verify could not be verified
before either. How far that holds is one share for each set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.analysis.sets import SET_ORDER
from harness.analysis.statistics import Share, wilson
from harness.analysis.table import ResultRow, by_variant
from harness.domain import ResultSet


@dataclass(frozen=True, slots=True)
class SubsetHypothesis:
    """That all inputs of a set under one network are in the same set under another, and how many really are."""

    which: ResultSet
    """The set, under both networks."""
    part: str
    """The network whose set should be the part."""
    whole: str
    """The network whose set should be the whole."""
    size: int
    """Inputs in the set under `part`; the denominator of the thesis' percentage."""
    whole_size: int
    """Inputs in the set under `whole`."""
    inside: int
    """Inputs in the set under both."""
    elsewhere: tuple[int, ...]
    """Of the part, inputs by the set they are in under `whole`, in `SET_ORDER`; the set itself counts `inside`."""
    exceptions: tuple[int, ...]
    """Inputs of the part that are in another set under `whole`, ascending."""
    unrecorded: tuple[int, ...]
    """Inputs of the part without a result under `whole`: neither inside nor an exception."""

    @property
    def holds(self) -> bool:
        """Whether there is no exception, of at least one input with both results."""
        return not self.exceptions and self.inside > 0

    @property
    def percent(self) -> float | None:
        """Inside, in percent of the whole part, as the thesis states it; None of an empty part."""
        return Share(self.inside, self.size).percent

    @property
    def percent_recorded(self) -> float | None:
        """Inside, in percent of those inputs of the part that have a result under both networks."""
        return Share(self.inside, self.recorded).percent

    @property
    def percent_of_whole(self) -> float | None:
        """Inside, in percent of the set under `whole`; None where that is empty."""
        return Share(self.inside, self.whole_size).percent

    @property
    def recorded(self) -> int:
        """Inputs of the part that have a result under both networks."""
        return self.size - len(self.unrecorded)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of `percent_recorded`; None where no input of the part has both results."""
        return wilson(self.inside, self.recorded) if self.recorded else None

    @property
    def elsewhere_by_set(self) -> dict[str, int]:
        """`elsewhere` by the name of the set."""
        return {name.value: n for name, n in zip(SET_ORDER, self.elsewhere, strict=True)}

    def to_json(self) -> dict[str, Any]:
        """Returns the hypothesis as JSON values; percentages are unrounded, the interval is Wilson's of `recorded`."""
        return {
            "set": self.which.value,
            "part": self.part,
            "whole": self.whole,
            "size": self.size,
            "whole_size": self.whole_size,
            "inside": self.inside,
            "percent": self.percent,
            "percent_recorded": self.percent_recorded,
            "percent_of_whole": self.percent_of_whole,
            "interval": None if self.interval is None else list(self.interval),
            "holds": self.holds,
            "elsewhere": self.elsewhere_by_set,
            "exceptions": list(self.exceptions),
            "unrecorded": list(self.unrecorded),
        }


def subset_hypotheses(rows: Iterable[ResultRow], source: str, target: str) -> tuple[SubsetHypothesis, ...]:
    """Returns the thesis' four hypotheses in `SET_ORDER`, grafted sets written with g.

    SK within SKg, AT within ATg, VS within VSg, and the other way round for failures: VFg within VF.

    Args:
        rows: at most one row for each variant and input.
        source: the network before grafting.
        target: the grafted network.
    """
    table = by_variant(rows)
    before, after = ({i: row.result_set for i, row in table.get(name, {}).items()} for name in (source, target))
    found = []
    for which in SET_ORDER:
        backwards = which is ResultSet.VF
        part, whole = (after, before) if backwards else (before, after)
        names = (target, source) if backwards else (source, target)
        found.append(_hypothesis(which, *names, part, whole))
    return tuple(found)


def _hypothesis(
    which: ResultSet, part: str, whole: str, sets: dict[int, ResultSet], others: dict[int, ResultSet]
) -> SubsetHypothesis:
    inputs = sorted(index for index, name in sets.items() if name is which)
    recorded = [index for index in inputs if index in others]
    counts = Counter(others[index] for index in recorded)
    return SubsetHypothesis(
        which,
        part,
        whole,
        len(inputs),
        sum(name is which for name in others.values()),
        counts[which],
        tuple(counts[name] for name in SET_ORDER),
        tuple(index for index in recorded if others[index] is not which),
        tuple(index for index in inputs if index not in others),
    )
