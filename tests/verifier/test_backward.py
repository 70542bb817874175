"""Backward bounds: exact on affine parts, valid on relaxed ones, whatever the slopes."""

from __future__ import annotations

import pytest
import torch
from families import ALL_FAMILIES, member
from nets import Net, box_around, graph_of, samples

from harness.verifier.backward import Relaxation, concretize, lower_bounds, relax, relaxing, row_chunk, to_input
from harness.verifier.crown import root_bounds
from harness.verifier.graph import Relu, size
from harness.verifier.interval import Bounds, Box
from harness.verifier.rows import Rows

DOUBLE = torch.float64


def bounds_of(pairs: list[tuple[float, float]]) -> Bounds:
    ends = torch.tensor(pairs, dtype=DOUBLE)
    return Bounds(ends[None, :, 0], ends[None, :, 1])


def assert_encloses(op: Relu, bounds: Bounds, relaxation: Relaxation) -> None:
    share = torch.linspace(0, 1, 41, dtype=DOUBLE)[:, None]
    z = bounds.lb + share * (bounds.ub - bounds.lb)
    value = op.forward(z)
    assert bool((relaxation.lower_slope * z + relaxation.lower_offset <= value + 1e-12).all())
    assert bool((relaxation.upper_slope * z + relaxation.upper_offset >= value - 1e-12).all())


EDGES = [(-1.0, 2.0), (-2.0, 1.0), (-1.0, 1.0), (0.0, 1.0), (-1.0, 0.0), (0.0, 0.0), (1.0, 1.0), (-1.0, -1.0),
         (-1e-300, 1e-300), (-1e9, 1e-9), (-1e-9, 1e9)]  # fmt: skip


def test_a_relaxation_encloses_the_activation_at_every_kind_of_bounds() -> None:
    bounds, op = bounds_of(EDGES), Relu("r")
    relaxation = relax(op, bounds)
    assert_encloses(op, bounds, relaxation)
    assert relaxation.lower_slope[0, :3].tolist() == [1.0, 0.0, 0.0]
    assert relaxation.upper_slope[0, 3:8].tolist() == [1.0, 0.0, 1.0, 1.0, 0.0]


def test_a_grafted_neuron_is_its_own_relaxation() -> None:
    count = len(EDGES)
    linear = torch.arange(count) % 2 == 0
    slope, intercept = torch.linspace(-2, 2, count, dtype=DOUBLE), torch.linspace(1, -1, count, dtype=DOUBLE)
    op, bounds = Relu("g", linear, slope, intercept), bounds_of(EDGES)
    relaxation = relax(op, bounds)
    assert_encloses(op, bounds, relaxation)
    torch.testing.assert_close(relaxation.lower_slope[0, linear], slope[linear])
    torch.testing.assert_close(relaxation.lower_offset, torch.where(linear, intercept, 0.0)[None])


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_bounds_of_the_output_hold_for_any_slopes(family: str) -> None:
    graph = graph_of(member(family, 5))
    box = box_around(graph, 3, 0.15, seed=2)
    found, random = root_bounds(graph, box), torch.Generator().manual_seed(4)
    loosened = {}
    for k, relaxation in found.relaxations.items():
        op = graph.nodes[k].op
        if not isinstance(op, Relu):
            loosened[k] = relaxation
            continue
        lb, ub = found.activations[k]
        free = (lb < 0) & (ub > 0)
        free = free if op.linear is None else free & ~op.linear
        alpha = torch.rand(lb.shape, generator=random, dtype=DOUBLE)
        slope = torch.where(free, alpha, relaxation.lower_slope)
        loosened[k] = Relaxation(slope, relaxation.upper_slope, relaxation.lower_offset, relaxation.upper_offset)
    last = len(graph.nodes) - 1
    owner = torch.arange(3).repeat(4)
    C = torch.randn(12, 3, generator=random, dtype=DOUBLE)
    rows = Rows(C.view(12, *graph.output_shape), owner)
    low = concretize(to_input(graph, last, rows, relaxing(loosened)), box)
    values = graph(samples(box, 300)).view(300, 3, 3)
    lowest = torch.einsum("ro,sro->sr", C, values[:, owner]).min(0).values
    assert bool((low <= lowest + 1e-9).all())


