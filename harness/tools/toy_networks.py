"""Networks small enough to know the answer by thinking, as ONNX models, and properties of them as VNN-LIB 1.0."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Interval = tuple[float, float]

TWIN_INPUTS = 12
"""Inputs of `twins`."""
CONVOLUTION_MAX = 6.0
"""A bound that the first output of `convolution` does not exceed on images in [0, 1]."""
CORNER_MAX = 6.0
"""Greatest first output of `corner` on [0, 1]^12, taken in one corner."""


def absolute_sum() -> bytes:
    """Returns a network of 2 inputs whose first output is |x_0| + |x_1|, and whose second is x_0."""
    first = [[1, 0], [-1, 0], [0, 1], [0, -1]]
    second = [[1, 1, 1, 1], [1, -1, 0, 0]]
    return _dense([1, 2], [(first, [0] * 4), (second, [0, 0])])


def grafted() -> bytes:
    """Returns a network of 2 inputs with linear neurons, written as grafted networks are: a x + b + c relu(x).

    Its first output is relu(x_0 + x_1) / 2 + (x_0 - x_1) / 4 + 1/4, at most 1.25 on [-1, 1]^2.
    """
    arrays = {
        "w1": _array([[1, 1], [1, -1]]),
        "b1": _array([0, 0]),
        "slope": _array([0, 0.5]),
        "intercept": _array([0, 0.5]),
        "keep": _array([1, 0]),
        "w2": _array([[0.5, 0.5], [0, 1]]),
        "b2": _array([0, 0]),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], transB=1, name="fc1"),
        helper.make_node("Relu", ["h"], ["r"], name="relu1"),
        helper.make_node("Mul", ["h", "slope"], ["s"], name="slope1"),
        helper.make_node("Add", ["s", "intercept"], ["l"], name="intercept1"),
        helper.make_node("Mul", ["r", "keep"], ["k"], name="keep1"),
        helper.make_node("Add", ["l", "k"], ["g"], name="graft1"),
        helper.make_node("Gemm", ["g", "w2", "b2"], ["y"], transB=1, name="fc2"),
    ]
    return _model(nodes, arrays, [1, 2], [1, 2])


def convolution() -> bytes:
    """Returns a network of a 4x4 image: a 3x3 convolution with stride 2 and pads, a ReLU, a dense layer.

    Each of the first channel's four neurons is at most 3 (three weights of 1 on values of at most 1), each of the
    second's at least 0; the first output is half the sum of the first channel minus the sum of the second.
    """
    kernel = np.zeros((2, 1, 3, 3), np.float32)
    kernel[0, 0, 1, :] = 1
    kernel[1, 0, :, 1] = (1, -2, 1)
    read_out = np.zeros((2, 8), np.float32)
    read_out[0, :4], read_out[0, 4:] = 0.5, -1
    read_out[1, 0] = 1
    arrays = {"k": kernel, "kb": _array([0, 0.25]), "w": read_out, "b": _array([0, 0])}
    nodes = [
        helper.make_node(
            "Conv", ["x", "k", "kb"], ["c"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], name="conv1"
        ),
        helper.make_node("Relu", ["c"], ["r"], name="relu1"),
        helper.make_node("Flatten", ["r"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1, name="fc1"),
    ]
    return _model(nodes, arrays, [1, 1, 4, 4], [1, 2])


def twins() -> bytes:
    """Returns a network whose first output is the difference of two equal functions, so 0 but for rounding.

    The two are one random network of three layers, its neurons in another order: bounds that do not see that they are
    the same need a great many branches to say so.
    """
    rng = np.random.default_rng(7)
    sizes = [TWIN_INPUTS, 40, 40, 1]
    layers: list[tuple[NDArray[Any], NDArray[Any]]] = []
    order = [np.arange(size) for size in sizes]
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        weight, bias = rng.normal(0, 2 / np.sqrt(inputs), (outputs, inputs)), rng.normal(0, 0.5, outputs)
        other = rng.permutation(outputs)
        moved = weight[other][:, order[i]], bias[other]
        order[i + 1] = other
        if i == 0:
            layers.append((np.vstack([weight, moved[0]]), np.concatenate([bias, moved[1]])))
        elif i + 2 == len(sizes):
            layers.append((np.vstack([np.hstack([weight, -moved[0]]), np.hstack([weight, moved[0]])]), np.zeros(2)))
        else:
            zero = np.zeros_like(weight)
            layers.append((np.block([[weight, zero], [zero, moved[0]]]), np.concatenate([bias, moved[1]])))
    return _dense([1, TWIN_INPUTS], layers)


def corner() -> bytes:
    """Returns a network of a 2x2x3 input whose first output is greatest in one corner of [0, 1]^12 alone.

    It is the sum of half the inputs minus the sum of the others, which are at places that no transposition of the axes
    leaves where they are.
    """
    signs = np.array([1, 1, -1, -1, -1, -1, 1, -1, 1, 1, -1, 1], np.float32)
    arrays = {
        "w1": np.vstack([signs, -signs]),
        "b1": _array([0, 0]),
        "w2": _array([[1, -1], [0, 1]]),
        "b2": _array([0, 0]),
    }
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w1", "b1"], ["h"], transB=1, name="fc1"),
        helper.make_node("Relu", ["h"], ["r"], name="relu1"),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"], transB=1, name="fc2"),
    ]
    return _model(nodes, arrays, [1, 2, 2, 3], [1, 2])


def box(intervals: Sequence[Interval]) -> list[str]:
    """Returns the constraints that put each input into its interval."""
    return [
        f"({sign} X_{i} {value})"
        for i, (low, high) in enumerate(intervals)
        for sign, value in ((">=", low), ("<=", high))
    ]


def at_least(value: float) -> str:
    """Returns the constraint that the first output is at least `value`."""
    return f"(>= Y_0 {value})"


def prop(inputs: int, outputs: int, parts: Sequence[tuple[Sequence[str], str]]) -> str:
    """Returns a property as VNN-LIB 1.0: some input in a box gives an output that its constraint holds of.

    Args:
        inputs: number of inputs.
        outputs: number of outputs.
        parts: box and output constraint; with one part the box stands outside of the disjunction, as is usual.
    """
    lines = [f"(declare-const X_{i} Real)" for i in range(inputs)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(outputs)]
    if len(parts) == 1:
        lines += [f"(assert {bound})" for bound in parts[0][0]]
        parts = [((), parts[0][1])]
    lines.append("(assert (or")
    lines += [f"    (and {' '.join([*bounds, constraint])})" for bounds, constraint in parts]
    return "\n".join([*lines, "))"]) + "\n"


def _array(values: Any) -> NDArray[Any]:
    return np.array(values, np.float32)


def _dense(shape: list[int], layers: Sequence[tuple[Any, Any]]) -> bytes:
    arrays, nodes, value = {}, [], "x"
    for i, (weight, bias) in enumerate(layers, 1):
        arrays[f"w{i}"], arrays[f"b{i}"] = _array(weight), _array(bias)
        last = i == len(layers)
        nodes.append(
            helper.make_node("Gemm", [value, f"w{i}", f"b{i}"], ["y" if last else f"h{i}"], transB=1, name=f"fc{i}")
        )
        if not last:
            value = f"r{i}"
            nodes.append(helper.make_node("Relu", [f"h{i}"], [value], name=f"relu{i}"))
    return _model(nodes, arrays, shape, [1, len(layers[-1][1])])


def _model(
    nodes: Sequence[onnx.NodeProto], arrays: dict[str, NDArray[Any]], inputs: list[int], outputs: list[int]
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, outputs)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
