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

from typing import Any

from numpy.typing import NDArray

from harness.verifier.kernels.boxes_lanes import WIDEST, accumulate_8, accumulate_16, accumulate_32
from harness.verifier.kernels.boxes_network import DEAD, LINE, UNSTABLE, BoxNetwork, BoxWork
from harness.verifier.kernels.jit import compiled, fused

Array = NDArray[Any]
INPUT_ROUNDING = 2.0**-44


@fused
def set_inputs(net: BoxNetwork, work: BoxWork, lower: Array, upper: Array) -> None:
    """Puts a box's bounds into the input columns."""
    for i in range(net.inputs):
        work.centre[i] = 0.5 * (lower[i] + upper[i])
        work.radius[i] = 0.5 * (upper[i] - lower[i])
        # an input is never dead: a column of zeros must not vanish from a margin's linear function
        work.largest[i] = max(abs(lower[i]), abs(upper[i]), 1e-300)


@fused
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


@fused
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


@compiled
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


@compiled
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


@fused
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


@fused
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


@compiled
def width_for(count: int) -> int:
    """Returns the narrowest pass that takes so many rows, or the widest."""
    return 8 if count <= 8 else (16 if count <= 16 else WIDEST)


@fused
def lowest(net: BoxNetwork, work: BoxWork, lower: Array, upper: Array, lanes: int, k: int) -> float:
    """Returns lane k's proved lower bound over the box."""
    total, slack = work.constant[k], 0.0
    for i in range(net.inputs):
        a = work.A[i * lanes + k]
        total += a * (lower[i] if a > 0 else upper[i])
        slack += abs(a) * work.largest[i]
    return float(total - INPUT_ROUNDING * slack)


@fused
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


@fused
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


@fused
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
