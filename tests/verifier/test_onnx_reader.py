"""Every operator that is read means what ONNX Runtime means by it; everything else is refused by the node's name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from nets import Net, graph_of, run_onnx

from harness.domain import UnsupportedNetworkError, UsageError

Build = Callable[[Net], str]

IMAGE = (4, 6, 5)
"""Neither square nor of a size that an operator would leave alone by chance."""

OPERATORS: dict[str, tuple[tuple[int, ...], Build]] = {
    "conv": (IMAGE, lambda n: n.conv("x", 3, 4)),
    "conv stride": (IMAGE, lambda n: n.conv("x", 3, 4, strides=[2, 1])),
    "conv pads": (IMAGE, lambda n: n.conv("x", 3, 4, pads=[2, 0, 1, 3])),
    "conv stride pads": (IMAGE, lambda n: n.conv("x", 3, 4, strides=[3, 2], pads=[0, 1, 2, 1])),
    "conv dilation": (IMAGE, lambda n: n.conv("x", 3, 4, kernel=2, dilations=[3, 2])),
    "conv groups": (IMAGE, lambda n: n.conv("x", 6, 4, group=2)),
    "conv depthwise": (IMAGE, lambda n: n.conv("x", 4, 4, group=4)),
    "conv without bias": (IMAGE, lambda n: n.op("Conv", "x", n.constant(n.weights(3, 4, 2, 3)))),
    "conv valid": (IMAGE, lambda n: n.conv("x", 3, 4, auto_pad="VALID")),
    "pad": (IMAGE, lambda n: n.op("Pad", "x", n.constant([0, 0, 1, 2, 0, 0, 3, 0], np.int64))),
    "pad crops": (IMAGE, lambda n: n.op("Pad", "x", n.constant([0, 0, -1, 0, 0, 0, -2, 1], np.int64))),
    "pad then conv": (
        IMAGE,
        lambda n: n.conv(n.op("Pad", "x", n.constant([0, 0, 0, 2, 0, 0, 1, 0], np.int64)), 3, 4, pads=[1, 1, 0, 0]),
    ),
    "average": (IMAGE, lambda n: n.op("AveragePool", "x", kernel_shape=[2, 3], strides=[2, 1])),
    "average pads": (
        IMAGE,
        lambda n: n.op("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 0, 1, 2], count_include_pad=1),
    ),
    "global average": (IMAGE, lambda n: n.op("GlobalAveragePool", "x")),
    "gemm": ((7,), lambda n: n.linear("x", 3, 7)),
    "gemm plain": (
        (7,),
        lambda n: n.op("Gemm", "x", n.constant(n.weights(7, 3)), n.constant([[1, 2, 3]]), alpha=0.5, beta=-2.0),
    ),
    "gemm scalar bias": ((7,), lambda n: n.op("Gemm", "x", n.constant(n.weights(7, 3)), n.constant(0.75))),
    "gemm without bias": ((7,), lambda n: n.op("Gemm", "x", n.constant(n.weights(7, 3)))),
    "matmul": ((7,), lambda n: n.op("MatMul", "x", n.constant(n.weights(7, 3)))),
    "add": (IMAGE, lambda n: n.op("Add", "x", n.constant(n.weights(4, 1, 5)))),
    "add left": (IMAGE, lambda n: n.op("Add", n.constant(n.weights(1, 4, 6, 1)), "x")),
    "sub": (IMAGE, lambda n: n.op("Sub", "x", n.constant(n.weights(5)))),
    "sub left": (IMAGE, lambda n: n.op("Sub", n.constant(n.weights(6, 1)), "x")),
    "mul": (IMAGE, lambda n: n.op("Mul", "x", n.constant(n.weights(4, 6, 5)))),
    "mul scalar": (IMAGE, lambda n: n.op("Mul", n.constant(-3.0), "x")),
    "div": (IMAGE, lambda n: n.op("Div", "x", n.constant([[[2.0]], [[-3.0]], [[0.5]], [[7.0]]]))),
    "residual": (IMAGE, lambda n: n.op("Add", n.conv("x", 4, 4, pads=[1, 1, 1, 1]), "x")),
    "difference": (IMAGE, lambda n: n.op("Sub", n.conv("x", 4, 4, pads=[1, 1, 1, 1]), "x")),
    "twice itself": (IMAGE, lambda n: n.op("Add", "x", "x")),
    "minus itself": (IMAGE, lambda n: n.op("Sub", n.relu("x"), n.op("Identity", "x"))),
    "relu": (IMAGE, lambda n: n.relu("x")),
    "relu of relu": (IMAGE, lambda n: n.relu(n.relu("x"))),
    "flatten": (IMAGE, lambda n: n.linear(n.op("Flatten", "x"), 3, 120)),
    "flatten axis 0": (IMAGE, lambda n: n.linear(n.op("Flatten", "x", axis=0), 3, 120)),
    "flatten axis -3": (IMAGE, lambda n: n.linear(n.op("Flatten", "x", axis=-3), 3, 120)),
    "reshape": (IMAGE, lambda n: n.conv(n.op("Reshape", "x", n.constant([1, 6, 4, 5], np.int64)), 2, 6)),
    "reshape -1 and 0": (IMAGE, lambda n: n.conv(n.op("Reshape", "x", n.constant([0, -1, 3, 5], np.int64)), 2, 8)),
    "reshape free batch": (IMAGE, lambda n: n.linear(n.op("Reshape", "x", n.constant([-1, 120], np.int64)), 2, 120)),
    "squeeze": (
        (1, 6, 1),
        lambda n: n.linear(n.op("Squeeze", "x", n.constant([1, -1], np.int64)), 2, 6),
    ),
    "unsqueeze": ((6,), lambda n: n.op("Add", n.op("Unsqueeze", "x", n.constant([1, 3], np.int64)), n.constant([1]))),
    "transpose": (IMAGE, lambda n: n.conv(n.op("Transpose", "x", perm=[0, 3, 1, 2]), 2, 5)),
    "identity": (IMAGE, lambda n: n.op("Identity", "x")),
    "dropout": (IMAGE, lambda n: n.relu(n.op("Dropout", "x"))),
    "constant node": (
        (3,),
        lambda n: n.op("Add", "x", n.op("Constant", value=onnx.numpy_helper.from_array(np.ones(3, np.float32)))),
    ),
    "constant subgraph": (
        (3,),
        lambda n: n.op("Add", "x", n.op("Reshape", n.constant([[1], [2], [3]]), n.constant([3], np.int64))),
    ),
}


def sliced(axes: list[int], starts: list[int], ends: list[int], steps: list[int]) -> Build:
    return lambda n: n.op("Slice", "x", *(n.constant(v, np.int64) for v in (starts, ends, axes, steps)))


def ints(net: Net, *values: int) -> str:
    return net.constant(list(values), np.int64)


FAR = 2**63 - 1
OPERATORS |= {
    "conv same": (IMAGE, lambda n: n.conv("x", 3, 4, kernel=2, auto_pad="SAME_UPPER", strides=[2, 1])),
    "conv same below": (IMAGE, lambda n: n.conv("x", 3, 4, kernel=4, auto_pad="SAME_LOWER", strides=[1, 2])),
    "conv of a sequence": (
        (4, 9),
        lambda n: n.op("Conv", "x", n.constant(n.weights(3, 4, 3)), n.constant([1.0, 2, 3]), pads=[2, 1], strides=[2]),
    ),
    "conv of a sequence by groups": (
        (4, 9),
        lambda n: n.op("Conv", "x", n.constant(n.weights(2, 2, 3)), group=2, dilations=[3], pads=[3, 1]),
    ),
    "average of a sequence": ((4, 9), lambda n: n.op("AveragePool", "x", kernel_shape=[3], strides=[2])),
    "average without its pads": (
        IMAGE,
        lambda n: n.op("AveragePool", "x", kernel_shape=[2, 2], pads=[1, 0, 1, 1], strides=[2, 2]),
    ),
    "pad by a number": (IMAGE, lambda n: n.op("Pad", "x", ints(n, 0, 0, 1, 0, 0, 0, 0, 2), n.constant(1.5))),
    "pad channels": (IMAGE, lambda n: n.op("Pad", "x", ints(n, 0, 1, 0, 0, 0, 2, 0, 0))),
    "pad and crop channels": (IMAGE, lambda n: n.op("Pad", "x", ints(n, 0, -1, 0, 1, 0, 2, -3, 0), n.constant(2.0))),
    "pad reflected": (IMAGE, lambda n: n.op("Pad", "x", ints(n, 0, 0, 2, 1, 0, 0, 0, 3), mode="reflect")),
    "pad by the edge": (IMAGE, lambda n: n.op("Pad", "x", ints(n, 0, 0, 2, 1, 0, 1, 0, 3), mode="edge")),
    "pad a vector": ((3,), lambda n: n.op("Pad", "x", ints(n, 0, 1, 0, 2))),
    "gemm of a constant": ((7,), lambda n: n.op("Gemm", n.constant(n.weights(3, 7)), "x", transB=1)),
    "gemm of a constant with bias": (
        (7,),
        lambda n: n.op(
            "Gemm", n.constant(n.weights(7, 3)), "x", n.constant([[1.0], [2], [3]]), transA=1, transB=1, alpha=0.5
        ),
    ),
    "gemm transA": (
        (6,),
        lambda n: n.op(
            "Gemm",
            n.op("Reshape", "x", ints(n, 2, 3)),
            n.constant(n.weights(2, 4)),
            n.constant([[1.0], [2], [3]]),
            transA=1,
            beta=0.25,
        ),
    ),
    "gemm of a matrix and a constant on the left": (
        (6,),
        lambda n: n.op(
            "Gemm", n.constant(n.weights(4, 2)), n.op("Reshape", "x", ints(n, 2, 3)), n.constant(n.weights(3))
        ),
    ),
    "gemm with a value as bias": (
        (4,),
        lambda n: n.op("Gemm", "x", n.constant(n.weights(4, 4)), n.relu("x"), beta=-0.5, alpha=2.0),
    ),
    "matmul of a vector of weights": ((7,), lambda n: n.op("MatMul", "x", n.constant(n.weights(7)))),
    "matmul of rows": ((3, 7), lambda n: n.op("MatMul", "x", n.constant(n.weights(7, 4)))),
    "matmul of an image": (IMAGE, lambda n: n.op("MatMul", "x", n.constant(n.weights(1, 1, 5, 2)))),
    "matmul from the left": ((7, 1), lambda n: n.op("MatMul", n.constant(n.weights(3, 7)), "x")),
    "matmul from the left of columns": ((7, 2), lambda n: n.op("MatMul", n.constant(n.weights(3, 7)), "x")),
    "matmul from the left of an image": (IMAGE, lambda n: n.op("MatMul", n.constant(n.weights(3, 6)), "x")),
    "matmul of a row from the left": (IMAGE, lambda n: n.op("MatMul", n.constant(n.weights(6)), "x")),
    "matmul of a flat value": (
        IMAGE,
        lambda n: n.op("MatMul", n.op("Reshape", "x", ints(n, -1)), n.constant(n.weights(120, 3))),
    ),
    "broadcast of values": (IMAGE, lambda n: n.op("Add", "x", n.op("GlobalAveragePool", "x"))),
    "broadcast of ranks": ((3,), lambda n: n.op("Sub", "x", n.op("Unsqueeze", n.relu("x"), ints(n, 1)))),
    "constant that widens": ((1,), lambda n: n.op("Add", "x", n.constant([1.0, 2.0]))),
    "constant with a batch": ((2,), lambda n: n.op("Mul", "x", n.constant([[1.0, 2.0], [3, 4]]))),
    "zero": (IMAGE, lambda n: n.op("Add", "x", n.op("Sub", "x", "x"))),
    "reshape of the batch": (IMAGE, lambda n: n.op("Reshape", "x", ints(n, 2, 60))),
    "reshape to nothing": ((1,), lambda n: n.op("Add", n.op("Squeeze", "x"), n.constant(1.0))),
    "transpose of the batch": ((2, 3), lambda n: n.op("Transpose", "x", perm=[1, 0, 2])),
    "transpose default": (IMAGE, lambda n: n.op("Transpose", "x")),
    "slice": (IMAGE, sliced([2, 3], [1, -2], [4, FAR], [1, 1])),
    "slice steps": (IMAGE, sliced([1, 2], [0, 1], [4, 6], [2, 3])),
    "slice backwards": (IMAGE, sliced([3, -2], [-1, 4], [-FAR - 1, 0], [-1, -2])),
    "slice beyond": (IMAGE, sliced([1, 2, 3], [-100, 2, 100], [100, 100, -100], [1, 1, -3])),
    "slice of the batch": (IMAGE, sliced([0], [0], [5], [1])),
    "slice without axes": ((7,), lambda n: n.op("Slice", "x", ints(n, 0, 2), ints(n, 1, -1))),
    "split": ((6,), lambda n: n.op("Sub", *split(n, "x", [3, 3], axis=1))),
    "split unevenly": (IMAGE, lambda n: n.op("Concat", *split(n, "x", [1, 3, 2], axis=-2)[::-1], axis=2)),
    "gather": (IMAGE, lambda n: n.op("Gather", "x", n.constant([[3, -1], [0, 0]], np.int64), axis=1)),
    "gather one": (IMAGE, lambda n: n.op("Gather", "x", n.constant(2, np.int64), axis=2)),
    "expand": ((3, 1), lambda n: n.op("Expand", "x", ints(n, 2, 1, 4))),
    "tile": ((3, 2), lambda n: n.op("Tile", "x", ints(n, 1, 2, 3))),
    "depth to space": (IMAGE, lambda n: n.op("DepthToSpace", "x", blocksize=2, mode="CRD")),
    "space to depth": ((3, 4, 6), lambda n: n.op("SpaceToDepth", "x", blocksize=2)),
    "concat": (IMAGE, lambda n: n.op("Concat", "x", n.relu("x"), n.conv("x", 2, 4, 1), axis=1)),
    "concat of columns": (IMAGE, lambda n: n.op("Concat", n.relu("x"), "x", axis=-1)),
    "concat of batches": ((3,), lambda n: n.op("Concat", n.relu("x"), "x", axis=0)),
    "concat with a constant": ((3,), lambda n: n.op("Concat", n.constant([[1.0, 2]]), "x", axis=1)),
    "sum": (IMAGE, lambda n: n.op("Sum", "x", n.relu("x"), n.constant(n.weights(5)), "x")),
    "negative": (IMAGE, lambda n: n.op("Neg", n.relu("x"))),
    "mean of the image": (IMAGE, lambda n: n.op("ReduceMean", "x", axes=[2, 3])),
    "mean of an axis": (IMAGE, lambda n: n.op("ReduceMean", "x", axes=[-2], keepdims=0)),
    "mean of all": (IMAGE, lambda n: n.op("ReduceMean", "x")),
    "sum of axes": (IMAGE, lambda n: n.op("ReduceSum", "x", ints(n, 1, -1), keepdims=0)),
    "clip as relu": (IMAGE, lambda n: n.op("Clip", "x", n.constant(0.0))),
    "clip": (IMAGE, lambda n: n.op("Clip", "x", n.constant(-0.75), n.constant(0.5))),
    "clip above": (IMAGE, lambda n: n.op("Clip", "x", "", n.constant(0.5))),
    "clip to six": (IMAGE, lambda n: n.op("Clip", "x", n.constant(0.0), n.constant(6.0))),
    "clip the wrong way round": (
        IMAGE,
        lambda n: n.op("Add", "x", n.op("Clip", "x", n.constant(1.0), n.constant(0.5))),
    ),
    "leaky": (IMAGE, lambda n: n.op("LeakyRelu", "x", alpha=0.2)),
    "leaky by channel": (IMAGE, lambda n: n.op("PRelu", "x", n.constant([[[0.5]], [[-1]], [[0]], [[2]]]))),
    "sigmoid": (IMAGE, lambda n: n.op("Sigmoid", "x")),
    "tanh": (IMAGE, lambda n: n.op("Tanh", n.op("Mul", "x", n.constant(3.0)))),
    "cast to the same": (IMAGE, lambda n: n.op("Cast", "x", to=onnx.TensorProto.FLOAT)),
    "flatten by shape": (IMAGE, lambda n: n.linear(flattened_as_exported(n, "x"), 3, 120)),
    "shape in parts": (
        IMAGE,
        lambda n: n.op(
            "Reshape",
            "x",
            n.op("Concat", ints(n, -1), n.op("Slice", n.op("Shape", "x"), ints(n, 2), ints(n, 4)), axis=0),
        ),
    ),
}


def split(net: Net, x: str, sizes: list[int], axis: int) -> list[str]:
    """Adds a Split and returns its outputs."""
    first = net.op("Split", x, ints(net, *sizes), axis=axis)
    outputs = [first, *(f"{first}_{k}" for k in range(1, len(sizes)))]
    del net.nodes[-1].output[:]
    net.nodes[-1].output.extend(outputs)
    return outputs


def flattened_as_exported(net: Net, x: str) -> str:
    """x.view(x.size(0), -1) as the older exporters write it."""
    batch = net.op("Gather", net.op("Shape", x), net.constant(0, np.int64), axis=0)
    parts = [net.op("Unsqueeze", batch, ints(net, 0)), net.op("Unsqueeze", net.constant(-1, np.int64), ints(net, 0))]
    return net.op("Reshape", x, net.op("Concat", *parts, axis=0))


def batch_normalization(net: Net, x: str, channels: int) -> str:
    draw = net.random
    values = draw.normal(0, 1, channels), draw.normal(0, 1, channels), draw.normal(0, 1, channels)
    constants = [net.constant(v) for v in (*values, draw.uniform(0.1, 2, channels))]
    return net.op("BatchNormalization", x, *constants, epsilon=0.01)


OPERATORS["batch normalisation"] = (IMAGE, lambda n: batch_normalization(n, "x", 4))
OPERATORS["batch normalisation behind conv"] = (IMAGE, lambda n: batch_normalization(n, n.conv("x", 3, 4), 3))
OPERATORS["batch normalisation of a vector"] = ((5,), lambda n: batch_normalization(n, n.linear("x", 3, 5), 3))


def assert_reads_alike(net: Net, output: str, inputs: int = 12) -> None:
    model = net.model(output)
    x = np.random.default_rng(7).normal(0, 1.5, (inputs, *net.input_shape)).astype(np.float32)
    graph = graph_of(model)
    expected = run_onnx(model, x)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(graph(torch.from_numpy(x).double()).numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_means_what_onnx_runtime_means(name: str) -> None:
    shape, build = OPERATORS[name]
    net = Net(shape, seed=len(name))
    assert_reads_alike(net, build(net))


@pytest.mark.parametrize("name", OPERATORS)
def test_shapes_of_nodes_are_those_of_their_values(name: str) -> None:
    shape, build = OPERATORS[name]
    net = Net(shape)
    graph = graph_of(net.model(build(net)))
    values = graph.values(torch.zeros(2, *shape, dtype=torch.float64))
    assert [tuple(v.shape[1:]) for v in values] == [node.shape for node in graph.nodes]


def test_axes_of_older_versions_are_attributes() -> None:
    net = Net((1, 4), opset=11)
    row = net.op("Unsqueeze", net.constant([1.0, 2.0, 3.0, 4.0]), axes=[0])
    v = net.op("Squeeze", net.op("Add", "x", row), axes=[1])
    assert_reads_alike(net, net.op("Unsqueeze", v, axes=[2]))


def test_bounds_of_older_clips_and_slices_are_attributes() -> None:
    net = Net((2, 5), opset=9)
    v = net.op("Slice", "x", axes=[2, 1], starts=[-4, 0], ends=[100, 1])
    assert_reads_alike(net, net.op("Clip", v, min=-0.5, max=0.75))


def test_parts_of_newer_splits_and_means_are_operands() -> None:
    net = Net((2, 6), opset=18)
    first = net.op("Split", "x", axis=2, num_outputs=2)
    net.nodes[-1].output.append("second")
    mean = net.op("ReduceMean", "second", ints(net, 1), keepdims=1)
    padded = net.op("Pad", net.op("Add", first, mean), ints(net, 1, -1), "", ints(net, -1))
    assert_reads_alike(net, padded)


def test_a_free_batch_dimension_is_one() -> None:
    net = Net((3,))
    net.batch = "batch"
    assert_reads_alike(net, net.linear("x", 2, 3))


def test_a_double_network_keeps_its_digits() -> None:
    net = Net((1,), dtype=np.float64)
    model = net.model(net.op("Mul", "x", net.constant([1 + 1e-12])))
    assert float(graph_of(model)(torch.ones(1, 1, dtype=torch.float64))) == 1 + 1e-12


def test_an_initializer_may_be_listed_as_an_input() -> None:
    net = Net((3,))
    model = onnx.load_model_from_string(net.model(net.linear("x", 2, 3)))
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    assert graph_of(model.SerializeToString()).output_shape == (2,)


UNSUPPORTED: dict[str, tuple[tuple[int, ...], Build]] = {
    "unknown operator": (IMAGE, lambda n: n.op("Erf", "x", name="culprit")),
    "maximum": (IMAGE, lambda n: n.op("MaxPool", "x", name="culprit", kernel_shape=[2, 2])),
    "absolute value": (IMAGE, lambda n: n.op("Abs", "x", name="culprit")),
    "conv same that leaps": (
        IMAGE,
        lambda n: n.op(
            "Conv", "x", n.constant(n.weights(2, 4, 1, 1)), name="culprit", auto_pad="SAME_UPPER", strides=[4, 1]
        ),
    ),
    "weights computed": ((4,), lambda n: n.op("MatMul", "x", n.relu("x"), name="culprit")),
    "weights that are no matrix": ((4,), lambda n: n.op("MatMul", "x", n.constant(n.weights(2, 4, 3)), name="culprit")),
    "product of values": ((4,), lambda n: n.op("Mul", "x", n.relu("x"), name="culprit")),
    "division by a value": ((4,), lambda n: n.op("Div", n.constant(1.0), "x", name="culprit")),
    "division by zero": ((2,), lambda n: n.op("Div", "x", n.constant([1.0, 0.0]), name="culprit")),
    "pad mode": (
        IMAGE,
        lambda n: n.op("Pad", "x", n.constant([0, 0, 1, 0, 0, 0, 0, 0], np.int64), name="culprit", mode="wrap"),
    ),
    "average ceil": (IMAGE, lambda n: n.op("AveragePool", "x", name="culprit", kernel_shape=[4, 4], ceil_mode=1)),
    "indices computed": ((3,), lambda n: n.op("Gather", n.constant([1.0, 2.0]), "x", name="culprit")),
    "a cast that rounds": ((3,), lambda n: n.op("Cast", "x", name="culprit", to=onnx.TensorProto.FLOAT16)),
    "conv of a volume": (
        (1, 3, 3, 3),
        lambda n: n.op("Conv", "x", n.constant(n.weights(1, 1, 2, 2, 2)), name="culprit"),
    ),
    "conv of a batch": (
        (6,),
        lambda n: n.op(
            "Conv",
            n.op("Reshape", "x", n.constant([2, 1, 3, 1], np.int64)),
            n.constant(n.weights(1, 1, 1, 1)),
            name="culprit",
        ),
    ),
    "products of constants": (
        (2,),
        lambda n: n.op(
            "Add", "x", n.op("MatMul", n.constant([[1.0, 2.0]]), n.constant([[1.0], [2.0]]), name="culprit")
        ),
    ),
    "dropout in training": (
        (3,),
        lambda n: n.op("Dropout", "x", n.constant(0.5), n.constant(True, bool), name="culprit"),
    ),
}
MALFORMED: dict[str, tuple[tuple[int, ...], Build]] = {
    "conv channels": (IMAGE, lambda n: n.op("Conv", "x", n.constant(n.weights(2, 3, 3, 3)), name="culprit")),
    "conv too large": (IMAGE, lambda n: n.op("Conv", "x", n.constant(n.weights(2, 4, 9, 9)), name="culprit")),
    "conv of a vector": ((4,), lambda n: n.op("Conv", "x", n.constant(n.weights(2, 4, 3)), name="culprit")),
    "conv no stride": (
        IMAGE,
        lambda n: n.op("Conv", "x", n.constant(n.weights(2, 4, 3, 3)), name="culprit", strides=[0, 1]),
    ),
    "conv huge pads": (
        IMAGE,
        lambda n: n.op("Conv", "x", n.constant(n.weights(2, 4, 3, 3)), name="culprit", pads=[2**40, 0, 2**40, 0]),
    ),
    "conv of three pads": (
        IMAGE,
        lambda n: n.op("Conv", "x", n.constant(n.weights(2, 4, 3, 3)), name="culprit", pads=[1, 1, 1]),
    ),
    "conv no group": (
        IMAGE,
        lambda n: n.op("Conv", "x", n.constant(n.weights(2, 4, 3, 3)), name="culprit", group=0),
    ),
    "weights on the left": ((4,), lambda n: n.op("MatMul", n.constant(n.weights(1, 3)), "x", name="culprit")),
    "gemm transA": ((2,), lambda n: n.op("Gemm", "x", n.constant([[1.0], [2.0]]), name="culprit", transA=1)),
    "gemm size": ((4,), lambda n: n.op("Gemm", "x", n.constant(n.weights(5, 2)), name="culprit")),
    "gemm bias": (
        (4,),
        lambda n: n.op("Gemm", "x", n.constant(n.weights(4, 2)), n.constant([1.0, 2, 3]), name="culprit"),
    ),
    "broadcast of values": (
        (4, 2),
        lambda n: n.op("Add", "x", n.op("Transpose", "x", perm=[0, 2, 1]), name="culprit"),
    ),
    "constant that does not fit": ((3,), lambda n: n.op("Add", "x", n.constant([1.0, 2.0]), name="culprit")),
    "constant that is huge": (
        (1,),
        lambda n: n.op("Add", "x", n.op("ConstantOfShape", n.constant([2**40], np.int64), name="culprit")),
    ),
    "a range that is huge": (
        (1,),
        lambda n: n.op("Add", "x", n.op("Range", n.constant(0.0), n.constant(1e30), n.constant(1e-30), name="culprit")),
    ),
    "an expansion that is huge": (
        (4,),
        lambda n: n.op("Expand", "x", n.constant([2**20, 2**20, 4], np.int64), name="culprit"),
    ),
    "a tile that is huge": ((4,), lambda n: n.op("Tile", "x", n.constant([2**30, 2**30], np.int64), name="culprit")),
    "nan": ((2,), lambda n: n.op("Add", "x", n.constant([np.nan, 1]), name="culprit")),
    "infinity": ((2,), lambda n: n.op("Gemm", "x", n.constant([[np.inf, 1], [0, 1]]), name="culprit")),
    "negative variance": (
        (1,),
        lambda n: n.op("BatchNormalization", "x", *(n.constant([v]) for v in (1.0, 0, 0, -1)), name="culprit"),
    ),
    "pad that cuts all": (
        IMAGE,
        lambda n: n.op("Pad", "x", ints(n, 0, 0, -7, 0, 0, 0, 9, 0), name="culprit"),
    ),
    "reshape of text": ((4,), lambda n: n.op("Reshape", "x", n.constant([0.5, 8.0]), name="culprit")),
    "reshape size": (IMAGE, lambda n: n.op("Reshape", "x", n.constant([1, 7, -1], np.int64), name="culprit")),
    "squeeze of a side": (IMAGE, lambda n: n.op("Squeeze", "x", n.constant([1], np.int64), name="culprit")),
    "concat sizes": (
        (2, 3),
        lambda n: n.op("Concat", "x", n.op("Transpose", "x", perm=[0, 2, 1]), name="culprit", axis=1),
    ),
    "concat axis": ((2,), lambda n: n.op("Concat", "x", "x", name="culprit", axis=2)),
    "gather beyond": ((2,), lambda n: n.op("Gather", "x", n.constant([5], np.int64), name="culprit", axis=1)),
    "nothing left": (
        (2,),
        lambda n: n.op("Slice", "x", *(n.constant([v], np.int64) for v in (1, 1, 1)), name="culprit"),
    ),
    "clip to nothing": ((2,), lambda n: n.op("Clip", "x", n.constant(np.nan), name="culprit")),
    "undefined operand": ((3,), lambda n: n.op("Add", "x", "nowhere", name="culprit")),
    "no weights": ((3,), lambda n: n.op("MatMul", "x", name="culprit")),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_known_is_refused_by_name(name: str) -> None:
    shape, build = UNSUPPORTED[name]
    net = Net(shape)
    with pytest.raises(UnsupportedNetworkError, match=r"^net\.onnx, node 'culprit' \(\w+\): \S") as raised:
        graph_of(net.model(build(net)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", MALFORMED)
def test_what_nobody_could_use_is_bad_input_with_the_nodes_name(name: str) -> None:
    shape, build = MALFORMED[name]
    net = Net(shape)
    with pytest.raises(UsageError, match=r"^net\.onnx, node 'culprit' \(\w+\): \S") as raised:
        graph_of(net.model(build(net)))
    assert "\n" not in str(raised.value)


def test_an_operator_that_is_not_known_is_found_before_any_constant_is_read() -> None:
    net = Net((2,))
    v = net.op("Add", "x", net.constant([np.nan, 1]))
    with pytest.raises(UnsupportedNetworkError, match="operator Erf"):
        graph_of(net.model(net.op("Erf", v)))


def test_what_the_output_does_not_need_is_not_read() -> None:
    net = Net((2,))
    net.op("Erf", net.op("Add", "x", net.constant([np.nan, 1])))
    assert_reads_alike(net, net.relu("x"))


@pytest.mark.parametrize(("opset", "kind"), [(6, "6"), (99, "99")])
def test_other_versions_of_the_operators_are_refused(opset: int, kind: str) -> None:
    net = Net((2,), opset=opset)
    with pytest.raises(UnsupportedNetworkError, match=f"version {kind}"):
        graph_of(net.model(net.relu("x")))


def test_products_of_constants_that_overflow_are_bad_input() -> None:
    net = Net((1,), dtype=np.float64)
    v = net.op("Mul", net.op("Mul", "x", net.constant([1e308])), net.constant([1e3]))
    with pytest.raises(UsageError, match="not finite"):
        graph_of(net.model(v))


def test_a_network_of_another_type_is_refused() -> None:
    net = Net((2,))
    model = onnx.load_model_from_string(net.model(net.relu("x")))
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    with pytest.raises(UnsupportedNetworkError, match="'x' is of type FLOAT16"):
        graph_of(model.SerializeToString())


def test_weights_in_another_file_are_bad_input() -> None:
    net = Net((3,))
    model = onnx.load_model_from_string(net.model(net.linear("x", 2, 3)))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    with pytest.raises(UsageError, match="'c0' are in another file"):
        graph_of(model.SerializeToString())


def test_an_operator_of_another_domain_is_not_taken_for_the_standard_one() -> None:
    net = Net((3,))
    output = net.relu("x", "culprit")
    net.nodes[-1].domain = "com.example"
    with pytest.raises(UnsupportedNetworkError, match=r"culprit.*com\.example"):
        graph_of(net.model(output))


def test_batch_normalization_in_training_is_refused() -> None:
    net = Net(IMAGE, opset=15)
    output = batch_normalization(net, "x", 4)
    net.nodes[-1].attribute.append(onnx.helper.make_attribute("training_mode", 1))
    with pytest.raises(UnsupportedNetworkError, match="training mode"):
        graph_of(net.model(output))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(share: float) -> None:
    net = Net((3,))
    model = net.model(net.linear("x", 2, 3))
    with pytest.raises(UsageError, match=r"^net\.onnx"):
        graph_of(model[: int(share * len(model))])


def test_weights_that_are_cut_short_are_refused_by_name() -> None:
    net = Net((3,))
    output = net.linear("x", 2, 3)
    net.constants[0].raw_data = net.constants[0].raw_data[:-4]
    with pytest.raises(UsageError, match="'c0'"):
        graph_of(net.model(output))


@pytest.mark.parametrize("shape", [[], [1, 0], [1, "free"], ["batch", "free"], [1, -1]])
def test_an_input_with_a_free_dimension_behind_the_batch_is_bad_input(shape: list[int | str]) -> None:
    net = Net((3,))
    model = onnx.load_model_from_string(net.model(net.relu("x")))
    del model.graph.input[:]
    model.graph.input.append(onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape))
    with pytest.raises(UsageError, match="'x' has shape"):
        graph_of(model.SerializeToString())


def test_two_inputs_or_outputs_are_refused() -> None:
    net = Net((3,))
    model = onnx.load_model_from_string(net.model(net.relu("x")))
    model.graph.output.append(model.graph.output[0])
    with pytest.raises(UnsupportedNetworkError, match="1 inputs and 2 outputs"):
        graph_of(model.SerializeToString())


def test_an_output_that_is_a_constant_is_refused() -> None:
    net = Net((3,))
    with pytest.raises(UnsupportedNetworkError, match="does not depend on the input"):
        graph_of(net.model(net.op("Add", net.constant([1.0]), net.constant([2.0]))))
