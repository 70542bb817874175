"""Sub-boxes cover the box, none is closed before all its regions are excluded, and limits are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import pytest
import torch
from families import member
from nets import fully_connected, graph_of

from harness.domain import Counterexample
from harness.verifier.bab import Outcome, SearchResult
from harness.verifier.graph import Graph
from harness.verifier.input_split import BoxQuestion, BoxSearch, BoxSplitting, InputSearch, input_search
from harness.verifier.interval import Box
from harness.verifier.problem import Region
from harness.verifier.sparse import sparse_network

DOUBLE = torch.float64
HEIGHT = 1.0


def region(rows: Sequence[Sequence[float]], rhs: Sequence[float]) -> Region:
    C = torch.tensor(rows, dtype=DOUBLE)
    return Region(C, torch.tensor(rhs, dtype=DOUBLE), torch.zeros(len(C), dtype=torch.bool))


def box_of(lower: Sequence[float], upper: Sequence[float]) -> Box:
    return Box(torch.tensor([lower], dtype=DOUBLE), torch.tensor([upper], dtype=DOUBLE))


class Kind(Protocol):
    """Makes a search."""

    def __call__(
        self,
        graph: Graph,
        box: Box,
        regions: list[Region],
        max_domains: int | None = None,
        max_open: int = 10_000,
        stop: Callable[[int], bool] = lambda _domains: False,
        confirm: Callable[[torch.Tensor], Counterexample | None] = lambda _points: None,
    ) -> BoxSplitting: ...


@pytest.fixture(params=["compiled", "torch"])
def search_of(request: pytest.FixtureRequest) -> Kind:
    def made(
        graph: Graph,
        box: Box,
        regions: list[Region],
        max_domains: int | None = None,
        max_open: int = 10_000,
        stop: Callable[[int], bool] = lambda _domains: False,
        confirm: Callable[[torch.Tensor], Counterexample | None] = lambda _points: None,
    ) -> BoxSplitting:
        sparse = sparse_network(graph) if request.param == "compiled" else None
        search = input_search(graph, sparse, BoxQuestion(box, regions, max_domains, max_open, stop, confirm))
        assert isinstance(search, BoxSearch if request.param == "compiled" else InputSearch)
        return search

    return made


def spike(centre: float, width: float) -> Graph:
    """Returns x -> (y, 2) with y = HEIGHT/2 - relu(HEIGHT - |x - centre| HEIGHT / width)."""
    slope = HEIGHT / width
    layers = [
        ([[1.0], [-1.0]], [-centre, centre]),
        ([[-slope, -slope]], [HEIGHT]),
        ([[-1.0], [0.0]], [HEIGHT / 2, 2.0]),
    ]
    return graph_of(fully_connected(layers, np.float64))


BELOW_ZERO, FIRST, SECOND = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]], [[0.0, 1.0]]


@pytest.mark.parametrize("family", ["fully connected", "grafted", "odd"])
def test_open_sub_boxes_cover_the_box(search_of: Kind, family: str) -> None:
    """Nothing can be excluded here, so all that was cut must still be there; only split neurons let boxes overlap."""
    graph = graph_of(member(family, 3))
    box = box_of([-1.0, 0.0, 0.5, -2.0, 0.0], [1.0, 3.0, 1.0, 2.0, 0.25])
    search = search_of(graph, box, [region([[1, 0, 0]], [1e6])], max_domains=300)
    assert search.run().outcome is Outcome.DOMAINS
    assert len(search.open) > 20
    if isinstance(search, InputSearch):
        volume = (search.open.upper - search.open.lower).prod(1).sum()
        torch.testing.assert_close(volume, (box.upper - box.lower).prod())
    share = torch.rand(2000, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    points = box.lower + (box.upper - box.lower) * share
    inside = ((points[:, None] >= search.open.lower) & (points[:, None] <= search.open.upper)).all(2)
    assert bool(inside.any(1).all())


@pytest.mark.parametrize("width", [1e-2, 1e-4])
@pytest.mark.parametrize("centre", [0.0, 1e-3, 0.005, 0.25 + 1e-3, -0.5 - 1e-3, 1.0, -1.0, 0.7071])
def test_a_spike_beside_a_cut_is_not_lost(search_of: Kind, centre: float, width: float) -> None:
    search = search_of(spike(centre, width), box_of([-1.0], [1.0]), [region(FIRST, [0.0])], max_domains=4000)
    result = search.run()
    assert result.outcome is not Outcome.PROVED
    held = (search.open.lower <= centre) & (search.open.upper >= centre)
    assert bool(held.any())


def test_every_region_must_be_excluded(search_of: Kind) -> None:
    """One of the two is excluded everywhere, the other holds in the spike; in either order."""
    graph, box = spike(0.3, 1e-2), box_of([-1.0], [1.0])
    impossible, possible = region(SECOND, [1.0]), region(FIRST, [0.0])
    assert search_of(graph, box, [impossible]).run().outcome is Outcome.PROVED
    for regions in ([impossible, possible], [possible, impossible], [impossible, possible, impossible]):
        assert search_of(graph, box, regions, max_domains=2000).run().outcome is not Outcome.PROVED


def test_of_a_conjunction_one_excluded_row_is_enough_and_it_may_change(search_of: Kind) -> None:
    """x <= -0.1 and -x <= -0.1: each row holds somewhere, both nowhere; no one row excludes the whole box."""
    identity = graph_of(fully_connected([([[1.0]], [0.0])], np.float64))
    apart = region([[1.0], [-1.0]], [-0.1, -0.1])
    assert search_of(identity, box_of([-1.0], [1.0]), [apart]).run().outcome is Outcome.PROVED
    touching = region([[1.0], [-1.0]], [0.1, 0.1])
    assert search_of(identity, box_of([-1.0], [1.0]), [touching], max_domains=500).run().outcome is Outcome.DOMAINS


def test_rows_belong_to_their_regions(search_of: Kind) -> None:
    """Regions of two rows and one: taking a row for the neighbour's would prove this."""
    graph, box = spike(0.3, 1e-2), box_of([-1.0], [1.0])
    regions = [region(BELOW_ZERO, [0.0, 1.0]), region(FIRST, [0.0])]
    assert search_of(graph, box, regions, max_domains=2000).run().outcome is not Outcome.PROVED
    assert search_of(graph, box, regions[:1]).run().outcome is Outcome.PROVED


