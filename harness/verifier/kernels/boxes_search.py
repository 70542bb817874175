"""Branch and bound over sub-boxes, the whole loop in compiled code: pop, bound, clip, cut, push.

A box is *clipped* before it is cut: a point of it that lies in a violation region satisfies `a x + c <= 0` for the
linear lower bound of every row of that region, and so lies in the box that these half-spaces leave. Children start from
their parent's hidden bounds.

Where few neurons bend inside a box, one of them is split instead of an input: each half fixes its phase and carries the
half-space that the phase implies (the neuron's linear bound against the phase is at most 0), which clips its box and
takes part in sums that exclude it. A kink that crosses a box askew would otherwise need very many boxes.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.verifier.kernels.boxes import bound_hidden, bound_margins
from harness.verifier.kernels.boxes_clip import SPLITS, Functions, clip_all, functions_room, keep_margins, keep_planes
from harness.verifier.kernels.boxes_lanes import WIDEST
from harness.verifier.kernels.boxes_network import UNSTABLE, BoxNetwork, BoxWork, box_work, smallest_network
from harness.verifier.kernels.jit import compiled, fused

Array = NDArray[Any]
SPLIT_UP_TO = 10
"""Unstable neurons of a box up to which one of them is split instead of an input."""
TRY_EVERY = 4
"""Boxes between two tries to find a counterexample in one."""


class BoxStack(NamedTuple):
    """Open boxes, the last one taken first."""

    lower: Array
    """`(capacity, inputs)`."""
    upper: Array
    low: Array
    """`(capacity, rows)`: bounds of the rows that hold in the box."""
    high: Array
    open: Array
    """`(capacity, regions)` bool: regions that are not excluded in the box."""
    splits: Array
    """`(capacity,)`: neurons that are split."""
    split: Array
    """`(capacity, SPLITS)`: which, in order: twice the row, one more where it is held at z >= 0."""


class SearchState(NamedTuple):
    """Counters that outlive a call."""

    counts: Array
    """int64: open boxes, boxes bounded, candidates, boxes that can be neither closed nor cut (lowest in the stack)."""
    candidates: Array
    """`(some, inputs)`: points that violate by the float64 evaluation of the network."""


class Scratch(NamedTuple):
    """Arrays of one box's turn."""

    lower: Array
    upper: Array
    clip_lower: Array
    """`(regions, inputs)`."""
    clip_upper: Array
    open: Array
    best: Array
    """`(regions,)`: highest margin of each region."""
    margin: Array
    region: Array
    bounds: Array
    score: Array
    """`(inputs,)`."""
    point: Array
    value: Array
    """`(columns,)`."""
    choice: Array
    """`(3,)`: splits of the box, the neuron that costs the hardest margin most (or -1), number of unstable neurons."""
    split: Array
    """`(SPLITS,)`: the box's splits."""


OPEN, BOUNDED, CANDIDATES, STUCK = 0, 1, 2, 3


def box_stack(net: BoxNetwork, capacity: int) -> BoxStack:
    """Returns room for so many open boxes."""
    rows, regions = len(net.bias), len(net.region_start) - 1
    return BoxStack(
        np.zeros((capacity, net.inputs)),
        np.zeros((capacity, net.inputs)),
        np.zeros((capacity, rows)),
        np.zeros((capacity, rows)),
        np.zeros((capacity, regions), np.bool_),
        np.zeros(capacity, np.int64),
        np.zeros((capacity, SPLITS), np.int64),
    )


def grown(stack: BoxStack, capacity: int) -> BoxStack:
    """Returns the stack with room for more boxes."""
    return BoxStack(
        *(np.concatenate([part, np.zeros((capacity - len(part), *part.shape[1:]), part.dtype)]) for part in stack)
    )


def search_state(net: BoxNetwork, candidates: int) -> SearchState:
    """Returns counters at zero and room for some candidates."""
    return SearchState(np.zeros(4, np.int64), np.zeros((candidates, net.inputs)))


