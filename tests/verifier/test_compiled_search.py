"""The compiled search: sifting, frames, limits, pauses. What holds of any search is in test_bab."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
from families import member
from nets import Array, box_around, graph_of
from numpy.typing import NDArray
from test_fold import evaluated
from test_sparse_bounds import bounded

from harness.domain import Counterexample
from harness.verifier import compiled_search
from harness.verifier.bab import Outcome, SearchResult
from harness.verifier.compiled_search import SIFTING_STEPS, UNLIMITED, CompiledSearch
from harness.verifier.config import EngineConfig
from harness.verifier.fold import FoldedNetwork
from harness.verifier.kernels import counters, search
from harness.verifier.kernels.contract import LANES
from harness.verifier.sparse_bounds import SparseBounds
from harness.verifier.sparse_fold import fold_sparse

CONFIG = EngineConfig(iterations=1, root_iterations=2, sift_every=2)
"""With frames from the second split on, and weak bounds, so that small networks have trees."""
DIRECTION = np.array([[1.0, -1.0, 0.3]])


@cache
def hard(margin: float, seed: int = 3, family: str = "grafted convolution") -> tuple[SparseBounds, FoldedNetwork]:
    """Returns a network whose one margin is at least about `margin` above zero: its lowest sample is that high."""
    graph = graph_of(member(family, seed))
    found = bounded(graph, box_around(graph, 1, 0.35))
    free = fold_sparse(found, DIRECTION, np.zeros(1))
    random = np.random.default_rng(0)
    lowest = min(float(evaluated(free, t)[1][0]) for t in climbed(free, random))
    return found, fold_sparse(found, DIRECTION, np.array([lowest - margin]))


def climbed(network: FoldedNetwork, random: np.random.Generator, starts: int = 8) -> Iterator[Array]:
    """Yields corners, each improved one coordinate after the other for a while."""
    for _ in range(starts):
        t = np.sign(random.uniform(-1, 1, network.inputs))
        value = evaluated(network, t)[1][0]
        for k in random.permutation(network.inputs):
            t[k] = -t[k]
            tried = evaluated(network, t)[1][0]
            value, t[k] = (tried, t[k]) if tried < value else (value, -t[k])
        yield t


def nothing(_corner: Array) -> None:
    return None


def searched(
    network: FoldedNetwork,
    limit: int | None = None,
    confirm: Callable[[Array], Counterexample | None] = nothing,
    stop: Callable[[int], bool] = lambda _domains: False,
) -> SearchResult:
    return CompiledSearch(network, CONFIG, limit, stop, confirm).run()


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames inside frames, all the way down, and a word with the caller after each round."""
    monkeypatch.setattr(compiled_search, "LAST_STEP", 2)
    monkeypatch.setattr(compiled_search, "SELDOM", 2)
    monkeypatch.setattr(compiled_search, "CORNER_EVERY", 1)
    monkeypatch.setattr(compiled_search, "SLICE_WORK", 0.0)


def with_domains(network: FoldedNetwork, phases: NDArray[np.int8]) -> CompiledSearch:
    """Returns a search whose stack holds domains with these phases `(count, n)`; lb is their number."""
    made = CompiledSearch(network, CONFIG, None, lambda _: False, nothing)
    stack = made.stack
    for at, phase in enumerate(phases):
        stack.lb[at], stack.spec[at], stack.depth[at], stack.score[at] = at, 0, np.count_nonzero(phase), 0
        stack.branch[at], stack.phase[at], stack.p[at] = -1, phase, 0
    return made


