"""Searches that share a tree or compete for it: nothing is lost between them, and threads change no answer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
import pytest
from test_compiled_search import CONFIG, hard, nothing

from harness.verifier import compiled_search, team_search
from harness.verifier.bab import Outcome, SearchResult
from harness.verifier.compiled_search import CompiledSearch
from harness.verifier.fold import FoldedNetwork
from harness.verifier.team_search import TeamSearch


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_search, "SLICE_WORK", 0.0)
    monkeypatch.setattr(team_search, "FIRST_TURN", 8)
    monkeypatch.setattr(team_search, "SHARED_TURN", 2)
    monkeypatch.setattr(team_search, "LANES", 4)


def searched(
    network: FoldedNetwork,
    threads: int,
    limit: int | None = None,
    stop: Callable[[int], bool] = lambda _domains: False,
) -> tuple[SearchResult, TeamSearch]:
    team = TeamSearch(network, CONFIG, limit, stop, nothing, threads)
    return team.run(), team


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("family", "seed"), [("convolution", 3), ("grafted convolution", 2)])
def test_a_shared_tree_proves_what_holds_and_nothing_else(threads: int, family: str, seed: int) -> None:
    result, team = searched(hard(0.3, seed, family)[1], threads)
    assert result.outcome is Outcome.PROVED
    assert result.domains == sum(s.domains for s in team.searches)
    assert len(team.searches) == 1 or threads > 1
    assert len(team.searches) > 1 or threads == 1 or family != "convolution"
    assert searched(hard(-1e-3, seed, family)[1], threads, 4000)[0].outcome is not Outcome.PROVED


@pytest.mark.parametrize("threads", [2, 3])
def test_the_same_domains_are_visited_however_threads_are_scheduled(threads: int) -> None:
    _, network = hard(0.3, 3, "convolution")
    first, _ = searched(network, threads)
    again, _ = searched(network, threads)
    assert (first.domains, first.multiply_adds) == (again.domains, again.multiply_adds)


@pytest.mark.parametrize("threads", [1, 2])
def test_competing_searches_prove_what_holds_and_nothing_else(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CompiledSearch, "often_empty", property(lambda _self: True))
    result, team = searched(hard(0.3, 3, "convolution")[1], threads)
    assert result.outcome is Outcome.PROVED
    assert len(team.searches) == 3
    assert searched(hard(-1e-3, 3, "convolution")[1], threads, 4000)[0].outcome is not Outcome.PROVED


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("limit", [1, 40, 300, 1000])
def test_the_limit_on_domains_holds_for_all_together(threads: int, limit: int) -> None:
    result, _ = searched(hard(0.3, 3, "convolution")[1], threads, limit)
    assert result.outcome is Outcome.DOMAINS
    assert result.domains <= limit


def test_a_clock_that_says_stop_once_has_said_it() -> None:
    _, network = hard(0.3, 3, "convolution")
    for at in (0, 1, 5, 20, 60):
        asked = count()
        result, _ = searched(network, 2, None, lambda _domains, asked=asked, at=at: next(asked) == at)  # type: ignore[misc]
        assert result.outcome is Outcome.STOPPED


def test_a_split_search_loses_no_domain() -> None:
    _, network = hard(0.3, 3, "convolution")
    one = CompiledSearch(network, CONFIG, None, lambda _: False, nothing)
    assert one.run(10).outcome is Outcome.LARGE
    one.split()  # certifies what waits, so that nothing of the tree is elsewhere
    before = {one.stack.phase[at].tobytes() for at in range(one.open_domains)}
    other = one.split()
    halves = [{s.stack.phase[at].tobytes() for at in range(s.open_domains)} for s in (one, other)]
    assert halves[0] | halves[1] == before
    assert not halves[0] & halves[1]
    assert np.isclose(sum(len(h) for h in halves), len(before))
    assert abs(len(halves[0]) - len(halves[1])) <= 1