def push(stack: BoxStack, state: SearchState, lower: Array, upper: Array) -> None:
    """Opens a box of which nothing is known; there must be room for it."""
    top = int(state.counts[OPEN])
    stack.lower[top], stack.upper[top], stack.open[top] = lower, upper, True
    stack.low[top], stack.high[top] = -np.inf, np.inf
    state.counts[OPEN] = top + 1


def scratch(net: BoxNetwork) -> Scratch:
    """Returns the arrays of one thread's turn."""
    d, regions = net.inputs, len(net.region_start) - 1
    return Scratch(
        np.zeros(d), np.zeros(d), np.zeros((regions, d)), np.zeros((regions, d)), np.zeros(regions, np.bool_),
        np.zeros(regions), np.zeros(WIDEST, np.int64), np.zeros(WIDEST, np.int64), np.zeros(WIDEST),
        np.zeros(d), np.zeros(d), np.zeros(d + len(net.bias)),
        np.zeros(3, np.int64), np.zeros(SPLITS, np.int64),
    )  # fmt: skip


@fused
def scores(net: BoxNetwork, work: BoxWork, own: Scratch, lanes: int, k: int, lower: Array, upper: Array) -> None:
    """Fills what a cut of each input promises for margin k, and chooses the neuron whose relaxation costs it most.

    An input's score is its share of the margin's linear function and of every relaxation's loss.
    """
    score, most = own.score, -1.0
    own.choice[1], own.choice[2] = -1, 0
    for i in range(net.inputs):
        score[i] = abs(work.A[i * lanes + k]) * (upper[i] - lower[i])
    for j in range(len(net.bias)):
        if work.phase[j] != UNSTABLE:
            continue
        a = work.A[(net.inputs + j) * lanes + k]
        loss = -a * work.upper_offset[j] if a < 0 else a * min(work.high[j], -work.low[j])
        own.choice[2] += 1
        if loss > most:
            most = loss
            own.choice[1] = j
        total = 0.0
        for i in range(net.inputs):
            total += abs(work.reach[0, j, i]) * (upper[i] - lower[i])
        if total > 0:
            share = loss / total
            for i in range(net.inputs):
                score[i] += share * abs(work.reach[0, j, i]) * (upper[i] - lower[i])


@compiled
def violates(net: BoxNetwork, point: Array, value: Array, opened: Array) -> bool:
    """Returns whether the float64 evaluation of the network at a point lies in an open region."""
    for i in range(net.inputs):
        value[i] = point[i]
    for i in range(len(net.bias)):
        z = net.bias[i]
        for e in range(net.start[i], net.start[i + 1]):
            z += net.value[e] * value[net.column[e]]
        value[net.inputs + i] = net.slope[i] * z + net.intercept[i] if net.line[i] else max(z, 0.0)
    for g in range(len(opened)):
        if not opened[g]:
            continue
        inside = True
        for row in range(net.region_start[g], net.region_start[g + 1]):
            y = -net.rhs[row]
            for o in range(len(net.output)):
                y += net.C[row, o] * value[net.output[o]]
            inside = inside and y <= 0
        if inside:
            return True
    return False


@compiled
def judge(net: BoxNetwork, work: BoxWork, own: Scratch, fun: Functions, count: int, worst: float) -> float:
    """Bounds the margins collected in `own`, clips their regions' boxes, and keeps the scores of the hardest region.

    Returns the hardest region's best margin so far, `worst` being that before.
    """
    lanes = bound_margins(net, work, own.lower, own.upper, own.margin, count, own.bounds)
    keep_margins(work, fun, lanes, count)
    first = 0
    while first < count:
        g, last, top = own.region[first], first, first
        while last < count and own.region[last] == g:
            if own.bounds[last] > own.bounds[top]:
                top = last
            last += 1
        own.best[g] = max(own.best[g], own.bounds[top])
        lower, upper = own.clip_lower[g], own.clip_upper[g]
        if own.bounds[top] > 0 or not clip_all(fun, work.largest, first, last, top, own.choice[0], lower, upper):
            own.open[g] = False
        if own.open[g] and not own.best[g] >= worst:
            worst = own.best[g]
            scores(net, work, own, lanes, top, lower, upper)
            for i in range(net.inputs):
                own.point[i] = lower[i] if fun.linear[top, i] > 0 else upper[i]
        first = last
    return worst


