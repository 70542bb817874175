"""Tighter bounds of hidden rows: CROWN with lower slopes optimised for each row by itself, layer by layer.

Plain CROWN has one lower slope for each unstable neuron, whichever row is bounded. Here every row that is still
unstable gets slopes of its own (Xu et al., "Fast and Complete", ICLR 2021), found by a few gradient steps on the folded
network; then one float64 pass over the network's own rows with these slopes is the bound. Any slopes are sound.

The same under splits: neurons whose phase is fixed lose their relaxation, and their constraint enters the rows above
with a multiplier of its own for each row (Wang et al., "Beta-CROWN", NeurIPS 2021).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.verifier.fold import FoldedNetwork
from harness.verifier.kernels import alpha, passes
from harness.verifier.kernels.alpha import PASSED, Below
from harness.verifier.kernels.contract import LANES
from harness.verifier.kernels.passes import DEAD, UNSTABLE, Array, Matrix, State
from harness.verifier.patience import tick
from harness.verifier.sparse import Segment
from harness.verifier.sparse_bounds import SparseBounds, neighbours_together, scratch
from harness.verifier.sparse_fold import fold_sparse

SHARED_FROM = 0.7
"""Share of a layer's reach from which a block uses the whole layer's: renumbering would cost more than it saves."""


FIRST_ITERATIONS = 3
"""Iterations of the first block where time is limited: nothing is known yet of what one takes."""

FIXED_STEPS = 6
"""What a block costs besides its iterations, in iterations: the concluding passes, gathering its rows."""

FIXED_ENTRIES = 2000
"""What an iteration costs besides its entries, in entries."""

TINY_SECONDS = 1e-12


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard the slopes are searched for; nothing here can make a bound wrong."""

    iterations: int = 20
    step: float = 1.0
    """Length of the first step."""
    decay: float = 0.9
    """Factor of the step from one iteration to the next."""
    tolerance: float = 1e-3
    """A block ends when three iterations together gain less than this share of its bounds."""
    seconds: float = float("inf")
    """Time for the search: where it is short, blocks get fewer iterations, and in the end none. The answer then depends
    on the clock."""
    workers: int = 1
    """Threads that share a layer's blocks; the result does not depend on them."""


class Splits(NamedTuple):
    """Neurons whose phase is fixed."""

    row: NDArray[np.int64]
    phase: NDArray[np.int8]
    """1: z >= 0, -1: z <= 0."""


NO_SPLITS = Splits(np.zeros(0, np.int64), np.zeros(0, np.int8))


