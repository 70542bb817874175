"""Rewrites keep the function, and grafted activations are found in every form that means the same."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from nets import Net, graph_of, run_onnx

from harness.verifier.graph import Add, Conv, Graph, Linear, Relu, Scale, bias_magnitude

MASK = np.array([True, False, True, False, True])
SLOPE = np.array([-0.8, 0.0, 0.6, 0.0, 0.0])
INTERCEPT = np.array([0.3, 0.0, -0.2, 0.0, 0.5])


def kinds(graph: Graph) -> list[type]:
    return [type(node.op) for node in graph.nodes]


def assert_same_function(model: bytes, tolerance: float = 1e-5) -> Graph:
    graph = graph_of(model)
    x = np.random.default_rng(1).normal(0, 1.5, (40, *graph.input_shape)).astype(np.float32)
    ours = graph(torch.from_numpy(x).double()).numpy()
    assert np.abs(ours - run_onnx(model, x)).max() < tolerance
    return graph


def grafted_form(flip_add: bool, flip_slope: bool, flip_keep: bool, flip_offset: bool) -> Callable[[Net, str], str]:
    def build(net: Net, x: str) -> str:
        A, B, C = (net.constant(v) for v in (SLOPE, INTERCEPT, ~MASK))
        slope = net.op("Mul", *((A, x) if flip_slope else (x, A)))
        affine = net.op("Add", *((slope, B) if flip_offset else (B, slope)))
        relu = net.relu(x, "act")
        kept = net.op("Mul", *((C, relu) if flip_keep else (relu, C)))
        return net.op("Add", *((affine, kept) if flip_add else (kept, affine)))

    return build


@pytest.mark.parametrize("flips", list(product([False, True], repeat=4)))
def test_a_grafted_activation_is_recognised_in_every_operand_order(flips: tuple[bool, bool, bool, bool]) -> None:
    net = Net((4,), seed=3)
    graph = assert_same_function(net.model(net.linear(grafted_form(*flips)(net, net.linear("x", 5, 4)), 2, 5)))
    assert kinds(graph)[1:] == [Linear, Relu, Linear]
    activation = graph.activation(2)
    assert activation.name == "act"
    assert activation.linear is not None
    assert activation.linear.tolist() == MASK.tolist()


def test_a_channel_of_one_slope_is_not_taken_into_the_convolution_before_it() -> None:
    net = Net((2, 5, 5), seed=1)
    mask = np.zeros((3, 3, 3), bool)
    mask[1] = True
    v = net.grafted(net.conv("x", 3, 2), mask, np.full(mask.shape, 0.5), 0.25, "act")
    graph = assert_same_function(net.model(net.linear(net.op("Flatten", v), 2, 27)))
    assert kinds(graph)[1:3] == [Conv, Relu]
    assert int(graph.activation(2).linear.sum()) == 9  # type: ignore[union-attr]


def test_a_grafted_activation_behind_a_normalisation_that_cannot_be_fused_is_recognised() -> None:
    net = Net((4,), seed=2)
    v = net.op("Add", net.linear("x", 5, 4), net.linear("x", 5, 4))
    v = net.op("Mul", v, net.constant([0.5, 2, 1, -1, 3]))
    v = net.grafted(v, MASK, SLOPE, INTERCEPT)
    graph = assert_same_function(net.model(net.linear(v, 2, 5)))
    assert kinds(graph)[1:] == [Linear, Linear, Add, Scale, Relu, Linear]
    assert graph.activation(5).linear is not None


@pytest.mark.parametrize(("all_", "count"), [(True, 5), (False, 0)])
def test_all_or_nothing_grafted(all_: bool, count: int) -> None:
    net = Net((4,), seed=2)
    v = net.grafted(net.linear("x", 5, 4), np.full(5, all_), 0.7, -0.1)
    graph = assert_same_function(net.model(net.linear(v, 2, 5)))
    assert int(graph.activation(2).linear.sum()) == count  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("A", "B", "C"),
    [
        ([0.5, 0.0], [0.0, 0.0], [1.0, 1.0]),
        ([0.0, 0.0], [0.1, 0.0], [1.0, 1.0]),
        ([0.0, 0.0], [0.0, 0.0], [0.5, 1.0]),
        ([0.3, 0.0], [0.0, 0.0], [-1.0, 1.0]),
        ([0.3, 0.0], [0.0, 0.0], [2.0, 1.0]),
    ],
    ids=["A where kept", "B where kept", "half kept", "negated", "doubled"],
)
def test_what_only_looks_grafted_is_not_taken_for_it(A: list[float], B: list[float], C: list[float]) -> None:
    net = Net((3,), seed=4)
    x = net.linear("x", 2, 3)
    affine = net.op("Add", net.op("Mul", x, net.constant(A)), net.constant(B))
    v = net.op("Add", affine, net.op("Mul", net.relu(x), net.constant(C)))
    graph = assert_same_function(net.model(v))
    assert all(graph.activation(k).linear is None for k in graph.activations())


def test_halves_over_different_values_are_no_grafted_activation() -> None:
    net = Net((3,), seed=5)
    x, other = net.linear("x", 2, 3), net.linear("x", 2, 3)
    affine = net.op("Mul", other, net.constant([0.5, 0.0]))
    graph = assert_same_function(net.model(net.op("Add", affine, net.op("Mul", net.relu(x), net.constant([0.0, 1.0])))))
    assert all(graph.activation(k).linear is None for k in graph.activations())


def test_a_difference_of_the_halves_is_no_grafted_activation() -> None:
    net = Net((3,), seed=5)
    x = net.linear("x", 2, 3)
    kept = net.op("Mul", net.relu(x), net.constant([0.0, 1.0]))
    graph = assert_same_function(net.model(net.op("Sub", net.op("Mul", x, net.constant([0.5, 0.0])), kept)))
    assert all(graph.activation(k).linear is None for k in graph.activations())


def test_scales_and_pads_are_taken_into_layers() -> None:
    net = Net((2, 5, 5), seed=6)
    v = net.op("Pad", "x", net.constant([0, 0, 1, 2, 0, 0, 0, 1], np.int64))
    v = net.conv(v, 3, 2, strides=[2, 1], pads=[1, 0, 0, 1])
    for kind in ("Mul", "Add", "Sub", "Div"):
        v = net.op(kind, v, net.constant(net.random.uniform(0.5, 2, (3, 1, 1))))
    v = net.linear(net.op("Flatten", net.relu(v)), 4, 3 * 3 * 7)
    v = net.op("Mul", net.constant([1.0, -2.0, 0.5, 3.0]), v)
    graph = assert_same_function(net.model(v))
    assert [k.__name__ for k in kinds(graph)] == ["Input", "Conv", "Relu", "Reshape", "Linear"]


def test_a_pad_before_a_scale_is_kept_apart() -> None:
    """Zeros that are padded before an offset are no zeros behind it."""
    net = Net((1, 3, 3), seed=7)
    v = net.op("Pad", "x", net.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    v = net.op("Add", v, net.constant(np.ones((1, 1, 1))))
    assert_same_function(net.model(net.op("Flatten", net.conv(v, 2, 1))))


def test_a_value_with_two_consumers_is_computed_once() -> None:
    net = Net((3,), seed=8)
    x = net.linear("x", 4, 3)
    doubled = net.op("Mul", x, net.constant(2.0))
    graph = assert_same_function(net.model(net.op("Add", net.relu(x), doubled)))
    assert kinds(graph).count(Linear) == 1


def test_what_the_output_does_not_need_is_dropped() -> None:
    net = Net((3,), seed=9)
    x = net.linear("x", 4, 3)
    net.relu(x)
    graph = assert_same_function(net.model(net.linear(x, 2, 4)))
    assert not graph.activations()


def test_a_merged_bias_knows_what_it_was_summed_from() -> None:
    """1 * 3 - 3 is zero, but an evaluation in floating point rounds numbers of size 3."""
    net = Net((2,), seed=1)
    v = net.op("Gemm", "x", net.constant(np.eye(2)), net.constant([1.0, -1.0]), transB=1)
    v = net.op("Sub", net.op("Mul", v, net.constant([3.0, 3.0])), net.constant([3.0, -4.0]))
    graph = assert_same_function(net.model(v))
    op = graph.nodes[-1].op
    assert isinstance(op, Linear)
    assert op.bias.tolist() == [0.0, 1.0]
    assert bias_magnitude(op).tolist() == [6.0, 7.0]
    assert op.roundings == 2


def test_merged_scales_add_up_their_magnitudes_and_roundings() -> None:
    net = Net((2,), seed=1)
    v = net.op("Sub", net.op("Add", "x", net.constant([2.0, -3.0])), net.constant([2.0, 3.0]))
    op = assert_same_function(net.model(net.op("Div", v, net.constant([-0.5, 4.0])))).nodes[-1].op
    assert isinstance(op, Scale)
    assert (op.offset.tolist(), bias_magnitude(op).tolist(), op.roundings) == ([0.0, -1.5], [8.0, 1.5], 3)


def test_a_batch_normalisation_whose_bias_cancels_keeps_its_size_in_the_convolution() -> None:
    net = Net((1, 2, 2), seed=1)
    v = net.op("Conv", "x", net.constant(np.ones((1, 1, 1, 1))), net.constant([5.0]))
    v = net.op("BatchNormalization", v, *(net.constant([c]) for c in (2.0, 3.0, 6.5, 4.0)), epsilon=0.0)
    op = assert_same_function(net.model(net.op("AveragePool", v, kernel_shape=[1, 1]))).nodes[1].op
    assert isinstance(op, Conv)
    assert (op.bias.tolist(), bias_magnitude(op).tolist(), op.roundings) == ([1.5], [14.5], 6)


def test_an_activation_whose_intercept_is_a_sum_is_not_taken_for_a_grafted_one() -> None:
    net = Net((2,), seed=1)
    affine = net.op("Add", net.op("Mul", "x", net.constant([0.5, 0.0])), net.constant([7.0, 0.0]))
    affine = net.op("Sub", affine, net.constant([7.0, 0.0]))
    v = net.op("Add", affine, net.op("Mul", net.relu("x"), net.constant([0.0, 1.0])))
    graph = assert_same_function(net.model(v))
    assert all(graph.activation(k).linear is None for k in graph.activations())
