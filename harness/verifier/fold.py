"""One input's network, reduced to its unstable neurons.

Over one box every stable or grafted neuron is affine, so the network is determined by the input t in [-1, 1]^d and the
post-activations h of its unstable neurons:

    z = E + M [t; h] +- slack     pre-activations of the unstable neurons, M strictly lower block triangular and sparse
    m = e + C [t; h]              the margins

Folding is exact (up to float64 rounding): the same backward pass as CROWN's, except that it stops at unstable neurons.
The slack is what an evaluation in floating point may round; the margins' own is subtracted from e
(docs/design/003-rounding.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.verifier.backward import Passed, Rule, element_rows, row_chunk, to_input
from harness.verifier.crown import RootBounds, unstable
from harness.verifier.graph import Graph, size
from harness.verifier.patience import tick
from harness.verifier.rows import Rows, sum_rows

RHS_ROUNDING = 2.0**-23
"""Share of a right-hand side that pays for comparing with it in float32."""

Floats = NDArray[np.floating]


class SparseColumns(NamedTuple):
    """A sparse matrix by columns: entries of column c are `start[c]:start[c + 1]`."""

    start: NDArray[np.int64]
    row: NDArray[np.int32]
    value: Floats


class SparseRows(NamedTuple):
    """A sparse matrix by rows: entries of row r are `start[r]:start[r + 1]`."""

    start: NDArray[np.int64]
    column: NDArray[np.int32]
    value: Floats


@dataclass(frozen=True, slots=True, eq=False)
class FoldedNetwork:
    """One input's network over its unstable neurons; all arrays float64."""

    inputs: int
    """d, the length of t."""
    E: Floats
    """`(n,)`."""
    by_row: SparseRows
    """M, `(n, d + n)`."""
    by_column: SparseColumns
    """M with C' under it, `(n + margins, d + n)`: what a backward pass reads."""
    slack: Floats
    """`(n,)`: half-width of the perturbation of z."""
    e: Floats
    """`(margins,)`; right-hand side and slack are subtracted already: a margin is proved when its bound is > 0."""
    C: Floats
    """`(d + n, margins)`: column s is margin s."""
    lb: Floats
    """Lower bounds of z, `(n,)`, all < 0."""
    ub: Floats
    """Upper bounds of z, `(n,)`, all > 0."""
    layer_start: NDArray[np.int64]
    """First unstable neuron of each activation layer, and n at the end."""

    @property
    def neurons(self) -> int:
        """n, the number of unstable neurons."""
        return int(self.E.size)


@dataclass(slots=True, eq=False)
class _Entries:
    """Non-zero entries collected during backward passes."""

    row: list[Tensor] = field(default_factory=list)
    column: list[Tensor] = field(default_factory=list)
    value: list[Tensor] = field(default_factory=list)

    def add(self, rows: Rows, column_of: Tensor, first_row: int) -> None:
        """Keeps the coefficients at elements that have a column.

        Args:
            rows: coefficients of a value.
            column_of: the value's shape with a batch of 1: column + 1 of each element, 0 for none.
            first_row: number of the first row.
        """
        column = rows.gather(column_of)
        position = ((rows.A != 0) & (column > 0)).flatten(1).nonzero(as_tuple=True)
        self.row.append(position[0] + first_row)
        self.column.append(column.reshape(len(rows), -1)[position] - 1)
        self.value.append(rows.A.reshape(len(rows), -1)[position])


