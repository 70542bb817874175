"""Branch and bound over one folded network, compiled as a whole.

A *lane* is one domain; 32 of them are bounded together, arrays with the lanes last. The formulas are in the package's
docstring. Everything that guides the search is float32; a domain is closed only by `backward` in float64.
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


class Pseudo(NamedTuple):
    """What splits gained so far, per unit of their score."""

    total: Array
    """`(n + 1,)`: sum over a neuron's splits; the last entry is over all neurons."""
    count: Array


COUNT, DOMAINS, ROUNDS, EXHAUSTED, PENDING, FAILED, DEEPEST = 0, 1, 2, 3, 4, 5, 6
"""Places in the counters of a search."""

DONE, RUNNING, FULL, LIMIT = 0, 1, 2, 3
"""How a slice of a search ended."""


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def backward(net: Net, block: Block) -> None:
    """Fills lb with lower bounds of the lanes' margins, and A, lam and the lowest corner."""
    n = net.E.shape[0]
    lam, lb = block.lam, block.lb
    lam[n:] = 0
    for k in range(LANES):
        lam[n + block.spec[k], k] = 1
        lb[k] = net.e[block.spec[k]]
    for j in range(n - 1, -1, -1):
        column = net.inputs + j
        row = block.A[j]
        row[:] = 0
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
        row[:] = 0
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
        z[:] = net.E[j]
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
def polyak(net: Net, block: Block, target: float, stepped: Array) -> None:
    """Fills `stepped` with multipliers one Polyak step towards a bound of `target`: for leaves without free neurons.

    There the bound is a concave function of beta alone, and it must exceed 0 or the leaf holds a point of the relaxation
    that violates. The step is (target - bound) / |gradient|^2 along the gradient -s z.
    """
    n = net.E.shape[0]
    norm = np.zeros(LANES, block.p.dtype)
    for j in range(n):
        z = block.point[net.inputs + j]
        z[:] = net.E[j]
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
            length = (target - block.lb[k]) / max(norm[k], 1e-30)
            stepped[j, k] = max(block.p[j, k] + length * stepped[j, k], 0)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def improve(
    net: Net, block: Block, iterations: int, alpha_step: float, beta_step: float, leaf: bool, best: Array, kept: Array,
    stepped: Array,
) -> None:  # fmt: skip
    """Takes some steps on the multipliers; `best` and `block.p` become the best bounds and their multipliers.

    A lane is never worse than with the multipliers it came with. A and the corner are the last step's.

    Args:
        leaf: whether all neurons are split in the lanes that matter; takes Polyak's steps then.
        kept: scratch, as p.
        stepped: scratch, as p.
    """
    backward(net, block)
    best[:] = block.lb
    kept[:] = block.p
    better = np.empty(LANES, np.bool_)
    shrink = 1.0
    for _ in range(iterations):
        if leaf:
            polyak(net, block, 0.1 * abs(net.e[block.spec[0]]) + 1e-3, stepped)
        else:
            ascend(net, block, alpha_step * shrink, beta_step * shrink, stepped)
        shrink *= 0.9
        block.p[:] = stepped
        backward(net, block)
        for k in range(LANES):
            better[k] = block.lb[k] > best[k]
            best[k] = max(best[k], block.lb[k])
        for j in range(block.p.shape[0]):
            row, tried = kept[j], stepped[j]
            for k in range(LANES):
                row[k] = tried[k] if better[k] else row[k]
    block.p[:] = kept


@numba.njit(nogil=True, cache=True, error_model="numpy")
def choose(net: Net, block: Block, pseudo: Pseudo, branch: Array, score: Array) -> None:
    """Fills `branch` with the free neurons that promise most for each lane, best first, `score` with the first's score.

    The promise is the intercept score -min(A, 0) * upper offset (what the upper line costs the bound) times what splits
    of this neuron gained so far for each unit of it. Where no upper line costs anything, the widest lower line decides.
    """
    n = net.E.shape[0]
    average = pseudo.total[n] / pseudo.count[n]
    promised = np.zeros((SPLITS, LANES), np.float32)
    widest, other = np.full(LANES, np.float32(-1)), np.full(LANES, -1, np.int32)
    value, width = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    branch[:] = -1
    score[:] = 0
    for j in range(n):
        gain = np.float32((pseudo.total[j] + PRIOR * average) / (pseudo.count[j] + PRIOR)) * net.offset[j]
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


@numba.njit(nogil=True, cache=True, error_model="numpy")
def push(
    stack: Stack, counters: Array, block: Block, lane: int, lb: float, depth: int, branch: Array, score: float
) -> None:
    """Puts a lane's domain on the stack; there must be room."""
    at = counters[COUNT]
    stack.lb[at], stack.spec[at], stack.depth[at], stack.score[at] = lb, block.spec[lane], depth, score
    stack.branch[at] = branch
    for j in range(block.phase.shape[0]):
        stack.phase[at, j] = block.phase[j, lane]
        stack.p[at, j] = block.p[j, lane]
    counters[COUNT] = at + 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
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


