"""Branch and bound over one folded network, compiled as a whole.

Open domains lie on a stack; 32 are bounded together (`domains`). Everything that guides the search is float32; a domain
is closed only by `backward` in float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.verifier.kernels.contract import LANES
from harness.verifier.kernels.domains import SPLITS, Block, Net, Pseudo, backward, choose, fill, improve
from harness.verifier.kernels.jit import compiled
from harness.verifier.kernels.lanes import accumulate

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


COUNT, DOMAINS, ROUNDS, EXHAUSTED, PENDING, FAILED, DEEPEST, CERTIFIED = 0, 1, 2, 3, 4, 5, 6, 7
DEFERRED, DEEPEST_HERE = 8, 9
"""Places in the counters of a search. The lowest DEFERRED of the COUNT open domains have at least DEEPEST_HERE splits
and are not split here."""

SMALL = 1e-3
"""Least gain that looking ahead tells apart, as a share of what is missing."""

HUGE = 1e300
"""No bound is that large: what comes close has overflowed and proves nothing."""

DONE, RUNNING, FULL, LIMIT = 0, 1, 2, 3
"""How a slice of a search ended."""


@compiled
def push(
    stack: Stack, counters: Array, block: Block, lane: int, lb: float, depth: int, branch: Array, score: float
) -> None:
    """Puts a lane's domain on the stack; there must be room. What is too deep for this frame goes to the bottom."""
    at = counters[COUNT]
    if depth >= counters[DEEPEST_HERE]:
        at = counters[DEFERRED]
        if at < counters[COUNT]:
            move(stack, at, counters[COUNT])
        counters[DEFERRED] = at + 1
    stack.lb[at], stack.spec[at], stack.depth[at], stack.score[at] = lb, block.spec[lane], depth, score
    for b in range(SPLITS):
        stack.branch[at, b] = branch[b]
    for j in range(block.phase.shape[0]):
        stack.phase[at, j] = block.phase[j, lane]
        stack.p[at, j] = block.p[j, lane]
    counters[COUNT] += 1


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
def copy_lane(source: Block, lane: int, target: Block, to: int) -> None:
    """Copies a domain from one block to another, whatever their types."""
    target.spec[to] = source.spec[lane]
    for j in range(source.phase.shape[0]):
        target.phase[j, to] = source.phase[j, lane]
        target.p[j, to] = source.p[j, lane]


class Family(NamedTuple):
    """Where the lanes of a block come from, each `(LANES,)` or `(LANES, SPLITS)`."""

    parent_lb: Array
    neuron: Array
    """The one neuron that was split; -1 where there were several."""
    score: Array
    depth: Array
    branch: Array


@compiled
def look_ahead(net: Net, block: Block, stack: Stack, counters: Array, parents: int) -> None:
    """Puts, for each of the domains that are taken next, the best of its candidates first (filtered smart branching).

    A candidate is judged by one backward pass on both its children, with the multipliers they inherit: by the product
    of what they gain, a closed child counting as no more than closed (De Palma et al. 2021).
    """
    each = LANES // (2 * SPLITS)
    done = 0
    while done < parents:
        count = min(each, parents - done)
        for i in range(count):
            at = counters[COUNT] - 1 - done - i
            for b in range(SPLITS):
                for side in range(2):
                    lane = (i * SPLITS + b) * 2 + side
                    unstack(stack, at, block, lane)
                    j = stack.branch[at, b]
                    if j >= 0:
                        block.phase[j, lane] = 2 * side - 1
                        block.p[j, lane] = 0
        for lane in range(count * SPLITS * 2, LANES):
            copy_lane(block, 0, block, lane)
        backward(net, block)
        for i in range(count):
            at = counters[COUNT] - 1 - done - i
            chosen, most = 0, -1.0
            for b in range(SPLITS):
                if stack.branch[at, b] >= 0:
                    lane = (i * SPLITS + b) * 2
                    whole = -stack.lb[at] + SMALL
                    one = min(max(block.lb[lane] - stack.lb[at], SMALL * whole), whole)
                    other = min(max(block.lb[lane + 1] - stack.lb[at], SMALL * whole), whole)
                    if one * other > most:
                        chosen, most = b, one * other
            first = stack.branch[at, 0]
            stack.branch[at, 0] = stack.branch[at, chosen]
            stack.branch[at, chosen] = first
        done += count


@compiled
def unstack(stack: Stack, at: int, block: Block, lane: int) -> None:
    """Copies a domain from the stack into a lane."""
    block.spec[lane] = stack.spec[at]
    for j in range(block.phase.shape[0]):
        block.phase[j, lane] = stack.phase[at, j]
        block.p[j, lane] = stack.p[at, j]