class _Folder:
    """Passes rows back to the unstable neurons and the input of one box, collecting what arrives."""

    def __init__(self, graph: Graph, found: RootBounds) -> None:
        if len(found.box) != 1:
            raise ValueError("a folded network is of one box")
        self.graph, self.box = graph, found.box
        self.inputs = size(graph.input_shape)
        self.entries = _Entries()
        self.column_of: dict[int, Tensor] = {}
        self.slope: dict[int, Tensor] = {}
        self.offset: dict[int, Tensor] = {}
        self.free: dict[int, Tensor] = {}
        first = self.inputs
        for k, bounds in found.activations.items():
            op, relaxation = graph.activation(k), found.relaxations[k]
            free = unstable(bounds) if op.linear is None else unstable(bounds) & ~op.linear
            column = torch.zeros_like(free, dtype=torch.int64)
            count = int(free.sum())
            column[free] = torch.arange(first + 1, first + count + 1, device=column.device)
            first += count
            self.free[k], self.column_of[k] = free, column
            self.slope[k] = torch.where(free, torch.zeros_like(bounds.lb), relaxation.upper_slope)
            self.offset[k] = torch.where(free, torch.zeros_like(bounds.lb), relaxation.upper_offset)
        self.width = first
        self.first_row = 0
        self.rule = Rule(self.stop, found.slack)

    def constants(self, passed: Passed) -> Tensor:
        """Takes rows that were passed back by the rule, keeps their coefficients, returns their constants `(rows,)`."""
        at_input, box = passed.rows, self.box
        const = passed.const + sum_rows(at_input.A * at_input.gather(box.centre))
        scaled = at_input.with_coefficients(at_input.A * at_input.gather(box.radius))
        index = torch.arange(1, self.inputs + 1, device=const.device).view(1, *self.graph.input_shape)
        self.entries.add(scaled, index, self.first_row)
        self.first_row += len(at_input)
        return const

    def stop(self, index: int, rows: Rows) -> tuple[Rows, Tensor]:
        """The rule at activations: unstable neurons keep their coefficient, the others are affine and passed."""
        self.entries.add(rows, self.column_of[index], self.first_row)
        const = sum_rows(rows.A * rows.gather(self.offset[index]))
        return rows.with_coefficients(rows.A * rows.gather(self.slope[index])), const


def fold(graph: Graph, found: RootBounds, C: Tensor, rhs: Tensor) -> FoldedNetwork:
    """Returns the network of one box over its unstable neurons, with the margins `C y - rhs`.

    Args:
        graph: the network in float64.
        found: its bounds over one box; they say which neurons are unstable.
        C: `(margins, outputs)` float64.
        rhs: `(margins,)` float64.
    """
    folder = _Folder(graph, found)
    constants, slacks, starts, lows, highs = [], [], [0], [], []
    for k, bounds in found.activations.items():
        source = graph.nodes[k].inputs[0]
        neurons = folder.free[k].flatten().nonzero().flatten()
        owner = torch.zeros_like(neurons)
        for a in range(0, len(neurons), row_chunk(graph, source)):
            tick()
            part = slice(a, a + row_chunk(graph, source))
            passed = element_rows(graph, source, neurons[part], owner[part], 1, folder.rule)
            constants.append(folder.constants(passed))
            slacks.append(passed.lost)
        starts.append(folder.first_row)
        lows.append(bounds.lb[folder.free[k]])
        highs.append(bounds.ub[folder.free[k]])
    count = folder.first_row
    last = len(graph.nodes) - 1
    margin_rows = Rows(C.reshape(-1, *graph.output_shape), torch.zeros(len(C), dtype=torch.int64, device=C.device))
    passed = to_input(graph, last, margin_rows, folder.rule)
    e = folder.constants(passed) - rhs - passed.lost - RHS_ROUNDING * rhs.abs()
    E, slack = (torch.cat(part) if part else C.new_zeros(0) for part in (constants, slacks))
    lb, ub = (torch.cat(ends) if ends else C.new_zeros(0) for ends in (lows, highs))
    return _assembled(folder, E, slack, e, lb, ub, starts, count)


def _assembled(
    folder: _Folder, E: Tensor, slack: Tensor, e: Tensor, lb: Tensor, ub: Tensor, starts: list[int], count: int
) -> FoldedNetwork:
    row, column, value = (
        torch.cat(part).cpu().numpy() for part in (folder.entries.row, folder.entries.column, folder.entries.value)
    )
    by_column = np.argsort(column * (count + len(e)) + row, kind="stable")
    columns = SparseColumns(_starts(column, folder.width), row[by_column].astype(np.int32), value[by_column])
    hidden = row < count
    C = np.zeros((folder.width, len(e)))
    C[column[~hidden], row[~hidden] - count] = value[~hidden]
    row, column, value = row[hidden], column[hidden], value[hidden]
    by_row = np.argsort(row * folder.width + column, kind="stable")
    return FoldedNetwork(
        folder.inputs,
        E.cpu().numpy(),
        SparseRows(_starts(row, count), column[by_row].astype(np.int32), value[by_row]),
        columns,
        slack.cpu().numpy(),
        e.cpu().numpy(),
        C,
        lb.cpu().numpy(),
        ub.cpu().numpy(),
        np.asarray(starts, np.int64),
    )


def _starts(index: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.bincount(index, minlength=count))]).astype(np.int64)
