"""Every operator that is read means what ONNX Runtime means by it; everything else is refused by the node's name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from nets import Net, graph_of, run_onnx

from harness.domain import UnsupportedNetworkError

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


REFUSED: dict[str, tuple[tuple[int, ...], Build]] = {
    "unknown operator": (IMAGE, lambda n: n.op("Sigmoid", "x", name="culprit")),
    "maximum": (IMAGE, lambda n: n.op("MaxPool", "x", name="culprit", kernel_shape=[2, 2])),
    "conv auto_pad": (
        IMAGE,
        lambda n: n.op("Conv", "x", n.constant(n.weights(2, 4, 3, 3)), name="culprit", auto_pad="SAME_UPPER"),
    ),
    "conv channels": (IMAGE, lambda n: n.op("Conv", "x", n.constant(n.weights(2, 3, 3, 3)), name="culprit")),
    "conv too large": (IMAGE, lambda n: n.op("Conv", "x", n.constant(n.weights(2, 4, 9, 9)), name="culprit")),
    "conv of a vector": ((4,), lambda n: n.op("Conv", "x", n.constant(n.weights(2, 4, 3)), name="culprit")),
    "weights computed": ((4,), lambda n: n.op("MatMul", "x", n.relu("x"), name="culprit")),
    "weights on the left": ((4,), lambda n: n.op("MatMul", n.constant(n.weights(1, 1)), "x", name="culprit")),
    "gemm transA": ((1,), lambda n: n.op("Gemm", "x", n.constant([[1.0]]), name="culprit", transA=1)),
    "gemm size": ((4,), lambda n: n.op("Gemm", "x", n.constant(n.weights(5, 2)), name="culprit")),
    "product of values": ((4,), lambda n: n.op("Mul", "x", n.relu("x"), name="culprit")),
    "division by a value": ((4,), lambda n: n.op("Div", n.constant(1.0), "x", name="culprit")),
    "division by zero": ((2,), lambda n: n.op("Div", "x", n.constant([1.0, 0.0]), name="culprit")),
    "broadcast of values": (
        IMAGE,
        lambda n: n.op("Add", "x", n.op("GlobalAveragePool", "x"), name="culprit"),
    ),
    "constant that widens": ((1,), lambda n: n.op("Add", "x", n.constant([1.0, 2.0]), name="culprit")),
    "constant with a batch": ((2,), lambda n: n.op("Add", "x", n.constant([[1.0, 2.0], [3, 4]]), name="culprit")),
    "nan": ((2,), lambda n: n.op("Add", "x", n.constant([np.nan, 1]), name="culprit")),
    "infinity": ((2,), lambda n: n.op("Gemm", "x", n.constant([[np.inf, 1], [0, 1]]), name="culprit")),
    "pad value": (IMAGE, lambda n: n.op("Pad", "x", n.constant([0] * 8, np.int64), n.constant(1.0), name="culprit")),
    "pad mode": (
        IMAGE,
        lambda n: n.op("Pad", "x", n.constant([0, 0, 1, 0, 0, 0, 0, 0], np.int64), name="culprit", mode="reflect"),
    ),
    "pad channels": (IMAGE, lambda n: n.op("Pad", "x", n.constant([0, 1, 0, 0, 0, 0, 0, 0], np.int64), name="culprit")),
    "pad axes": (
        IMAGE,
        lambda n: n.op(
            "Pad",
            "x",
            n.constant([0, 0, 1, 0, 0, 0, 0, 0], np.int64),
            "",
            n.constant([0, 1, 3, 2], np.int64),
            name="culprit",
        ),
    ),
    "average ceil": (IMAGE, lambda n: n.op("AveragePool", "x", name="culprit", kernel_shape=[4, 4], ceil_mode=1)),
    "average dilated": (
        IMAGE,
        lambda n: n.op("AveragePool", "x", name="culprit", kernel_shape=[2, 2], dilations=[2, 2]),
    ),
    "average without its pads": (
        IMAGE,
        lambda n: n.op("AveragePool", "x", name="culprit", kernel_shape=[2, 2], pads=[1, 1, 1, 1]),
    ),
    "reshape of the batch": (IMAGE, lambda n: n.op("Reshape", "x", n.constant([2, 60], np.int64), name="culprit")),
    "reshape size": (IMAGE, lambda n: n.op("Reshape", "x", n.constant([1, 7, -1], np.int64), name="culprit")),
    "transpose of the batch": ((2, 3), lambda n: n.op("Transpose", "x", name="culprit", perm=[1, 0, 2])),
    "transpose default": ((3,), lambda n: n.op("Transpose", "x", name="culprit")),
    "dropout in training": (
        (3,),
        lambda n: n.op("Dropout", "x", n.constant(0.5), n.constant(True, bool), name="culprit"),
    ),
    "undefined operand": ((3,), lambda n: n.op("Add", "x", "nowhere", name="culprit")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_by_name(name: str) -> None:
    shape, build = REFUSED[name]
    net = Net(shape, opset=19 if name in ("pad axes", "average dilated") else 13)
    with pytest.raises(UnsupportedNetworkError, match=r"^net\.onnx, node 'culprit' \(\w+\): \S"):
        graph_of(net.model(build(net)))


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
    with pytest.raises(UnsupportedNetworkError, match=r"^net\.onnx"):
        graph_of(model[: int(share * len(model))])


def test_weights_that_are_cut_short_are_refused_by_name() -> None:
    net = Net((3,))
    output = net.linear("x", 2, 3)
    net.constants[0].raw_data = net.constants[0].raw_data[:-4]
    with pytest.raises(UnsupportedNetworkError, match="'c0'"):
        graph_of(net.model(output))


@pytest.mark.parametrize("shape", [[2, 3], [1], [], [1, 0], [1, "free"]])
def test_an_input_without_fixed_dimensions_behind_a_batch_of_one_is_refused(shape: list[int | str]) -> None:
    net = Net((3,))
    model = onnx.load_model_from_string(net.model(net.relu("x")))
    del model.graph.input[:]
    model.graph.input.append(onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape))
    with pytest.raises(UnsupportedNetworkError, match="'x' has shape"):
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
