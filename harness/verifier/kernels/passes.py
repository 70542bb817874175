"""Compiled passes over a sparse network and one box: intervals, CROWN rows, folding. All in float64.

Every row's pre-activation may be off by `slack`: what an evaluation in floating point may round. The passes bound the
network *with* these perturbations; `docs/design/003-rounding.md` derives why that covers their own rounding too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.verifier.kernels.contract import LANES
from harness.verifier.kernels.domains import fill
from harness.verifier.kernels.jit import compiled, fused
from harness.verifier.kernels.lanes import scatter

Array = NDArray[Any]

DEAD, AFFINE, UNSTABLE = 0, 1, 2
"""What a row's activation is over the box: zero, affine, or neither."""

TINY = 1e-30
"""See `rounding.TINY`."""


class Matrix(NamedTuple):
    """Rows of the network, without the entries at dead columns; entries of row j are `start[j]:stop[j]`."""

    start: Array
    stop: Array
    column: Array
    value: Array


class State(NamedTuple):
    """What is known of the rows over one box, each `(rows,)`; `centre` to `input_slack` are of columns or inputs."""

    kind: Array
    bias: Array
    slack: Array
    """Half-width of the perturbation of z."""
    slope: Array
    """Of an affine activation."""
    intercept: Array
    activation_slack: Array
    """Half-width of the perturbation of an affine activation that itself rounds."""
    lower_slope: Array
    """Alpha of an unstable activation."""
    upper_slope: Array
    upper_offset: Array
    centre: Array
    """`(columns,)`: middle of each column's interval."""
    radius: Array
    magnitude: Array
    input_slack: Array
    """`(inputs,)`: pays for the rounding of the pass where it meets the box."""


class Work(NamedTuple):
    """Scratch of one thread; all zero between calls."""

    sums: Array
    """`(columns, LANES)`."""
    touched: Array
    """`(columns,)` uint8."""


@fused
def interval_rows(
    first: int,
    last: int,
    start: Array,
    column: Array,
    value: Array,
    bias_size: Array,
    roundings: Array,
    unit: float,
    state: State,
    lb: Array,
    ub: Array,
) -> None:
    """Fills lb, ub and slack of rows `first:last` from the intervals of the columns below."""
    for j in range(first, last):
        middle, spread = state.bias[j], 0.0
        positive, negative, exact = bias_size[j], bias_size[j], 0
        for i in range(start[j], start[j + 1]):
            c, w = column[i], value[i]
            if state.magnitude[c] == 0.0:
                exact += 1
                continue
            centre, reach = w * state.centre[c], abs(w) * state.radius[c]
            middle += centre
            spread += reach
            positive += max(reach + centre, 0.0)
            negative += max(reach - centre, 0.0)
        # Each addition rounds a partial sum, and no partial sum exceeds what one sign's products add up to.
        size = (roundings[j] - exact) * max(positive, negative) + positive + negative
        slack = unit * (1.001 + 2.0 * unit * roundings[j]) * size + roundings[j] * TINY
        state.slack[j] = slack
        lb[j] = middle - spread - slack
        ub[j] = middle + spread + slack


@compiled
def settle_rows(
    first: int,
    last: int,
    inputs: int,
    linear: Array,
    slope: Array,
    intercept: Array,
    rounded: Array,
    unit: float,
    state: State,
    lb: Array,
    ub: Array,
) -> None:
    """Fills kind, relaxation and the column's interval of rows `first:last` from their lb and ub."""
    for j in range(first, last):
        low, high = lb[j], ub[j]
        state.activation_slack[j] = 0.0
        if linear[j]:
            state.kind[j] = AFFINE if slope[j] != 0.0 or intercept[j] != 0.0 else DEAD
            state.slope[j], state.intercept[j] = slope[j], intercept[j]
            one, other = slope[j] * low + intercept[j], slope[j] * high + intercept[j]
            low, high = min(one, other), max(one, other)
            if rounded[j]:
                most = abs(slope[j]) * max(abs(lb[j]), abs(ub[j])) + abs(intercept[j])
                extra = 3.0 * unit * 1.001 * most + 3.0 * TINY
                state.activation_slack[j] = extra
                low, high = low - extra, high + extra
        elif low >= 0.0:
            state.kind[j], state.slope[j], state.intercept[j] = AFFINE, 1.0, 0.0
        elif high <= 0.0:
            state.kind[j] = DEAD
            low, high = 0.0, 0.0
        else:
            state.kind[j] = UNSTABLE
            upper = high / (high - low)
            state.upper_slope[j], state.upper_offset[j] = upper, -upper * low
            state.lower_slope[j] = 1.0 if high > -low else 0.0
            low = 0.0
        middle = 0.5 * (low + high)
        state.centre[inputs + j] = middle
        state.radius[inputs + j] = max(high - middle, middle - low)
        state.magnitude[inputs + j] = max(abs(low), abs(high))