@pytest.mark.parametrize("family", ["affine", "grafted", "normalised", "groups and axes", "residual"])
def test_the_linear_bound_itself_holds_pointwise(family: str) -> None:
    graph = graph_of(member(family, 6))
    box = box_around(graph, 2, 0.15, seed=3)
    rule, last = root_bounds(graph, box).rule(), len(graph.nodes) - 1
    owner = torch.tensor([0, 1])
    C = torch.tensor([[1.0, -1, 0.5], [-1, 0, 1]], dtype=DOUBLE)
    passed = to_input(graph, last, Rows(C, owner), rule)
    x = samples(box, 200)
    line = (passed.rows.whole(graph.input_shape).A[owner.repeat(200)] * x).flatten(1).sum(1) + passed.const.repeat(200)
    value = (C.repeat(200, 1) * graph(x)).sum(1)
    assert bool((line <= value + 1e-9).all())
    if family == "affine":
        torch.testing.assert_close(line, value, rtol=1e-12, atol=1e-12)


def test_rows_of_the_input_itself_pass_unchanged() -> None:
    net = Net((3,), seed=1)
    graph = graph_of(net.model(net.linear("x", 2, 3)))
    rows = Rows(torch.eye(3, dtype=DOUBLE), torch.zeros(3, dtype=torch.int64))
    passed = to_input(graph, 0, rows, relaxing({}))
    assert passed.rows is rows
    assert not passed.const.any()


def test_chunks_give_what_the_whole_gives() -> None:
    """More rows than one chunk holds, owned by several boxes."""
    net = Net((1, 40, 40), seed=2)
    graph = graph_of(net.model(net.relu(net.conv(net.relu(net.conv("x", 4, 1)), 4, 4, pads=[1, 1, 1, 1]))))
    box = box_around(graph, 2, 0.01)
    found = root_bounds(graph, box)
    node = 3
    neurons = torch.arange(size(graph.nodes[node].shape)).repeat(2)[: row_chunk(graph, node) + 40]
    owner = (torch.arange(len(neurons)) % 2).long()
    together = lower_bounds(graph, node, neurons, owner, -1, found.rule(), box)
    alone = [
        lower_bounds(graph, node, neurons[k : k + 1], owner[k : k + 1], -1, found.rule(), box)
        for k in (0, row_chunk(graph, node) - 1, row_chunk(graph, node), len(neurons) - 1)
    ]
    index = [0, row_chunk(graph, node) - 1, row_chunk(graph, node), len(neurons) - 1]
    torch.testing.assert_close(together[index], torch.cat(alone), rtol=1e-12, atol=1e-12)


def test_no_rows_are_no_bounds() -> None:
    graph = graph_of(member("fully connected", 0))
    box = box_around(graph, 1, 0.1)
    nothing = torch.zeros(0, dtype=torch.int64)
    assert len(lower_bounds(graph, 1, nothing, nothing, 1, relaxing({}), box)) == 0


def test_a_box_of_no_width_is_bounded_by_its_value() -> None:
    graph = graph_of(member("residual", 1))
    centre = torch.rand(1, 2, 5, 5, dtype=DOUBLE)
    box = Box(centre, centre)
    C = torch.eye(3, dtype=DOUBLE)
    rows = Rows(C, torch.zeros(3, dtype=torch.int64))
    low = concretize(to_input(graph, len(graph.nodes) - 1, rows, root_bounds(graph, box, 0.0).rule()), box)
    torch.testing.assert_close(low, graph(centre)[0], rtol=1e-10, atol=1e-10)
