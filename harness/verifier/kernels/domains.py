"""Bounds of 32 domains of one folded network at a time, compiled.

A *lane* is one domain; arrays have the lanes last. The formulas are in the package's docstring.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.verifier.kernels.contract import LANES
from harness.verifier.kernels.jit import compiled, fused
from harness.verifier.kernels.tiles import WIDTH, Tiles, gather

Array = NDArray[Any]

SPLITS = 3
"""Neurons that a domain may be split on in one round: with few open domains, several, so that no lane is idle."""
PRIOR = 1.0
"""Weight of the average pseudo-cost against a neuron's own observations."""


HOPE = 0.1
"""How far above zero a step aims at first, as a share of the bound: only what is above zero counts."""
FADING = 0.97
"""Factor on that from one step to the next."""
FLOOR = np.float32(1e-6)
"""Smallest squared scale of a beta."""
TINY = np.float32(1e-30)
"""Keeps a division by a gradient of zero finite."""


class Net(NamedTuple):
    """A folded network in one floating type; see `FoldedNetwork`."""

    inputs: int
    forward: Tiles
    """M by rows, `(n, d + n)`, layer by layer."""
    backward: Tiles
    """M with C' under it by columns, `(d + n, n + margins)`: neurons from the last layer down, then the inputs."""
    C: Array
    """`(d + n, margins)`."""
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


@compiled
def fill(row: Array, value: float) -> None:
    """Sets every element; loops compile in a tenth of the time that assignments to slices take."""
    for k in range(len(row)):
        row[k] = value


@compiled
def copy(source: Array, target: Array) -> None:
    """Copies a block, `(rows, LANES)`."""
    for j in range(source.shape[0]):
        for k in range(LANES):
            target[j, k] = source[j, k]


@fused
def backward(net: Net, block: Block) -> None:
    """Fills lb with lower bounds of the lanes' margins, and A, lam and the lowest corner."""
    n, tiles = net.E.shape[0], net.backward
    lam, lb, A, phase, p, point = block.lam, block.lb, block.A, block.phase, block.p, block.point
    for j in range(n, len(lam)):
        for k in range(LANES):
            lam[j, k] = 0
    for k in range(LANES):
        lam[n + block.spec[k], k] = 1
        lb[k] = net.e[block.spec[k]]
    sums = np.empty((WIDTH, LANES), p.dtype)
    for t in range(len(tiles.width)):
        gather(
            tiles.value, tiles.column, tiles.start[t], tiles.start[t + 1], tiles.first[t], tiles.width[t], lam, sums
        )  # fmt: skip
        for m in range(tiles.width[t]):
            column = tiles.row[t, m]
            j = column - net.inputs
            if j < 0:
                for k in range(LANES):
                    a = sums[m, k]
                    lb[k] -= abs(a)
                    point[column, k] = -1 if a > 0 else 1
                continue
            slope, offset, bias, slack = net.slope[j], net.offset[j], net.E[j], net.slack[j]
            # Written without branches, so that the lanes stay in vector registers.
            for k in range(LANES):
                a, s, q = sums[m, k], p.dtype.type(phase[j, k]), p[j, k]
                size = abs(a)
                negative, positive = (a - size) / 2, (a + size) / 2
                free, active = 1 - s * s, (s * s + s) / 2
                through = free * (q * positive + slope * negative) + (active * a - s * q)
                A[j, k] = a
                lam[j, k] = through
                lb[k] += through * bias - abs(through) * slack + free * negative * offset