def refine(
    found: SparseBounds,
    unit: float,
    effort: Effort = Effort(),
    *,
    splits: Splits = NO_SPLITS,
    need: Array | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> SparseBounds:
    """Returns bounds that hold wherever those found hold and the splits are obeyed; no row's are looser.

    Where `lb > ub` for some row of the result, no point of the box obeys the splits.

    Args:
        found: bounds over the box; not changed.
        unit: unit roundoff that they were made for.
        effort: how hard to try.
        splits: neurons with a fixed phase; only those that are unstable in `found` get multipliers.
        need: `(rows,)`: blocks with the largest come first, rows at zero or below are left out; None: all, in order.
        clock: seconds; read before and after each block.
    """
    return _Refinement(found, unit, effort, splits, need, clock).run()


def needs(found: SparseBounds, C: Array) -> Array:
    """Returns what each row's relaxation costs the CROWN bound of the worst-hit margin `C y`, `(rows,)`, at least 0.

    A row that costs nothing may still tighten rows above it: this is an order, and a reason to leave rows out only
    where time is short.

    Args:
        found: bounds over the box.
        C: `(margins, outputs)` float64; best only those that are still open.
    """
    lost, net = np.zeros(found.network.rows), found.network
    C = np.ascontiguousarray(C, np.float64)
    for k in range(0, len(C), LANES):
        alpha.losses(C[k : k + LANES], net.output, found.matrix, found.state, net.inputs, scratch(net), lost)
    return lost


class _Block(NamedTuple):
    rows: Array
    """Rows of the network."""
    folded: Array
    """The same as rows of the folded network."""


class _Reach(NamedTuple):
    """What some rows read of the folded network."""

    below: Below
    columns: Array
    """`(inputs + n,)`: columns of the folded network, ascending."""
    place: Array
    """`(folded columns,)`: their numbers here, -1 for the others."""


class _Refinement:
    """One run of `refine`: new bounds that grow segment by segment, and the network folded by the old ones."""

    def __init__(
        self,
        found: SparseBounds,
        unit: float,
        effort: Effort,
        splits: Splits,
        need: Array | None,
        clock: Callable[[], float],
    ) -> None:
        self.old, self.unit, self.effort, self.need, self.clock = found, unit, effort, need, clock
        net = found.network
        self.phase = np.zeros(net.rows, np.int8)
        self.phase[splits.row] = splits.phase
        state = State(*(a.copy() for a in found.state))
        lb, ub = found.lb.copy(), found.ub.copy()
        lb[self.phase > 0] = np.maximum(lb[self.phase > 0], 0.0)
        ub[self.phase < 0] = np.minimum(ub[self.phase < 0], 0.0)
        old = found.matrix
        matrix = Matrix(np.zeros_like(old.start), np.zeros_like(old.stop), old.column.copy(), old.value.copy())
        self.new = SparseBounds(net, matrix, state, lb, ub)
        self.end = 0
        self.folded: FoldedNetwork | None = None
        self.pace: float | None = None
        """Seconds that the last block took for an entry and a step."""
        self.unstable = found.unstable()
        self.number = np.full(net.rows, -1, np.int64)
        self.number[self.unstable] = np.arange(len(self.unstable))

    def run(self) -> SparseBounds:
        net, finite = self.new.network, np.isfinite(self.effort.seconds)
        deadline = self.clock() + self.effort.seconds
        if len(self.unstable):
            self.folded = fold_sparse(self.old, np.zeros((0, len(net.output))), np.zeros(0))
        for segment, share in zip(net.segments, self._shares(), strict=True):
            first, last, activation = segment
            self._intervals(first, last)
            if activation is not None and share > 0:
                now = self.clock()
                self._search(segment, now + (deadline - now) * share if finite else np.inf)
                self._settle(first, last)
            alive = (first, last, net.inputs, net.start, net.column, net.value, self.new.state.kind, self.new.matrix)
            self.end = passes.keep_alive(*alive, self.end)
        return self.new

    def _shares(self) -> list[float]:
        """Returns for each segment the share of the time left that is its own: by rows times entries below them."""
        if self.folded is None:
            return [0.0 for _ in self.new.network.segments]
        starts, work = self.folded.by_row.start, []
        for first, last, activation in self.new.network.segments:
            rows = self.number[first:last][self.number[first:last] >= 0]
            below = int(starts[rows[0]]) if len(rows) and activation is not None else 0
            work.append(float(len(rows) * below))
        remaining = np.cumsum(work[::-1])[::-1]
        return [w / r if r > 0 else 0.0 for w, r in zip(work, remaining, strict=True)]

    def _intervals(self, first: int, last: int) -> None:
        """Interval bounds over what is known below, where they beat what is known of the rows themselves."""
        net, new, span = self.new.network, self.new, slice(first, last)
        lb, ub = new.lb[span].copy(), new.ub[span].copy()
        rows = (first, last, net.start, net.column, net.value, net.bias_size, net.roundings, self.unit)
        passes.interval_rows(*rows, new.state, new.lb, new.ub)
        np.maximum(new.lb[span], lb, out=new.lb[span])
        np.minimum(new.ub[span], ub, out=new.ub[span])
        self._settle(first, last)

    def _settle(self, first: int, last: int) -> None:
        net, new = self.new.network, self.new
        rule = (net.inputs, net.linear, net.slope, net.intercept, net.rounded, self.unit)
        passes.settle_rows(first, last, *rule, new.state, new.lb, new.ub)

    def _search(self, segment: Segment, deadline: float) -> None:
        """Searches for the rows of one segment that are unstable still, block by block, until the time is over."""
        blocks = list(self._blocks(segment))
        if not blocks:
            return
        everything = self._reach(np.concatenate([b.folded for b in blocks]))
        if len(everything.below.E) == 0:
            return

        def one(k: int) -> None:
            self._timed(blocks[k], everything, deadline, len(blocks) - k)

        if self.effort.workers == 1 or len(blocks) == 1:
            for k in range(len(blocks)):
                one(k)
        else:
            with ThreadPoolExecutor(self.effort.workers) as pool:
                list(pool.map(one, range(len(blocks))))

    def _timed(self, block: _Block, everything: _Reach, deadline: float, waiting: int) -> None:
        """Improves a block in its share of the time; `waiting`: it and the blocks behind it."""
        tick()
        iterations, began, size = self.effort.iterations, self.clock(), len(everything.below.row_value)
        if np.isfinite(deadline):
            if began > deadline:
                return
            if self.pace is not None:
                share = (deadline - began) * min(self.effort.workers, waiting) / waiting
                fitting = share / max(self.pace * (size + FIXED_ENTRIES), TINY_SECONDS) - FIXED_STEPS
                iterations = int(np.clip(fitting, 1, iterations))
            else:
                iterations = min(iterations, FIRST_ITERATIONS)
        self._improve(block, everything, iterations)
        self.pace = (self.clock() - began) / ((size + FIXED_ENTRIES) * (iterations + FIXED_STEPS))

    def _blocks(self, segment: Segment) -> Iterator[_Block]:
        span = slice(segment.first, segment.last)
        wanted = (self.new.state.kind[span] == UNSTABLE) & (self.number[span] >= 0)
        if self.need is not None:
            wanted &= self.need[span] > 0
        rows = segment.first + np.flatnonzero(wanted)
        rows = neighbours_together(self.old, rows)
        parts = [rows[k : k + LANES] for k in range(0, len(rows), LANES)]
        if self.need is not None:
            need = self.need
            parts.sort(key=lambda part: -float(need[part].max()))
        for part in parts:
            yield _Block(part, self.number[part])

    def _reach(self, folded_rows: Array) -> _Reach:
        """Returns what folded rows read, with the bounds that are known by now."""
        folded, state = self._folded(), self.new.state
        columns = np.flatnonzero(self._reached(folded_rows))
        place = np.full(folded.inputs + folded.neurons, -1, np.int64)
        place[columns] = np.arange(len(columns))
        kind, phase = state.kind[self.unstable], self.phase[self.unstable]
        return _Reach(self._restricted(columns, place, kind, phase), columns, place)

    def _reached(self, folded_rows: Array) -> Array:
        """Returns marks of the folded columns that rows read, directly or not; neurons found dead are left out."""
        folded = self._folded()
        reached = np.zeros(folded.inputs + folded.neurons, np.uint8)
        gone = (self.new.state.kind[self.unstable] == DEAD) & (self.phase[self.unstable] == 0)
        alpha.reach(folded_rows, folded.by_row.start, folded.by_row.column, folded.inputs, gone, reached)
        return reached

    def _folded(self) -> FoldedNetwork:
        if self.folded is None:
            raise ValueError("nothing is unstable")
        return self.folded

    def _restricted(self, columns: Array, place: Array, kind: Array, phase: Array) -> Below:
        folded, state = self._folded(), self.new.state
        neurons = columns[columns >= folded.inputs] - folded.inputs
        rows = self.unstable[neurons]
        inputs, n = len(columns) - len(neurons), len(neurons)
        start = folded.by_row.start
        room = int((start[neurons + 1] - start[neurons]).sum())
        by_row = np.zeros(n + 1, np.int64), np.empty(room, np.int32), np.empty(room, np.float32)
        end = alpha.restrict(neurons, *folded.by_row, place, *by_row)
        by_row = by_row[0], by_row[1][:end], by_row[2][:end]
        by_column = np.zeros(len(columns) + 1, np.int64), np.empty(end, np.int32), np.empty(end, np.float32)
        passes.transpose(*by_row, len(columns), *by_column)
        local = np.where(phase[neurons] != 0, phase[neurons], np.where(kind[neurons] == UNSTABLE, 0, PASSED))
        values = (folded.E[neurons], self.new.lb[rows], state.upper_slope[rows], state.upper_offset[rows])
        E, lb, slope, offset = (a.astype(np.float32) for a in values)
        return Below(inputs, *by_row, *by_column, E, lb, slope, offset, local.astype(np.int8))

    def _improve(self, block: _Block, everything: _Reach, iterations: int) -> None:
        """Replaces a block's bounds by better ones where it finds them."""
        new, reach = self.new, everything
        if np.count_nonzero(self._reached(block.folded)) < SHARED_FROM * len(reach.columns):
            reach = self._reach(block.folded)
        lower = self._bounds(block, reach, 1.0, iterations)
        new.lb[block.rows] = np.maximum(new.lb[block.rows], lower)
        chosen = new.lb[block.rows] < 0
        if chosen.any():
            rest = _Block(block.rows[chosen], block.folded[chosen])
            upper = -self._bounds(rest, reach, -1.0, iterations)
            new.ub[rest.rows] = np.minimum(new.ub[rest.rows], upper)

    def _bounds(self, block: _Block, reach: _Reach, sign: float, iterations: int) -> Array:
        """Returns proven lower bounds of `sign * z`, with the best slopes that the search found."""
        folded, state, effort, below = self._folded(), self.new.state, self.effort, reach.below
        count = len(block.rows)
        top = np.zeros((len(reach.columns), LANES), np.float32)
        alpha.spread_rows(block.folded, *folded.by_row, reach.place, top)
        top *= np.float32(sign)
        constant = np.zeros(LANES, np.float32)
        constant[:count] = sign * folded.E[block.folded]
        neurons = reach.columns[below.inputs :] - folded.inputs
        rows = self.unstable[neurons]
        start = np.where(below.phase == 0, state.lower_slope[rows], 0.0).astype(np.float32)
        p = np.repeat(start[:, None], LANES, axis=1)
        alpha.search(
            below, top, constant, count, iterations, effort.step, effort.decay, effort.tolerance,
            p, np.empty(LANES, np.float32),
        )  # fmt: skip
        return self._proven(block.rows, sign, rows, _sound(p, below.phase))

    def _proven(self, rows: Array, sign: float, below: Array, p: Array) -> Array:
        """Returns lower bounds of `sign * z` by one float64 pass with the slopes and multipliers of the rows below."""
        net, result = self.new.network, np.empty(len(rows))
        place = np.full(net.rows, -1, np.int64)
        place[below] = np.arange(len(below))
        # The old matrix: it has the rows being bounded, and the entries of neurons that are split inactive.
        alpha.bounded_rows(
            rows, sign, self.old.matrix, self.new.state, net.inputs, self.phase, place, p, scratch(net), result
        )
        return np.where(np.isfinite(result), result, -np.inf)


def _sound(p: Array, phase: Array) -> Array:
    """Returns slopes within [0, 1] and multipliers >= 0, whatever a search that overflowed has left."""
    p = np.nan_to_num(p, nan=0.0, posinf=1.0, neginf=0.0).clip(0.0, None)
    most = np.where((phase == 0)[:, None], 1.0, np.inf)
    return np.minimum(p, most).astype(np.float64)
