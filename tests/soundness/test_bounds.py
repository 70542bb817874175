"""Root bounds of random networks against points that look for their violation."""

from __future__ import annotations

import pytest
import torch
from families import FAMILIES, member
from nets import box_around, graph_of, samples
from torch import Tensor

from harness.verifier.crown import margins, root_bounds
from harness.verifier.graph import Graph
from harness.verifier.interval import Box

DOUBLE = torch.float64
SLACK = 1e-9
"""Relative to the value: what float64 rounding may cost the evaluation that the bound is compared with."""


def descended(graph: Graph, box: Box, C: Tensor, starts: Tensor, steps: int = 40) -> Tensor:
    """Returns the lowest `C y` that gradient descent finds from each start, `(starts, rows)`."""
    lowest = []
    for row in C:
        x, step = starts.clone(), (box.upper - box.lower) / 4
        best = graph(x) @ row
        for _ in range(steps):
            x.requires_grad_(True)
            value = graph(x) @ row
            (gradient,) = torch.autograd.grad(value.sum(), x)
            best = torch.minimum(best, value.detach())
            x = torch.minimum(torch.maximum(x.detach() - step * gradient.sign(), box.lower), box.upper)
            step = step * 0.9
        lowest.append(best)
    return torch.stack(lowest, 1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("family", FAMILIES)
def test_no_point_of_the_box_goes_below_a_margin(family: str, seed: int) -> None:
    graph = graph_of(member(family, 100 + seed))
    random = torch.Generator().manual_seed(seed)
    C = torch.cat([torch.eye(3, dtype=DOUBLE), torch.randn(3, 3, generator=random, dtype=DOUBLE)])
    for radius in (0.01, 0.1, 0.5):
        box = box_around(graph, 1, radius, seed)
        low = margins(graph, C, torch.zeros(len(C), dtype=torch.int64), root_bounds(graph, box))
        starts = samples(box, 200, seed)
        reached = torch.minimum((graph(starts) @ C.T).min(0).values, descended(graph, box, C, starts[:8]).min(0).values)
        assert bool((low <= reached + SLACK * (1 + reached.abs())).all())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_hidden_neuron_cannot_be_pushed_out_of_its_bounds(family: str) -> None:
    graph = graph_of(member(family, 200))
    box = box_around(graph, 1, 0.2)
    found = root_bounds(graph, box)
    for k, (lb, ub) in found.activations.items():
        part = Graph(graph.nodes[: graph.nodes[k].inputs[0] + 1])
        count = lb[0].numel()
        chosen = torch.arange(0, count, max(1, count // 5))
        directions = torch.zeros(len(chosen), count, dtype=DOUBLE)
        directions[torch.arange(len(chosen)), chosen] = 1
        starts = samples(box, 6)
        low = descended(part, box, directions, starts, 25).min(0).values
        high = -descended(part, box, -directions, starts, 25).min(0).values
        assert bool((low >= lb.flatten()[chosen] - SLACK).all())
        assert bool((high <= ub.flatten()[chosen] + SLACK).all())
