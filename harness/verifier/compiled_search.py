"""Branch and bound by the compiled search: the CPU's fast form of `bab.Search`.

The stack of open domains and everything that happens to them lives in compiled code, which comes back every few
hundredths of a second so that clocks are looked at and counterexamples tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.domain import Counterexample
from harness.verifier.bab import Outcome, SearchResult
from harness.verifier.config import EngineConfig
from harness.verifier.fold import FoldedNetwork
from harness.verifier.kernels import counters, domains, search
from harness.verifier.kernels.contract import LANES
from harness.verifier.kernels.domains import Block, Net, Pseudo
from harness.verifier.kernels.search import Scratch, Steps
from harness.verifier.kernels.stack import Family, Stack
from harness.verifier.tiling import tiled

SLICE_WORK = 3e8
"""Multiply-adds after which compiled code comes back: a few hundredths of a second; counted, not timed, so that a
search does not depend on the clock."""
ROOM = 256
"""Domains that a new stack has room for."""
CORNER_EVERY = 8
"""Rounds between two counterexamples that are tried."""
LAST_STEP = 12
"""Splits below a frame's roots at which its domains are sifted at the latest, as long as sifting closes any."""
WORTH = 4
"""Sifting pays where it closes one domain in so many of a block."""
SELDOM_WORTH = 16
"""It goes on where it has closed one in so many of all so far."""
SELDOM = 1 << 20
"""And otherwise: never, in any tree that fits into memory."""
MOST_DEFERRED = 512
"""Domains that are deferred in one frame; so many are looked at before the frame is done."""
MOST_IDLE = 63
"""Blocks that are passed over at most after one in which sifting closed nothing."""
SIFTING_STEPS = 100
"""Steps at most that look for a proof that no point obeys a domain's splits."""
SIFTING_TRIAL = 1e9
"""Multiply-adds that the first sifting of 32 domains may take."""
UNLIMITED = 2**62


@dataclass(slots=True)
class _Frame:
    """Some subtrees that are searched before the domains below them on the stack are looked at."""

    first: int
    """Place of its lowest domain on the stack."""
    open: int = 0
    """Domains from there on that wait while a frame above is searched."""


