"""Whatever becomes of a search, each point that violates stays in an open domain of it, and so nothing is proved.

With points that violate by float64 alone, certification rejects what float32 has closed: it comes back again and again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from test_compiled_search import climbed, hard, nothing
from test_fold import evaluated

from harness.verifier import compiled_search, team_search
from harness.verifier.bab import Outcome
from harness.verifier.compiled_search import CompiledSearch
from harness.verifier.config import EngineConfig
from harness.verifier.fold import FoldedNetwork
from harness.verifier.kernels import counters
from harness.verifier.kernels.contract import LANES
from harness.verifier.team_search import TeamSearch

FAMILIES = ("grafted convolution", "convolution", "fully connected")
REJECTED = 0.05
"""Margins up to so much above zero are violations for certification alone."""
SLICES = 150


class Watched:
    """Looks for points of one network in the open domains of searches."""

    def __init__(self, network: FoldedNetwork, rejected: float) -> None:
        random = np.random.default_rng(1)
        corners = [*climbed(network, random, 12), *np.sign(random.uniform(-1, 1, (300, network.inputs)))]
        found = [evaluated(network, t) for t in corners]
        self.points = np.array([z for z, margin in found if margin[0] <= rejected - 1e-6])
        self.looks = 0

    def look(self, searches: Sequence[CompiledSearch]) -> None:
        """Fails if some point is in no open domain of any of the searches, and no leaf was given up."""
        self.looks += 1
        if any(s.counters[counters.EXHAUSTED] for s in searches):
            return
        phases = [s.stack.phase[: s.open_domains] for s in searches]
        phases += [s.pending.phase[:, : s.counters[counters.PENDING]].T for s in searches]
        open_ = np.concatenate(phases)
        here = ((open_[:, None] == 0) | (open_[:, None] * self.points >= 0)).all(2).any(0)
        assert here.all(), f"{np.count_nonzero(~here)} of {len(here)} points are in no open domain"


def settings(monkeypatch: pytest.MonkeyPatch, random: np.random.Generator) -> EngineConfig:
    """Draws what decides how domains move: how deep frames are, how many wait, how often the caller is asked."""
    draws = {
        "SLICE_WORK": [0.0, 1e4],
        "MOST_DEFERRED": [3, 40, 512],
        "LAST_STEP": [2, 12],
        "SELDOM": [2, 1 << 20],
        "SIFTING_TRIAL": [1e5, 1e9],
    }
    for name, choices in draws.items():
        monkeypatch.setattr(compiled_search, name, type(choices[0])(random.choice(choices)))
    monkeypatch.setattr(team_search, "FIRST_TURN", int(random.choice([1, 8])))
    monkeypatch.setattr(team_search, "SHARED_TURN", int(random.choice([1, 3])))
    monkeypatch.setattr(team_search, "LANES", 4)
    return EngineConfig(
        iterations=int(random.choice([0, 1, 2])),
        root_iterations=2,
        sift_every=int(random.choice([1, 2, 4])),
        look_ahead=bool(random.random() < 0.5),
    )


def stricter(search: CompiledSearch, rejected: float) -> None:
    """Lets certification see margins that are lower by so much than those that the search sees."""
    search.exact = search.exact._replace(e=search.exact.e - np.append(np.full(len(search.network.e), rejected), 0.0))


@pytest.mark.parametrize("rejected", [0.0, REJECTED], ids=["violated", "rejected"])
@pytest.mark.parametrize("seed", range(6))
def test_in_a_search_that_pauses_and_sifts(seed: int, rejected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(seed)
    _, network = hard(1e-3 if rejected else -1e-3, 3, FAMILIES[seed % len(FAMILIES)])
    config, watched = settings(monkeypatch, random), Watched(network, rejected)
    assert len(watched.points)
    pauses = 1 if seed % 2 else None
    search = CompiledSearch(network, config, None, lambda _: False, nothing, give_up_after=pauses)
    stricter(search, rejected)
    result, left = search.run(1), SLICES
    while result.outcome is Outcome.LARGE and left:
        watched.look([search])
        step = int(random.integers(1, 4))
        result, left = search.run(step), left - 1
    watched.look([search])
    assert result.outcome is not Outcome.PROVED
    assert watched.looks > 1
    assert search.domains > 2 * LANES
    assert not rejected or search.counters[counters.FAILED], "certification rejected nothing"


@pytest.mark.parametrize("competing", [False, True], ids=["sharing", "competing"])
@pytest.mark.parametrize("rejected", [0.0, REJECTED], ids=["violated", "rejected"])
@pytest.mark.parametrize("seed", range(6))
def test_in_searches_that_share_or_compete(
    seed: int, rejected: float, competing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(100 + seed)
    _, network = hard(1e-3 if rejected else -1e-3, 3, FAMILIES[seed % len(FAMILIES)])
    config, watched = settings(monkeypatch, random), Watched(network, rejected)
    monkeypatch.setattr(CompiledSearch, "often_empty", property(lambda _self: competing))
    limit = 3000
    team = TeamSearch(network, config, limit, lambda _: False, nothing, 1 + seed % 3)
    made, turn = CompiledSearch.__init__, team._turn

    def begun(self: CompiledSearch, *args: object, **named: object) -> None:
        made(self, *args, **named)  # type: ignore[arg-type]
        if "nets" in named:  # a part has its whole's
            stricter(self, rejected)

    def turned(searches: Sequence[CompiledSearch], slices: int | None) -> object:
        found = turn(searches, slices)
        for group in [[s] for s in team.searches if not s.roots_wait] if competing else [team.searches]:
            watched.look(group)
        return found

    monkeypatch.setattr(CompiledSearch, "__init__", begun)
    monkeypatch.setattr(team, "_turn", turned)
    stricter(team.searches[0], rejected)
    assert team.run().outcome is not Outcome.PROVED
    assert watched.looks


def test_a_lost_domain_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    _, network = hard(-1e-3, 3, "convolution")
    watched, config = Watched(network, 0.0), settings(monkeypatch, np.random.default_rng(0))
    search = CompiledSearch(network, config, None, lambda _: False, nothing)
    search.run(3)
    watched.look([search])
    z = watched.points[0]
    open_ = search.stack.phase[: search.open_domains]
    holds = ((open_ == 0) | (open_ * z >= 0)).all(1)
    search.stack.phase[: search.open_domains][holds] = np.where(z > 0, -1, 1).astype(np.int8)
    search.counters[counters.PENDING] = 0
    with pytest.raises(AssertionError, match="in no open domain"):
        watched.look([search])
