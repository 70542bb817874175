"""Branch and bound with beta constraints over one input's folded network (Wang et al. 2021).

A domain fixes the phase of some unstable neurons; splitting a neuron makes two. The domains of one input form a stack
(depth first: few are open at a time); each round takes as many as fill the kernel's lanes. The search runs in float32;
a domain is closed only by the kernel's certified float64 bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.domain import Counterexample
from harness.verifier.config import EngineConfig
from harness.verifier.fold import FoldedNetwork
from harness.verifier.kernels.contract import LANES, Kernel, LaneBounds, Lanes

CANDIDATE_EVERY = 4
"""Rounds between two tries to turn a domain's lowest corner into a counterexample."""


class Outcome(Enum):
    """How a search over domains ended."""

    PROVED = auto()
    """Every domain was closed."""
    FALSIFIED = auto()
    """A corner was a confirmed counterexample."""
    DOMAINS = auto()
    """The number of domains reached its limit."""
    STOPPED = auto()
    """The caller's clock ran out."""
    MEMORY = auto()
    """Too many open domains."""
    EXHAUSTED = auto()
    """A domain with every neuron split could not be closed."""
    LARGE = auto()
    """The tree is not small, which was all that was to be found out."""
    OVERFLOW = auto()
    """Values may be too large for float32."""
    SMOOTH = auto()
    """The network has activations that are not split."""


REASONS = {
    Outcome.DOMAINS: "the limit on domains was reached",
    Outcome.MEMORY: "too many open domains",
    Outcome.EXHAUSTED: "a domain with all neurons split could not be closed",
    Outcome.OVERFLOW: "a float32 evaluation of the network may overflow within the box, so nothing can be proved",
    Outcome.SMOOTH: "root bounds do not decide it, and sigmoid and tanh are not split",
}
"""Why a search that ended so has decided nothing."""


class PausedSearch(Protocol):
    """A search that gave up early and can go on."""

    should_stop: Callable[[int], bool]
    """Asked now and then, with the number of domains so far."""

    @property
    def open_share(self) -> float:
        """The share of the tree that is still open, every split halving its domain; above 1 with several margins."""

    @property
    def nbytes(self) -> int:
        """Memory that the search holds while it waits."""

    def run(self, slices: int | None = None) -> SearchResult:
        """Goes on, for so many slices of work, or to the end."""


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """What branch and bound found on one problem; counts are of all turns of a search together."""

    outcome: Outcome
    domains: int
    """Domains bounded, the roots included."""
    branched: bool
    """Whether any neuron was split."""
    counterexample: Counterexample | None = None
    multiply_adds: int = 0
    """Of passes over the folded network, idle lanes included; 0 where they are not counted."""
    rest: PausedSearch | None = None
    """The search, where it can go on."""


class _Stack:
    """Open domains of one input, as growing arrays of structs; the last one is taken first."""

    def __init__(self, neurons: int) -> None:
        self.count = 0
        self.spec = np.zeros(64, np.int32)
        self.branch = np.zeros(64, np.int32)
        self.phase = np.zeros((64, neurons), np.int8)
        self.p = np.zeros((64, neurons), np.float32)

    def push(self, lanes: Lanes, branch: NDArray[np.int32], chosen: NDArray[np.intp]) -> None:
        end = self.count + len(chosen)
        while end > len(self.spec):
            for name in ("spec", "branch", "phase", "p"):
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.zeros_like(old)]))
        part = slice(self.count, end)
        self.spec[part], self.branch[part] = lanes.spec[chosen], branch[chosen]
        self.phase[part], self.p[part] = lanes.phase[:, chosen].T, lanes.p[:, chosen].T
        self.count = end

    def pop_children(self, parents: int) -> Lanes:
        """Takes the last `parents` domains and returns both children of each, padded to a full block of lanes.

        A new split starts with beta 0; everything else is inherited. Lanes beyond the children repeat the last child.
        """
        part = slice(self.count - parents, self.count)
        self.count -= parents
        spec, branch = np.repeat(self.spec[part], 2), np.repeat(self.branch[part], 2)
        phase, p = np.repeat(self.phase[part], 2, axis=0), np.repeat(self.p[part], 2, axis=0)
        each = np.arange(2 * parents)
        phase[each, branch] = np.where(each % 2 == 0, 1, -1)
        p[each, branch] = 0.0
        return _full_block(spec, phase.T, p.T)


def _full_block(spec: NDArray[np.int32], phase: NDArray[np.int8], p: NDArray[np.float32]) -> Lanes:
    """Returns `(n, count)` domains as one block of lanes, the last domain repeated in the unused lanes."""
    index = np.minimum(np.arange(LANES), len(spec) - 1)
    return Lanes(spec[index], np.ascontiguousarray(phase[:, index]), np.ascontiguousarray(p[:, index]))