@compiled
def take_children(stack: Stack, counters: Array, block: Block, family: Family, parents: int, room: int) -> int:
    """Takes domains off the stack, puts their children into the block; returns how many lanes are used.

    With few parents each is split on several neurons at once, as far as `room` children allow. A new split starts with
    beta 0, everything else is inherited. Unused lanes repeat the last child.
    """
    splits = 1
    while splits < SPLITS and parents << (splits + 1) <= room:
        splits += 1
    used = 0
    for _ in range(parents):
        at = counters[COUNT] - 1
        counters[COUNT] = at
        own = 1
        while own < splits and stack.branch[at, own] >= 0:
            own += 1
        for pattern in range(1 << own):
            lane = used
            used += 1
            unstack(stack, at, block, lane)
            for b in range(own):
                j = stack.branch[at, b]
                block.phase[j, lane] = 1 if (pattern >> b) & 1 else -1
                block.p[j, lane] = 0
            family.parent_lb[lane], family.score[lane] = stack.lb[at], stack.score[at]
            family.depth[lane] = stack.depth[at] + own
            family.neuron[lane] = stack.branch[at, 0] if own == 1 else -1
    for lane in range(used, LANES):
        copy_lane(block, used - 1, block, lane)
    return used


@compiled
def learn(family: Family, best: Array, used: int, pseudo: Pseudo) -> None:
    """Adds what the splits of a round gained: the worse child's gain for each unit of score."""
    n = len(pseudo.gain) - 1
    for lane in range(used - 1):
        j = family.neuron[lane]
        # Children of one split stand side by side, the inactive one first.
        if j < 0 or lane % 2 == 1 or family.neuron[lane + 1] != j or family.score[lane] <= 0:
            continue
        gain = max(min(best[lane], best[lane + 1]) - family.parent_lb[lane], 0.0) / family.score[lane]
        pseudo.gain[j] += gain
        pseudo.splits[j] += 1
        pseudo.gain[n] += gain
        pseudo.splits[n] += 1


@compiled
def certify(exact: Net, pending: Block, waiting: Family, stack: Stack, counters: Array) -> None:
    """Bounds the waiting domains in float64; those whose bound does not exceed 0 go back to the stack."""
    count = counters[PENDING]
    if count == 0:
        return
    for lane in range(count, LANES):
        copy_lane(pending, count - 1, pending, lane)
    backward(exact, pending)
    counters[CERTIFIED] += 1
    for lane in range(count):
        if not (0 < pending.lb[lane] < HUGE):
            counters[FAILED] += 1
            if waiting.branch[lane, 0] < 0:
                counters[EXHAUSTED] += 1
            else:
                push(
                    stack, counters, pending, lane, 0.0, waiting.depth[lane], waiting.branch[lane], waiting.score[lane]
                )
    counters[PENDING] = 0


@compiled
def lowest_point(net: Net, block: Block, used: int, value: Array) -> int:
    """Runs the network itself on every lane's corner; returns the lane whose margin is lowest, `value[0]` is it."""
    n = net.E.shape[0]
    for j in range(n):
        z = block.point[net.inputs + j]
        fill(z, net.E[j])
        accumulate(net.row_value, net.row_column, net.row_start[j], net.row_start[j + 1], block.point, z)
        for k in range(LANES):
            z[k] = max(z[k], 0)
    margin = np.empty(LANES, net.E.dtype)
    for k in range(LANES):
        margin[k] = net.e[block.spec[k]]
    for column in range(net.inputs + n):
        for i in range(net.column_start[column], net.column_start[column + 1]):
            row = net.column_row[i] - n
            if row >= 0:
                for k in range(used):
                    if block.spec[k] == row:
                        margin[k] += net.column_value[i] * block.point[column, k]
    lane = 0
    for k in range(used):
        if margin[k] < margin[lane]:
            lane = k
    value[0] = margin[lane]
    return lane


class Scratch(NamedTuple):
    """Arrays of one search that no other search may use at the same time."""

    best: Array
    kept: Array
    stepped: Array
    watched: Array
    """`(LANES,)` bool: lanes for which improving goes on."""
    family: Family
    waiting: Family


class Steps(NamedTuple):
    """How multipliers are improved."""

    iterations: int
    leaf_iterations: int
    look_ahead: bool
    """Whether candidates for a split are tried before one is chosen."""


