"""The graph's own promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nets import Net, graph_of

from harness.verifier.graph import Conv, Graph, Input, Linear, Node, Relu, Scale, neuron_count


def test_a_graph_starts_with_its_input() -> None:
    with pytest.raises(ValueError, match="first node"):
        Graph((Node(Relu("r"), (0,), (2,)),))


def test_nodes_stand_behind_their_operands() -> None:
    with pytest.raises(ValueError, match="topological"):
        Graph((Node(Input(), (), (2,)), Node(Relu("r"), (2,), (2,)), Node(Relu("s"), (1,), (2,))))


def test_what_is_no_activation_is_not_given_as_one() -> None:
    with pytest.raises(ValueError, match="node 0"):
        Graph((Node(Input(), (), (2,)),)).activation(0)


def test_a_graph_without_weights_has_a_type() -> None:
    graph = Graph((Node(Input(), (), (2,)),))
    assert (graph.dtype, graph.to(torch.float32).device.type) == (torch.float64, "cpu")


def test_a_cast_reaches_every_constant() -> None:
    net = Net((2, 4, 4), seed=1)
    v = net.random_graft(net.conv("x", 3, 2), (3, 2, 2))
    v = net.op("Mul", net.op("Add", v, v), net.constant(net.weights(3, 2, 2)))
    graph = graph_of(net.model(net.linear(net.op("Flatten", v), 2, 12))).to(torch.float32)
    assert graph(torch.zeros(1, 2, 4, 4)).dtype == torch.float32
    assert graph.dtype == torch.float32


def test_a_cast_reaches_the_magnitudes_of_biases() -> None:
    net = Net((1, 2, 2), seed=1)
    weight, bias = net.constant(np.ones((3, 1, 1, 1))), net.constant([-2.0, 1.0, 0.0])
    v = net.op("Add", net.op("Conv", "x", weight, bias), net.constant(np.ones((3, 1, 1))))
    v = net.op("Sub", net.op("Add", net.op("Add", v, v), net.constant(1.0)), net.constant(1.0))
    v = net.op("Add", net.linear(net.op("Flatten", v), 2, 12), net.constant([-9.0, 9.0]))
    ops = [node.op for node in graph_of(net.model(v)).to(torch.float32).nodes]
    sizes = {type(op).__name__: op.bias_size for op in ops if isinstance(op, Conv | Linear | Scale)}
    assert sorted(sizes) == ["Conv", "Linear", "Scale"]
    assert all(s is not None and s.dtype == torch.float32 for s in sizes.values())


def test_grafted_neurons_are_counted_among_the_neurons() -> None:
    net = Net((3,), seed=1)
    v = net.relu(net.linear(net.random_graft(net.linear("x", 5, 3), (5,)), 4, 5))
    assert neuron_count(graph_of(net.model(v))) == 9


def test_a_batch_is_evaluated_input_by_input() -> None:
    net = Net((2, 5, 5), seed=2)
    v = net.random_graft(net.conv("x", 3, 2, strides=[2, 2]), (3, 2, 2))
    graph = graph_of(net.model(net.linear(net.op("Flatten", v), 2, 12)))
    x = torch.randn(6, 2, 5, 5, dtype=torch.float64)
    one_by_one = torch.cat([graph(x[k : k + 1]) for k in range(6)])
    torch.testing.assert_close(graph(x), one_by_one, rtol=1e-12, atol=1e-12)
