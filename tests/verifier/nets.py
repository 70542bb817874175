"""Small ONNX networks made by hand, and what the tests of the engine do with them again and again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from harness.domain import InputBox, Limits, OutputPolytope, Property, PropertyCase, ToolAnswer
from harness.verifier.config import EngineConfig
from harness.verifier.engine import Engine
from harness.verifier.graph import Graph
from harness.verifier.interval import Box
from harness.verifier.onnx_reader import read_graph

Array = NDArray[np.floating[Any]]
PATIENT = Limits(60.0, "work")


class Net:
    """An ONNX model in the making; values are known by name, the input is `x`.

    Args:
        input_shape: without the batch dimension.
        seed: seeds the random weights.
    """

    def __init__(self, input_shape: Sequence[int], seed: int = 0, opset: int = 13, dtype: type = np.float32) -> None:
        self.input_shape, self.opset, self.dtype = tuple(input_shape), opset, dtype
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.batch: int | str = 1

    def constant(self, values: Any, dtype: type | None = None) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype or self.dtype), name))
        return name

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name or f"{kind}_{output}", **attributes))
        return output

    def weights(self, *shape: int) -> Array:
        """Returns random weights, scaled so that values neither die nor explode."""
        fan_in = max(1, int(np.prod(shape[1:])))
        drawn: Array = self.random.normal(0, 1.4 / np.sqrt(fan_in), shape).astype(self.dtype)
        return drawn

    def linear(self, x: str, outputs: int, inputs: int) -> str:
        weight, bias = self.weights(outputs, inputs), self.random.normal(0, 0.3, outputs)
        return self.op("Gemm", x, self.constant(weight), self.constant(bias), transB=1)

    def conv(self, x: str, outputs: int, inputs: int, kernel: int = 3, **attributes: Any) -> str:
        weight = self.constant(self.weights(outputs, inputs // attributes.get("group", 1), kernel, kernel))
        return self.op("Conv", x, weight, self.constant(self.random.normal(0, 0.3, outputs)), **attributes)

    def relu(self, x: str, name: str = "") -> str:
        return self.op("Relu", x, name=name)

    def grafted(self, x: str, mask: ArrayLike, slope: ArrayLike, intercept: ArrayLike, name: str = "") -> str:
        """Adds an activation as the exporter writes it: (A x + B) + C relu(x)."""
        linear = np.asarray(mask, bool)
        A = self.constant(np.where(linear, slope, 0))
        B, C = self.constant(np.where(linear, intercept, 0)), self.constant(~linear)
        affine = self.op("Add", self.op("Mul", A, x), B)
        return self.op("Add", affine, self.op("Mul", C, self.relu(x, name)))

    def random_graft(self, x: str, shape: Sequence[int], share: float = 0.5, name: str = "") -> str:
        """Grafts a share of the neurons with slopes and intercepts of either sign."""
        draw = self.random
        return self.grafted(x, draw.random(shape) < share, draw.normal(0, 0.7, shape), draw.normal(0, 0.3, shape), name)

    def model(self, output: str) -> bytes:
        kind = TensorProto.FLOAT if self.dtype is np.float32 else TensorProto.DOUBLE
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", kind, [self.batch, *self.input_shape])],
            [helper.make_tensor_value_info(output, kind, None)],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        return bytes(model.SerializeToString())


def fully_connected(layers: Sequence[tuple[ArrayLike, ArrayLike]], dtype: type = np.float32) -> bytes:
    """Returns the model of layers (W, b) with ReLUs between them; input `(1, inputs)`."""
    net = Net((np.asarray(layers[0][0]).shape[1],), dtype=dtype)
    x = "x"
    for k, (weight, bias) in enumerate(layers):
        x = net.relu(x, f"relu{k}") if k else x
        x = net.op("Gemm", x, net.constant(weight), net.constant(bias), transB=1)
    return net.model(x)


def run_onnx(model: bytes, x: Array) -> Array:
    """Returns ONNX Runtime's outputs for a batch of inputs `(batch, *input_shape)`, one at a time, flattened."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.stack([session.run(None, {"x": one[None]})[0].ravel() for one in x])


def graph_of(model: bytes) -> Graph:
    return read_graph(model, "net.onnx")


def box_around(graph: Graph, count: int, radius: float, seed: int = 0) -> Box:
    """Returns boxes of one radius around points of the unit cube."""
    random = np.random.default_rng(seed)
    centre = torch.from_numpy(random.random((count, *graph.input_shape)))
    return Box(centre - radius, centre + radius)


def samples(box: Box, count: int, seed: int = 0) -> torch.Tensor:
    """Returns points of the boxes, `(count * batch, *input_shape)`, crowding towards corners; all vertices' kind first.

    Point k belongs to box k modulo the batch.
    """
    random = np.random.default_rng(seed)
    shape = (count, *box.lower.shape)
    share = np.where(
        random.random((count, 1, *([1] * (box.lower.dim() - 1)))) < 0.5,
        random.integers(0, 2, shape).astype(float),
        random.beta(0.5, 0.5, shape),
    )
    points = box.lower + (box.upper - box.lower) * torch.from_numpy(share)
    return torch.minimum(torch.maximum(points, box.lower), box.upper).flatten(0, 1)


def region(rows: ArrayLike, rhs: ArrayLike, strict: bool = False) -> OutputPolytope:
    """Returns the outputs with `rows y <= rhs`."""
    matrix = np.atleast_2d(np.asarray(rows, np.float64))
    right = np.atleast_1d(np.asarray(rhs, np.float64))
    return OutputPolytope(matrix, right, np.full(len(right), strict))


def property_of(lower: ArrayLike, upper: ArrayLike, *regions: OutputPolytope, outputs: int | None = None) -> Property:
    """Returns the property of one box."""
    box = InputBox(np.asarray(lower, np.float64).ravel(), np.asarray(upper, np.float64).ravel())
    count = regions[0].coefficients.shape[1] if outputs is None else outputs
    return Property((PropertyCase(box, regions),), box.size, count)


NEURONS = EngineConfig(split_inputs_up_to=0)
"""Splits neurons even where the network has few inputs, as most tests' networks have."""
INPUTS = EngineConfig()
"""Splits the input box where the network has few inputs."""


def decide_all(
    model: bytes, properties: Mapping[str, Property], limits: Limits = PATIENT, config: EngineConfig | None = None
) -> dict[str, ToolAnswer]:
    """Returns the engine's answers; fails if a key is answered twice or not at all."""
    answers: dict[str, ToolAnswer] = {}

    def emit(key: str, answer: ToolAnswer) -> None:
        assert key not in answers, f"{key} was answered twice"
        answers[key] = answer

    Engine(model, "net.onnx", config or NEURONS).decide(properties, limits, emit)
    assert set(answers) == set(properties)
    return answers


def decide(model: bytes, prop: Property, limits: Limits = PATIENT, config: EngineConfig | None = None) -> ToolAnswer:
    """Returns the engine's answer on one property."""
    return decide_all(model, {"only": prop}, limits, config)["only"]
