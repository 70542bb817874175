"""Linear functions that must be at most 0 in what is open of a box: they shrink the box, or exclude it altogether.

The functions are linear lower bounds: of a violation region's margins, and of what the box's splits say. A weighted sum
of them, no weight below 0, must be at most 0 too. The weights come from a small linear program; whether they prove
anything is decided by the sum's own lowest value on the box, less an allowance, so its rounding does no harm.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.verifier.kernels.boxes_lanes import WIDEST
from harness.verifier.kernels.boxes_network import BoxWork
from harness.verifier.kernels.jit import compiled

Array = NDArray[Any]
SPLITS = 24
"""Most neurons that are split on the way to one box."""
MIXED = WIDEST + SPLITS
FUNCTIONS = MIXED + 1
CLIP_ROUNDS = 2
CLIP_ROUNDING = 2.0**-44
"""What a function's value may be off, of its summed magnitudes; weighted sums of `FUNCTIONS` functions included."""
PIVOTS = 60
PIVOT_TOLERANCE = 1e-10


class Functions(NamedTuple):
    """Functions `linear x + constant`: margins first, from WIDEST on the splits' planes, at MIXED a sum of others."""

    linear: Array
    """`(FUNCTIONS, inputs)`."""
    constant: Array
    size: Array
    """`(FUNCTIONS,)`: summed magnitudes of each function on the box."""
    used: Array
    """`(FUNCTIONS,)`: those that concern the region in hand."""
    scale: Array
    """`(FUNCTIONS,)`: sizes of the used functions in the linear program."""
    tableau: Array
    """`(inputs + 2, FUNCTIONS + 2 inputs + 1)`: constraints, at last the costs; right-hand sides in the last column."""
    basis: Array


def functions_room(inputs: int) -> Functions:
    """Returns room for the functions of one thread."""
    return Functions(
        np.zeros((FUNCTIONS, inputs)),
        np.zeros(FUNCTIONS),
        np.zeros(FUNCTIONS),
        np.zeros(FUNCTIONS, np.int64),
        np.zeros(FUNCTIONS),
        np.zeros((inputs + 2, FUNCTIONS + 2 * inputs + 1)),
        np.zeros(inputs + 1, np.int64),
    )


@compiled
def keep_margins(work: BoxWork, fun: Functions, lanes: int, count: int) -> None:
    """Copies the margins' linear functions out of a backward pass."""
    for k in range(count):
        fun.constant[k] = work.constant[k]
        fun.size[k] = abs(work.constant[k])
        for i in range(fun.linear.shape[1]):
            fun.linear[k, i] = work.A[i * lanes + k]
            fun.size[k] += abs(fun.linear[k, i]) * work.largest[i]


@compiled
def keep_planes(work: BoxWork, fun: Functions, split: Array, count: int) -> None:
    """Copies what each split says of the input: the bound of its row against it is at most 0."""
    for k in range(count):
        row, side, to = split[k] // 2, split[k] % 2, WIDEST + k
        fun.constant[to] = work.reach_constant[side, row]
        fun.size[to] = abs(fun.constant[to])
        for i in range(fun.linear.shape[1]):
            fun.linear[to, i] = work.reach[side, row, i]
            fun.size[to] += abs(fun.linear[to, i]) * work.largest[i]


@compiled
def clip(fun: Functions, largest: Array, k: int, lower: Array, upper: Array) -> bool:
    """Shrinks a box to what function k leaves of it; returns False if that is nothing."""
    total = fun.constant[k] - CLIP_ROUNDING * fun.size[k]
    for i in range(len(lower)):
        a = fun.linear[k, i]
        total += a * (lower[i] if a > 0 else upper[i])
    if total > 0:
        return False
    if not total <= 0:
        return True
    for i in range(len(lower)):
        a = fun.linear[k, i]
        if a == 0:
            continue
        reach = -total / abs(a) * (1 + 1e-12) + 1e-12 * largest[i]
        if a > 0:
            upper[i] = min(upper[i], lower[i] + reach)
        else:
            lower[i] = max(lower[i], upper[i] - reach)
    return True


