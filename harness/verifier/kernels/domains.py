"""Bounds of 32 domains of one folded network at a time, compiled.

A *lane* is one domain; arrays have the lanes last. The formulas are in the package's docstring.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from harness.verifier.kernels.contract import LANES
from harness.verifier.kernels.lanes import accumulate

Array = NDArray[Any]

SPLITS = 3
"""Neurons that a domain may be split on in one round: with few open domains, several, so that no lane is idle."""
PRIOR = 1.0
"""Weight of the average pseudo-cost against a neuron's own observations."""


TINY = np.float32(1e-30)
"""Keeps a division by a gradient of zero finite."""


class Net(NamedTuple):
    """A folded network in one floating type; see `FoldedNetwork`."""

    inputs: int
    row_start: Array
    row_column: Array
    row_value: Array
    column_start: Array
    column_row: Array
    column_value: Array
    E: Array
    slack: Array
    e: Array
    lower: Array
    upper: Array
    slope: Array
    """Of the upper lines."""
    offset: Array


class Block(NamedTuple):
    """Lanes that are bounded together, and scratch; float arrays in the network's type."""

    spec: Array
    """`(LANES,)` int32: which margin each lane bounds."""
    phase: Array
    """`(n, LANES)` int8: 0 free, 1 split active (z >= 0), -1 split inactive (z <= 0)."""
    p: Array
    """`(n, LANES)`: alpha in [0, 1] of a free neuron, beta >= 0 of a split one."""
    A: Array
    """`(n, LANES)`: coefficients at the activations."""
    lam: Array
    """`(n + margins, LANES)`: coefficients at the pre-activations."""
    point: Array
    """`(d + n, LANES)`: the lowest corner, and behind it the activations that attain the bound."""
    lb: Array
    """`(LANES,)`."""


class Pseudo(NamedTuple):
    """What splits gained so far, per unit of their score."""

    gain: Array
    """`(n + 1,)`: sum over a neuron's splits; the last entry is over all neurons."""
    splits: Array


@numba.njit(nogil=True, cache=True, error_model="numpy")
def fill(row: Array, value: float) -> None:
    """Sets every element; loops compile in a tenth of the time that assignments to slices take."""
    for k in range(len(row)):
        row[k] = value