@fused
def ascend(net: Net, block: Block, target: Array, stepped: Array) -> None:
    """Fills `stepped` with multipliers one step up the bound's gradient.

    `backward` must have filled A, the corner and lb for the block's multipliers. The gradient comes from one forward
    pass from the corner: A z for alpha, -s z for beta; the activations that attain the bound go behind the corner. The
    step is Polyak's, `(target - bound) / |gradient|^2`, with beta measured relative to its neuron's coefficient.

    Args:
        net: the network.
        block: its domains.
        target: `(LANES,)`: bounds to aim at.
        stepped: `(n, LANES)`.
    """
    tiles, A, phase, p, point = net.forward, block.A, block.phase, block.p, block.point
    one = p.dtype.type(1)
    norm, sums = np.zeros(LANES, p.dtype), np.empty((WIDTH, LANES), p.dtype)
    for t in range(len(tiles.width)):
        gather(
            tiles.value, tiles.column, tiles.start[t], tiles.start[t + 1], tiles.first[t], tiles.width[t], point, sums
        )  # fmt: skip
        for m in range(tiles.width[t]):
            j = tiles.row[t, m]
            at = net.inputs + j
            slope, lower, bias = net.slope[j], net.lower[j], net.E[j]
            for k in range(LANES):
                a, s, q, z = A[j, k], one * phase[j, k], p[j, k], sums[m, k] + bias
                free, active, on = 1 - s * s, (s * s + s) / 2, one * (a >= 0)
                gradient = free * on * a * z - s * z
                # A multiplier at the end of its range that is pushed outwards does not move.
                stuck = ((q <= 0) & (gradient < 0)) | ((q >= 1) & (gradient > 0) & (s == 0))
                gradient *= 1 - one * stuck
                scale = free + (1 - free) * (a * a + FLOOR)
                norm[k] += scale * gradient * gradient
                stepped[j, k] = scale * gradient
                point[at, k] = free * (on * q * z + (1 - on) * slope * (z - lower)) + active * z
    step = np.empty(LANES, p.dtype)
    for k in range(LANES):
        step[k] = (target[k] - block.lb[k]) / max(norm[k], TINY)
    for j in range(net.E.shape[0]):
        for k in range(LANES):
            s = one * phase[j, k]
            moved = max(p[j, k] + step[k] * stepped[j, k], 0 * one)
            stepped[j, k] = min(moved, one) * (1 - s * s) + moved * (s * s)


@compiled
def improve(net: Net, block: Block, iterations: int, watched: Array, best: Array, kept: Array, stepped: Array) -> None:
    """Takes some steps on the multipliers; `best` and `block.p` become the best bounds and their multipliers.

    A lane is never worse than with the multipliers it came with. Ends as soon as all watched lanes are above 0. A and
    the corner are the last step's.

    Args:
        net: the network.
        block: its domains.
        iterations: steps at most.
        watched: `(LANES,)` bool.
        best: `(LANES,)`.
        kept: scratch, as p.
        stepped: scratch, as p.
    """
    backward(net, block)
    copy(block.p, kept)
    better, target, hope = np.empty(LANES, np.bool_), np.empty(LANES, best.dtype), np.empty(LANES, best.dtype)
    waiting = 0
    for k in range(LANES):
        best[k] = block.lb[k]
        hope[k] = np.float32(HOPE) * (abs(best[k]) + np.float32(1e-2))
        waiting += watched[k] and best[k] <= 0
    for _ in range(iterations):
        if waiting == 0:
            break
        waiting = 0
        for k in range(LANES):
            target[k] = max(best[k], np.float32(0)) + hope[k]
        ascend(net, block, target, stepped)
        copy(stepped, block.p)
        backward(net, block)
        for k in range(LANES):
            hope[k] *= np.float32(FADING)
            better[k] = block.lb[k] > best[k]
            best[k] = max(best[k], block.lb[k])
            waiting += watched[k] and best[k] <= 0
        for j in range(block.p.shape[0]):
            for k in range(LANES):
                kept[j, k] = stepped[j, k] if better[k] else kept[j, k]
    copy(kept, block.p)


@compiled
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
        A, phase = block.A, block.phase
        some = False
        for k in range(LANES):
            size, s = abs(A[j, k]), np.float32(phase[j, k])
            free = 1 - s * s
            value[k] = free * gain * (size - A[j, k]) / 2
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
