"""A sparse network with its violation rows, and the room for bounds of one box, as compiled code reads them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.verifier.kernels.boxes_lanes import WIDEST
from harness.verifier.sparse import Segment, SparseNetwork

Array = NDArray[Any]
DEAD, LINE, UNSTABLE = 0, 1, 2
"""Phases of a row in a box: its activation is 0; a line; a ReLU that bends inside its bounds."""
SECOND_ORDER = 1.001
"""Factor on the unit roundoff."""


class BoxNetwork(NamedTuple):
    """A sparse network with its violation rows, in the arrays that compiled code reads; never written to."""

    inputs: int
    first: Array
    """`(segments + 1,)`: rows of segment s are `first[s]:first[s + 1]`."""
    start: Array
    column: Array
    value: Array
    bias: Array
    bias_size: Array
    rate: Array
    tiny: Array
    line: Array
    """`(rows,)`: rows whose activation is a line."""
    slope: Array
    intercept: Array
    graft: Array
    """`(rows,)`: three roundings where the line itself rounds, else 0."""
    touched_start: Array
    """`(segments + 1,)`: columns that segment s reads are `touched[touched_start[s]:touched_start[s + 1]]`."""
    touched: Array
    entry_start: Array
    """`(len(touched) + 1,)`."""
    entry_row: Array
    """Rows that read a column, ascending, counted from the segment's first row."""
    entry_value: Array
    output: Array
    C: Array
    """`(margins, outputs)`."""
    rhs: Array
    region_start: Array
    """`(regions + 1,)`."""
    allowance: float
    """Relative error of a float64 sum as long as the network has rows."""


class BoxWork(NamedTuple):
    """What bounding one box leaves behind; one for each thread."""

    low: Array
    """`(rows,)`: bounds of the rows before their activation; what holds already goes in."""
    high: Array
    phase: Array
    centre: Array
    """`(columns,)`: of a column's bounds."""
    radius: Array
    largest: Array
    """`(columns,)`: largest magnitude; 0: the column is dead."""
    error: Array
    """`(rows,)`: r."""
    graft_error: Array
    lower_slope: Array
    upper_slope: Array
    upper_offset: Array
    live: Array
    """`(rows,)`: rows that are not dead, segment by segment, each from its first row on."""
    live_count: Array
    """`(segments,)`."""
    place: Array
    """`(rows,)`: where a live row stands in its segment's list."""
    kept: Array
    """Live columns of the segments, at `touched_start`."""
    kept_count: Array
    kept_entry: Array
    """`(len(touched) + segments,)`: where their entries begin, at `touched_start[s] + s`."""
    kept_row: Array
    kept_value: Array
    A: Array
    """`(columns * WIDEST,)`."""
    lam: Array
    constant: Array
    """`(WIDEST,)`."""
    reach: Array
    """`(2, rows, inputs)`: linear lower bounds of z and of -z, where bounded: coefficients at the inputs."""
    reach_constant: Array
    """`(2, rows)`."""
    chosen: Array
    """`(rows,)` int32."""
    held: Array
    """`(rows,)` int8: 1 where a split holds a row at z <= 0, 2 where at z >= 0; else 0."""


def box_network(network: SparseNetwork, C: Array, rhs: Array, sizes: list[int], unit: float = 2.0**-24) -> BoxNetwork:
    """Returns a network with its violation rows in the form of this module.

    Args:
        network: the network.
        C: `(margins, outputs)`, region by region.
        rhs: `(margins,)`.
        sizes: number of rows of each region.
        unit: unit roundoff of the evaluations that bounds shall cover.
    """
    rows = network.rows
    first = np.array([0, *(s.last for s in network.segments)], np.int64)
    row = np.repeat(np.arange(rows), np.diff(network.start))
    segment = np.searchsorted(first, row, side="right") - 1
    order = np.lexsort((row, network.column, segment))
    key = segment[order] * (network.inputs + rows) + network.column[order]
    opens = np.flatnonzero(np.diff(key, prepend=-1)) if len(key) else np.zeros(0, np.int64)
    touched_segment = segment[order][opens]
    longest = int(np.diff(network.start).max()) if rows else 0
    rounding = unit * SECOND_ORDER
    allowance = (4 * rows + network.inputs + longest + 64) * 2.0**-52
    return BoxNetwork(
        inputs=network.inputs,
        first=first,
        start=network.start,
        column=network.column,
        value=network.value,
        bias=network.bias,
        bias_size=network.bias_size,
        rate=network.roundings * rounding + allowance,
        tiny=1e-37 * (network.roundings + 1),
        line=network.linear,
        slope=network.slope,
        intercept=network.intercept,
        graft=np.where(network.rounded, 3 * rounding, 0.0),
        touched_start=np.searchsorted(touched_segment, np.arange(len(first))).astype(np.int64),
        touched=network.column[order][opens].astype(np.int64),
        entry_start=np.append(opens, len(key)).astype(np.int64),
        entry_row=(row - first[segment])[order].astype(np.int32),
        entry_value=network.value[order],
        output=network.output,
        C=np.ascontiguousarray(C, np.float64),
        rhs=np.ascontiguousarray(rhs, np.float64),
        region_start=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        allowance=float(allowance),
    )


def smallest_network() -> BoxNetwork:
    """Returns one input that is the output, with one row: enough to compile for."""
    none, zero = np.zeros(0), np.zeros(1)
    network = SparseNetwork(
        1, np.zeros(2, np.int64), np.zeros(0, np.int32), none, zero, zero, zero, np.ones(1, np.bool_), zero, zero,
        np.zeros(1, np.bool_), (Segment(0, 1, None),), np.ones(1, np.int64),
    )  # fmt: skip
    return box_network(network, np.ones((1, 1)), zero, [1])


def box_work(network: BoxNetwork) -> BoxWork:
    """Returns room for the bounds of one box at a time."""
    rows, segments = len(network.bias), len(network.first) - 1
    columns = network.inputs + rows

    def zeros(count: int) -> Array:
        return np.zeros(count)

    def whole(count: int, dtype: type[np.generic] = np.int64) -> Array:
        return np.zeros(count, dtype)

    return BoxWork(
        low=zeros(rows), high=zeros(rows), phase=whole(rows, np.int8),
        centre=zeros(columns), radius=zeros(columns), largest=zeros(columns),
        error=zeros(rows), graft_error=zeros(rows),
        lower_slope=zeros(rows), upper_slope=zeros(rows), upper_offset=zeros(rows),
        live=whole(rows), live_count=whole(segments), place=whole(rows, np.int32),
        kept=whole(len(network.touched)), kept_count=whole(segments),
        kept_entry=whole(len(network.touched) + segments),
        kept_row=whole(len(network.entry_row), np.int32), kept_value=zeros(len(network.entry_row)),
        A=zeros(columns * WIDEST), lam=zeros(max(rows, 1) * WIDEST), constant=zeros(WIDEST),
        reach=np.zeros((2, rows, network.inputs)), reach_constant=np.zeros((2, rows)), chosen=whole(rows, np.int32),
        held=whole(rows, np.int8),
    )  # fmt: skip
