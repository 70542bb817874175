"""Counterexamples in few dimensions by climbing: many points, each moved at random where that brings it closer.

Gradients help little here: a region of few constraints in a box of few inputs is found by sampling, its thin corners by
steps whose size shrinks. Thirty-two points are evaluated at once, in float64; nothing is concluded from it.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.verifier.kernels.boxes_lanes import WIDEST, accumulate_32
from harness.verifier.kernels.boxes_network import BoxNetwork, smallest_network
from harness.verifier.kernels.jit import compiled, fused

Array = NDArray[Any]
CLIMBERS = 4 * WIDEST
SAMPLES = 16
"""Random points for each climber, of which it starts at the best."""
STEPS = 200
FIRST_STEP = 0.2
"""Size of the first steps, as a share of the box's width."""
SHRINK = 0.978
KEPT = 4
"""Points of one climb that are tried on the real network."""


class Climb(NamedTuple):
    """Arrays of one thread's climbs."""

    random: Array
    """`(1,)` uint64: state of the generator."""
    points: Array
    """`(CLIMBERS, inputs)`."""
    height: Array
    """`(CLIMBERS,)`: how far each is from the nearest region; at most 0: inside."""
    trial: Array
    """`(WIDEST, inputs)`."""
    found: Array
    """`(WIDEST,)`."""
    table: Array
    """`(columns * WIDEST,)`."""


def climb_room(net: BoxNetwork, seed: int) -> Climb:
    """Returns room for climbs whose random numbers begin with a seed."""
    columns = net.inputs + len(net.bias)
    return Climb(
        np.array([2 * seed + 1], np.uint64),
        np.zeros((CLIMBERS, net.inputs)),
        np.zeros(CLIMBERS),
        np.zeros((WIDEST, net.inputs)),
        np.zeros(WIDEST),
        np.zeros(columns * WIDEST),
    )


@compiled
def uniform(random: Array) -> float:
    """Returns the next number of [0, 1) (xorshift64*, Vigna 2016)."""
    x = random[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    random[0] = x
    return float((x * np.uint64(2685821657736338717)) >> np.uint64(11)) * 2.0**-53


@fused
def heights(net: BoxNetwork, climb: Climb) -> None:
    """Fills `climb.found` with how far the trial points are from the nearest violation region."""
    table, inputs = climb.table, net.inputs
    for i in range(inputs):
        for k in range(WIDEST):
            table[i * WIDEST + k] = climb.trial[k, i]
    for i in range(len(net.bias)):
        base = (inputs + i) * WIDEST
        for k in range(base, base + WIDEST):
            table[k] = net.bias[i]
        accumulate_32(net.value, net.column, net.start[i], net.start[i + 1], table, table, inputs + i)
        if net.line[i]:
            slope, intercept = net.slope[i], net.intercept[i]
            for k in range(base, base + WIDEST):
                table[k] = slope * table[k] + intercept
        else:
            for k in range(base, base + WIDEST):
                table[k] = max(table[k], 0.0)
    for k in range(WIDEST):
        nearest = np.inf
        for g in range(len(net.region_start) - 1):
            highest = -np.inf
            for row in range(net.region_start[g], net.region_start[g + 1]):
                y = -net.rhs[row]
                for o in range(len(net.output)):
                    y += net.C[row, o] * table[net.output[o] * WIDEST + k]
                highest = max(highest, y)
            nearest = min(nearest, highest)
        climb.found[k] = nearest


@compiled
def keep_better(climb: Climb, first: int) -> None:
    """Moves the climbers from `first` on to their trial points where those are lower."""
    for k in range(WIDEST):
        if climb.found[k] < climb.height[first + k]:
            climb.height[first + k] = climb.found[k]
            for i in range(climb.points.shape[1]):
                climb.points[first + k, i] = climb.trial[k, i]


@compiled
def start_climb(
    net: BoxNetwork, climb: Climb, whole_lower: Array, whole_upper: Array, lower: Array, upper: Array, count: int
) -> None:
    """Puts the climbers at the best of random points: of the whole box and of open boxes in turns.

    Args:
        net: the network.
        climb: the climbers.
        whole_lower: `(inputs,)`.
        whole_upper: `(inputs,)`.
        lower: `(boxes, inputs)`: the open boxes.
        upper: `(boxes, inputs)`.
        count: how many of the boxes are meant.
    """
    for k in range(CLIMBERS):
        climb.height[k] = np.inf
    for turn in range(SAMPLES):
        for first in range(0, CLIMBERS, WIDEST):
            for k in range(WIDEST):
                box = int(uniform(climb.random) * count)
                for i in range(net.inputs):
                    low, high = whole_lower[i], whole_upper[i]
                    if turn % 2:
                        low, high = lower[box, i], upper[box, i]
                    climb.trial[k, i] = low + uniform(climb.random) * (high - low)
            heights(net, climb)
            keep_better(climb, first)


@compiled
def run_climb(net: BoxNetwork, climb: Climb, lower: Array, upper: Array) -> None:
    """Moves the climbers inside a box, by steps that shrink; each keeps what brings it closer to a region."""
    step = FIRST_STEP
    for _ in range(STEPS):
        for first in range(0, CLIMBERS, WIDEST):
            for k in range(WIDEST):
                for i in range(net.inputs):
                    # the difference of two uniform numbers: mostly small, and never far off
                    move = (uniform(climb.random) - uniform(climb.random)) * 2 * step * (upper[i] - lower[i])
                    climb.trial[k, i] = min(max(climb.points[first + k, i] + move, lower[i]), upper[i])
            heights(net, climb)
            keep_better(climb, first)
        step *= SHRINK


@compiled
def take_best(climb: Climb, candidates: Array, begin: int) -> int:
    """Writes the lowest points that lie in a region to `candidates` from `begin` on; returns one behind the last."""
    for _ in range(KEPT):
        if begin == len(candidates):
            break
        best = np.argmin(climb.height)
        if not climb.height[best] <= 0:
            break
        for i in range(candidates.shape[1]):
            candidates[begin, i] = climb.points[best, i]
        climb.height[best] = np.inf
        begin += 1
    return begin


@cache
def prepare_climb() -> None:
    """Compiles the climb, or loads it from Numba's cache."""
    net = smallest_network()
    climb, one = climb_room(net, 0), np.zeros((1, 1))
    start_climb(net, climb, one[0], one[0], one, one, 1)
    run_climb(net, climb, one[0], one[0])
    take_best(climb, one, 0)