@compiled
def keep_alive(
    first: int, last: int, inputs: int, start: Array, column: Array, value: Array, kind: Array, matrix: Matrix, end: int
) -> int:
    """Copies the rows `first:last` that are not dead, without dead columns, behind `end`; returns the new end."""
    for j in range(first, last):
        matrix.start[j] = end
        if kind[j] != DEAD:
            for i in range(start[j], start[j + 1]):
                c = column[i]
                if c < inputs or kind[c - inputs] != DEAD:
                    matrix.column[end] = c
                    matrix.value[end] = value[i]
                    end += 1
        matrix.stop[j] = end
    return end


@fused
def _spread(matrix: Matrix, j: int, lam: Array, work: Work) -> None:
    """Adds lam times row j to the sums of the columns that it reads."""
    for i in range(matrix.start[j], matrix.stop[j]):
        work.touched[matrix.column[i]] = 1
    scatter(matrix.value, matrix.column, matrix.start[j], matrix.stop[j], work.sums, lam)


@fused
def _descend(matrix: Matrix, state: State, inputs: int, top: int, low: Array, work: Work) -> None:
    """Passes the sums from column `top` down to the input, and adds each lane's minimum over the box to `low`."""
    lam = np.empty(LANES)
    for column in range(top, inputs - 1, -1):
        if work.touched[column] == 0:
            continue
        work.touched[column] = 0
        j = column - inputs
        sums = work.sums[column]
        if state.kind[j] == UNSTABLE:
            lower, upper, offset = state.lower_slope[j], state.upper_slope[j], state.upper_offset[j]
            for k in range(LANES):
                a = sums[k]
                lam[k] = (upper if a < 0.0 else lower) * a
                low[k] += min(a, 0.0) * offset
        else:
            slope, intercept, extra = state.slope[j], state.intercept[j], state.activation_slack[j]
            for k in range(LANES):
                a = sums[k]
                lam[k] = slope * a
                low[k] += intercept * a - abs(a) * extra
        bias, slack = state.bias[j], state.slack[j]
        for k in range(LANES):
            low[k] += bias * lam[k] - slack * abs(lam[k])
            sums[k] = 0.0
        _spread(matrix, j, lam, work)
    for column in range(min(top, inputs - 1), -1, -1):
        if work.touched[column]:
            work.touched[column] = 0
            centre, reach = state.centre[column], state.radius[column] + state.input_slack[column]
            for k in range(LANES):
                a = work.sums[column, k]
                low[k] += a * centre - abs(a) * reach
                work.sums[column, k] = 0.0


@compiled
def lower_bounds(
    rows: Array, sign: float, matrix: Matrix, state: State, inputs: int, work: Work, result: Array
) -> None:
    """Fills `result` with CROWN lower bounds of `sign * z` for the given rows, perturbations included."""
    low = np.empty(LANES)
    for begin in range(0, len(rows), LANES):
        count = min(LANES, len(rows) - begin)
        fill(low, 0.0)
        top = -1
        for k in range(count):
            j = rows[begin + k]
            low[k] = sign * state.bias[j] - state.slack[j]
            for i in range(matrix.start[j], matrix.stop[j]):
                c = matrix.column[i]
                work.touched[c] = 1
                work.sums[c, k] += sign * matrix.value[i]
                top = max(top, c)
        _descend(matrix, state, inputs, top, low, work)
        for k in range(count):
            result[begin + k] = low[k]


@compiled
def lower_bounds_of_outputs(
    C: Array, output: Array, matrix: Matrix, state: State, inputs: int, work: Work, result: Array
) -> None:
    """Fills `result` with CROWN lower bounds of `C y`, perturbations included."""
    low = np.empty(LANES)
    for begin in range(0, len(C), LANES):
        count = min(LANES, len(C) - begin)
        fill(low, 0.0)
        top = -1
        for o in range(len(output)):
            for k in range(count):
                if C[begin + k, o] != 0.0:
                    work.touched[output[o]] = 1
                    work.sums[output[o], k] += C[begin + k, o]
                    top = max(top, output[o])
        _descend(matrix, state, inputs, top, low, work)
        for k in range(count):
            result[begin + k] = low[k]


class Entries(NamedTuple):
    """Room for entries of folded rows."""

    column: Array
    value: Array