@compiled
def examine(net: BoxNetwork, work: BoxWork, own: Scratch, fun: Functions) -> bool:
    """Bounds the box in `own`; returns whether a region stays open, the box then being what they leave of it."""
    own.choice[1], own.choice[2] = -1, 0
    if not bound_hidden(net, work, own.lower, own.upper):
        return False
    keep_planes(work, fun, own.split, own.choice[0])
    count, worst = 0, np.inf
    for g in range(len(own.open)):
        own.best[g] = -np.inf
        for i in range(net.inputs):
            own.clip_lower[g, i], own.clip_upper[g, i] = own.lower[i], own.upper[i]
    for g in range(len(own.open)):
        size = net.region_start[g + 1] - net.region_start[g]
        if own.open[g] and count + min(size, WIDEST) > WIDEST:
            worst = judge(net, work, own, fun, count, worst)
            count = 0
        for row in range(net.region_start[g], net.region_start[g + 1]):
            if not own.open[g]:
                break
            if count == WIDEST:
                worst = judge(net, work, own, fun, count, worst)
                count = 0
            own.margin[count], own.region[count] = row, g
            count += 1
    if count:
        judge(net, work, own, fun, count, worst)
    return hull(own)


@compiled
def hull(own: Scratch) -> bool:
    """Shrinks the box to the smallest that holds what every open region leaves of it; returns whether one is open."""
    left = False
    for g in range(len(own.open)):
        if not own.open[g]:
            continue
        for i in range(len(own.lower)):
            low, high = own.clip_lower[g, i], own.clip_upper[g, i]
            own.lower[i] = min(own.lower[i], low) if left else low
            own.upper[i] = max(own.upper[i], high) if left else high
        left = True
    return left


@compiled
def where_to_cut(own: Scratch) -> int:
    """Returns the input of the highest score among those that can be cut, -1 if none can."""
    best, widest, chosen = -1.0, 0.0, -1
    for i in range(len(own.lower)):
        low, high = own.lower[i], own.upper[i]
        middle = 0.5 * (low + high)
        if not low < middle < high:
            continue
        width = high - low
        if own.score[i] > best or (own.score[i] == best and width > widest):
            best, widest, chosen = own.score[i], width, i
    return chosen


@compiled
def copy_row(source: Array, at: int, target: Array, to: int) -> None:
    """Copies one row of a matrix to a row of another."""
    for i in range(source.shape[1]):
        target[to, i] = source[at, i]


