"""Folding the sparse form gives the network that folding the graph gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import FAMILIES, MORE_FAMILIES, member
from nets import Array, Net, box_around, graph_of
from test_fold import dense, evaluated
from test_sparse_bounds import UNLIKE, bounded

from harness.verifier import sparse_fold
from harness.verifier.crown import root_bounds
from harness.verifier.fold import RHS_ROUNDING, FoldedNetwork, SparseRows, fold
from harness.verifier.graph import Graph, size
from harness.verifier.interval import Box
from harness.verifier.kernels.passes import Entries
from harness.verifier.sparse_fold import fold_sparse

PIECEWISE_LINEAR = [*FAMILIES, *MORE_FAMILIES]


def folded(graph: Graph, box: Box, C: Array, rhs: Array, unit: float = 0.0) -> FoldedNetwork:
    return fold_sparse(bounded(graph, box, unit), C, rhs)


@pytest.mark.parametrize("radius", [0.0, 0.05, 0.6])
@pytest.mark.parametrize("family", PIECEWISE_LINEAR)
def test_margins_are_the_network_s_at_random_points(family: str, radius: float) -> None:
    graph = graph_of(member(family, 60))
    box = box_around(graph, 1, radius, seed=8)
    random = np.random.default_rng(3)
    C, rhs = random.normal(size=(4, 3)), random.normal(size=4)
    network = folded(graph, box, C, rhs)
    for _ in range(5):
        t = random.uniform(-1, 1, size(graph.input_shape))
        x = box.centre + box.radius * torch.from_numpy(t).view(box.centre.shape)
        z, margins = evaluated(network, t)
        expected = C @ graph(x)[0].numpy() - rhs - RHS_ROUNDING * np.abs(rhs)
        np.testing.assert_allclose(margins, expected, rtol=1e-9, atol=1e-9)
        assert (z >= network.lb - 1e-9).all()
        assert (z <= network.ub + 1e-9).all()


@pytest.mark.parametrize("family", [f for f in PIECEWISE_LINEAR if f not in UNLIKE])
def test_it_is_the_graph_s_folded_network(family: str) -> None:
    graph = graph_of(member(family, 61))
    box = box_around(graph, 1, 0.3, seed=8)
    C, rhs = np.random.default_rng(3).normal(size=(2, 3)), np.array([0.5, -1.0])
    ours = folded(graph, box, C, rhs)
    theirs = fold(graph, root_bounds(graph, box, 0.0), torch.from_numpy(C), torch.from_numpy(rhs))
    assert ours.neurons == theirs.neurons
    width = ours.inputs + ours.neurons
    for mine, other in (
        (ours.E, theirs.E),
        (ours.e, theirs.e),
        (ours.C, theirs.C),
        (ours.lb, theirs.lb),
        (ours.ub, theirs.ub),
        (dense(ours.by_row, width), dense(theirs.by_row, width)),
        (ours.layer_start, theirs.layer_start),
    ):
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", PIECEWISE_LINEAR)
def test_the_matrix_looks_back_only_and_is_the_same_by_rows_and_columns(family: str) -> None:
    graph = graph_of(member(family, 62))
    network = folded(graph, box_around(graph, 1, 0.5), np.eye(3), np.zeros(3))
    n, d = network.neurons, network.inputs
    M = dense(network.by_row, d + n)
    by_column = network.by_column
    transposed = dense(SparseRows(by_column.start, by_column.row, by_column.value), n + 3)
    np.testing.assert_array_equal(np.vstack([M, network.C.T]), transposed.T)
    layer = np.searchsorted(network.layer_start, np.arange(n), side="right")
    assert not (np.abs(M[:, d:]) > 0)[layer[:, None] <= layer[None, :]].any()
    assert (network.lb < 0).all()
    assert (network.ub > 0).all()
    for r in range(n):
        columns = network.by_row.column[network.by_row.start[r] : network.by_row.start[r + 1]]
        assert (np.diff(columns) > 0).all()


def test_rows_that_find_no_room_are_folded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(member("convolution", 63))
    box = box_around(graph, 1, 0.5)
    roomy = folded(graph, box, np.eye(3), np.zeros(3))
    original = sparse_fold._Folder  # only its first room is what the test is about
    narrow = Entries(np.empty(3, np.int32), np.empty(3))
    monkeypatch.setattr(sparse_fold, "_Folder", lambda found, place: original(found, place, narrow))
    tight = folded(graph, box, np.eye(3), np.zeros(3))
    for one, other in zip((*roomy.by_row, *roomy.by_column), (*tight.by_row, *tight.by_column), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(roomy.E, tight.E)
    np.testing.assert_array_equal(roomy.slack, tight.slack)


@pytest.mark.parametrize("family", FAMILIES)
def test_rounding_becomes_slack_and_is_taken_off_the_margins(family: str) -> None:
    graph = graph_of(member(family, 64))
    box = box_around(graph, 1, 0.3)
    exact, covering = (folded(graph, box, np.eye(3), np.ones(3), unit) for unit in (0.0, 2.0**-24))
    assert (covering.slack[covering.E != 0] > 0).all()
    assert (covering.e <= exact.e).all()
    assert (covering.e < exact.e).any()
    assert (exact.e - covering.e < 1e-2).all()


def test_grafted_neurons_leave_no_trace() -> None:
    net = Net((4,), seed=2)
    v = net.grafted(net.linear("x", 9, 4), [True] * 6 + [False] * 3, [0.7] * 9, [0.1] * 9)
    graph = graph_of(net.model(net.linear(v, 3, 9)))
    assert folded(graph, box_around(graph, 1, 50.0), np.eye(3), np.zeros(3)).neurons == 3


def test_no_margins_are_no_rows() -> None:
    graph = graph_of(member("fully connected", 65))
    network = folded(graph, box_around(graph, 1, 0.5), np.zeros((0, 3)), np.zeros(0))
    assert network.neurons > 0
    assert network.C.shape == (network.inputs + network.neurons, 0)
