"""The sparse form computes the network, row by row, with the network's own weights."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from families import FAMILIES, MORE_FAMILIES, SMOOTH_FAMILIES, member
from nets import Array, Net, graph_of

from harness.verifier.graph import Conv, Graph, Linear, Scale
from harness.verifier.sparse import FUSED_ROUNDINGS, SparseNetwork, sparse_network, sparse_size

PIECEWISE_LINEAR = [*FAMILIES, *MORE_FAMILIES]


def sparse_of(graph: Graph) -> SparseNetwork:
    net = sparse_network(graph)
    assert net is not None
    return net


def columns_at(net: SparseNetwork, points: Array) -> tuple[Array, Array]:
    """Returns columns `(columns, points)` and pre-activations `(rows, points)`, row by row from the definition."""
    h, z = np.zeros((net.inputs + net.rows, len(points))), np.zeros((net.rows, len(points)))
    h[: net.inputs] = points.reshape(len(points), -1).T
    for j in range(net.rows):
        part = slice(net.start[j], net.start[j + 1])
        z[j] = net.bias[j] + net.value[part] @ h[net.column[part]]
        h[net.inputs + j] = net.slope[j] * z[j] + net.intercept[j] if net.linear[j] else np.maximum(z[j], 0)
    return h, z


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("family", PIECEWISE_LINEAR)
def test_it_computes_the_network_and_every_pre_activation(family: str, seed: int) -> None:
    graph = graph_of(member(family, 40 + seed))
    net = sparse_of(graph)
    x = np.random.default_rng(seed).normal(0, 2, (6, *graph.input_shape))
    h, z = columns_at(net, x)
    values = graph.values(torch.from_numpy(x))
    np.testing.assert_allclose(h[net.output].T, values[-1].flatten(1).numpy(), rtol=1e-11, atol=1e-11)
    activated = {s.activation: s for s in net.segments if s.activation is not None}
    assert sorted(activated) == list(graph.activations())
    for k, segment in activated.items():
        before, after = (values[i].flatten(1).numpy().T for i in (graph.nodes[k].inputs[0], k))
        part = slice(segment.first, segment.last)
        np.testing.assert_allclose(z[part], before, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(h[net.inputs :][part], after, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("family", PIECEWISE_LINEAR)
def test_rows_read_what_is_below_them_and_belong_to_one_segment(family: str) -> None:
    net = sparse_of(graph_of(member(family, 41)))
    row = np.repeat(np.arange(net.rows), np.diff(net.start))
    assert (net.column >= 0).all()
    assert (net.column < net.inputs + row).all()
    assert net.start[-1] == len(net.column) == len(net.value)
    ends = [0, *(s.last for s in net.segments)]
    assert [s.first for s in net.segments] == ends[:-1]
    assert ends[-1] == net.rows


def own_numbers(graph: Graph) -> Iterable[Array]:
    yield np.array([1.0, -1.0])
    for node in graph.nodes:
        if isinstance(node.op, Conv | Linear):
            yield node.op.weight.numpy().ravel()
        elif isinstance(node.op, Scale):
            yield node.op.factor.numpy().ravel()


@pytest.mark.parametrize("family", PIECEWISE_LINEAR)
def test_entries_are_the_network_s_own_weights(family: str) -> None:
    graph = graph_of(member(family, 42))
    net = sparse_of(graph)
    assert np.isin(net.value, np.concatenate(list(own_numbers(graph)))).all()
    assert (net.value != 0).all()
    assert len(net.value) <= sparse_size(graph)
    assert (net.bias_size >= np.abs(net.bias)).all()


def test_a_pre_activation_that_something_else_uses_is_copied_exactly() -> None:
    net = Net((2,), seed=1)
    v = net.linear("x", 3, 2)
    graph = graph_of(net.model(net.op("Add", net.op("Add", net.relu(v), v), net.relu(v))))
    sparse = sparse_of(graph)
    copies = [s for s in sparse.segments if s.activation is not None]
    assert len(copies) == 2
    for segment in copies:
        part = slice(sparse.start[segment.first], sparse.start[segment.last])
        assert sparse.value[part].tolist() == [1.0, 1.0, 1.0]
        assert sparse.column[part].tolist() == [2, 3, 4]
        assert not sparse.roundings[segment.first : segment.last].any()
        assert not sparse.linear[segment.first : segment.last].any()


def test_grafted_neurons_are_linear_rows_that_round_and_plain_rows_are_linear_ones_that_do_not() -> None:
    net = Net((2,), seed=1)
    mask = [True, False, True]
    v = net.grafted(net.linear("x", 3, 2), mask, [0.5, 9.0, -2.0], [1.0, 9.0, 3.0])
    sparse = sparse_of(graph_of(net.model(net.linear(v, 2, 3))))
    assert sparse.linear.tolist() == [*mask, True, True]
    assert sparse.rounded.tolist() == [*mask, False, False]
    assert sparse.slope[[0, 2, 3, 4]].tolist() == [0.5, -2.0, 1.0, 1.0]
    assert sparse.intercept[[0, 2, 3, 4]].tolist() == [1.0, 3.0, 0.0, 0.0]


def test_weights_of_zero_have_no_entry_and_still_count_as_roundings() -> None:
    net = Net((4,))
    weight = [[1.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    sparse = sparse_of(graph_of(net.model(net.op("Gemm", "x", net.constant(weight), net.constant([3, 4]), transB=1))))
    assert sparse.start.tolist() == [0, 2, 2]
    assert sparse.column.tolist() == [0, 2]
    assert (sparse.roundings >= 4 + FUSED_ROUNDINGS).all()


@pytest.mark.parametrize("family", SMOOTH_FAMILIES)
def test_smooth_activations_have_no_sparse_form(family: str) -> None:
    assert sparse_network(graph_of(member(family, 1))) is None