def obeyed(z: Array, phases: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Returns which domains one point lies in."""
    result: NDArray[np.bool_] = ((phases == 0) | (phases * z >= 0)).all(1)
    return result


@pytest.mark.parametrize("family", ["fully connected", "convolution", "grafted convolution"])
@pytest.mark.parametrize("count", [5, LANES])
def test_sifting_keeps_every_domain_that_has_a_point(family: str, count: int) -> None:
    _, network = hard(0.0, 5, family)
    random = np.random.default_rng(1)
    points = [evaluated(network, random.uniform(-1, 1, network.inputs))[0] for _ in range(300)]
    phases = random.integers(-1, 2, (count, network.neurons)).astype(np.int8)
    for at in range(0, count, 2):  # every other one is obeyed by a point
        phases[at] = np.where(random.random(network.neurons) < 0.7, np.where(points[at] >= 0, 1, -1), 0)
    reached = np.any([obeyed(z, phases) for z in points], axis=0)
    made = with_domains(network, phases)
    left = search.sift(
        made.fast, made.exact, made.block, made.pending, made.stack, made.scratch, made.counters, 0, count, 0, 1,
        SIFTING_STEPS,
    )  # fmt: skip
    kept = made.stack.lb[:left].astype(int)
    assert set(np.flatnonzero(reached)) <= set(kept)
    assert reached[::2].all()
    assert left < count
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(made.stack.phase[:left], phases[kept])


def test_sifting_of_more_domains_than_a_block_loses_none() -> None:
    """Blocks are sifted one after the other, and what they leave moves down; nothing is overwritten unseen."""
    _, network = hard(0.0, 5)
    random = np.random.default_rng(4)
    points = [evaluated(network, random.uniform(-1, 1, network.inputs))[0] for _ in range(90)]
    phases = random.integers(-1, 2, (len(points), network.neurons)).astype(np.int8)
    feasible = random.random(len(points)) < 0.5
    for at in np.flatnonzero(feasible):
        phases[at] = np.where(random.random(network.neurons) < 0.5, np.where(points[at] >= 0, 1, -1), 0)
    made = with_domains(network, phases)
    frame = made.frames[0]
    frame.open = len(points)
    made._sift(frame)
    kept = made.stack.lb[: frame.open].astype(int)
    assert set(np.flatnonzero(feasible)) <= set(kept)
    assert len(set(kept)) == frame.open < len(points)
    np.testing.assert_array_equal(made.stack.phase[: frame.open], phases[kept])


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("seed", [2, 3])
def test_frames_prove_what_holds_and_nothing_else(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[int] = []
    enter = CompiledSearch._enter

    def counting(self: CompiledSearch, frame: compiled_search._Frame) -> None:
        entered.append(frame.open)
        enter(self, frame)

    monkeypatch.setattr(CompiledSearch, "_enter", counting)
    _, holds = hard(0.3, seed)
    assert searched(holds, 20_000).outcome is Outcome.PROVED
    assert len(entered) > 1
    _, violated = hard(-1e-3, seed)
    assert searched(violated, 20_000).outcome is not Outcome.PROVED


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("limit", [1, 2, 7, 20, 33, 64, 65, 100, 400, 1500, 2000])
def test_the_limit_on_domains_holds_across_frames(limit: int) -> None:
    _, network = hard(0.3, 3, "convolution")
    result = searched(network, limit)
    assert result.outcome is Outcome.DOMAINS
    assert result.domains <= limit


@pytest.mark.usefixtures("shallow")
def test_the_same_domains_are_visited_again() -> None:
    def visited() -> list[bytes]:
        corners: list[bytes] = []
        _, network = hard(-0.1)
        result = searched(network, 400, lambda corner: corners.append(corner.astype(np.int8).tobytes()))
        return [*corners, str((result.domains, result.multiply_adds)).encode()]

    first = visited()
    assert len(first) > 2
    assert first == visited()


@pytest.mark.parametrize("work", [0.0, 1e5, 1e9])
def test_how_often_the_caller_is_asked_changes_nothing(work: float, monkeypatch: pytest.MonkeyPatch) -> None:
    _, network = hard(0.3)
    expected = searched(network)
    monkeypatch.setattr(compiled_search, "SLICE_WORK", work)
    result = searched(network)
    assert (result.outcome, result.domains) == (expected.outcome, expected.domains) == (Outcome.PROVED, result.domains)


@pytest.mark.usefixtures("shallow")
def test_a_clock_that_says_stop_once_has_said_it() -> None:
    """Whenever it says so, and even if it changes its mind: the domains it leaves behind are not closed."""
    _, violated = hard(-1e-3)
    for at in range(60):
        asked = iter(range(1 << 30))
        result = searched(violated, 3000, stop=lambda _domains, asked=asked, at=at: next(asked) == at)  # type: ignore[misc]
        assert result.outcome is not Outcome.PROVED


def test_a_tree_that_is_not_small_is_given_up_where_that_was_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_search, "SLICE_WORK", 0.0)
    _, network = hard(1e-2, 3, "convolution")
    made = CompiledSearch(network, CONFIG, None, lambda _: False, nothing, give_up_after=12)
    result = made.run()
    assert (result.outcome, result.branched) == (Outcome.LARGE, True)
    assert made.counters[counters.DEEPEST_HERE] == UNLIMITED
    _, easy = hard(100.0)
    assert (
        CompiledSearch(easy, CONFIG, None, lambda _: False, nothing, give_up_after=12).run().outcome is Outcome.PROVED
    )


def test_a_search_that_goes_on_ends_like_one_that_never_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_search, "SLICE_WORK", 0.0)
    _, network = hard(0.3, 3, "convolution")
    whole = CompiledSearch(network, CONFIG, None, lambda _: False, nothing, give_up_after=100_000).run()
    result = CompiledSearch(network, CONFIG, None, lambda _: False, nothing, give_up_after=3).run()
    shares, turns = [], 0
    while result.outcome is Outcome.LARGE:
        assert result.rest is not None
        shares.append(result.rest.open_share)
        assert result.rest.nbytes > network.by_row.value.nbytes
        result, turns = result.rest.run(2), turns + 1
    assert turns > 2
    assert shares == sorted(shares, reverse=True)
    assert (result.outcome, result.domains, result.multiply_adds) == (
        whole.outcome, whole.domains, whole.multiply_adds,
    )  # fmt: skip
    assert whole.outcome is Outcome.PROVED
