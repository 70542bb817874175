"""What became of each input when one network took the place of another (thesis, section 4.3.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.analysis.sets import SET_ORDER
from harness.analysis.table import ResultRow, by_variant
from harness.domain import ResultSet


@dataclass(frozen=True, slots=True)
class Transition:
    """Inputs by their set under one network (rows) and under another (columns), in `SET_ORDER`."""

    source: str
    target: str
    matrix: tuple[tuple[int, ...], ...]
    """4 x 4 counts over the inputs that have a result under both networks."""
    only_in_source: tuple[int, ...]
    """Inputs with a result under `source` alone, ascending; they are in no cell of the matrix."""
    only_in_target: tuple[int, ...]
    """Inputs with a result under `target` alone, ascending."""

    @property
    def inputs(self) -> int:
        """Number of inputs in the matrix."""
        return sum(map(sum, self.matrix))

    def count(self, before: ResultSet, after: ResultSet) -> int:
        """Returns how many inputs went from one set to another."""
        return self.matrix[SET_ORDER.index(before)][SET_ORDER.index(after)]

    def discordant(self, which: ResultSet) -> tuple[int, int]:
        """Returns how many inputs left a set and how many entered it: what McNemar's test needs."""
        k = SET_ORDER.index(which)
        row, column = sum(self.matrix[k]), sum(line[k] for line in self.matrix)
        return row - self.matrix[k][k], column - self.matrix[k][k]


def transition(rows: Iterable[ResultRow], source: str, target: str) -> Transition:
    """Returns the transition between two networks of the table; a network without rows gives an empty matrix."""
    table = by_variant(rows)
    before, after = table.get(source, {}), table.get(target, {})
    counts = [[0] * len(SET_ORDER) for _ in SET_ORDER]
    for index in before.keys() & after.keys():
        counts[SET_ORDER.index(before[index].result_set)][SET_ORDER.index(after[index].result_set)] += 1
    return Transition(
        source,
        target,
        tuple(map(tuple, counts)),
        tuple(sorted(before.keys() - after.keys())),
        tuple(sorted(after.keys() - before.keys())),
    )
