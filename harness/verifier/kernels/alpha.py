"""Compiled search for the lower slopes (alpha) of one block of rows, and the float64 pass that makes a bound of them.

Each lane bounds one row and has slopes of its own (Xu et al., "Fast and Complete", ICLR 2021). The search runs on the
folded rows below the block, in whatever floating type they come; its result is advice only. `bounded_rows` then passes
the network's own rows back once, in float64 and with all perturbations, so no slope that the search could find makes a
bound wrong.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harness.verifier.kernels.contract import LANES
from harness.verifier.kernels.jit import compiled, fused
from harness.verifier.kernels.lanes import accumulate, scatter
from harness.verifier.kernels.passes import DEAD, UNSTABLE, Array, Matrix, State, Work

PASSED = 2
"""Phase of a folded neuron that has become active since it was folded."""


class Below(NamedTuple):
    """The folded rows that a block reads, directly or not, renumbered; one floating type throughout."""

    inputs: int
    row_start: Array
    """By rows: `z = E + M [t; h]`, M `(n, inputs + n)`."""
    row_column: Array
    row_value: Array
    column_start: Array
    """The same by columns."""
    column_row: Array
    column_value: Array
    E: Array
    """`(n,)`."""
    lb: Array
    upper_slope: Array
    upper_offset: Array
    phase: Array
    """`(n,)` int8: 0 relaxed, 1 split active (z >= 0), -1 split inactive (z <= 0), PASSED: active for good."""


@compiled
def reach(rows: Array, start: Array, column: Array, inputs: int, gone: Array, reached: Array) -> None:
    """Marks every column that the folded rows read, directly or through rows below them; none of the rows `gone`."""
    top = -1
    for j in rows:
        for i in range(start[j], start[j + 1]):
            reached[column[i]] = 1
            top = max(top, column[i])
    for c in range(top, inputs - 1, -1):
        if reached[c]:
            j = c - inputs
            if gone[j]:
                reached[c] = 0
                continue
            for i in range(start[j], start[j + 1]):
                reached[column[i]] = 1


@compiled
def restrict(
    rows: Array, start: Array, column: Array, value: Array, place: Array, new_start: Array, new_column: Array,
    new_value: Array,
) -> int:  # fmt: skip
    """Copies folded rows with renumbered columns, those without a place left out; returns the number of entries."""
    end = 0
    for k in range(len(rows)):
        new_start[k] = end
        for i in range(start[rows[k]], start[rows[k] + 1]):
            c = place[column[i]]
            if c >= 0:
                new_column[end] = c
                new_value[end] = value[i]
                end += 1
    new_start[len(rows)] = end
    return end


@compiled
def spread_rows(rows: Array, start: Array, column: Array, value: Array, place: Array, A: Array) -> None:
    """Adds the entries of folded row `rows[k]` to lane k of `A`, `(columns, LANES)`, at their places."""
    for k in range(len(rows)):
        for i in range(start[rows[k]], start[rows[k] + 1]):
            c = place[column[i]]
            if c >= 0:
                A[c, k] += value[i]


@fused
def descend(below: Below, top: Array, p: Array, A: Array, lam: Array, point: Array, low: Array) -> None:
    """Adds each lane's minimum of `top [t; h]` over the relaxed folded network to `low`.

    Fills A and lam `(n, LANES)`, and `point[:inputs]` with the corner at which the minimum is attained.

    Args:
        below: the folded rows.
        top: `(inputs + n, LANES)`.
        p: `(n, LANES)`: lower slope of a relaxed neuron, multiplier of a split one.
        A: filled: coefficients of the activations.
        lam: filled: coefficients of the pre-activations.
        point: `(inputs + n, LANES)`.
        low: `(LANES,)`.
    """
    inputs = below.inputs
    for j in range(len(below.E) - 1, -1, -1):
        column = inputs + j
        sums, out = A[j], lam[j]
        for k in range(LANES):
            sums[k] = top[column, k]
        accumulate(
            below.column_value, below.column_row, below.column_start[column], below.column_start[column + 1], lam, sums
        )
        s, constant = below.phase[j], below.E[j]
        if s == 0:
            slope, offset = below.upper_slope[j], below.upper_offset[j]
            for k in range(LANES):
                a = sums[k]
                out[k] = (slope if a < 0 else p[j, k]) * a
                low[k] += out[k] * constant + min(a, a * 0) * offset
        else:
            for k in range(LANES):
                kept = sums[k] if s > 0 else sums[k] * 0
                out[k] = kept if s == PASSED else kept - s * p[j, k]
                low[k] += out[k] * constant
    for column in range(inputs):
        sums = point[column]
        for k in range(LANES):
            sums[k] = top[column, k]
        accumulate(
            below.column_value, below.column_row, below.column_start[column], below.column_start[column + 1], lam, sums
        )
        for k in range(LANES):
            a = sums[k]
            low[k] -= abs(a)
            sums[k] = -1 if a > 0 else 1


@fused
def climb(below: Below, step: Array, A: Array, point: Array, gone: Array, p: Array) -> None:
    """Moves `p` one step up each lane's bound, by one forward pass from the corner that `descend` found.

    The bound is concave in p. Its derivative by the slope of a neuron with A >= 0 is A times the pre-activation at the
    point that attains the minimum; by a split neuron's multiplier, minus phase times that pre-activation. A slope moves
    by its derivative over the root of its squared derivatives so far (Duchi et al., AdaGrad, 2011), a multiplier by its
    derivative's sign relative to the neuron's coefficient.

    Args:
        below: the folded rows.
        step: `(1,)` of p's type: length of the step.
        A: what `descend` left.
        point: what `descend` left; the activations are filled in.
        gone: `(n, LANES)`: summed squares of the slopes' derivatives; changed.
        p: `(n, LANES)`: slopes, kept within [0, 1], and multipliers, kept >= 0; changed.
    """
    z = np.empty(LANES, p.dtype)
    length = step[0]
    for j in range(len(below.E)):
        for k in range(LANES):
            z[k] = below.E[j]
        accumulate(below.row_value, below.row_column, below.row_start[j], below.row_start[j + 1], point, z)
        s, here = below.phase[j], point[below.inputs + j]
        if s == 0:
            slope, low = below.upper_slope[j], below.lb[j]
            for k in range(LANES):
                q, a = p[j, k], A[j, k]
                here[k] = slope * (z[k] - low) if a < 0 else q * z[k]
                g = a * z[k] if a > 0 else a * 0
                gone[j, k] += g * g
                far = gone[j, k]
                moved = q + length * g / np.sqrt(far) if far > 0 else q
                p[j, k] = min(max(moved, q * 0), q * 0 + 1)
        elif s == PASSED:
            for k in range(LANES):
                here[k] = z[k]
        else:
            for k in range(LANES):
                here[k] = z[k] if s > 0 else z[k] * 0
                move = length * abs(A[j, k])
                p[j, k] = max(p[j, k] + (move if s * z[k] < 0 else -move), z[k] * 0)


@compiled
def search(
    below: Below, top: Array, constant: Array, count: int, iterations: int, step: float, decay: float, tolerance: float,
    p: Array, best: Array
) -> int:  # fmt: skip
    """Improves `p` in place by up to `iterations` steps, lane by lane the best of them; returns the steps made.

    Fills `best`, `(LANES,)`, with the bounds of `constant + top [t; h]` in the search's own arithmetic: advice. Stops
    once all lanes are above zero, or where three steps together gain less than `tolerance` of the bounds' sizes.

    Args:
        below: the folded rows.
        top: `(inputs + n, LANES)`.
        constant: `(LANES,)`.
        count: lanes in use; the others decide nothing.
        iterations: most steps.
        step: length of the first step.
        decay: factor of the step from one iteration to the next.
        tolerance: see above.
        p: `(n, LANES)`: where to start; changed.
        best: filled.
    """
    A, lam, gone = np.empty_like(p), np.empty_like(p), np.zeros_like(p)
    point, length = np.empty_like(top), np.empty(1, p.dtype)
    trial, low = p.copy(), constant.copy()
    descend(below, top, trial, A, lam, point, low)
    best[:] = low
    before = np.sum(best[:count])
    for i in range(iterations):
        if np.all(best[:count] > 0):
            return i
        length[0] = step * decay**i
        climb(below, length, A, point, gone, trial)
        low[:] = constant
        descend(below, top, trial, A, lam, point, low)
        _keep_better(trial, low, p, best)
        if i % 3 == 2:
            now = np.sum(best[:count])
            if now - before < tolerance * np.sum(np.abs(best[:count])):
                return i + 1
            before = now
    return iterations


@compiled
def _keep_better(trial: Array, low: Array, p: Array, best: Array) -> None:
    """Takes over the lanes that are better than the best so far."""
    better = low > best
    for k in range(LANES):
        if better[k]:
            best[k] = low[k]
    for j in range(len(p)):
        for k in range(LANES):
            p[j, k] = trial[j, k] if better[k] else p[j, k]


@fused
def _spread(matrix: Matrix, j: int, lam: Array, work: Work) -> None:
    """Adds lam times row j to the sums of the columns that it reads."""
    for i in range(matrix.start[j], matrix.stop[j]):
        work.touched[matrix.column[i]] = 1
    scatter(matrix.value, matrix.column, matrix.start[j], matrix.stop[j], work.sums, lam)


@fused
def _through(matrix: Matrix, state: State, j: int, s: int, own: Array, low: Array, lam: Array, work: Work) -> None:
    """Passes the sums at the activation of row j back to what the row reads; `own`: its slopes or multipliers."""
    sums = work.sums[state.radius.size - len(state.kind) + j]
    kind = state.kind[j]
    if kind == UNSTABLE:
        upper, offset = state.upper_slope[j], state.upper_offset[j]
        for k in range(LANES):
            a = sums[k]
            lam[k] = (upper if a < 0.0 else own[k]) * a
            low[k] += min(a, 0.0) * offset
    else:
        slope, intercept, extra = state.slope[j], state.intercept[j], state.activation_slack[j]
        for k in range(LANES):
            a = 0.0 if kind == DEAD else sums[k]
            lam[k] = slope * a - s * own[k]
            low[k] += intercept * a - abs(a) * extra
    bias, slack = state.bias[j], state.slack[j]
    for k in range(LANES):
        low[k] += bias * lam[k] - slack * abs(lam[k])
        sums[k] = 0.0
    _spread(matrix, j, lam, work)


@fused
def bounded_rows(
    rows: Array, sign: float, matrix: Matrix, state: State, inputs: int, phase: Array, place: Array, p: Array,
    work: Work, result: Array,
) -> None:  # fmt: skip
    """Fills `result` with lower bounds of `sign * z` for up to LANES rows, perturbations included.

    Guarantees for slopes within [0, 1] and multipliers >= 0: no point of the box, with any of the perturbations, that
    obeys the splits goes below a bound. With the state's own slopes these are the bounds of `passes.lower_bounds`.

    Args:
        rows: `(count,)`.
        sign: 1 or -1.
        matrix: the network over the box; rows and columns of dead neurons may be left in.
        state: what is known of the rows below.
        inputs: number of input columns.
        phase: `(rows,)` int8: 1 split active, -1 split inactive, 0 otherwise.
        place: `(rows,)`: each row's place in `p`, -1 for none: the state's slope then, and no multiplier.
        p: `(n, LANES)`: slopes and multipliers.
        work: scratch, all zero before and after.
        result: `(count,)`.
    """
    low, lam, own = np.zeros(LANES), np.empty(LANES), np.empty(LANES)
    top = -1
    for k in range(len(rows)):
        j = rows[k]
        low[k] = sign * state.bias[j] - state.slack[j]
        for i in range(matrix.start[j], matrix.stop[j]):
            c = matrix.column[i]
            work.touched[c] = 1
            work.sums[c, k] += sign * matrix.value[i]
            top = max(top, c)
    for column in range(top, inputs - 1, -1):
        j = column - inputs
        at, s = place[j], phase[j]
        if work.touched[column] or (s != 0 and at >= 0):
            work.touched[column] = 0
            for k in range(LANES):
                own[k] = np.float64(p[at, k]) if at >= 0 else (state.lower_slope[j] if state.kind[j] == UNSTABLE else 0)
            _through(matrix, state, j, s, own, low, lam, work)
    for column in range(inputs):
        if work.touched[column]:
            work.touched[column] = 0
            centre, reached = state.centre[column], state.radius[column] + state.input_slack[column]
            for k in range(LANES):
                a = work.sums[column, k]
                low[k] += a * centre - abs(a) * reached
                work.sums[column, k] = 0.0
    for k in range(len(rows)):
        result[k] = low[k]


@fused
def losses(C: Array, output: Array, matrix: Matrix, state: State, inputs: int, work: Work, lost: Array) -> None:
    """Raises `lost`, `(rows,)`, to what each row's upper line costs the CROWN bound of any of up to LANES margins.

    Args:
        C: `(count, outputs)`: the margins are `C y`.
        output: `(outputs,)`: columns of the outputs.
        matrix: the network over the box.
        state: what is known of all rows.
        inputs: number of input columns.
        work: scratch, all zero before and after.
        lost: `(rows,)`; raised.
    """
    low, lam, own = np.zeros(LANES), np.empty(LANES), np.empty(LANES)
    top = -1
    for o in range(len(output)):
        for k in range(len(C)):
            work.touched[output[o]] = 1
            work.sums[output[o], k] += C[k, o]
            top = max(top, output[o])
    for column in range(top, inputs - 1, -1):
        if work.touched[column]:
            work.touched[column] = 0
            j = column - inputs
            if state.kind[j] == UNSTABLE:
                for k in range(len(C)):
                    lost[j] = max(lost[j], -work.sums[column, k] * state.upper_offset[j])
            own[:] = state.lower_slope[j] if state.kind[j] == UNSTABLE else 0.0
            _through(matrix, state, j, 0, own, low, lam, work)
    for column in range(inputs):
        work.touched[column] = 0
        work.sums[column] = 0.0