@numba.njit(nogil=True, cache=True, error_model="numpy")
def copy(source: Array, target: Array) -> None:
    """Copies a block, `(rows, LANES)`."""
    for j in range(source.shape[0]):
        for k in range(LANES):
            target[j, k] = source[j, k]


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def backward(net: Net, block: Block) -> None:
    """Fills lb with lower bounds of the lanes' margins, and A, lam and the lowest corner."""
    n = net.E.shape[0]
    lam, lb = block.lam, block.lb
    for j in range(n, len(lam)):
        fill(lam[j], 0)
    for k in range(LANES):
        lam[n + block.spec[k], k] = 1
        lb[k] = net.e[block.spec[k]]
    for j in range(n - 1, -1, -1):
        column = net.inputs + j
        row = block.A[j]
        fill(row, 0)
        accumulate(net.column_value, net.column_row, net.column_start[column], net.column_start[column + 1], lam, row)
        slope, offset, bias, slack = net.slope[j], net.offset[j], net.E[j], net.slack[j]
        phases, ps, out = block.phase[j], block.p[j], lam[j]
        # Written without branches, so that the lanes stay in vector registers.
        for k in range(LANES):
            a, s, p = row[k], ps.dtype.type(phases[k]), ps[k]
            size = abs(a)
            negative, positive = (a - size) / 2, (a + size) / 2
            free, active = 1 - s * s, (s * s + s) / 2
            through = free * (p * positive + slope * negative) + (active * a - s * p)
            out[k] = through
            lb[k] += through * bias - abs(through) * slack + free * negative * offset
    for column in range(net.inputs):
        row = block.point[column]
        fill(row, 0)
        accumulate(net.column_value, net.column_row, net.column_start[column], net.column_start[column + 1], lam, row)
        for k in range(LANES):
            a = row[k]
            lb[k] -= abs(a)
            row[k] = -1 if a > 0 else 1


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def ascend(net: Net, block: Block, alpha_step: float, beta_step: float, stepped: Array) -> None:
    """Fills `stepped` with multipliers one sign step up the bound's gradient, by a forward pass from the corner.

    `backward` must have filled A and the corner for the block's multipliers. The activations that attain the bound go
    behind the corner. Beta moves relative to the size of its neuron's coefficient.
    """
    one = block.p.dtype.type(1)
    alpha_move, beta_move = one * alpha_step, one * beta_step
    for j in range(net.E.shape[0]):
        z = block.point[net.inputs + j]
        fill(z, net.E[j])
        accumulate(net.row_value, net.row_column, net.row_start[j], net.row_start[j + 1], block.point, z)
        slope, lower = net.slope[j], net.lower[j]
        A, phases, ps, out = block.A[j], block.phase[j], block.p[j], stepped[j]
        for k in range(LANES):
            a, s, p, value = A[k], one * phases[k], ps[k], z[k]
            free, active = 1 - s * s, (s * s + s) / 2
            on = one * (a >= 0)
            up = 2 * (one * (value > 0)) - 1
            alpha = min(max(p + on * alpha_move * up, 0 * one), one)
            beta = max(p - s * up * beta_move * abs(a), 0 * one)
            out[k] = free * alpha + (1 - free) * beta
            relaxed = on * p * value + (1 - on) * slope * (value - lower)
            z[k] = free * relaxed + active * value


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def polyak(net: Net, block: Block, target: Array, stepped: Array) -> None:
    """Fills `stepped` with multipliers one Polyak step towards `target`, `(LANES,)`: for leaves without free neurons.

    There the bound is a concave function of beta alone, and it must exceed 0 or the leaf holds a point that violates.
    The step is (target - bound) / |gradient|^2 along the gradient -s z.
    """
    n = net.E.shape[0]
    norm = np.zeros(LANES, block.p.dtype)
    for j in range(n):
        z = block.point[net.inputs + j]
        fill(z, net.E[j])
        accumulate(net.row_value, net.row_column, net.row_start[j], net.row_start[j + 1], block.point, z)
        for k in range(LANES):
            s = block.phase[j, k]
            gradient = -s * z[k]
            if gradient < 0 and block.p[j, k] == 0:
                gradient = 0
            stepped[j, k] = gradient
            norm[k] += gradient * gradient
            if s <= 0:
                z[k] = 0
    for j in range(n):
        for k in range(LANES):
            length = (target[k] - block.lb[k]) / max(norm[k], TINY)
            stepped[j, k] = max(block.p[j, k] + length * stepped[j, k], 0)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def improve(
    net: Net, block: Block, iterations: int, alpha_step: float, beta_step: float, leaf: bool, best: Array, kept: Array,
    stepped: Array,
) -> None:  # fmt: skip
    """Takes some steps on the multipliers; `best` and `block.p` become the best bounds and their multipliers.

    A lane is never worse than with the multipliers it came with. A and the corner are the last step's.

    With `leaf`, where all neurons are split in the lanes that matter, the steps are Polyak's. `kept` and `stepped` are
    scratch, shaped as p.
    """
    backward(net, block)
    copy(block.p, kept)
    better, target, hope = np.empty(LANES, np.bool_), np.empty(LANES, best.dtype), np.empty(LANES, best.dtype)
    for k in range(LANES):
        best[k] = block.lb[k]
        hope[k] = abs(best[k]) + np.float32(1e-2)
    shrink = 1.0
    for _ in range(iterations):
        if leaf:
            for k in range(LANES):
                target[k] = max(best[k], np.float32(0)) + hope[k]
            polyak(net, block, target, stepped)
        else:
            ascend(net, block, alpha_step * shrink, beta_step * shrink, stepped)
        shrink *= 0.9
        copy(stepped, block.p)
        backward(net, block)
        for k in range(LANES):
            hope[k] *= np.float32(0.97)
            better[k] = block.lb[k] > best[k]
            best[k] = max(best[k], block.lb[k])
        for j in range(block.p.shape[0]):
            row, tried = kept[j], stepped[j]
            for k in range(LANES):
                row[k] = tried[k] if better[k] else row[k]
    copy(kept, block.p)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def choose(net: Net, block: Block, pseudo: Pseudo, branch: Array, score: Array) -> None:
    """Fills `branch` with the free neurons that promise most for each lane, best first, `score` with the first's score.

    The promise is the intercept score -min(A, 0) * upper offset (what the upper line costs the bound) times what splits
    of this neuron gained so far for each unit of it. Where no upper line costs anything, the widest lower line decides.
    """
    n = net.E.shape[0]
    average = pseudo.gain[n] / pseudo.splits[n]
    promised, widest, other = (
        np.zeros((SPLITS, LANES), np.float32),
        np.empty(LANES, np.float32),
        np.empty(LANES, np.int32),
    )
    value, width = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for k in range(LANES):
        widest[k], other[k], score[k] = -1, -1, 0
        fill(branch[k], -1)
    for j in range(n):
        gain = np.float32((pseudo.gain[j] + PRIOR * average) / (pseudo.splits[j] + PRIOR)) * net.offset[j]
        narrow = min(net.upper[j], -net.lower[j])
        A, phases = block.A[j], block.phase[j]
        some = False
        for k in range(LANES):
            size, s = abs(A[k]), np.float32(phases[k])
            free = 1 - s * s
            value[k] = free * gain * (size - A[k]) / 2
            width[k] = free * (size * narrow + 1) - 1
            some |= (value[k] > promised[SPLITS - 1, k]) | (width[k] > widest[k])
        if some:
            for k in range(LANES):
                if width[k] > widest[k]:
                    widest[k], other[k] = width[k], j
                if value[k] > promised[SPLITS - 1, k]:
                    at = SPLITS - 1
                    while at > 0 and value[k] > promised[at - 1, k]:
                        promised[at, k], branch[k, at] = promised[at - 1, k], branch[k, at - 1]
                        at -= 1
                    promised[at, k], branch[k, at] = value[k], j
    for k in range(LANES):
        if branch[k, 0] < 0:
            branch[k, 0] = other[k]
        else:
            score[k] = -block.A[branch[k, 0], k] * net.offset[branch[k, 0]]
