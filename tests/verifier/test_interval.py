"""Interval bounds hold, and are exact where one affine layer is all there is."""

from __future__ import annotations

import pytest
import torch
from families import ALL_FAMILIES, member
from nets import Net, box_around, graph_of, samples

from harness.verifier.interval import Bounds, Box, interval_bounds


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_every_value_lies_within_its_bounds(family: str) -> None:
    graph = graph_of(member(family, 3))
    box = box_around(graph, 3, 0.2)
    bounds, x = interval_bounds(graph, box), samples(box, 100)
    for k, value in enumerate(graph.values(x)):
        low, high = (end.repeat(100, *([1] * (end.dim() - 1))) for end in bounds[k])
        assert bool((value >= low - 1e-12).all()), k
        assert bool((value <= high + 1e-12).all()), k


def test_one_affine_layer_is_bounded_exactly() -> None:
    net = Net((2,), seed=1)
    graph = graph_of(net.model(net.linear("x", 4, 2)))
    box = box_around(graph, 1, 0.3)
    corners = torch.cartesian_prod(*[torch.stack([box.lower[0, k], box.upper[0, k]]) for k in range(2)])
    values, bounds = graph(corners), interval_bounds(graph, box)[1]
    torch.testing.assert_close(bounds.lb[0], values.min(0).values)
    torch.testing.assert_close(bounds.ub[0], values.max(0).values)


def test_a_grafted_neuron_of_negative_slope_is_bounded_by_its_line() -> None:
    net = Net((1,), seed=1)
    graph = graph_of(net.model(net.grafted("x", [True], [-2.0], [0.5])))
    box = Box(torch.tensor([[-1.0]]).double(), torch.tensor([[3.0]]).double())
    low, high = interval_bounds(graph, box)[len(graph.nodes) - 1]
    assert (float(low), float(high)) == (-5.5, 2.5)


def test_known_bounds_are_used() -> None:
    net = Net((1,), seed=1)
    graph = graph_of(net.model(net.relu("x")))
    box = Box(torch.tensor([[-1.0]]).double(), torch.tensor([[3.0]]).double())
    known = {1: Bounds(torch.zeros(1, 1), torch.ones(1, 1))}
    assert float(interval_bounds(graph, box, known)[1].ub) == 1


def test_centre_and_radius_cover_a_box_that_rounding_would_shrink() -> None:
    random = torch.Generator().manual_seed(0)
    lower = torch.randn(10_000, 1, generator=random, dtype=torch.float64)
    upper = lower + torch.rand(10_000, 1, generator=random, dtype=torch.float64) * 1e-15
    box = Box(lower, upper)
    assert bool((box.centre - box.radius <= lower).all())
    assert bool((box.centre + box.radius >= upper).all())
    assert bool((box.radius >= 0).all())
