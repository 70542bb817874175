"""Branch and bound by the compiled search: the CPU's fast form of `bab.Search`.

The stack of open domains and everything that happens to them lives in compiled code, which comes back every few
hundredths of a second so that clocks are looked at and counterexamples tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from harness.domain import Counterexample
from harness.verifier.bab import Outcome, SearchResult
from harness.verifier.config import EngineConfig
from harness.verifier.fold import FoldedNetwork
from harness.verifier.kernels import domains, search
from harness.verifier.kernels.contract import LANES
from harness.verifier.kernels.domains import Block, Net, Pseudo
from harness.verifier.kernels.search import Family, Scratch, Stack, Steps

SLICE_S = 0.04
"""About how long compiled code runs without coming back."""
FIRST_ROOM = 1024
UNLIMITED = 2**62


class CompiledSearch:
    """Branch and bound over the open margins of one folded network.

    Args:
        network: the folded network; its margins are the ones to prove.
        config: iterations and step sizes.
        max_domains: bound on the domains, None for none; 0 keeps to the root.
        should_stop: asked now and then, with the number of domains so far.
        confirm: tries the input with this sign in every dimension, `(d,)`; returns the counterexample if it is one.
    """

    def __init__(
        self,
        network: FoldedNetwork,
        config: EngineConfig,
        max_domains: int | None,
        should_stop: Callable[[int], bool],
        confirm: Callable[[NDArray[np.float32]], Counterexample | None],
    ) -> None:
        self.network, self.config = network, config
        self.max_domains = UNLIMITED if max_domains is None else max_domains
        self.should_stop, self.confirm = should_stop, confirm
        self.fast, self.exact = compiled_net(network, np.float32), compiled_net(network, np.float64)
        n, margins, d = network.neurons, len(network.e), network.inputs
        self.block, self.pending = empty_block(n, margins, d, np.float32), empty_block(n, margins, d, np.float64)
        self.stack = _stack(FIRST_ROOM, n)
        self.scratch = Scratch(
            np.empty(LANES, np.float32), np.empty((n, LANES), np.float32), np.empty((n, LANES), np.float32),
            _family(), _family(),
        )  # fmt: skip
        self.pseudo = Pseudo(np.zeros(n + 1), np.zeros(n + 1))
        self.pseudo.gain[n] = self.pseudo.splits[n] = 1.0
        self.counters = np.zeros(8, np.int64)
        self.steps = Steps(config.iterations, config.leaf_iterations, config.alpha_step, config.beta_step)

    @property
    def domains(self) -> int:
        """Domains bounded so far, the roots included."""
        return int(self.counters[search.DOMAINS])

    def run(self) -> SearchResult:
        """Bounds the roots, then splits until everything is closed or a limit is reached."""
        found = self._roots()
        if found is not None:
            return self._result(Outcome.FALSIFIED, found)
        rounds = 8
        while True:
            if self.should_stop(self.domains):
                return self._result(Outcome.STOPPED if self.counters[search.COUNT] else self._closed())
            before = time.perf_counter()
            ended = self._slice(rounds)
            if ended == search.DONE:
                return self._result(self._closed())
            if ended == search.LIMIT:
                return self._result(Outcome.DOMAINS)
            if ended == search.FULL:
                self._grow()
            found = self._try_corner()
            if found is not None:
                return self._result(Outcome.FALSIFIED, found)
            if self.counters[search.COUNT] > self.config.max_open_domains:
                return self._result(Outcome.MEMORY)
            if ended == search.RUNNING:
                rounds = _paced(rounds, time.perf_counter() - before)

    def _slice(self, rounds: int) -> int:
        return search.run(
            self.fast, self.exact, self.block, self.pending, self.stack, self.scratch, self.pseudo, self.counters,
            self.steps, rounds, self.max_domains,
        )  # fmt: skip

    def _roots(self) -> Counterexample | None:
        """Bounds the margins without splits (alpha-CROWN with fixed hidden bounds); tries the lowest corner."""
        network, config, block, scratch = self.network, self.config, self.block, self.scratch
        start = (network.ub > -network.lb).astype(np.float32)
        for first in range(0, len(network.e), LANES):
            used = min(LANES, len(network.e) - first)
            block.spec[:] = np.minimum(first + np.arange(LANES), first + used - 1)
            block.phase[:] = 0
            block.p[:] = start[:, None]
            domains.improve(
                self.fast, block, config.root_iterations, config.alpha_step, config.beta_step, False, scratch.best,
                scratch.kept, scratch.stepped,
            )  # fmt: skip
            self.counters[search.DOMAINS] += used
            scratch.family.depth[:] = 0
            search.keep(
                self.fast, self.exact, block, self.pending, self.stack, scratch, self.pseudo, self.counters, used,
                self.steps,
            )  # fmt: skip
            found = self._try_corner(used) if bool((scratch.best[:used] <= 0).any()) else None
            if found is not None:
                return found
            while self.counters[search.COUNT] + 3 * LANES > len(self.stack.lb):
                self._grow()
        return None

    def _try_corner(self, used: int = LANES) -> Counterexample | None:
        """Runs the network on the last block's corners and tries the lowest one."""
        value = np.empty(1)
        lane = search.lowest_point(self.fast, self.block, used, value)
        return self.confirm(self.block.point[: self.network.inputs, lane]) if value[0] <= NEARLY else None

    def _closed(self) -> Outcome:
        return Outcome.EXHAUSTED if self.counters[search.EXHAUSTED] else Outcome.PROVED

    def _grow(self) -> None:
        self.stack = Stack(*(np.concatenate([a, np.empty_like(a)]) for a in self.stack))

    def _result(self, outcome: Outcome, found: Counterexample | None = None) -> SearchResult:
        return SearchResult(outcome, self.domains, bool(self.counters[search.ROUNDS]), found, self._multiply_adds())

    def _multiply_adds(self) -> int:
        """Returns the work of the rounds: bounds and gradients in float32, certification in float64."""
        back, forward = len(self.network.by_column.value), len(self.network.by_row.value)
        rounds, certified = int(self.counters[search.ROUNDS]), int(self.counters[search.CERTIFIED])
        steps = self.config.iterations
        return LANES * (rounds * ((steps + 1) * back + steps * forward) + certified * back)


NEARLY = 1e-3
"""Margin at a corner up to which the network itself is asked: float32 and the slack may hide a violation."""


def _paced(rounds: int, seconds: float) -> int:
    return int(min(max(rounds * SLICE_S / max(seconds, 1e-4), 1), 4 * rounds, 4096))


def compiled_net(network: FoldedNetwork, dtype: type[np.floating]) -> Net:
    """Returns a folded network as compiled code takes it, its numbers rounded to a type."""
    slope = network.ub / (network.ub - network.lb)
    f = network.cast(dtype)
    return Net(
        f.inputs, *f.by_row, *f.by_column, f.E, f.slack, f.e, f.lb, f.ub, slope.astype(dtype),
        (-slope * network.lb).astype(dtype),
    )  # fmt: skip


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
