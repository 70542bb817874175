"""A reader of ONNX of its own, for PyTorch: what the references are fed with shares no line with the engine's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

SLIDING = ("Conv", "Pad", "AveragePool")
"""Operators that are computed as convolutions."""


class OnnxModule(nn.Module):
    """Computes an ONNX network of the operators that the tests' networks use, in float64, by PyTorch's functions.

    auto_LiRPA reads the module. It knows no unequal or negative pads, mixes up the dilations of a kernel, does not pass
    an average pool back, and gets divisions and broadcast constants wrong; zeros in kernels, and constants of the
    value's own shape that are inverse where they divide, say the same in a form that it knows.

    Args:
        model_bytes: the model; its input is called `x` and has a batch dimension.

    Raises:
        NotImplementedError: an operator, or a use of it, that is not written here.
    """

    def __init__(self, model_bytes: bytes) -> None:
        super().__init__()
        model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model_bytes))
        self.graph = model.graph
        self.raw = {t.name: numpy_helper.to_array(t).copy() for t in self.graph.initializer}
        statistics = {name for n in self.graph.node if n.op_type == "BatchNormalization" for name in n.input[3:5]}
        for name, value in self.raw.items():
            if name in statistics:
                self.register_buffer(name, torch.from_numpy(value).double())
            elif value.dtype.kind == "f":
                self._hold(name, torch.from_numpy(value).double())
        shapes = {
            v.name: [d.dim_value for d in v.type.tensor_type.shape.dim[1:]]
            for v in (*self.graph.input, *self.graph.value_info, *self.graph.output)
        }
        self._expand_constants(shapes)
        for node in self.graph.node:
            if node.op_type in SLIDING:
                self._hold(f"kernel_{node.output[0]}", self._kernel(node, shapes[node.input[0]][0]))

    def _hold(self, name: str, value: Tensor) -> None:
        self.register_parameter(name, nn.Parameter(value, requires_grad=False))

    def _expand_constants(self, shapes: Mapping[str, Sequence[int]]) -> None:
        for node in self.graph.node:
            if node.op_type in ("Add", "Sub", "Mul", "Div"):
                for name in set(node.input) & set(self.raw):
                    value = self.get_parameter(name).detach().expand(shapes[node.output[0]]).clone()
                    self._hold(name, 1 / value if node.op_type == "Div" else value)

    def _kernel(self, node: onnx.NodeProto, channels: int) -> Tensor:
        """Returns a sliding operator's kernel, dilated, with zeros where its pads are unequal or negative."""
        a = _attributes(node)
        if node.op_type == "Pad":
            weight = torch.ones(channels, 1, 1, 1, dtype=torch.float64)
        elif node.op_type == "AveragePool":
            height, width = a["kernel_shape"]
            weight = torch.full((channels, 1, height, width), 1 / (height * width), dtype=torch.float64)
        else:
            weight = self.get_parameter(node.input[1]).detach()
        rows, columns = a.get("dilations") or (1, 1)
        size = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], (rows, columns), strict=True)]
        dilated = torch.zeros(*weight.shape[:2], *size, dtype=torch.float64)
        dilated[:, :, ::rows, ::columns] = weight
        return functional.pad(dilated, _zeros(self._pads(node)))

    def _pads(self, node: onnx.NodeProto) -> tuple[int, int, int, int]:
        """Returns top, left, bottom, right."""
        if node.op_type == "Pad":
            top, left, bottom, right = (int(self.raw[node.input[1]][k]) for k in (2, 3, 6, 7))
        else:
            top, left, bottom, right = _attributes(node).get("pads") or (0, 0, 0, 0)
        return top, left, bottom, right

    def forward(self, x: Tensor) -> Tensor:
        """Returns the network's output for `(batch, *input_shape)`."""
        values: dict[str, Any] = {"x": x, **dict(self.named_parameters()), **dict(self.named_buffers())}
        for node in self.graph.node:
            values[node.output[0]] = self.computed(node, [values.get(name) for name in node.input])
        result: Tensor = values[self.graph.output[0].name]
        return result

    def computed(self, node: onnx.NodeProto, v: list[Any]) -> Tensor:
        """Returns a node's value, given its operands; constants that were rewritten are read from the module."""
        a = _attributes(node)
        match node.op_type:
            case "Gemm" if a == {"transB": 1}:
                return functional.linear(*v)
            case "Conv" | "Pad" | "AveragePool":
                return self._convolved(node, v[0], v[2] if node.op_type == "Conv" else None)
            case "Relu" | "Sigmoid" | "Tanh":
                applied: Tensor = getattr(torch, node.op_type.lower())(v[0])
                return applied
            case "Add" | "Sub" | "Mul":
                combined: Tensor = getattr(torch, node.op_type.lower())(v[0], v[1])
                return combined
            case "Div" if node.input[1] in self.raw:
                scaled: Tensor = v[0] * v[1]
                return scaled
            case "Flatten" if a.get("axis", 1) == 1:
                return torch.flatten(v[0], 1)
            case "Transpose":
                permuted: Tensor = v[0].permute(*a["perm"])
                return permuted
            case "BatchNormalization":
                x, scale, bias, mean, variance = v
                return functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, a.get("epsilon", 1e-5))
            case _:
                raise NotImplementedError(f"{node.op_type} with {sorted(a)}")

    def _convolved(self, node: onnx.NodeProto, x: Tensor, bias: Tensor | None) -> Tensor:
        a, weight = _attributes(node), self.get_parameter(f"kernel_{node.output[0]}")
        top, left, bottom, right = self._pads(node)
        padding = (max(top, bottom, 0), max(left, right, 0))
        groups = a.get("group", 1) if node.op_type == "Conv" else x.shape[1]
        return functional.conv2d(x, weight, bias, tuple(a.get("strides") or (1, 1)), padding, 1, groups)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _zeros(pads: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Returns the zeros around a kernel (left, right, top, bottom) that make equal pads do what unequal ones do."""
    top, left, bottom, right = pads
    tall, wide = max(top, bottom, 0), max(left, right, 0)
    return wide - left, wide - right, tall - top, tall - bottom
