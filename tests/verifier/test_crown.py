"""Bounds of hidden layers and margins hold, are never looser than intervals, and mix inputs freely."""

from __future__ import annotations

import pytest
import torch
from families import ALL_FAMILIES, member
from nets import Net, box_around, graph_of, samples

from harness.verifier.crown import margins, root_bounds, unstable, with_grafted_neurons
from harness.verifier.interval import Box, interval_bounds

DOUBLE = torch.float64
RADII = (0.0, 0.02, 0.3)


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_inputs_of_activations_lie_within_their_bounds(family: str, radius: float) -> None:
    graph = graph_of(member(family, 7))
    box = box_around(graph, 3, radius, seed=5)
    found = root_bounds(graph, box)
    values = graph.values(samples(box, 200))
    for bounds in (found.activations, with_grafted_neurons(graph, found)):
        for k, (lb, ub) in bounds.items():
            z = values[graph.nodes[k].inputs[0]].reshape(200, 3, -1)
            assert bool((z >= lb.flatten(1) - 1e-9).all()), k
            assert bool((z <= ub.flatten(1) + 1e-9).all()), k


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_bounds_are_never_looser_than_intervals(family: str) -> None:
    graph = graph_of(member(family, 8))
    box = box_around(graph, 2, 0.2, seed=6)
    intervals, found = interval_bounds(graph, box), root_bounds(graph, box, 0.0)
    for k, (lb, ub) in with_grafted_neurons(graph, found).items():
        plain = intervals[graph.nodes[k].inputs[0]]
        assert bool((lb >= plain.lb - 1e-9).all())
        assert bool((ub <= plain.ub + 1e-9).all())


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_boxes_of_one_batch_do_not_touch_each_other(family: str) -> None:
    graph = graph_of(member(family, 9))
    box = box_around(graph, 4, 0.1, seed=7)
    C = torch.tensor([[1.0, -1, 0], [0, 1, -1], [1, 1, 1]], dtype=DOUBLE)
    owner = torch.arange(4).repeat_interleave(3)
    together = margins(graph, C.repeat(4, 1), owner, root_bounds(graph, box)).view(4, 3)
    for k in range(4):
        alone = margins(graph, C, torch.zeros(3, dtype=torch.int64), root_bounds(graph, box[k : k + 1]))
        torch.testing.assert_close(together[k], alone, rtol=1e-9, atol=1e-9)


def test_a_network_whose_neurons_are_all_grafted_is_bounded_exactly() -> None:
    net = Net((2,), seed=11)
    v = net.grafted(net.linear("x", 6, 2), [True] * 6, net.weights(6), net.weights(6))
    v = net.grafted(net.linear(v, 5, 6), [True] * 5, net.weights(5), net.weights(5))
    graph = graph_of(net.model(net.linear(v, 2, 5)))
    box = box_around(graph, 1, 0.5)
    corners = torch.cartesian_prod(*[torch.stack([box.lower[0, k], box.upper[0, k]]) for k in range(2)])
    C = torch.tensor([[1.0, -1], [-1, 0]], dtype=DOUBLE)
    low = margins(graph, C, torch.zeros(2, dtype=torch.int64), root_bounds(graph, box, 0.0))
    torch.testing.assert_close(low, (graph(corners) @ C.T).min(0).values, rtol=1e-9, atol=1e-9)


def test_bounds_that_touch_zero_are_stable() -> None:
    """ReLU on the input of [0, 1] and of [-1, 0]: lb == 0 and ub == 0 exactly."""
    net = Net((3,))
    graph = graph_of(net.model(net.relu("x")))
    box = Box(torch.tensor([[0.0, -1, -1]]).double(), torch.tensor([[1.0, 0, 1]]).double())
    found = root_bounds(graph, box)
    assert unstable(found.activations[1]).tolist() == [[False, False, True]]
    relaxation = found.relaxations[1]
    assert relaxation.upper_slope[0, :2].tolist() == [1.0, 0.0]
    assert relaxation.upper_offset[0, :2].tolist() == [0.0, 0.0]


def test_grafted_neurons_are_tightened_for_the_statistics() -> None:
    net = Net((4,), seed=12)
    v = net.relu(net.linear("x", 12, 4))
    v = net.grafted(net.linear(v, 12, 12), [True] * 12, [0.5] * 12, [0.0] * 12)
    graph = graph_of(net.model(net.linear(v, 2, 12)))
    found = root_bounds(graph, box_around(graph, 1, 0.2))
    last = max(found.activations)
    tight = with_grafted_neurons(graph, found)[last]
    width, before = (b.ub - b.lb for b in (tight, found.activations[last]))
    assert bool((width <= before + 1e-12).all())
    assert float((before - width).max()) > 0.01