@compiled
def fill_tableau(fun: Functions, count: int, lower: Array, upper: Array) -> None:
    """Writes the program for the best weights: largest lowest value on the box of a sum of the used functions.

    In coordinates y of [-1, 1]: maximise `w c - sum(u + v)` with `sum w A + u - v = 0`, `sum w scale = 1`; w, u, v at
    least 0. The basis is the first function alone; with its u or v it is feasible.
    """
    inputs, tableau = len(lower), fun.tableau
    norm, last, rhs = inputs, inputs + 1, count + 2 * inputs
    for i in range(inputs + 2):
        for j in range(rhs + 1):
            tableau[i, j] = 0.0
    for t in range(count):
        k = fun.used[t]
        value, scale = fun.constant[k], 0.0
        for i in range(inputs):
            value += fun.linear[k, i] * 0.5 * (lower[i] + upper[i])
            tableau[i, t] = fun.linear[k, i] * 0.5 * (upper[i] - lower[i])
            scale += abs(tableau[i, t])
        scale = max(scale, abs(value), 1e-300)
        fun.scale[t] = scale
        tableau[last, t] = value / scale
        tableau[norm, t] = 1.0
        for i in range(inputs):
            tableau[i, t] /= scale
    for i in range(inputs):
        tableau[i, count + 2 * i], tableau[i, count + 2 * i + 1] = 1.0, -1.0
        tableau[last, count + 2 * i], tableau[last, count + 2 * i + 1] = -1.0, -1.0
    tableau[norm, rhs] = 1.0
    fun.basis[norm] = 0
    subtract_row(tableau, norm, last, tableau[last, 0], rhs)
    for i in range(inputs):
        subtract_row(tableau, norm, i, tableau[i, 0], rhs)
        fun.basis[i] = count + 2 * i
        if tableau[i, rhs] < 0:
            fun.basis[i] += 1
            for j in range(rhs + 1):
                tableau[i, j] = -tableau[i, j]
        subtract_row(tableau, i, last, tableau[last, fun.basis[i]], rhs)


@compiled
def subtract_row(tableau: Array, row: int, target: int, factor: float, rhs: int) -> None:
    """Subtracts a multiple of a row of the tableau from another."""
    for j in range(rhs + 1):
        tableau[target, j] -= factor * tableau[row, j]


@compiled
def pivot(fun: Functions, count: int, inputs: int) -> bool:
    """Makes one step of the simplex method; returns False at the optimum."""
    tableau, last, rhs = fun.tableau, inputs + 1, count + 2 * inputs
    enter, best = -1, PIVOT_TOLERANCE
    for j in range(rhs):
        if tableau[last, j] > best:
            enter, best = j, tableau[last, j]
    if enter < 0:
        return False
    leave, lowest = -1, np.inf
    for i in range(inputs + 1):
        if tableau[i, enter] > PIVOT_TOLERANCE and tableau[i, rhs] / tableau[i, enter] < lowest:
            leave, lowest = i, tableau[i, rhs] / tableau[i, enter]
    if leave < 0:
        return False
    scale = 1.0 / tableau[leave, enter]
    for j in range(rhs + 1):
        tableau[leave, j] *= scale
    for i in range(inputs + 2):
        if i != leave and tableau[i, enter] != 0:
            subtract_row(tableau, leave, i, tableau[i, enter], rhs)
    fun.basis[leave] = enter
    return True


@compiled
def mix(fun: Functions, count: int, lower: Array, upper: Array) -> None:
    """Writes to MIXED the sum of the used functions, no weight below 0, whose lowest value on the box is largest."""
    inputs = len(lower)
    rhs = count + 2 * inputs
    fill_tableau(fun, count, lower, upper)
    for _ in range(PIVOTS):
        # the corner of the costs holds minus the value so far: a positive sum is all that is wanted
        if fun.tableau[inputs + 1, rhs] < -1e-6 or not pivot(fun, count, inputs):
            break
    fun.constant[MIXED], fun.size[MIXED] = 0.0, 0.0
    for i in range(inputs):
        fun.linear[MIXED, i] = 0.0
    for row in range(inputs + 1):
        t = fun.basis[row]
        if t < count:
            k, weight = fun.used[t], max(fun.tableau[row, rhs], 0.0) / fun.scale[t]
            fun.constant[MIXED] += weight * fun.constant[k]
            fun.size[MIXED] += weight * fun.size[k]
            for i in range(inputs):
                fun.linear[MIXED, i] += weight * fun.linear[k, i]


@compiled
def clip_all(
    fun: Functions, largest: Array, first: int, last: int, top: int, splits: int, lower: Array, upper: Array
) -> bool:
    """Shrinks a box by margins [first, last), the splits' planes and a sum; returns False if nothing is left.

    Args:
        fun: the functions.
        largest: largest magnitude of each input on the box.
        first: first margin.
        last: one behind the last.
        top: the margin that is highest.
        splits: number of planes.
        lower: the box, changed in place.
        upper: as `lower`.
    """
    fun.used[0] = top
    count = 1
    for k in range(first, last):
        if k != top:
            fun.used[count] = k
            count += 1
    for k in range(WIDEST, WIDEST + splits):
        fun.used[count] = k
        count += 1
    for _ in range(CLIP_ROUNDS if count > 1 else 1):
        for t in range(count):
            if not clip(fun, largest, fun.used[t], lower, upper):
                return False
    if count == 1:
        return True
    mix(fun, count, lower, upper)
    return clip(fun, largest, MIXED, lower, upper)