@compiled
def pop(stack: BoxStack, top: int, work: BoxWork, own: Scratch) -> None:
    """Takes the box at `top`."""
    for i in range(len(own.lower)):
        own.lower[i], own.upper[i] = stack.lower[top, i], stack.upper[top, i]
    for j in range(len(work.low)):
        work.low[j], work.high[j] = stack.low[top, j], stack.high[top, j]
    for g in range(len(own.open)):
        own.open[g] = stack.open[top, g]
    for j in range(len(work.held)):
        work.held[j] = 0
    own.choice[0] = stack.splits[top]
    for k in range(own.choice[0]):
        own.split[k] = stack.split[top, k]
        work.held[own.split[k] // 2] = 1 + own.split[k] % 2


@compiled
def put(stack: BoxStack, top: int, work: BoxWork, own: Scratch) -> None:
    """Puts the box in hand at `top`."""
    for i in range(len(own.lower)):
        stack.lower[top, i], stack.upper[top, i] = own.lower[i], own.upper[i]
    for j in range(len(work.low)):
        stack.low[top, j], stack.high[top, j] = work.low[j], work.high[j]
    for g in range(len(own.open)):
        stack.open[top, g] = own.open[g]
    stack.splits[top] = own.choice[0]
    for k in range(own.choice[0]):
        stack.split[top, k] = own.split[k]


@compiled
def put_aside(stack: BoxStack, counts: Array, work: BoxWork, own: Scratch) -> None:
    """Puts the box in hand, which can be neither closed nor cut, at the bottom of the stack."""
    top, bottom = counts[OPEN], counts[STUCK]
    copy_row(stack.lower, bottom, stack.lower, top)
    copy_row(stack.upper, bottom, stack.upper, top)
    copy_row(stack.low, bottom, stack.low, top)
    copy_row(stack.high, bottom, stack.high, top)
    for g in range(len(own.open)):
        stack.open[top, g] = stack.open[bottom, g]
    stack.splits[top] = stack.splits[bottom]
    for k in range(SPLITS):
        stack.split[top, k] = stack.split[bottom, k]
    put(stack, bottom, work, own)
    counts[OPEN] += 1
    counts[STUCK] += 1


@compiled
def neuron_to_split(own: Scratch) -> int:
    """Returns the neuron to split, -1 if an input shall be cut."""
    few = own.choice[2] <= SPLIT_UP_TO and own.choice[0] < SPLITS
    return int(own.choice[1]) if few else -1


@compiled
def split(stack: BoxStack, top: int, own: Scratch, neuron: int) -> None:
    """Makes of two copies of a box, at `top` and above, its part where a neuron is inactive and where it is active."""
    place = own.choice[0]
    stack.high[top, neuron] = 0
    stack.low[top + 1, neuron] = 0
    for side in range(2):
        stack.split[top + side, place] = 2 * neuron + side
        stack.splits[top + side] = place + 1


@compiled
def try_point(net: BoxNetwork, own: Scratch, state: SearchState) -> None:
    """Makes the box's lowest corner, or at every other try its centre, a candidate if it violates."""
    counts = state.counts
    if counts[BOUNDED] % (2 * TRY_EVERY) == 1:
        for i in range(net.inputs):
            own.point[i] = 0.5 * (own.lower[i] + own.upper[i])
    if violates(net, own.point, own.value, own.open):
        for i in range(net.inputs):
            state.candidates[counts[CANDIDATES], i] = own.point[i]
        counts[CANDIDATES] += 1


@compiled
def search_boxes(
    net: BoxNetwork,
    work: BoxWork,
    own: Scratch,
    fun: Functions,
    stack: BoxStack,
    state: SearchState,
    budget: int,
) -> None:
    """Works on the open boxes until none is left, `budget` were bounded, or candidates or room ask for the caller."""
    counts, capacity = state.counts, len(stack.lower)
    last = counts[BOUNDED] + budget
    while counts[OPEN] > counts[STUCK] and counts[BOUNDED] < last:
        if counts[OPEN] == capacity or counts[CANDIDATES] == len(state.candidates):
            return
        counts[OPEN] -= 1
        counts[BOUNDED] += 1
        pop(stack, counts[OPEN], work, own)
        if not examine(net, work, own, fun):
            continue
        cut, neuron = where_to_cut(own), neuron_to_split(own)
        if cut < 0 or counts[BOUNDED] % TRY_EVERY == 1:
            try_point(net, own, state)
        if neuron < 0 and cut < 0:
            put_aside(stack, counts, work, own)
            continue
        top = counts[OPEN]
        put(stack, top, work, own)
        put(stack, top + 1, work, own)
        if neuron >= 0:
            split(stack, top, own, neuron)
        else:
            middle = 0.5 * (own.lower[cut] + own.upper[cut])
            stack.upper[top, cut] = middle
            stack.lower[top + 1, cut] = middle
        counts[OPEN] = top + 2


@cache
def prepare() -> None:
    """Compiles the search, or loads it from Numba's cache."""
    net = smallest_network()
    search_boxes(net, box_work(net), scratch(net), functions_room(1), box_stack(net, 2), search_state(net, 1), 0)
