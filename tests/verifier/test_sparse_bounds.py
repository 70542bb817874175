"""Compiled bounds hold, and are the bounds that torch finds."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from families import FAMILIES, MORE_FAMILIES, member
from nets import Array, Net, box_around, graph_of, samples
from test_sparse import columns_at, sparse_of

from harness.verifier.crown import margins, root_bounds
from harness.verifier.graph import Graph
from harness.verifier.interval import Box
from harness.verifier.sparse_bounds import SparseBounds, bound_box, scratch, tighten

UNIT = 2.0**-24
ROWS = np.array([[1.0, -1, 0], [0, 1, -1], [-1, 0, 0.3]])
UNLIKE = ("odd", "normalised", "joined", "bent")
"""Families in which one of the two forms bounds more values, or others, by CROWN than the other does."""


def bounded(graph: Graph, box: Box, unit: float = UNIT) -> SparseBounds:
    return bound_box(sparse_of(graph), box.lower.numpy().ravel(), box.upper.numpy().ravel(), unit)


def torch_margins(graph: Graph, box: Box, unit: float) -> Array:
    C = torch.from_numpy(ROWS)
    found = margins(graph, C, torch.zeros(len(C), dtype=torch.int64), root_bounds(graph, box, unit))
    result: Array = found.numpy()
    return result


@pytest.mark.parametrize("radius", [0.0, 0.03, 0.3])
@pytest.mark.parametrize("family", [f for f in (*FAMILIES, *MORE_FAMILIES) if f not in UNLIKE])
def test_without_rounding_they_are_torch_s(family: str, radius: float) -> None:
    graph = graph_of(member(family, 50))
    box = box_around(graph, 1, radius, seed=1)
    found, theirs = bounded(graph, box, 0.0), root_bounds(graph, box, 0.0)
    for k, (lb, ub) in theirs.activations.items():
        first, last, _ = found.segment(k)
        np.testing.assert_allclose(found.lb[first:last], lb.flatten().numpy(), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.ub[first:last], ub.flatten().numpy(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.margins(ROWS), torch_margins(graph, box, 0.0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("radius", [0.0, 0.03, 0.3])
@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES])
def test_no_point_of_the_box_leaves_them(family: str, radius: float) -> None:
    graph = graph_of(member(family, 51))
    box = box_around(graph, 1, radius, seed=2)
    h, z = columns_at(sparse_of(graph), samples(box, 150, seed=3).numpy())
    for unit in (UNIT, 0.0):
        slack = 0.0 if unit else 1e-11 * (1 + np.abs(z))
        found = bounded(graph, box, unit)
        assert (found.lb[:, None] <= z + slack).all()
        assert (z - slack <= found.ub[:, None]).all()
        reached = (ROWS @ h[found.network.output]).min(1)
        assert (found.margins(ROWS) <= reached + (0.0 if unit else 1e-11)).all()


@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES])
def test_what_an_evaluation_rounds_costs_little_but_something(family: str) -> None:
    graph = graph_of(member(family, 52))
    box = box_around(graph, 1, 0.02, seed=2)
    exact, covering = bounded(graph, box, 0.0), bounded(graph, box)
    rounds = exact.network.roundings > 0
    assert (covering.lb <= exact.lb)[rounds].all()
    assert (covering.ub >= exact.ub)[rounds].all()
    lost = exact.margins(ROWS) - covering.margins(ROWS)
    scale = 1 + max(np.abs(exact.lb).max(), np.abs(exact.ub).max())
    assert (lost > 0).all()
    assert (lost < 1e-3 * scale).all()


@pytest.mark.parametrize("radius", [0.02, 0.3])
@pytest.mark.parametrize("family", FAMILIES)
def test_both_forms_cover_rounding_alike(family: str, radius: float) -> None:
    """They count roundings slightly differently; neither may leave out what the other one has."""
    graph = graph_of(member(family, 53))
    box = box_around(graph, 1, radius, seed=4)
    compiled = bounded(graph, box, 0.0).margins(ROWS) - bounded(graph, box).margins(ROWS)
    by_torch = torch_margins(graph, box, 0.0) - torch_margins(graph, box, UNIT)
    assert (compiled > 0.1 * by_torch).all()
    assert (by_torch > 0.1 * compiled).all()


def test_dead_neurons_take_their_entries_with_them_and_margins_stay_right() -> None:
    net = Net((2,))
    weight, bias = np.ones((3, 2)), np.array([-10.0, 10.0, 0.0])
    v = net.relu(net.op("Gemm", "x", net.constant(weight), net.constant(bias), transB=1))
    graph = graph_of(net.model(net.op("Gemm", v, net.constant(np.eye(3)), net.constant(np.zeros(3)), transB=1)))
    box = Box(-torch.ones(1, 2).double(), torch.ones(1, 2).double())
    found = bounded(graph, box)
    assert found.unstable().tolist() == [2]
    assert (found.matrix.stop - found.matrix.start).tolist() == [0, 2, 2, 0, 1, 1]
    np.testing.assert_allclose(found.margins(np.eye(3)), [0.0, 8.0, 0.0], atol=1e-4)
    np.testing.assert_allclose(found.margins(-np.eye(3)), [0.0, -12.0, -2.0], atol=1e-4)


def test_tightening_never_loosens_and_leaves_other_rows_alone() -> None:
    graph = graph_of(member("fully connected", 54))
    found = bounded(graph, box_around(graph, 1, 0.4))
    segment = found.segment(graph.activations()[1])
    rows = np.arange(segment.first, segment.last)[::2]
    lb, ub = found.lb.copy(), found.ub.copy()
    found.lb[rows] -= 1.0
    found.ub[rows] += 1.0
    tighten(found, rows)
    others = np.setdiff1d(np.arange(found.network.rows), rows)
    np.testing.assert_array_equal(found.lb[others], lb[others])
    np.testing.assert_array_equal(found.ub[others], ub[others])
    assert (found.lb[rows] > lb[rows] - 1.0).any()
    assert (found.lb[rows] >= lb[rows] - 1.0).all()
    assert (found.ub[rows] <= ub[rows] + 1.0).all()


def test_scratch_is_clean_after_use_and_each_thread_has_its_own() -> None:
    """Sums that stayed behind would be added to the next box's rows."""
    graphs = [graph_of(member(family, 55)) for family in ("residual", "fully connected")]
    alone = [bounded(graph, box_around(graph, 1, 0.3)).margins(ROWS) for graph in graphs]
    again = [bounded(graph, box_around(graph, 1, 0.3)).margins(ROWS) for graph in graphs]
    for one, other in zip(alone, again, strict=True):
        np.testing.assert_array_equal(one, other)
    work = scratch(sparse_of(graphs[0]))
    assert not work.sums.any()
    assert not work.touched.any()
    elsewhere: list[object] = []
    thread = threading.Thread(target=lambda: elsewhere.append(scratch(sparse_of(graphs[0])).sums))
    thread.start()
    thread.join()
    assert elsewhere[0] is not work.sums