@compiled
def ascending(values: Array, count: int) -> Array:
    """Returns the places of the first values in ascending order; equal ones stay in order."""
    order = np.empty(count, np.int64)
    for i in range(count):
        at = i
        while at > 0 and values[i] < values[order[at - 1]]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = i
    return order


@compiled
def keep(
    net: Net, exact: Net, block: Block, pending: Block, stack: Stack, scratch: Scratch, pseudo: Pseudo, counters: Array,
    used: int, steps: Steps,
) -> None:  # fmt: skip
    """Sorts the bounded lanes: those that look proved wait for certification, the others go onto the stack."""
    best, family = scratch.best, scratch.family
    choose(net, block, pseudo, family.branch, family.score)
    leaves = 0
    for lane in range(LANES):
        scratch.watched[lane] = lane < used and family.branch[lane, 0] < 0
        leaves += scratch.watched[lane] and best[lane] <= 0
    if leaves:
        improve(net, block, steps.leaf_iterations, scratch.watched, best, scratch.kept, scratch.stepped)
    order = ascending(best, used)
    for i in range(used):
        lane = order[i]
        counters[DEEPEST] = max(counters[DEEPEST], family.depth[lane])
        if best[lane] > 0:
            at = counters[PENDING]
            copy_lane(block, lane, pending, at)
            waiting = scratch.waiting
            waiting.depth[at], waiting.score[at] = family.depth[lane], family.score[lane]
            for b in range(SPLITS):
                waiting.branch[at, b] = family.branch[lane, b]
            counters[PENDING] = at + 1
            if at + 1 == LANES:
                certify(exact, pending, waiting, stack, counters)
        elif family.branch[lane, 0] < 0:
            counters[EXHAUSTED] += 1
        else:
            push(stack, counters, block, lane, best[lane], family.depth[lane], family.branch[lane], family.score[lane])


@compiled
def run(
    net: Net, exact: Net, block: Block, pending: Block, stack: Stack, scratch: Scratch, pseudo: Pseudo, counters: Array,
    steps: Steps, rounds: int, max_domains: int,
) -> int:  # fmt: skip
    """Splits domains for at most `rounds` rounds; returns how the slice ended.

    DONE: every domain is closed, or deferred, or counted as exhausted. LIMIT: `max_domains` allows no further split.
    FULL: the stack has no room for another round. RUNNING: more rounds are needed.
    """
    for _ in range(rounds):
        if counters[COUNT] == counters[DEFERRED]:
            certify(exact, pending, scratch.waiting, stack, counters)
            if counters[COUNT] == counters[DEFERRED]:
                return DONE
        if counters[COUNT] + 3 * LANES > len(stack.lb):
            return FULL
        room = min(LANES, max_domains - counters[DOMAINS])
        parents = min(counters[COUNT] - counters[DEFERRED], room // 2)
        if parents <= 0:
            return LIMIT
        if steps.look_ahead and parents > LANES >> SPLITS:
            look_ahead(net, block, stack, counters, parents)
        used = take_children(stack, counters, block, scratch.family, parents, room)
        for lane in range(LANES):
            scratch.watched[lane] = lane < used
        improve(net, block, steps.iterations, scratch.watched, scratch.best, scratch.kept, scratch.stepped)
        counters[DOMAINS] += used
        counters[ROUNDS] += 1
        learn(scratch.family, scratch.best, used, pseudo)
        keep(net, exact, block, pending, stack, scratch, pseudo, counters, used, steps)
    return RUNNING


@compiled
def sift(
    net: Net, exact: Net, block: Block, pending: Block, stack: Stack, scratch: Scratch, counters: Array, first: int,
    count: int, to: int, nothing: int, iterations: int,
) -> int:  # fmt: skip
    """Moves those of `count` domains from `first` on whose splits some point may obey to `to`; returns how many.

    The margin `nothing` is zero everywhere: a bound of it above zero, in float64, is a proof that there is no point.
    No domain may be waiting for certification.
    """
    for lane in range(LANES):
        unstack(stack, first + min(lane, count - 1), block, lane)
        block.spec[lane] = nothing
        scratch.watched[lane] = lane < count
    improve(net, block, iterations, scratch.watched, scratch.best, scratch.kept, scratch.stepped)
    for lane in range(LANES):
        copy_lane(block, lane, pending, lane)
    backward(exact, pending)
    counters[CERTIFIED] += 1
    left = 0
    for lane in range(count):
        if not (0 < pending.lb[lane] < HUGE):
            if to + left != first + lane:
                move(stack, first + lane, to + left)
            left += 1
    return left
