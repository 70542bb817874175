"""A folded network computes what the network computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import FAMILIES, MORE_FAMILIES, member
from nets import Array, Net, box_around, graph_of

from harness.verifier.crown import root_bounds
from harness.verifier.fold import RHS_ROUNDING, FoldedNetwork, SparseRows, fold
from harness.verifier.graph import Graph, size
from harness.verifier.interval import Box

DOUBLE = torch.float64


def folded(graph: Graph, box: Box, C: torch.Tensor, rhs: torch.Tensor) -> FoldedNetwork:
    return fold(graph, root_bounds(graph, box, 0.0), C, rhs)


def dense(matrix: SparseRows, columns: int) -> Array:
    rows = len(matrix.start) - 1
    result = np.zeros((rows, columns))
    for r in range(rows):
        part = slice(matrix.start[r], matrix.start[r + 1])
        np.add.at(result[r], matrix.column[part], matrix.value[part])
    return result


def evaluated(network: FoldedNetwork, t: Array) -> tuple[Array, Array]:
    """Returns pre-activations and margins at t, computed neuron by neuron."""
    n, d = network.neurons, network.inputs
    M = dense(network.by_row, d + n)
    z, point = np.zeros(n), np.concatenate([t, np.zeros(n)])
    for j in range(n):
        z[j] = network.E[j] + M[j] @ point
        point[d + j] = max(z[j], 0)
    return z, network.e + network.C.T @ point


@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES])
@pytest.mark.parametrize("radius", [0.0, 0.05, 0.6])
def test_margins_are_the_network_s_at_random_points(family: str, radius: float) -> None:
    graph = graph_of(member(family, 20))
    box = box_around(graph, 1, radius, seed=8)
    random = np.random.default_rng(3)
    C, rhs = torch.from_numpy(random.normal(size=(4, 3))), torch.from_numpy(random.normal(size=4))
    network = folded(graph, box, C, rhs)
    for _ in range(10):
        t = random.uniform(-1, 1, size(graph.input_shape))
        x = box.centre + box.radius * torch.from_numpy(t).view(box.centre.shape)
        z, margins = evaluated(network, t)
        np.testing.assert_allclose(
            margins, (C @ graph(x)[0] - rhs - RHS_ROUNDING * rhs.abs()).numpy(), rtol=1e-9, atol=1e-9
        )
        assert (z >= network.lb - 1e-9).all()
        assert (z <= network.ub + 1e-9).all()


@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES])
def test_the_folded_matrix_looks_back_only_and_is_the_same_by_rows_and_columns(family: str) -> None:
    graph = graph_of(member(family, 21))
    network = folded(graph, box_around(graph, 1, 0.5), torch.eye(3, dtype=DOUBLE), torch.zeros(3, dtype=DOUBLE))
    n, d = network.neurons, network.inputs
    M = dense(network.by_row, d + n)
    by_column = network.by_column
    transposed = dense(SparseRows(by_column.start, by_column.row, by_column.value), n + 3)
    np.testing.assert_array_equal(np.vstack([M, network.C.T]), transposed.T)
    layer = np.searchsorted(network.layer_start, np.arange(n), side="right")
    reached = np.abs(M[:, d:]) > 0
    assert not reached[layer[:, None] <= layer[None, :]].any()
    assert (network.lb < 0).all()
    assert (network.ub > 0).all()


def test_grafted_neurons_leave_no_trace() -> None:
    net = Net((4,), seed=2)
    v = net.grafted(net.linear("x", 9, 4), [True] * 6 + [False] * 3, [0.7] * 9, [0.1] * 9)
    graph = graph_of(net.model(net.linear(v, 3, 9)))
    network = folded(graph, box_around(graph, 1, 50.0), torch.eye(3, dtype=DOUBLE), torch.zeros(3, dtype=DOUBLE))
    assert network.neurons == 3


def test_a_network_without_activations_is_its_margins() -> None:
    graph = graph_of(member("affine", 1))
    network = folded(graph, box_around(graph, 1, 0.5), torch.eye(3, dtype=DOUBLE), torch.zeros(3, dtype=DOUBLE))
    assert (network.neurons, network.layer_start.tolist()) == (0, [0])


def test_several_boxes_are_refused() -> None:
    graph = graph_of(member("affine", 1))
    with pytest.raises(ValueError, match="one box"):
        folded(graph, box_around(graph, 2, 0.1), torch.eye(3, dtype=DOUBLE), torch.zeros(3, dtype=DOUBLE))