class CompiledSearch:
    """Branch and bound over the open margins of one folded network.

    Domains that have become deep wait at the bottom of their frame until nothing else of it is left. Then they are
    sifted, and those that may have a point are searched, a block of them at a time, in a frame of their own.

    Args:
        network: the folded network; its margins are the ones to prove.
        config: iterations and step sizes.
        max_domains: bound on the domains, None for none; 0 keeps to the root.
        should_stop: asked now and then, with the number of domains so far.
        confirm: tries the input with this sign in every dimension, `(d,)`; returns the counterexample if it is one.
        give_up_after: slices after which the tree counts as LARGE, which has no frames then; None: never.
        nets: the network as `compiled_nets` returns it, where that is at hand.
    """

    def __init__(
        self,
        network: FoldedNetwork,
        config: EngineConfig,
        max_domains: int | None,
        should_stop: Callable[[int], bool],
        confirm: Callable[[NDArray[np.float32]], Counterexample | None],
        give_up_after: int | None = None,
        nets: tuple[Net, Net] | None = None,
    ) -> None:
        self.network, self.config = network, config
        self.max_domains = UNLIMITED if max_domains is None else max_domains
        self.should_stop, self.confirm = should_stop, confirm
        self.roots_wait, self.give_up_after = True, give_up_after
        self.barren, self.idle, self.next_corner = 0, 0, 0
        self.step, self.sifting_steps, self.sifted, self.empty = config.sift_every, _first_steps(network), 0, 0
        n, margins, d = network.neurons, len(network.e), network.inputs
        self.block, self.pending = (
            empty_block(n, margins + 1, d, np.float32),
            empty_block(n, margins + 1, d, np.float64),
        )
        self.fast, self.exact = nets or compiled_nets(network)
        self.stack, self.frames = _stack(ROOM, n), [_Frame(0)]
        self.scratch = Scratch(
            np.empty(LANES, np.float32), np.empty((n, LANES), np.float32), np.empty((n, LANES), np.float32),
            np.ones(LANES, np.bool_), _family(), _family(),
        )  # fmt: skip
        self.pseudo = Pseudo(np.zeros(n + 1), np.zeros(n + 1))
        self.pseudo.gain[n] = self.pseudo.splits[n] = 1.0
        self.counters = np.zeros(10, np.int64)
        self.counters[counters.DEEPEST_HERE] = self.step if give_up_after is None else UNLIMITED
        self.steps = Steps(config.iterations, config.leaf_iterations, config.look_ahead)

    @property
    def domains(self) -> int:
        """Domains bounded so far, the roots included."""
        return int(self.counters[counters.DOMAINS])

    def run(self, slices: int | None = None) -> SearchResult:
        """Bounds the roots, then splits until everything is closed or a limit is reached.

        Args:
            slices: after so many it ends as LARGE, and the next call goes on; None: as the search was made.
        """
        if self.roots_wait:
            self.roots_wait = False
            found = self._roots()
            if found is not None:
                return self._result(Outcome.FALSIFIED, found)
        rounds = max(1, int(SLICE_WORK / max(self._round_work(), 1)))
        left = self.give_up_after if slices is None else slices
        while left is None or left > 0:
            left = None if left is None else left - 1
            if self.should_stop(self.domains):
                return self._result(Outcome.STOPPED)
            ended = self._slice(rounds)
            if ended == counters.LIMIT:
                return self._result(Outcome.DOMAINS)
            found = self._try_corner() if self._is_time_for_a_corner() else None
            if found is not None:
                return self._result(Outcome.FALSIFIED, found)
            if self._open() > self.config.max_open_domains:
                return self._result(Outcome.MEMORY)
            crowded = self.counters[counters.DEFERRED] - self.frames[-1].first >= MOST_DEFERRED
            outcome = self._next_frame() if ended == counters.DONE or crowded else None
            if outcome is not None:
                return self._result(outcome)
            if ended == counters.FULL:
                self._grow()
        return self._result(Outcome.LARGE)

    @property
    def open_share(self) -> float:
        """The share of the tree that is still open, every split halving its domain; above 1 with several margins."""
        return float(np.exp2(-self.stack.depth[: self._open()]).sum())

    @property
    def nbytes(self) -> int:
        """Memory that the search holds while it waits for its next turn."""
        parts = (net for net in (self.fast, self.exact))
        tiles = (m for net in (self.fast, self.exact) for m in (net.forward, net.backward))
        arrays = (a for part in (*parts, *tiles, self.block, self.pending, self.stack) for a in part)
        return sum(a.nbytes for a in arrays if isinstance(a, np.ndarray))

    @property
    def often_empty(self) -> bool:
        """Whether many of the domains that were sifted had no point."""
        return WORTH * self.empty > self.sifted > 0

    def split(self) -> CompiledSearch:
        """Gives every other open domain to a new search, which goes on with what was learned so far."""
        search.certify(self.exact, self.pending, self.scratch.waiting, self.stack, self.counters)
        other = CompiledSearch(
            self.network, self.config, self.max_domains, self.should_stop, self.confirm, self.give_up_after,
            (self.fast, self.exact),
        )  # fmt: skip
        other.roots_wait, other.step, other.sifting_steps = False, self.step, self.sifting_steps
        for mine, its in zip(self.pseudo, other.pseudo, strict=True):
            its[:] = mine
        count = self._open()
        other._begin_with(Stack(*(a[1:count:2] for a in self.stack)))
        self._begin_with(Stack(*(a[:count:2] for a in self.stack)))
        return other

    def _begin_with(self, open_: Stack) -> None:
        """Makes these the open domains, all in one frame."""
        count = len(open_.lb)
        room = _stack(max(ROOM, 2 * count + 3 * LANES), self.network.neurons)
        for mine, given in zip(room, open_, strict=True):
            mine[:count] = given
        self.stack, self.frames = room, [_Frame(0)]
        self.counters[counters.DEFERRED], self.counters[counters.COUNT] = 0, count
        if self.give_up_after is None:
            self.counters[counters.DEEPEST_HERE] = room.depth[:count].min(initial=0) + self.step

    def _slice(self, rounds: int) -> int:
        return search.run(
            self.fast, self.exact, self.block, self.pending, self.stack, self.scratch, self.pseudo, self.counters,
            self.steps, rounds, self.max_domains,
        )  # fmt: skip

    @property
    def open_domains(self) -> int:
        """Domains on the stack; some more may wait for certification."""
        return self._open()

    def _open(self) -> int:
        return int(self.counters[counters.COUNT])

    def _is_time_for_a_corner(self) -> bool:
        """Whether enough rounds have passed since a corner was tried, which costs about as much as half a round."""
        rounds = int(self.counters[counters.ROUNDS])
        due = rounds >= self.next_corner
        self.next_corner = rounds + CORNER_EVERY if due else self.next_corner
        return due

    def _next_frame(self) -> Outcome | None:
        """Goes on with the next waiting domains that may have a point; returns how the search ends if it ends here."""
        frame = self.frames[-1]
        search.certify(self.exact, self.pending, self.scratch.waiting, self.stack, self.counters)
        frame.open = self._open() - frame.first
        if frame.open:
            self._sift(frame)
        while not self.frames[-1].open:
            if len(self.frames) == 1:
                return Outcome.EXHAUSTED if self.counters[counters.EXHAUSTED] else Outcome.PROVED
            self.frames.pop()
        if self.domains >= self.max_domains:
            return Outcome.DOMAINS
        if self.should_stop(self.domains):
            return Outcome.STOPPED
        self._enter(self.frames[-1])
        return None

    def _enter(self, frame: _Frame) -> None:
        """Makes a frame of as many waiting domains as fill a block with their children."""
        count = min(frame.open, LANES // 2)
        frame.open -= count
        first = frame.first + frame.open
        self.frames.append(_Frame(first))
        self.counters[counters.DEFERRED], self.counters[counters.COUNT] = first, first + count
        self.counters[counters.DEEPEST_HERE] = self.stack.depth[first : first + count].max() + self.step

    def _sift(self, frame: _Frame) -> None:
        """Closes waiting domains whose splits no point obeys: their bound with an objective of zero exceeds zero.

        Where few are closed, the next ones get fewer steps, and are sifted at deeper domains; where none are, the next
        blocks are passed over, more each time, and the next ones to be sifted are much deeper.
        """
        first = kept = frame.first
        end = first + frame.open
        while first < end and not self.should_stop(self.domains):
            count = min(LANES * max(self.idle, 1), end - first)
            if self.idle:
                kept, self.idle = self._moved(first, count, kept), 0
            else:
                left = search.sift(
                    self.fast, self.exact, self.block, self.pending, self.stack, self.scratch, self.counters, first,
                    count, kept, len(self.network.e), self.sifting_steps,
                )  # fmt: skip
                kept, self.sifted, self.empty = kept + left, self.sifted + count, self.empty + count - left
                self._learn(count, count - left)
            first += count
        frame.open = self._moved(first, end - first, kept) - frame.first
        self.counters[counters.COUNT] = frame.first + frame.open

    def _moved(self, first: int, count: int, to: int) -> int:
        """Moves domains within the stack; returns the place behind them."""
        for mine in self.stack:
            mine[to : to + count] = mine[first : first + count].copy()
        return to + count

    def _learn(self, sifted: int, closed: int) -> None:
        """Decides from what one block gave when and how the next ones are sifted."""
        pays = WORTH * closed >= sifted
        self.sifting_steps = min(2 * self.sifting_steps, SIFTING_STEPS) if pays else self.sifting_steps // 2 + 2
        if pays:
            self.step = max(min(self.step, LAST_STEP) - 1, self.config.sift_every)
        elif closed or SELDOM_WORTH * self.empty > self.sifted:
            self.step = min(self.step + 1, LAST_STEP)
        else:
            self.step = min(2 * self.step, SELDOM)
        # A block without any such domain says little where many had them.
        self.barren = 0 if closed or SELDOM_WORTH * self.empty > self.sifted else min(2 * self.barren + 1, MOST_IDLE)
        self.idle = self.barren

    def _roots(self) -> Counterexample | None:
        """Bounds the margins without splits (alpha-CROWN with fixed hidden bounds); tries the lowest corner."""
        network, block, scratch = self.network, self.block, self.scratch
        start = (network.ub > -network.lb).astype(np.float32)
        for first in range(0, len(network.e), LANES):
            used = min(LANES, len(network.e) - first)
            block.spec[:] = np.minimum(first + np.arange(LANES), first + used - 1)
            block.phase[:] = 0
            block.p[:] = start[:, None]
            scratch.watched[:] = np.arange(LANES) < used
            steps = self.config.root_iterations
            domains.improve(self.fast, block, steps, scratch.watched, scratch.best, scratch.kept, scratch.stepped)
            self.counters[counters.DOMAINS] += used
            scratch.family.depth[:] = 0
            search.keep(
                self.fast, self.exact, block, self.pending, self.stack, scratch, self.pseudo, self.counters, used,
                self.steps,
            )  # fmt: skip
            found = self._try_corner(used) if bool((scratch.best[:used] <= 0).any()) else None
            if found is not None:
                return found
            while self._open() + 3 * LANES > len(self.stack.lb):
                self._grow()
        return None

    def _try_corner(self, used: int = LANES) -> Counterexample | None:
        """Runs the network on the last block's corners and tries the lowest one."""
        value = np.empty(1)
        lane = search.lowest_point(self.fast, self.block, used, value)
        return self.confirm(self.block.point[: self.network.inputs, lane]) if value[0] <= NEARLY else None

    def _grow(self) -> None:
        self.stack = Stack(*(np.concatenate([a, np.empty_like(a)]) for a in self.stack))

    def _result(self, outcome: Outcome, found: Counterexample | None = None) -> SearchResult:
        rest = self if outcome is Outcome.LARGE else None
        return SearchResult(
            outcome, self.domains, bool(self.counters[counters.ROUNDS]), found, self.multiply_adds, rest
        )

    @property
    def multiply_adds(self) -> int:
        """Returns the work of the rounds: bounds and gradients in float32, certification in float64."""
        rounds, certified = int(self.counters[counters.ROUNDS]), int(self.counters[counters.CERTIFIED])
        return rounds * self._round_work() + certified * LANES * len(self.network.by_column.value)

    def _round_work(self) -> int:
        back, forward = len(self.network.by_column.value), len(self.network.by_row.value)
        return LANES * ((self.config.iterations + 1) * back + self.config.iterations * forward)


def _first_steps(network: FoldedNetwork) -> int:
    """Returns with how many steps sifting begins: it is a trial, which must not cost more than some rounds do."""
    return int(np.clip(SIFTING_TRIAL / (3 * LANES * max(len(network.by_column.value), 1)), 4, SIFTING_STEPS))


NEARLY = 1e-3
"""Margin at a corner up to which the network itself is asked: float32 and the slack may hide a violation."""


def compiled_nets(network: FoldedNetwork) -> tuple[Net, Net]:
    """Returns a folded network as compiled code takes it, in float32 to search and in float64 to conclude.

    Behind its margins comes one that is always zero: where its bound exceeds zero, no point obeys a domain's splits.
    """
    f, layers = network, len(network.layer_start) - 1
    layer = np.repeat(np.arange(layers), np.diff(f.layer_start))
    # Backward: layers from the last one down, then the inputs.
    forward, backward = tiled(*f.by_row, layer), tiled(*f.by_column, np.append(np.full(f.inputs, layers), -layer))
    slope = f.ub / (f.ub - f.lb)
    parts = f.E, f.slack, np.append(f.e, 0.0), f.lb, f.ub, slope, -slope * f.lb
    C = np.append(f.C, np.zeros((len(f.C), 1)), axis=1)

    def net(dtype: type[np.floating]) -> Net:
        up, down = (m._replace(value=np.ascontiguousarray(m.value, dtype)) for m in (forward, backward))
        return Net(f.inputs, up, down, *(np.ascontiguousarray(a, dtype) for a in (C, *parts)))

    return net(np.float32), net(np.float64)


def empty_block(n: int, margins: int, d: int, dtype: type[np.floating]) -> Block:
    """Returns a block of domains without splits, all zero."""
    return Block(
        np.zeros(LANES, np.int32),
        np.zeros((n, LANES), np.int8),
        np.zeros((n, LANES), dtype),
        np.zeros((n, LANES), dtype),
        np.zeros((n + margins, LANES), dtype),
        np.zeros((d + n, LANES), dtype),
        np.zeros(LANES, dtype),
    )


def _stack(capacity: int, n: int) -> Stack:
    return Stack(
        np.empty(capacity, np.float32),
        np.empty(capacity, np.int32),
        np.empty(capacity, np.int32),
        np.empty((capacity, domains.SPLITS), np.int32),
        np.empty(capacity),
        np.empty((capacity, n), np.int8),
        np.empty((capacity, n), np.float32),
    )


def _family() -> Family:
    return Family(
        np.zeros(LANES), np.full(LANES, -1, np.int32), np.zeros(LANES), np.zeros(LANES, np.int32),
        np.full((LANES, domains.SPLITS), -1, np.int32),
    )  # fmt: skip
