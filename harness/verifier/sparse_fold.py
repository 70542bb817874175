"""Folding by compiled passes: from the bounds of a sparse network over one box to its folded network."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from harness.verifier.fold import RHS_ROUNDING, FoldedNetwork, SparseColumns, SparseRows
from harness.verifier.kernels import passes
from harness.verifier.kernels.contract import LANES
from harness.verifier.kernels.passes import Array, Entries
from harness.verifier.patience import tick
from harness.verifier.sparse_bounds import SparseBounds, neighbours_together, scratch


@dataclass(slots=True, eq=False)
class _Folder:
    """Collects folded rows; makes room for their entries as they come."""

    found: SparseBounds
    place: Array
    """`(columns,)` int32: column of the folded network; -1 for what folding removes."""
    entries: Entries = field(default_factory=lambda: Entries(np.empty(1 << 16, np.int32), np.empty(1 << 16)))
    end: int = 0
    lengths: list[Array] = field(default_factory=list)
    constants: list[Array] = field(default_factory=list)
    slacks: list[Array] = field(default_factory=list)

    def rows(self, rows: Array) -> None:
        """Folds pre-activations, 32 at a time."""
        nothing = np.zeros((0, len(self.found.network.output)))
        for first in range(0, len(rows), LANES):
            self._block(rows[first : first + LANES], nothing)

    def margins(self, C: Array) -> None:
        """Folds margins `C y`."""
        for first in range(0, len(C), LANES):
            self._block(np.zeros(0, np.int64), C[first : first + LANES])

    def _block(self, rows: Array, C: Array) -> None:
        tick()
        found, net, count = self.found, self.found.network, len(rows) + len(C)
        stopped = np.empty(len(self.place), np.int64)
        constant, slack = np.empty(LANES), np.empty(LANES)
        starts = np.full(count + 1, self.end)
        while True:
            end = passes.fold_block(
                rows, C, net.output, found.matrix, found.state, net.inputs, self.place, scratch(net), stopped,
                self.entries, self.end, starts, constant, slack,
            )  # fmt: skip
            if end >= 0:
                break
            self.entries = Entries(*(np.concatenate([a, np.empty_like(a)]) for a in self.entries))
        self.end = end
        self.lengths.append(np.diff(starts))
        self.constants.append(constant[:count].copy())
        self.slacks.append(slack[:count].copy())


def fold_sparse(found: SparseBounds, C: Array, rhs: Array) -> FoldedNetwork:
    """Returns the network of one box over its unstable neurons, with the margins `C y - rhs`.

    Args:
        found: bounds over the box.
        C: `(margins, outputs)` float64.
        rhs: `(margins,)`.
    """
    net = found.network
    unstable = found.unstable()
    place = np.full(net.inputs + net.rows, -1, np.int32)
    place[: net.inputs] = np.arange(net.inputs)
    place[net.inputs + unstable] = net.inputs + np.arange(len(unstable))
    folder = _Folder(found, place)
    order = _processing_order(found, unstable)
    folder.rows(order)
    folder.margins(np.ascontiguousarray(C, np.float64))
    back = np.empty(len(unstable) + len(C), np.int64)
    back[place[net.inputs + order] - net.inputs] = np.arange(len(order))
    back[len(order) :] = np.arange(len(order), len(back))
    return _assembled(found, folder, back, unstable, rhs + found.summing(C) + RHS_ROUNDING * np.abs(rhs))


def _processing_order(found: SparseBounds, unstable: Array) -> Array:
    """Returns the unstable rows, layer by layer, neighbours together."""
    parts = [np.zeros(0, np.int64)]
    for first, last, activation in found.network.segments:
        if activation is not None:
            parts.append(neighbours_together(found, unstable[(unstable >= first) & (unstable < last)]))
    return np.concatenate(parts)


def _assembled(found: SparseBounds, folder: _Folder, back: Array, unstable: Array, least: Array) -> FoldedNetwork:
    """Puts the folded rows into the network's order, by rows and by columns; `least`: what margins have to exceed."""
    net, n = found.network, len(unstable)
    length, constant, slack = (
        np.concatenate(a) if a else np.zeros(0) for a in (folder.lengths, folder.constants, folder.slacks)
    )
    begin = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    start = np.concatenate([[0], np.cumsum(length[back])]).astype(np.int64)
    column, value = np.empty(folder.end, np.int32), np.empty(folder.end)
    passes.reorder(begin, back, folder.entries, start, column, value)
    width = net.inputs + n
    new_start, row, new_value = np.zeros(width + 1, np.int64), np.empty(folder.end, np.int32), np.empty(folder.end)
    passes.transpose(start, column, value, width, new_start, row, new_value)
    hidden = start[n]
    margins = len(back) - n
    C = np.zeros((width, margins))
    for s in range(margins):
        part = slice(start[n + s], start[n + s + 1])
        C[column[part], s] = value[part]
    constant, slack = constant[back], slack[back]
    ends = [int(np.searchsorted(unstable, s.last)) for s in net.segments if s.activation is not None]
    return FoldedNetwork(
        net.inputs,
        constant[:n],
        SparseRows(start[: n + 1], column[:hidden], value[:hidden]),
        SparseColumns(new_start, row, new_value),
        slack[:n],
        constant[n:] - slack[n:] - least,
        C,
        found.lb[unstable],
        found.ub[unstable],
        np.array([0, *ends], np.int64),
    )
