"""Bounds of one small box of inputs: hidden bounds of its own, then margins as linear functions of the input.

The lanes of a backward pass are the rows that are bounded (unstable neurons, or margins), not boxes: what is inactive
in this very box is left out exactly, and everything stays in the first-level cache. All arithmetic is float64.

What holds of every bound here, and why (`r` of row i is what an evaluation in float32 may deviate in that row):

    z = b + W h + d,  |d_i| <= r_i = rate_i (|W_i| |h|max + bias_size_i) + tiny_i,   h = activation(z) (+ e, |e| <= eps)

is what *any* float32 evaluation of the network computes, in real arithmetic, with |h|max from this box's bounds. Each
bound subtracts `sum |lam_i| r_i + |A_i| eps_i`, lam being its coefficient at row i. `rate` has a term for the float64
arithmetic of the bound itself: a sum of m products is off by at most m 2^-53 of its summed magnitudes, which are at
most `|lam_i| (|W_i| |h|max + bias_size_i)` in the backward step over row i, m at most the number of rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from harness.verifier.kernels.boxes_lanes import WIDEST, accumulate_8, accumulate_16, accumulate_32
from harness.verifier.sparse import Segment, SparseNetwork

Array = NDArray[Any]
DEAD, LINE, UNSTABLE = 0, 1, 2
"""Phases of a row in a box: its activation is 0; a line; a ReLU that bends inside its bounds."""
ROUNDING = 2.0**-24 * 1.001
INPUT_ROUNDING = 2.0**-44


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
    """`(rows,)`: 3 * 2^-24 where the line itself rounds, else 0."""
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


def box_network(network: SparseNetwork, C: Array, rhs: Array, sizes: list[int]) -> BoxNetwork:
    """Returns a network with its violation rows in the form of this module.

    Args:
        network: the network.
        C: `(margins, outputs)`, region by region.
        rhs: `(margins,)`.
        sizes: number of rows of each region.
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
    allowance = (4 * rows + network.inputs + longest + 64) * 2.0**-52
    return BoxNetwork(
        inputs=network.inputs,
        first=first,
        start=network.start,
        column=network.column,
        value=network.value,
        bias=network.bias,
        bias_size=network.bias_size,
        rate=network.roundings * ROUNDING + allowance,
        tiny=1e-37 * (network.roundings + 1),
        line=network.linear,
        slope=network.slope,
        intercept=network.intercept,
        graft=np.where(network.rounded, 3 * ROUNDING, 0.0),
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


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def set_inputs(net: BoxNetwork, work: BoxWork, lower: Array, upper: Array) -> None:
    """Puts a box's bounds into the input columns."""
    for i in range(net.inputs):
        work.centre[i] = 0.5 * (lower[i] + upper[i])
        work.radius[i] = 0.5 * (upper[i] - lower[i])
        # an input is never dead: a column of zeros must not vanish from a margin's linear function
        work.largest[i] = max(abs(lower[i]), abs(upper[i]), 1e-300)


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def interval_rows(net: BoxNetwork, work: BoxWork, segment: int) -> None:
    """Intersects the bounds of a segment's rows with interval bounds, and fills the rows' errors.

    A row that is dead without a split keeps its bounds, and needs no error.
    """
    centre, radius, largest = work.centre, work.radius, work.largest
    for i in range(net.first[segment], net.first[segment + 1]):
        if not net.line[i] and work.high[i] <= 0 and not work.held[i]:
            continue
        c0, r0, m0, c1, r1, m1 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        c2, r2, m2, c3, r3, m3 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        begin, end = net.start[i], net.start[i + 1]
        full = begin + ((end - begin) // 4) * 4
        for e in range(begin, full, 4):
            j, v = net.column[e], net.value[e]
            w = abs(v)
            c0, r0, m0 = c0 + v * centre[j], r0 + w * radius[j], m0 + w * largest[j]
            j, v = net.column[e + 1], net.value[e + 1]
            w = abs(v)
            c1, r1, m1 = c1 + v * centre[j], r1 + w * radius[j], m1 + w * largest[j]
            j, v = net.column[e + 2], net.value[e + 2]
            w = abs(v)
            c2, r2, m2 = c2 + v * centre[j], r2 + w * radius[j], m2 + w * largest[j]
            j, v = net.column[e + 3], net.value[e + 3]
            w = abs(v)
            c3, r3, m3 = c3 + v * centre[j], r3 + w * radius[j], m3 + w * largest[j]
        for e in range(full, end):
            j, v = net.column[e], net.value[e]
            w = abs(v)
            c0, r0, m0 = c0 + v * centre[j], r0 + w * radius[j], m0 + w * largest[j]
        middle = net.bias[i] + ((c0 + c1) + (c2 + c3))
        error = net.rate[i] * (((m0 + m1) + (m2 + m3)) + net.bias_size[i]) + net.tiny[i]
        reach = ((r0 + r1) + (r2 + r3)) + error
        work.error[i] = error
        if middle - reach > work.low[i]:  # noqa: PLR1730 (NaN does not get in)
            work.low[i] = middle - reach
        if middle + reach < work.high[i]:  # noqa: PLR1730
            work.high[i] = middle + reach


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def settle(net: BoxNetwork, work: BoxWork, segment: int) -> None:
    """Turns the bounds of a segment's rows into phases, relaxations and bounds of their columns, and compacts it."""
    first, last = net.first[segment], net.first[segment + 1]
    count = 0
    for i in range(first, last):
        column = net.inputs + i
        low, high = work.low[i], work.high[i]
        work.graft_error[i] = 0
        if net.line[i]:
            at_low, at_high = net.slope[i] * low + net.intercept[i], net.slope[i] * high + net.intercept[i]
            e = net.graft[i] * (abs(net.slope[i]) * max(abs(low), abs(high)) + abs(net.intercept[i]))
            work.graft_error[i] = e
            low, high = min(at_low, at_high) - e, max(at_low, at_high) + e
            work.phase[i] = LINE
        elif high <= 0:
            low, high = 0.0, 0.0
            work.phase[i] = DEAD
        elif low >= 0:
            work.phase[i] = LINE
        else:
            work.phase[i] = UNSTABLE
            work.upper_slope[i] = high / (high - low)
            work.upper_offset[i] = -work.upper_slope[i] * low
            work.lower_slope[i] = 1.0 if high > -low else 0.0
            low = 0.0
        work.centre[column], work.radius[column] = 0.5 * (low + high), 0.5 * (high - low)
        work.largest[column] = max(abs(low), abs(high))
        if work.phase[i] != DEAD:
            work.largest[column] = max(work.largest[column], 1e-300)
            work.place[i] = count
            work.live[first + count] = i
            count += 1
        else:
            work.place[i] = -1
    work.live_count[segment] = count
    compact(net, work, segment)


@numba.njit(nogil=True, cache=True)
def compact(net: BoxNetwork, work: BoxWork, segment: int) -> None:
    """Keeps of a segment's entries those of live rows at live columns."""
    first, at, kept = net.first[segment], net.entry_start[net.touched_start[segment]], 0
    begin = net.touched_start[segment]
    for t in range(begin, net.touched_start[segment + 1]):
        column = net.touched[t]
        if work.largest[column] == 0:
            continue
        work.kept[begin + kept] = column
        work.kept_entry[begin + segment + kept] = at
        for e in range(net.entry_start[t], net.entry_start[t + 1]):
            place = work.place[first + net.entry_row[e]]
            work.kept_row[at] = place
            work.kept_value[at] = net.entry_value[e]
            at += place >= 0
        kept += 1
    work.kept_entry[begin + segment + kept] = at
    work.kept_count[segment] = kept


@numba.njit(nogil=True, cache=True)
def clear(net: BoxNetwork, work: BoxWork, segment: int, lanes: int) -> None:
    """Zeroes the coefficients at the inputs and at the live columns below a segment."""
    for k in range(net.inputs * lanes):
        work.A[k] = 0
    for s in range(segment):
        first = net.first[s]
        for o in range(work.live_count[s]):
            base = (net.inputs + work.live[first + o]) * lanes
            for k in range(base, base + lanes):
                work.A[k] = 0
    for k in range(lanes):
        work.constant[k] = 0


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def relax(net: BoxNetwork, work: BoxWork, segment: int, lanes: int) -> None:
    """Takes the coefficients at a segment's activations to its rows, and their constants into the bounds."""
    first, A, lam, constant = net.first[segment], work.A, work.lam, work.constant
    for o in range(work.live_count[segment]):
        i = work.live[first + o]
        base, to = (net.inputs + i) * lanes, o * lanes
        bias, error = net.bias[i], work.error[i]
        if work.phase[i] == UNSTABLE:
            up, down, offset = work.upper_slope[i], work.lower_slope[i], work.upper_offset[i]
            for k in range(lanes):
                a = A[base + k]
                through = a * (up if a < 0 else down)
                lam[to + k] = through
                constant[k] += through * bias - abs(through) * error + min(a, 0.0) * offset
        else:
            slope, intercept, grafted = 1.0, 0.0, 0.0
            if net.line[i]:
                slope, intercept, grafted = net.slope[i], net.intercept[i], work.graft_error[i]
            for k in range(lanes):
                a = A[base + k]
                through = a * slope
                lam[to + k] = through
                constant[k] += through * bias - abs(through) * error + a * intercept - abs(a) * grafted


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def backward(net: BoxNetwork, work: BoxWork, segment: int, lanes: int) -> None:
    """Takes coefficients at the columns below a segment down to the inputs; `lanes` is 8, 16 or 32."""
    A, lam, values, rows = work.A, work.lam, work.kept_value, work.kept_row
    for s in range(segment - 1, -1, -1):
        relax(net, work, s, lanes)
        begin = net.touched_start[s]
        entry = begin + s
        for t in range(work.kept_count[s]):
            column = work.kept[begin + t]
            if lanes == 8:
                accumulate_8(values, rows, work.kept_entry[entry + t], work.kept_entry[entry + t + 1], lam, A, column)
            elif lanes == 16:
                accumulate_16(values, rows, work.kept_entry[entry + t], work.kept_entry[entry + t + 1], lam, A, column)
            else:
                accumulate_32(values, rows, work.kept_entry[entry + t], work.kept_entry[entry + t + 1], lam, A, column)


@numba.njit(nogil=True, cache=True)
def width_for(count: int) -> int:
    """Returns the narrowest pass that takes so many rows, or the widest."""
    return 8 if count <= 8 else (16 if count <= 16 else WIDEST)


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def lowest(net: BoxNetwork, work: BoxWork, lower: Array, upper: Array, lanes: int, k: int) -> float:
    """Returns lane k's proved lower bound over the box."""
    total, slack = work.constant[k], 0.0
    for i in range(net.inputs):
        a = work.A[i * lanes + k]
        total += a * (lower[i] if a > 0 else upper[i])
        slack += abs(a) * work.largest[i]
    return float(total - INPUT_ROUNDING * slack)


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def tighten(net: BoxNetwork, work: BoxWork, lower: Array, upper: Array, segment: int, sign: float) -> None:
    """Improves one side (1: lower, -1: upper) of the bounds of a segment's unstable rows by CROWN.

    Of a row that a split holds, the side is bounded that the split contradicts: it may show the split to be impossible.
    """
    total, against = 0, 1 if sign > 0 else 2
    for i in range(net.first[segment], net.first[segment + 1]):
        if net.line[i]:
            continue
        if work.held[i] == against or (not work.held[i] and work.low[i] < 0 and work.high[i] > 0):
            work.chosen[total] = i
            total += 1
    for done in range(0, total, WIDEST):
        count = min(total - done, WIDEST)
        lanes = width_for(count)
        clear(net, work, segment, lanes)
        for k in range(count):
            i = work.chosen[done + k]
            work.constant[k] = sign * net.bias[i] - work.error[i]
            for e in range(net.start[i], net.start[i + 1]):
                work.A[net.column[e] * lanes + k] += sign * net.value[e]
        backward(net, work, segment, lanes)
        for k in range(count):
            i = work.chosen[done + k]
            bound = sign * lowest(net, work, lower, upper, lanes, k)
            side = 0 if sign > 0 else 1
            work.reach_constant[side, i] = work.constant[k]
            for j in range(net.inputs):
                work.reach[side, i, j] = work.A[j * lanes + k]
            # a comparison with NaN is false: it does not get in
            if sign > 0 and bound > work.low[i]:
                work.low[i] = bound
            elif sign < 0 and bound < work.high[i]:
                work.high[i] = bound


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def bound_hidden(net: BoxNetwork, work: BoxWork, lower: Array, upper: Array) -> bool:
    """Bounds every row over the box, as far as its splits leave it; returns False if they leave nothing.

    `work.low` and `work.high` come with bounds that hold there (or infinities), `work.held` with the splits.
    """
    set_inputs(net, work, lower, upper)
    for segment in range(len(net.first) - 1):
        interval_rows(net, work, segment)
        tighten(net, work, lower, upper, segment, 1.0)
        tighten(net, work, lower, upper, segment, -1.0)
        for i in range(net.first[segment], net.first[segment + 1]):
            if work.low[i] > work.high[i]:
                return False
        settle(net, work, segment)
    return True


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def bound_margins(
    net: BoxNetwork, work: BoxWork, lower: Array, upper: Array, margin: Array, count: int, bounds: Array
) -> int:
    """Fills `bounds[:count]` with lower bounds of the margins `C y - rhs` of rows `margin[:count]`, at most WIDEST.

    Returns the number of lanes used: the margins' linear functions are left in the lanes of `work.A` (inputs first) and
    `work.constant`. They hold for every x in the box, rounding included.
    """
    lanes, segments = width_for(count), len(net.first) - 1
    clear(net, work, segments, lanes)
    for k in range(count):
        row = margin[k]
        size = abs(net.rhs[row])
        for o in range(len(net.output)):
            column, c = net.output[o], net.C[row, o]
            work.A[column * lanes + k] += c
            size += abs(c) * work.largest[column]
        work.constant[k] = -net.rhs[row] - net.allowance * size
    backward(net, work, segments, lanes)
    for k in range(count):
        bounds[k] = lowest(net, work, lower, upper, lanes, k)
    return lanes