class Search:
    """Branch and bound over the open margins of one folded network.

    Args:
        network: the folded network; its margins are the ones to prove.
        kernel: bounds its domains.
        config: iterations and step sizes.
        max_domains: bound on the domains, None for none; 0 keeps to the root.
        should_stop: asked before every round, with the number of domains so far.
        confirm: tries the input with this sign in every dimension, `(d,)`; returns the counterexample if it is one.
    """

    def __init__(
        self,
        network: FoldedNetwork,
        kernel: Kernel,
        config: EngineConfig,
        max_domains: int | None,
        should_stop: Callable[[int], bool],
        confirm: Callable[[NDArray[np.float32]], Counterexample | None],
    ) -> None:
        self.network, self.kernel, self.config = network, kernel, config
        self.max_domains, self.should_stop, self.confirm = max_domains, should_stop, confirm
        self.stack = _Stack(network.neurons)
        self.domains = 0
        self.exhausted = False

    def run(self) -> SearchResult:
        """Bounds the roots, then splits until everything is closed or a limit is reached."""
        for first in range(0, len(self.network.e), LANES):
            found = self._root(first)
            if found is not None:
                return SearchResult(Outcome.FALSIFIED, self.domains, False, found)
        rounds = 0
        while self.stack.count:
            parents = self._parents()
            crowded = self.stack.count > self.config.max_open_domains
            if self.exhausted or parents == 0 or crowded or self.should_stop(self.domains):
                return SearchResult(self._reason(parents), self.domains, rounds > 0)
            lanes = self.stack.pop_children(parents)
            bounds = self.kernel.improve(lanes, self.config.iterations, self.config.alpha_step, self.config.beta_step)
            self.domains += 2 * parents
            rounds += 1
            lowest = self._keep_open(lanes, bounds, 2 * parents)
            if lowest is not None and rounds % CANDIDATE_EVERY == 0:
                found = self.confirm(bounds.corner[:, lowest])
                if found is not None:
                    return SearchResult(Outcome.FALSIFIED, self.domains, True, found)
        outcome = Outcome.EXHAUSTED if self.exhausted else Outcome.PROVED
        return SearchResult(outcome, self.domains, rounds > 0)

    def _root(self, first: int) -> Counterexample | None:
        """Bounds a block of margins without splits (alpha-CROWN, fixed hidden bounds); tries the lowest corner."""
        network, config = self.network, self.config
        spec = np.arange(first, min(first + LANES, len(network.e)), dtype=np.int32)
        start = (network.ub > -network.lb).astype(np.float32)
        p = np.repeat(start[:, None], len(spec), axis=1)
        lanes = _full_block(spec, np.zeros(p.shape, np.int8), p)
        bounds = self.kernel.improve(lanes, config.root_iterations, config.alpha_step, config.beta_step)
        self.domains += len(spec)
        lowest = self._keep_open(lanes, bounds, len(spec))
        return None if lowest is None else self.confirm(bounds.corner[:, lowest])

    def _keep_open(self, lanes: Lanes, bounds: LaneBounds, used: int) -> int | None:
        """Pushes the domains that are not proved, best bound last; returns the lane of the lowest one."""
        closed = self._closed(lanes, bounds, used)
        if bool((bounds.branch[:used] < 0)[~closed].any()):
            config = self.config
            bounds = self.kernel.improve(lanes, config.leaf_iterations, config.alpha_step, config.beta_step)
            closed |= self._closed(lanes, bounds, used)
        left = np.flatnonzero(~closed)
        if not len(left):
            return None
        left = left[np.argsort(bounds.lb[left], kind="stable")]
        splittable = left[bounds.branch[left] >= 0]
        self.exhausted = self.exhausted or len(splittable) < len(left)
        self.stack.push(lanes, bounds.branch, splittable)
        return int(left[0])

    def _closed(self, lanes: Lanes, bounds: LaneBounds, used: int) -> NDArray[np.bool_]:
        """Returns which domains are proved; the float32 bound only says where the certified one is worth its time."""
        promising: NDArray[np.bool_] = bounds.lb[:used] > 0
        return promising & (self.kernel.certified(lanes)[:used] > 0) if promising.any() else promising

    def _parents(self) -> int:
        """Returns how many domains the next round splits."""
        parents = min(self.stack.count, LANES // 2)
        if self.max_domains is None:
            return parents
        return max(0, min(parents, (self.max_domains - self.domains) // 2))

    def _reason(self, parents: int) -> Outcome:
        if self.exhausted:
            return Outcome.EXHAUSTED
        if parents == 0:
            return Outcome.DOMAINS
        return Outcome.MEMORY if self.stack.count > self.config.max_open_domains else Outcome.STOPPED