@fused
def _stop(
    matrix: Matrix, state: State, inputs: int, top: int, constant: Array, slack: Array, work: Work, stopped: Array
) -> int:
    """Passes the sums from column `top` down to unstable activations and the input, and leaves them there.

    Fills constant and slack of each lane; returns how many columns in `stopped`, from the last to the first, hold sums.
    """
    lam = np.empty(LANES)
    count = 0
    for column in range(top, inputs - 1, -1):
        if work.touched[column] == 0:
            continue
        j = column - inputs
        if state.kind[j] == UNSTABLE:
            stopped[count] = column
            count += 1
            continue
        work.touched[column] = 0
        sums = work.sums[column]
        slope, intercept, extra = state.slope[j], state.intercept[j], state.activation_slack[j]
        bias, own = state.bias[j], state.slack[j]
        for k in range(LANES):
            a = sums[k]
            lam[k] = slope * a
            constant[k] += intercept * a + bias * lam[k]
            slack[k] += abs(a) * extra + abs(lam[k]) * own
            sums[k] = 0.0
        _spread(matrix, j, lam, work)
    for column in range(min(top, inputs - 1), -1, -1):
        if work.touched[column]:
            stopped[count] = column
            count += 1
            for k in range(LANES):
                a = work.sums[column, k]
                constant[k] += a * state.centre[column]
                slack[k] += abs(a) * state.input_slack[column]
    return count


@compiled
def _emit(
    lane: int,
    count: int,
    stopped: Array,
    place: Array,
    state: State,
    inputs: int,
    work: Work,
    entries: Entries,
    end: int,
) -> int:
    """Writes one lane's non-zero sums behind `end`, in ascending order of columns; returns the new end, -1: no room."""
    for i in range(count - 1, -1, -1):
        column = stopped[i]
        a = work.sums[column, lane]
        if column < inputs:
            a *= state.radius[column]
        if a != 0.0:
            if end == len(entries.value):
                return -1
            entries.column[end] = place[column]
            entries.value[end] = a
            end += 1
    return end


@compiled
def fold_block(
    rows: Array,
    C: Array,
    output: Array,
    matrix: Matrix,
    state: State,
    inputs: int,
    place: Array,
    work: Work,
    stopped: Array,
    entries: Entries,
    end: int,
    starts: Array,
    constant: Array,
    slack: Array,
) -> int:
    """Folds up to LANES rows: either the pre-activations `rows`, or where there are none the margins `C y`.

    Writes their entries behind `end`, `starts[k + 1]` behind lane k's; returns the new end, or -1 where there is no
    room (nothing is lost: the caller makes room and calls again).
    """
    fill(constant, 0.0)
    fill(slack, 0.0)
    top = -1
    for k in range(len(rows)):
        j = rows[k]
        constant[k], slack[k] = state.bias[j], state.slack[j]
        for i in range(matrix.start[j], matrix.stop[j]):
            c = matrix.column[i]
            work.touched[c] = 1
            work.sums[c, k] += matrix.value[i]
            top = max(top, c)
    for k in range(len(C)):
        for o in range(len(output)):
            if C[k, o] != 0.0:
                work.touched[output[o]] = 1
                work.sums[output[o], k] += C[k, o]
                top = max(top, output[o])
    count = _stop(matrix, state, inputs, top, constant, slack, work, stopped)
    for k in range(len(rows) + len(C)):
        if end >= 0:
            end = _emit(k, count, stopped, place, state, inputs, work, entries, end)
        starts[k + 1] = end
    for i in range(count):
        work.touched[stopped[i]] = 0
        for k in range(LANES):
            work.sums[stopped[i], k] = 0.0
    return end


@compiled
def transpose(
    start: Array, column: Array, value: Array, width: int, new_start: Array, row: Array, new_value: Array
) -> None:
    """Fills the same matrix by columns; rows ascend within each column."""
    for i in range(len(column)):
        new_start[column[i] + 1] += 1
    for c in range(width):
        new_start[c + 1] += new_start[c]
    place = new_start[:width].copy()
    for j in range(len(start) - 1):
        for i in range(start[j], start[j + 1]):
            at = place[column[i]]
            row[at] = j
            new_value[at] = value[i]
            place[column[i]] = at + 1


@compiled
def reorder(begin: Array, source: Array, entries: Entries, start: Array, column: Array, value: Array) -> None:
    """Copies the entries of row `source[j]` to row j."""
    for j in range(len(source)):
        for i in range(start[j + 1] - start[j]):
            column[start[j] + i] = entries.column[begin[source[j]] + i]
            value[start[j] + i] = entries.value[begin[source[j]] + i]
