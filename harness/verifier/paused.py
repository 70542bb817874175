"""Searches that wait for their next turn, as far as there is memory for them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from harness.verifier.bab import PausedSearch, SearchResult
from harness.verifier.instance_state import CaseState, InstanceState


class PausedSearches:
    """Keeps searches that can go on within a bound on their memory. Safe to use from several threads.

    Args:
        held_bytes: the bound; a search that does not fit is forgotten and starts over.
    """

    def __init__(self, held_bytes: int) -> None:
        self._bound, self._lock = held_bytes, threading.Lock()
        self._held: dict[CaseState, tuple[PausedSearch, SearchResult]] = {}

    def keep(self, case: CaseState, result: SearchResult) -> None:
        """Keeps a case's search, if it can go on and there is room."""
        if result.rest is None:
            return
        with self._lock:
            if sum(search.nbytes for search, _ in self._held.values()) + result.rest.nbytes <= self._bound:
                self._held[case] = result.rest, result

    def take(self, case: CaseState) -> tuple[PausedSearch, SearchResult] | None:
        """Returns a case's search and what it has found so far, and forgets it; None if it was not kept."""
        with self._lock:
            return self._held.pop(case, None)


def resume(
    paused: tuple[PausedSearch, SearchResult], instance: InstanceState, slices: int, clock: Callable[[int], bool]
) -> SearchResult:
    """Goes on with a search; what it has counted so far is not counted twice.

    Args:
        paused: the search and what it has found so far.
        instance: counts what is added.
        slices: of work until it gives up again.
        clock: asked now and then, with the number of domains added.
    """
    search, before = paused
    search.should_stop = lambda domains: clock(domains - before.domains)
    result = search.run(slices)
    instance.domains += result.domains - before.domains
    instance.multiply_adds += result.multiply_adds - before.multiply_adds
    return result
