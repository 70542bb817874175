"""The stack of open domains, and how they get from it into lanes and back.

Neuron by neuron: lanes of one neuron lie side by side, and neurons of one domain do, so both are read from cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.verifier.kernels.contract import LANES
from harness.verifier.kernels.counters import COUNT, DEEPEST_HERE, DEFERRED
from harness.verifier.kernels.domains import SPLITS, Block
from harness.verifier.kernels.jit import compiled

Array = NDArray[Any]


class Stack(NamedTuple):
    """Open domains, the last one is taken first; each `(capacity, ...)`."""

    lb: Array
    spec: Array
    depth: Array
    branch: Array
    """`(capacity, SPLITS)` int32: neurons to split on, best first; -1 where there are no more."""
    score: Array
    """`(capacity,)`: intercept score of the first of them."""
    phase: Array
    p: Array


class Family(NamedTuple):
    """Where the lanes of a block come from, each `(LANES,)` or `(LANES, SPLITS)`."""

    parent_lb: Array
    neuron: Array
    """The one neuron that was split; -1 where there were several."""
    score: Array
    depth: Array
    branch: Array


@compiled
def push(stack: Stack, counters: Array, block: Block, lanes: Array, count: int, lb: Array, family: Family) -> None:
    """Puts the domains of some lanes on the stack, the last one on top; there must be room.

    What is too deep for this frame goes to the bottom.

    Args:
        stack: takes them.
        counters: of the search.
        block: their splits and multipliers.
        lanes: `(count,)` or longer: their lanes.
        count: how many.
        lb: `(LANES,)`: their bounds.
        family: their depths, branches and scores.
    """
    places, shallow = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    for i in range(count):
        if family.depth[lanes[i]] >= counters[DEEPEST_HERE]:
            at = counters[DEFERRED]
            if at < counters[COUNT]:
                move(stack, at, counters[COUNT])
            places[0] = at
            store(stack, places, block, lanes[i : i + 1], 1, lb, family)
            counters[DEFERRED] = at + 1
            counters[COUNT] += 1
    kept = 0
    for i in range(count):
        if family.depth[lanes[i]] < counters[DEEPEST_HERE]:
            places[kept], shallow[kept] = counters[COUNT] + kept, lanes[i]
            kept += 1
    store(stack, places, block, shallow, kept, lb, family)
    counters[COUNT] += kept


@compiled
def store(
    stack: Stack, places: Array, block: Block, lanes: Array, count: int, lb: Array, family: Family
) -> None:  # fmt: skip
    """Copies the domains of some lanes to places of the stack."""
    for i in range(count):
        at, lane = places[i], lanes[i]
        stack.lb[at], stack.spec[at], stack.depth[at] = lb[lane], block.spec[lane], family.depth[lane]
        stack.score[at] = family.score[lane]
        for b in range(SPLITS):
            stack.branch[at, b] = family.branch[lane, b]
    # Neuron by neuron: lanes lie side by side, and one domain's neurons do.
    for j in range(block.phase.shape[0]):
        for i in range(count):
            stack.phase[places[i], j] = block.phase[j, lanes[i]]
            stack.p[places[i], j] = block.p[j, lanes[i]]


@compiled
def move(stack: Stack, source: int, to: int) -> None:
    """Copies a domain within the stack."""
    stack.lb[to], stack.spec[to] = stack.lb[source], stack.spec[source]
    stack.depth[to], stack.score[to] = stack.depth[source], stack.score[source]
    for b in range(SPLITS):
        stack.branch[to, b] = stack.branch[source, b]
    for j in range(stack.p.shape[1]):
        stack.phase[to, j], stack.p[to, j] = stack.phase[source, j], stack.p[source, j]


@compiled
def copy_lanes(source: Block, lanes: Array, target: Block, to: Array, count: int) -> None:
    """Copies the domains of some lanes to other lanes, of the same block or of another, whatever their types.

    Within one block no lane may be both read and written.
    """
    for i in range(count):
        target.spec[to[i]] = source.spec[lanes[i]]
    for j in range(source.phase.shape[0]):
        for i in range(count):
            target.phase[j, to[i]] = source.phase[j, lanes[i]]
            target.p[j, to[i]] = source.p[j, lanes[i]]


@compiled
def repeat_lane(block: Block, lane: int, first: int) -> None:
    """Fills the lanes from `first` on with the domain of one lane before them."""
    for k in range(first, LANES):
        block.spec[k] = block.spec[lane]
    for j in range(block.phase.shape[0]):
        for k in range(first, LANES):
            block.phase[j, k] = block.phase[j, lane]
            block.p[j, k] = block.p[j, lane]


@compiled
def unstack(stack: Stack, places: Array, block: Block) -> None:
    """Copies domains from places of the stack, `(LANES,)`, into the lanes."""
    for k in range(LANES):
        block.spec[k] = stack.spec[places[k]]
    for j in range(block.phase.shape[0]):
        for k in range(LANES):
            block.phase[j, k] = stack.phase[places[k], j]
            block.p[j, k] = stack.p[places[k], j]


@compiled
def take_children(stack: Stack, counters: Array, block: Block, family: Family, parents: int, room: int) -> int:
    """Takes domains off the stack, puts their children into the block; returns how many lanes are used.

    With few parents each is split on several neurons at once, as far as `room` children allow. A new split starts with
    beta 0, everything else is inherited. Unused lanes repeat the last parent.
    """
    splits = 1
    while splits < SPLITS and parents << (splits + 1) <= room:
        splits += 1
    places, pattern, own = np.empty(LANES, np.int64), np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    used = 0
    for _ in range(parents):
        at = counters[COUNT] - 1
        counters[COUNT] = at
        count = 1
        while count < splits and stack.branch[at, count] >= 0:
            count += 1
        for child in range(1 << count):
            places[used], pattern[used], own[used] = at, child, count
            used += 1
    for lane in range(used, LANES):
        places[lane] = places[used - 1]
    unstack(stack, places, block)
    for lane in range(used):
        at = places[lane]
        for b in range(own[lane]):
            j = stack.branch[at, b]
            block.phase[j, lane] = 1 if (pattern[lane] >> b) & 1 else -1
            block.p[j, lane] = 0
        family.parent_lb[lane], family.score[lane] = stack.lb[at], stack.score[at]
        family.depth[lane] = stack.depth[at] + own[lane]
        family.neuron[lane] = stack.branch[at, 0] if own[lane] == 1 else -1
    return used