def test_what_holds_is_proved_by_splitting(search_of: Kind) -> None:
    graph = graph_of(member("fully connected", 2))
    box = box_of([0.0] * 5, [1.0] * 5)
    points = torch.rand(20_000, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    low = float((graph(points)[:, 0] - graph(points)[:, 1]).min())
    result = search_of(graph, box, [region([[1, -1, 0]], [low - 0.5])]).run()
    assert (result.outcome, result.branched) == (Outcome.PROVED, True)


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 10, 101])
def test_the_limit_on_domains_is_kept(search_of: Kind, limit: int) -> None:
    graph = graph_of(member("fully connected", 2))
    regions = [region([[1, 0, 0]], [1e6])]
    result = search_of(graph, box_of([0.0] * 5, [1.0] * 5), regions, max_domains=limit).run()
    assert result.outcome is Outcome.DOMAINS
    assert result.domains <= max(1, limit)


def ended(
    search_of: Kind, max_open: int = 10_000, stop: Callable[[int], bool] = lambda _domains: False
) -> SearchResult:
    graph = graph_of(member("fully connected", 2))
    regions = [region([[1, 0, 0]], [1e6])]
    return search_of(graph, box_of([0.0] * 5, [1.0] * 5), regions, max_open=max_open, stop=stop).run()


def test_a_search_that_is_stopped_or_too_wide_says_so(search_of: Kind) -> None:
    assert ended(search_of, max_open=40).outcome is Outcome.MEMORY
    assert ended(search_of, stop=lambda domains: domains > 20).outcome is Outcome.STOPPED


def test_a_confirmed_point_ends_the_search_and_points_lie_in_the_box(search_of: Kind) -> None:
    graph, box = spike(0.3, 0.1), box_of([-1.0], [1.0])
    seen: list[torch.Tensor] = []

    def confirm(points: torch.Tensor) -> Counterexample | None:
        seen.append(points)
        hit = points[graph(points)[:, 0] <= 0]
        return Counterexample(hit[0].numpy()) if len(hit) else None

    result = search_of(graph, box, [region(FIRST, [0.0])], confirm=confirm).run()
    assert result.outcome is Outcome.FALSIFIED
    assert result.counterexample is not None
    assert abs(float(result.counterexample.x[0]) - 0.3) <= 0.05
    assert all(bool(((p >= -1) & (p <= 1)).all()) for p in seen)


def test_fixed_inputs_are_never_cut(search_of: Kind) -> None:
    graph = graph_of(member("fully connected", 2))
    search = search_of(
        graph, box_of([0.0, 0.5, 0.0, 0.5, 0.5], [1.0, 0.5, 1.0, 0.5, 0.5]), [region([[1, 0, 0]], [1e6])], 200
    )
    search.run()
    assert bool((search.open.lower[:, [1, 3, 4]] == 0.5).all())
    assert len(torch.unique(search.open.lower, dim=0)) == len(search.open)
