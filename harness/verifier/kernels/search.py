"""Branch and bound over one folded network, compiled as a whole.

Open domains lie on a stack; 32 are bounded together (`domains`). Everything that guides the search is float32; a domain
is closed only by `backward` in float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.verifier.kernels.contract import LANES
from harness.verifier.kernels.counters import (
    CERTIFIED,
    COUNT,
    DEEPEST,
    DEFERRED,
    DOMAINS,
    DONE,
    EXHAUSTED,
    FAILED,
    FULL,
    LIMIT,
    PENDING,
    ROUNDS,
    RUNNING,
)  # fmt: skip
from harness.verifier.kernels.domains import SPLITS, Block, Net, Pseudo, backward, choose, improve
from harness.verifier.kernels.jit import compiled
from harness.verifier.kernels.stack import (
    Family,
    Stack,
    copy_lanes,
    move,
    push,
    repeat_lane,
    take_children,
    unstack,
)  # fmt: skip
from harness.verifier.kernels.tiles import WIDTH, gather

Array = NDArray[Any]


SMALL = 1e-3
"""Least gain that looking ahead tells apart, as a share of what is missing."""

RELIABLE = 16
"""Splits after which what a neuron's splits gained is believed."""

HUGE = 1e300
"""No bound is that large: what comes close has overflowed and proves nothing."""


@compiled
def look_ahead(net: Net, block: Block, stack: Stack, counters: Array, pseudo: Pseudo, parents: int) -> None:
    """Puts the best of its candidates first, for those of the domains taken next whose candidates are little known.

    A candidate is judged by one backward pass on both its children, with the multipliers they inherit: by the product
    of what they gain, a closed child counting as no more than closed (De Palma et al. 2021). Where each of a domain's
    candidates has been split on often enough, what splits gained so far decides (reliability branching, Achterberg et
    al. 2005).
    """
    each, waiting = LANES // (2 * SPLITS), np.empty(LANES, np.int64)
    count = 0
    for k in range(parents):
        at = counters[COUNT] - 1 - k
        for b in range(SPLITS):
            j = stack.branch[at, b]
            if j >= 0 and pseudo.splits[j] < RELIABLE:
                waiting[count] = at
                count += 1
                break
        if count == each or (count and k == parents - 1):
            _try_candidates(net, block, stack, waiting, count)
            count = 0


@compiled
def _try_candidates(net: Net, block: Block, stack: Stack, domains: Array, count: int) -> None:
    places = np.empty(LANES, np.int64)
    for lane in range(LANES):
        places[lane] = domains[min(lane // (2 * SPLITS), count - 1)]
    unstack(stack, places, block)
    for lane in range(count * SPLITS * 2):
        j = stack.branch[places[lane], lane // 2 % SPLITS]
        if j >= 0:
            block.phase[j, lane] = 2 * (lane % 2) - 1
            block.p[j, lane] = 0
    backward(net, block)
    for i in range(count):
        at = domains[i]
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
    repeat_lane(pending, count - 1, count)
    backward(exact, pending)
    counters[CERTIFIED] += 1
    lanes, zero, back = np.empty(LANES, np.int64), np.zeros(LANES), 0
    for lane in range(count):
        if not (0 < pending.lb[lane] < HUGE):
            counters[FAILED] += 1
            if waiting.branch[lane, 0] < 0:
                counters[EXHAUSTED] += 1
            else:
                lanes[back] = lane
                back += 1
    if back:
        push(stack, counters, pending, lanes, back, zero, waiting)
    counters[PENDING] = 0


@compiled
def wait(block: Block, family: Family, lanes: Array, count: int, pending: Block, waiting: Family, first: int) -> None:
    """Copies the domains of some lanes behind the first ones that wait for certification."""
    to = np.arange(first, first + count)
    copy_lanes(block, lanes, pending, to, count)
    for i in range(count):
        waiting.depth[to[i]], waiting.score[to[i]] = family.depth[lanes[i]], family.score[lanes[i]]
        for b in range(SPLITS):
            waiting.branch[to[i], b] = family.branch[lanes[i], b]


@compiled
def lowest_point(net: Net, block: Block, used: int, value: Array) -> int:
    """Runs the network itself on every lane's corner; returns the lane whose margin is lowest, `value[0]` is it."""
    tiles, point = net.forward, block.point
    sums, margin = np.empty((WIDTH, LANES), net.E.dtype), np.empty(LANES, net.E.dtype)
    for t in range(len(tiles.width)):
        gather(
            tiles.value, tiles.column, tiles.start[t], tiles.start[t + 1], tiles.first[t], tiles.width[t], point, sums
        )  # fmt: skip
        for m in range(tiles.width[t]):
            j = tiles.row[t, m]
            for k in range(LANES):
                point[net.inputs + j, k] = max(sums[m, k] + net.E[j], 0)
    lane = 0
    for k in range(used):
        margin[k] = net.e[block.spec[k]]
        for column in range(len(net.C)):
            margin[k] += net.C[column, block.spec[k]] * point[column, k]
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
    lanes, proved, open_ = np.empty(LANES, np.int64), 0, 0
    for i in range(used):
        lane = order[i]
        counters[DEEPEST] = max(counters[DEEPEST], family.depth[lane])
        if not best[lane] > 0:
            if family.branch[lane, 0] < 0:
                counters[EXHAUSTED] += 1
            else:
                lanes[open_] = lane
                open_ += 1
    push(stack, counters, block, lanes, open_, best, family)
    for i in range(used):
        if best[order[i]] > 0:
            lanes[proved] = order[i]
            proved += 1
    while proved:
        first = counters[PENDING]
        count = min(proved, LANES - first)
        proved -= count
        wait(block, family, lanes[proved:], count, pending, scratch.waiting, first)
        counters[PENDING] = first + count
        if first + count == LANES:
            certify(exact, pending, scratch.waiting, stack, counters)


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
            look_ahead(net, block, stack, counters, pseudo, parents)
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
    lanes, places = np.arange(LANES), np.empty(LANES, np.int64)
    for lane in range(LANES):
        places[lane] = first + min(lane, count - 1)
        scratch.watched[lane] = lane < count
    unstack(stack, places, block)
    block.spec[:] = nothing
    improve(net, block, iterations, scratch.watched, scratch.best, scratch.kept, scratch.stepped)
    copy_lanes(block, lanes, pending, lanes, LANES)
    backward(exact, pending)
    counters[CERTIFIED] += 1
    left = 0
    for lane in range(count):
        if not (0 < pending.lb[lane] < HUGE):
            if to + left != first + lane:
                move(stack, first + lane, to + left)
            left += 1
    return left