@numba.njit(nogil=True, cache=True, error_model="numpy")
def take_children(stack: Stack, counters: Array, block: Block, family: Family, parents: int, room: int) -> int:
    """Takes domains off the stack and puts their children into the block; returns how many lanes are used.

    With few parents each is split on several neurons at once, as far as `room` children allow. A new split starts with beta 0, everything else is
    inherited. Unused lanes repeat the last child.
    """
    splits = 1
    while splits < SPLITS and parents << (splits + 1) <= room:
        splits += 1
    used = 0
    n = block.phase.shape[0]
    for _ in range(parents):
        at = counters[COUNT] - 1
        counters[COUNT] = at
        own = 1
        while own < splits and stack.branch[at, own] >= 0:
            own += 1
        for pattern in range(1 << own):
            lane = used
            used += 1
            block.spec[lane] = stack.spec[at]
            for j in range(n):
                block.phase[j, lane] = stack.phase[at, j]
                block.p[j, lane] = stack.p[at, j]
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


@numba.njit(nogil=True, cache=True, error_model="numpy")
def learn(family: Family, best: Array, used: int, pseudo: Pseudo) -> None:
    """Adds what the splits of a round gained: the worse child's gain for each unit of score."""
    n = len(pseudo.total) - 1
    for lane in range(0, used - 1):
        j = family.neuron[lane]
        # Children of one split stand side by side, the inactive one first.
        if j < 0 or lane % 2 == 1 or family.neuron[lane + 1] != j or family.score[lane] <= 0:
            continue
        gain = max(min(best[lane], best[lane + 1]) - family.parent_lb[lane], 0.0) / family.score[lane]
        pseudo.total[j] += gain
        pseudo.count[j] += 1
        pseudo.total[n] += gain
        pseudo.count[n] += 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def certify(exact: Net, pending: Block, waiting: Family, stack: Stack, counters: Array) -> None:
    """Bounds the waiting domains in float64; those whose bound does not exceed 0 go back to the stack."""
    count = counters[PENDING]
    if count == 0:
        return
    for lane in range(count, LANES):
        copy_lane(pending, count - 1, pending, lane)
    backward(exact, pending)
    for lane in range(count):
        if not pending.lb[lane] > 0:
            counters[FAILED] += 1
            if waiting.branch[lane, 0] < 0:
                counters[EXHAUSTED] += 1
            else:
                push(
                    stack, counters, pending, lane, 0.0, waiting.depth[lane], waiting.branch[lane], waiting.score[lane]
                )
    counters[PENDING] = 0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def lowest_point(net: Net, block: Block, used: int, value: Array) -> int:
    """Runs the network itself on every lane's corner; returns the lane whose margin is lowest, `value[0]` is it."""
    n = net.E.shape[0]
    for j in range(n):
        z = block.point[net.inputs + j]
        z[:] = net.E[j]
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
    family: Family
    waiting: Family


class Steps(NamedTuple):
    """How multipliers are improved."""

    iterations: int
    leaf_iterations: int
    alpha: float
    beta: float


@numba.njit(nogil=True, cache=True, error_model="numpy")
def keep(
    net: Net, exact: Net, block: Block, pending: Block, stack: Stack, scratch: Scratch, pseudo: Pseudo, counters: Array,
    used: int, steps: Steps,
) -> None:  # fmt: skip
    """Sorts the bounded lanes: those that look proved wait for certification, the others go onto the stack."""
    best, family = scratch.best, scratch.family
    choose(net, block, pseudo, family.branch, family.score)
    leaves = False
    for lane in range(used):
        leaves = leaves or (family.branch[lane, 0] < 0 and best[lane] <= 0)
    if leaves:
        improve(net, block, steps.leaf_iterations, steps.alpha, steps.beta, True, best, scratch.kept, scratch.stepped)
    order = np.argsort(best[:used])
    for i in range(used):
        lane = order[i]
        counters[DEEPEST] = max(counters[DEEPEST], family.depth[lane])
        if best[lane] > 0:
            at = counters[PENDING]
            copy_lane(block, lane, pending, at)
            waiting = scratch.waiting
            waiting.depth[at], waiting.score[at] = family.depth[lane], family.score[lane]
            waiting.branch[at] = family.branch[lane]
            counters[PENDING] = at + 1
            if at + 1 == LANES:
                certify(exact, pending, waiting, stack, counters)
        elif family.branch[lane, 0] < 0:
            counters[EXHAUSTED] += 1
        else:
            push(stack, counters, block, lane, best[lane], family.depth[lane], family.branch[lane], family.score[lane])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def run(
    net: Net, exact: Net, block: Block, pending: Block, stack: Stack, scratch: Scratch, pseudo: Pseudo, counters: Array,
    steps: Steps, rounds: int, max_domains: int,
) -> int:  # fmt: skip
    """Splits domains for at most `rounds` rounds; returns how the slice ended.

    DONE: every domain is closed (those counted as exhausted excepted). LIMIT: `max_domains` allows no further split.
    FULL: the stack has no room for another round. RUNNING: more rounds are needed.
    """
    for _ in range(rounds):
        if counters[COUNT] == 0:
            certify(exact, pending, scratch.waiting, stack, counters)
            if counters[COUNT] == 0:
                return DONE
        if counters[COUNT] + 3 * LANES > len(stack.lb):
            return FULL
        room = min(LANES, max_domains - counters[DOMAINS])
        parents = min(counters[COUNT], room // 2)
        if parents <= 0:
            return LIMIT
        used = take_children(stack, counters, block, scratch.family, parents, room)
        improve(
            net, block, steps.iterations, steps.alpha, steps.beta, False, scratch.best, scratch.kept, scratch.stepped
        )
        counters[DOMAINS] += used
        counters[ROUNDS] += 1
        learn(scratch.family, scratch.best, used, pseudo)
        keep(net, exact, block, pending, stack, scratch, pseudo, counters, used, steps)
    return RUNNING
