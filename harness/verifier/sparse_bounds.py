"""Bounds of a sparse network over one box: intervals, then CROWN for the rows that intervals leave unstable.

The CPU's fast form of `crown.root_bounds`, one input at a time: CROWN rows of 32 neurons are the lanes of one pass
over the network's sparse matrix, of which only what is alive over the box is kept.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.verifier.kernels import passes
from harness.verifier.kernels.contract import LANES
from harness.verifier.kernels.passes import UNSTABLE, Array, Matrix, State, Work
from harness.verifier.patience import tick
from harness.verifier.rounding import sum_share
from harness.verifier.sparse import Segment, SparseNetwork

TOGETHER = 16 * LANES
"""Rows of one call of compiled code, which nothing can interrupt."""
INPUT_SLACK = 2.0**-44
"""Share of an input's magnitude that pays for float64 rounding where a pass meets the box."""


@dataclass(frozen=True, slots=True, eq=False)
class SparseBounds:
    """Bounds of every row over one box, for the network with its rounding perturbations.

    Guarantees: for every x in the box, and every evaluation whose rows are off by at most their slack, each
    pre-activation lies within `lb` and `ub`.
    """

    network: SparseNetwork
    matrix: Matrix
    state: State
    lb: Array
    """`(rows,)`, of pre-activations."""
    ub: Array

    def margins(self, C: Array) -> Array:
        """Returns CROWN lower bounds of `C y`, `(len(C),)`.

        Args:
            C: `(margins, outputs)` float64.
        """
        result, net = np.empty(len(C)), self.network
        passes.lower_bounds_of_outputs(
            np.ascontiguousarray(C), net.output, self.matrix, self.state, net.inputs, scratch(net), result
        )
        return result - self.summing(C)

    def summing(self, C: Array) -> Array:
        """Returns what it may cost margins `C y`, `(len(C),)`, that their coefficients are summed up."""
        output = self.network.output
        cost: Array = sum_share(len(output)) * (np.abs(C) @ self.state.magnitude[output])
        return cost

    def unstable(self) -> NDArray[np.int64]:
        """Returns the rows whose activation is neither zero nor affine over the box, in order."""
        return np.flatnonzero(self.state.kind == UNSTABLE)

    def segment(self, activation: int) -> Segment:
        """Returns the rows of a graph node's activation."""
        return next(s for s in self.network.segments if s.activation == activation)


_local = threading.local()


def scratch(network: SparseNetwork) -> Work:
    """Returns this thread's scratch, large enough for the network and all zero."""
    columns = network.inputs + network.rows
    kept: Work | None = getattr(_local, "work", None)
    if kept is None or len(kept.touched) < columns:
        kept = Work(np.zeros((columns, LANES)), np.zeros(columns, np.uint8))
        _local.work = kept
    return kept


def bound_box(network: SparseNetwork, lower: Array, upper: Array, unit: float) -> SparseBounds:
    """Returns bounds of every row: intervals, improved by CROWN where an activation is unstable by them.

    Args:
        network: the network.
        lower: `(inputs,)` float64.
        upper: `(inputs,)`, not below `lower`.
        unit: unit roundoff of the evaluation that the bounds shall cover: 2**-24 for float32.
    """
    rows, net = network.rows, network
    state = _start(net, lower, upper)
    matrix = Matrix(
        np.zeros(rows, np.int64),
        np.zeros(rows, np.int64),
        np.empty(len(net.column), np.int32),
        np.empty(len(net.value)),
    )
    lb, ub = np.empty(rows), np.empty(rows)
    found = SparseBounds(net, matrix, state, lb, ub)
    end = 0
    for first, last, activation in net.segments:
        passes.interval_rows(
            first, last, net.start, net.column, net.value, net.bias_size, net.roundings, unit, state, lb, ub
        )
        settle = (first, last, net.inputs, net.linear, net.slope, net.intercept, net.rounded, unit, state, lb, ub)
        passes.settle_rows(*settle)
        alive = (first, last, net.inputs, net.start, net.column, net.value, state.kind, matrix, end)
        end = passes.keep_alive(*alive)
        if activation is None:
            continue
        if first:  # intervals of the very first rows are exact
            tighten(found, unstable_rows(found, first, last))
            passes.settle_rows(*settle)
    return found


def unstable_rows(found: SparseBounds, first: int, last: int) -> Array:
    """Returns which of the rows `first:last` have an activation that is neither zero nor affine by their bounds."""
    part = slice(first, last)
    return first + np.flatnonzero((found.lb[part] < 0) & (found.ub[part] > 0) & ~found.network.linear[part])


def tighten(found: SparseBounds, rows: Array) -> None:
    """Improves the bounds of some rows in place by CROWN; the upper side only where the lower leaves them unstable.

    Args:
        found: bounds, complete below the rows.
        rows: rows of one segment.
    """
    lb, ub = found.lb, found.ub
    rows = neighbours_together(found, rows)
    lb[rows] = np.maximum(lb[rows], _lower(found, rows, 1.0))
    rows = rows[lb[rows] < 0]
    ub[rows] = np.minimum(ub[rows], -_lower(found, rows, -1.0))


def _lower(found: SparseBounds, rows: Array, sign: float) -> Array:
    result = np.empty(len(rows))
    net = found.network
    for first in range(0, len(rows), TOGETHER):
        tick()
        part = slice(first, first + TOGETHER)
        passes.lower_bounds(rows[part], sign, found.matrix, found.state, net.inputs, scratch(net), result[part])
    return result


def neighbours_together(found: SparseBounds, rows: Array) -> Array:
    """Returns rows sorted by the first column that they read, so that lanes share most of their columns."""
    start = found.matrix.start[rows]
    some = found.matrix.stop[rows] > start
    first = np.where(some, found.matrix.column[np.where(some, start, 0)], 0)
    return rows[np.argsort(first, kind="stable")]


def _start(network: SparseNetwork, lower: Array, upper: Array) -> State:
    rows, columns = network.rows, network.inputs + network.rows
    centre, radius, magnitude = np.zeros(columns), np.zeros(columns), np.zeros(columns)
    middle = 0.5 * (lower + upper)
    centre[: network.inputs] = middle
    radius[: network.inputs] = np.maximum(upper - middle, middle - lower)
    magnitude[: network.inputs] = np.maximum(np.abs(lower), np.abs(upper))
    return State(
        kind=np.zeros(rows, np.int8),
        bias=network.bias,
        slack=np.zeros(rows),
        slope=np.zeros(rows),
        intercept=np.zeros(rows),
        activation_slack=np.zeros(rows),
        lower_slope=np.zeros(rows),
        upper_slope=np.zeros(rows),
        upper_offset=np.zeros(rows),
        centre=centre,
        radius=radius,
        magnitude=magnitude,
        input_slack=INPUT_SLACK * magnitude[: network.inputs],
    )
