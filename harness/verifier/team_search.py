"""Compiled searches that share one tree, or compete for it: in turns on one thread, or side by side on several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from harness.domain import Counterexample
from harness.verifier.bab import Outcome, SearchResult
from harness.verifier.compiled_search import UNLIMITED, CompiledSearch, compiled_nets
from harness.verifier.config import EngineConfig
from harness.verifier.fold import FoldedNetwork
from harness.verifier.kernels.contract import LANES

FIRST_TURN = 24
"""Slices of work before it is decided whether searches share or compete, and of the first turn of those that compete.
"""
SHARED_TURN = 8
"""Slices between two looks at who has run out of domains."""
ENDS = (Outcome.FALSIFIED, Outcome.PROVED, Outcome.STOPPED, Outcome.DOMAINS, Outcome.MEMORY, Outcome.EXHAUSTED)
"""Ways for a search to end, what counts most first."""


class TeamSearch:
    """Branch and bound by several compiled searches.

    How large a tree becomes hangs on its first splits: where many domains turn out to have no point, times spread over
    orders of magnitude from one setting to the next. There searches with three settings compete, in turns that grow,
    and the first tree that is closed is a proof. Elsewhere the tree is one, and where there are several threads, each
    searches a part of it; who is done takes half of another's open domains.

    Which domains are visited does not depend on the clock, nor does it on how threads are scheduled.

    Args:
        network: the folded network; its margins are the ones to prove.
        config: iterations and step sizes.
        max_domains: bound on the domains of all searches, None for none.
        should_stop: asked now and then, from any thread, with the number of domains so far.
        confirm: tries the input with this sign in every dimension, `(d,)`; returns the counterexample if it is one.
        threads: searches that run at the same time.
    """

    def __init__(
        self,
        network: FoldedNetwork,
        config: EngineConfig,
        max_domains: int | None,
        should_stop: Callable[[int], bool],
        confirm: Callable[[NDArray[np.float32]], Counterexample | None],
        threads: int = 1,
    ) -> None:
        self.limit, self.should_stop, self.threads = (
            UNLIMITED if max_domains is None else max_domains, should_stop, threads,
        )  # fmt: skip
        nets = compiled_nets(network)
        others = (replace(config, iterations=i, sift_every=step) for i, step in ((3, 4), (4, 5)))
        make = partial(
            CompiledSearch, network, max_domains=max_domains, should_stop=self._stop, confirm=confirm, nets=nets
        )
        self.makers = [partial(make, config=c) for c in others]
        self.searches = [make(config=config)]

    @property
    def domains(self) -> int:
        """Domains bounded so far by all searches."""
        return sum(s.domains for s in self.searches)

    def run(self) -> SearchResult:
        """Searches until the tree is closed or a limit is reached."""
        first = self.searches[0]
        with ThreadPoolExecutor(self.threads) as pool:
            self._pool = pool
            (result,) = self._turn([first], FIRST_TURN)
            if result.outcome is Outcome.LARGE:
                result = self._compete() if first.often_empty else self._share()
        work = sum(s.multiply_adds for s in self.searches)
        return replace(result, domains=self.domains, multiply_adds=work, rest=None)

    def _stop(self, _domains: int) -> bool:
        return self.should_stop(self.domains)

    def _turn(self, searches: Sequence[CompiledSearch], slices: int | None) -> list[SearchResult]:
        """Runs some searches side by side; what is left of the limit on domains is shared."""
        left = (self.limit - self.domains) // len(searches)
        for search in searches:
            search.max_domains = min(UNLIMITED, search.domains + left)
        if len(searches) == 1:
            return [searches[0].run(slices)]
        return list(self._pool.map(lambda search: search.run(slices), searches))

    def _compete(self) -> SearchResult:
        """Runs whole searches in turns that grow; the first to end decides."""
        self.searches.extend(make() for make in self.makers)
        order, slices = [*self.searches[1:], self.searches[0]], FIRST_TURN
        while True:
            for at in range(0, len(order), self.threads):
                ended = [r for r in self._turn(order[at : at + self.threads], slices) if r.outcome is not Outcome.LARGE]
                if ended:
                    return min(ended, key=lambda r: ENDS.index(r.outcome))
            slices = 2 * slices

    def _share(self) -> SearchResult:
        """Runs searches on parts of the tree; it is closed when all of them are."""
        parts, closed = [self.searches[0]], Outcome.PROVED
        if self.threads == 1:
            return self._turn(parts, None)[0]
        while parts:
            self._split(parts)
            results = self._turn(parts, SHARED_TURN)
            left = [p for p, r in zip(parts, results, strict=True) if r.outcome is Outcome.LARGE]
            ended = [r for r in results if r.outcome is not Outcome.LARGE]
            for result in sorted(ended, key=lambda r: ENDS.index(r.outcome)):
                if result.outcome is Outcome.EXHAUSTED:
                    closed = result.outcome
                elif result.outcome is not Outcome.PROVED:
                    return result
            parts = left
        return SearchResult(closed, self.domains, True)

    def _split(self, parts: list[CompiledSearch]) -> None:
        """Splits the largest parts until every thread has one, as far as that is worth it."""
        while len(parts) < self.threads:
            largest = max(parts, key=lambda part: part.open_domains)
            if largest.open_domains < 2 * LANES:
                return
            parts.append(largest.split())
            self.searches.append(parts[-1])
