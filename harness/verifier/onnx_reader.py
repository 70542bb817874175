"""From an ONNX file's bytes to the engine's graph.

What cannot be read exactly is refused with the node's name before any work is done: nothing is approximated here.
Constants are kept in float64, into which every float32 weight fits exactly; constant subgraphs are folded with the
ONNX reference evaluator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from harness.domain import UnsupportedNetworkError
from harness.verifier.graph import (
    Add,
    Conv,
    Graph,
    Input,
    Linear,
    Node,
    Op,
    Pads,
    Relu,
    Reshape,
    Scale,
    Shape,
    Transpose,
    size,
)
from harness.verifier.rewrite import simplify

FLOAT = torch.float64
NORMALISATION_ROUNDINGS = 6
"""Of BatchNormalization on one element, in whatever order it is computed: the factor takes an addition, a root and a
division; then the mean is subtracted, the factor multiplied, the bias added (or the first two make up the bias)."""


def read_graph(model_bytes: bytes, source: str) -> Graph:
    """Returns the network as a graph in float64 on the CPU.

    Args:
        model_bytes: an ONNX model, not compressed.
        source: name of the file, for messages.

    Raises:
        UnsupportedNetworkError: the bytes are no ONNX model, or a node, type or shape is not supported; the message
            names the file and the node.
    """
    try:
        model = onnx.load_model_from_string(model_bytes)
    except Exception as error:  # protobuf raises its own, undocumented classes
        raise UnsupportedNetworkError(f"{source}: not an ONNX model ({error})") from error
    return simplify(_Reader(model, source).read())


class _Reader:
    """Walks the nodes of one ONNX graph, keeping each name as a constant or as the index of a graph node."""

    def __init__(self, model: onnx.ModelProto, source: str) -> None:
        self.graph, self.source = model.graph, source
        self.opsets = {opset.domain: opset.version for opset in model.opset_import}
        self.indices: dict[str, int] = {}
        self.nodes: list[Node] = []
        self.proto: onnx.NodeProto | None = None
        self.constants = {t.name: self.stored(t) for t in model.graph.initializer}

    def stored(self, tensor: onnx.TensorProto) -> NDArray[Any]:
        try:
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError, OSError) as error:
            raise self.error(f"the weights '{tensor.name}' cannot be read ({error})") from error

    def read(self) -> Graph:
        inputs = [v for v in self.graph.input if v.name not in self.constants]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            raise self.error(f"{len(inputs)} inputs and {len(self.graph.output)} outputs; one of each is supported")
        dims = [d.dim_value if d.HasField("dim_value") else 0 for d in inputs[0].type.tensor_type.shape.dim]
        if dims and dims[0] <= 0:
            dims[0] = 1
        if len(dims) < 2 or dims[0] != 1 or min(dims) <= 0:
            raise self.error(f"input '{inputs[0].name}' has shape {dims}; a batch of 1 and fixed dimensions are needed")
        self.indices[inputs[0].name] = self.append(Input(), (), tuple(dims[1:]))
        for proto in self.graph.node:
            self.proto = proto
            self.translate(proto)
        self.proto = None
        output = self.graph.output[0].name
        if output not in self.indices:
            raise self.error(f"output '{output}' does not depend on the input")
        return _with_output_last(self.nodes, self.indices[output])

    def translate(self, proto: onnx.NodeProto) -> None:
        names = [n for n in proto.input if n]
        if proto.domain not in ("", "ai.onnx"):
            raise self.error(f"operators of the domain '{proto.domain}' are not supported")
        if proto.op_type == "Constant" or (names and all(n in self.constants for n in names)):
            self.constants.update(zip(proto.output, self.evaluated(proto, names), strict=False))
            return
        rule = _RULES.get(proto.op_type)
        if rule is None:
            raise self.error(f"operator {proto.op_type} is not supported")
        if any(n not in self.constants and n not in self.indices for n in names):
            raise self.error("an operand is not defined by an earlier node")
        self.indices[proto.output[0]] = rule(self, proto)

    def evaluated(self, proto: onnx.NodeProto, names: Sequence[str]) -> Sequence[NDArray[Any]]:
        """Returns the outputs of a node of constants, by the model's own version of its operator."""
        given = {n: self.constants[n] for n in names}
        inputs = [onnx.ValueInfoProto(name=n) for n in given]
        graph = onnx.helper.make_graph(
            [proto], "constants", inputs, [onnx.ValueInfoProto(name=n) for n in proto.output if n]
        )
        try:
            values = ReferenceEvaluator(graph, opsets=self.opsets).run(None, given)
        except Exception as error:  # the evaluator raises whatever its numpy code raises
            raise self.error(f"its constants cannot be evaluated ({error})") from error
        return cast(Sequence[NDArray[Any]], values)

    def append(self, op: Op, inputs: tuple[int, ...], shape: Shape) -> int:
        self.nodes.append(Node(op, inputs, shape))
        return len(self.nodes) - 1

    def operand(self, proto: onnx.NodeProto, position: int = 0) -> int:
        name = proto.input[position]
        if name not in self.indices:
            raise self.error(f"operand {position} must not be a constant")
        return self.indices[name]

    def constant(self, proto: onnx.NodeProto, position: int) -> NDArray[Any] | None:
        """Returns a constant operand; None where the optional operand is absent."""
        if position >= len(proto.input) or not proto.input[position]:
            return None
        name = proto.input[position]
        if name not in self.constants:
            raise self.error(f"operand {position} ('{name}') must be a constant")
        return self.constants[name]

    def weights(self, proto: onnx.NodeProto, position: int) -> Tensor:
        array = self.constant(proto, position)
        if array is None:
            raise self.error(f"operand {position} is missing")
        return self.tensor(array)

    def tensor(self, array: NDArray[Any]) -> Tensor:
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise self.error("a constant is not a finite number")
        return torch.from_numpy(np.array(array, dtype=np.float64))

    def shape(self, index: int) -> Shape:
        return self.nodes[index].shape

    def error(self, reason: str) -> UnsupportedNetworkError:
        where = (
            "" if self.proto is None else f", node '{self.proto.name or self.proto.output[0]}' ({self.proto.op_type})"
        )
        return UnsupportedNetworkError(f"{self.source}{where}: {reason}")


def _with_output_last(nodes: Sequence[Node], output: int) -> Graph:
    return Graph(tuple(nodes[: output + 1]))


def _attributes(proto: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}


def _image(reader: _Reader, index: int) -> tuple[int, int, int]:
    shape = reader.shape(index)
    if len(shape) != 3:
        raise reader.error(f"a two-dimensional image is needed, the operand has shape {shape}")
    return shape[0], shape[1], shape[2]


def _pads(reader: _Reader, attributes: Mapping[str, Any]) -> Pads:
    auto = attributes.get("auto_pad", b"NOTSET")
    if auto not in (b"NOTSET", b"", b"VALID"):
        raise reader.error(f"auto_pad {auto.decode()} is not supported")
    top, left, bottom, right = attributes.get("pads") or (0, 0, 0, 0)
    return Pads(top, left, bottom, right)


def _conv_node(reader: _Reader, x: int, op: Conv) -> int:
    _, height, width = _image(reader, x)
    extent = [(k - 1) * d + 1 for k, d in zip(op.weight.shape[2:], op.dilation, strict=True)]
    rows = (height + op.pads.top + op.pads.bottom - extent[0]) // op.stride[0] + 1
    columns = (width + op.pads.left + op.pads.right - extent[1]) // op.stride[1] + 1
    if rows <= 0 or columns <= 0:
        raise reader.error("the kernel is larger than the image")
    return reader.append(op, (x,), (int(op.weight.shape[0]), rows, columns))


def _conv(reader: _Reader, proto: onnx.NodeProto) -> int:
    x, weight, attributes = reader.operand(proto), reader.weights(proto, 1), _attributes(proto)
    groups = attributes.get("group", 1)
    if weight.dim() != 4 or _image(reader, x)[0] != weight.shape[1] * groups:
        raise reader.error(f"a kernel of shape {tuple(weight.shape)} does not fit an image of shape {reader.shape(x)}")
    bias = torch.zeros(weight.shape[0], dtype=FLOAT)
    if reader.constant(proto, 2) is not None:
        bias = reader.weights(proto, 2)
    stride, dilation = attributes.get("strides") or (1, 1), attributes.get("dilations") or (1, 1)
    op = Conv(weight, bias, (stride[0], stride[1]), _pads(reader, attributes), (dilation[0], dilation[1]), groups)
    return _conv_node(reader, x, op)


def _pad(reader: _Reader, proto: onnx.NodeProto) -> int:
    x, attributes = reader.operand(proto), _attributes(proto)
    amounts = attributes.get("pads")
    if amounts is None:
        given = reader.constant(proto, 1)
        amounts = [] if given is None else given.tolist()
    value = attributes.get("value", 0.0)
    if len(proto.input) > 3 and proto.input[3]:
        raise reader.error("padding of chosen axes is not supported")
    if len(proto.input) > 2 and proto.input[2]:
        value = float(np.ravel(reader.weights(proto, 2).numpy())[0])
    if attributes.get("mode", b"constant") != b"constant" or value != 0.0:
        raise reader.error("only padding with the constant 0 is supported")
    channels, _, _ = _image(reader, x)
    if len(amounts) != 8 or any(amounts[i] != 0 for i in (0, 1, 4, 5)):
        raise reader.error("only the height and width of an image can be padded")
    pads = Pads(int(amounts[2]), int(amounts[3]), int(amounts[6]), int(amounts[7]))
    identity = torch.ones(channels, 1, 1, 1, dtype=FLOAT)
    return _conv_node(reader, x, Conv(identity, torch.zeros(channels, dtype=FLOAT), pads=pads, groups=channels))


def _average_pool(reader: _Reader, proto: onnx.NodeProto) -> int:
    x, attributes = reader.operand(proto), _attributes(proto)
    channels, height, width = _image(reader, x)
    kernel = (height, width) if proto.op_type == "GlobalAveragePool" else tuple(attributes["kernel_shape"])
    pads = _pads(reader, attributes)
    if any(d != 1 for d in attributes.get("dilations") or ()):
        raise reader.error("a dilated average is not supported")
    if attributes.get("ceil_mode", 0) or (any(pads) and not attributes.get("count_include_pad", 0)):
        raise reader.error("ceil_mode, and padding that is left out of the average, are not supported")
    weight = torch.full((channels, 1, *kernel), 1.0 / (kernel[0] * kernel[1]), dtype=FLOAT)
    stride = attributes.get("strides") or (1, 1)
    bias = torch.zeros(channels, dtype=FLOAT)
    # The original adds and then divides.
    op = Conv(weight, bias, (stride[0], stride[1]), pads, groups=channels, roundings=1)
    return _conv_node(reader, x, op)


def _linear(reader: _Reader, x: int, weight: Tensor, bias: Tensor | None, roundings: int = 0) -> int:
    shape = reader.shape(x)
    if len(shape) != 1 or shape[0] != weight.shape[1]:
        raise reader.error(f"a weight of shape {tuple(weight.shape)} does not fit a value of shape {shape}")
    offset = torch.zeros(weight.shape[0], dtype=FLOAT) if bias is None else bias.expand(weight.shape[0]).clone()
    return reader.append(Linear(weight.contiguous(), offset, roundings=roundings), (x,), (int(weight.shape[0]),))


def _gemm(reader: _Reader, proto: onnx.NodeProto) -> int:
    attributes = _attributes(proto)
    if attributes.get("transA", 0):
        raise reader.error("transA is not supported")
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    weight = reader.weights(proto, 1) * alpha
    weight = weight if attributes.get("transB", 0) else weight.T
    bias = None
    if reader.constant(proto, 2) is not None:
        bias = reader.weights(proto, 2).flatten() * beta
    return _linear(reader, reader.operand(proto), weight, bias, int(alpha != 1) + int(beta != 1))


def _matmul(reader: _Reader, proto: onnx.NodeProto) -> int:
    if proto.input[0] in reader.constants:
        raise reader.error("a constant on the left of MatMul is not supported")
    weight = reader.weights(proto, 1)
    if weight.dim() != 2:
        raise reader.error(f"a weight of shape {tuple(weight.shape)} is not a matrix")
    return _linear(reader, reader.operand(proto), weight.T, None)


def _arithmetic(reader: _Reader, proto: onnx.NodeProto) -> int:
    left, right = (name in reader.constants for name in proto.input[:2])
    kind = proto.op_type
    if not left and not right:
        if kind not in ("Add", "Sub"):
            raise reader.error("the product or quotient of two values is not affine")
        x, y = reader.operand(proto, 0), reader.operand(proto, 1)
        if reader.shape(x) != reader.shape(y):
            raise reader.error(f"values of shapes {reader.shape(x)} and {reader.shape(y)} are not broadcast")
        return reader.append(Add((1, 1 if kind == "Add" else -1)), (x, y), reader.shape(x))
    x = reader.operand(proto, 1 if left else 0)
    constant = _broadcast(reader, reader.weights(proto, 0 if left else 1), reader.shape(x))
    one, zero = torch.ones_like(constant), torch.zeros_like(constant)
    if kind == "Add":
        scale = Scale(one, constant, roundings=1)
    elif kind == "Sub":
        scale = Scale(-one if left else one, constant if left else -constant, roundings=1)
    elif kind == "Mul":
        scale = Scale(constant, zero, roundings=1)
    elif left or bool((constant == 0).any()):
        raise reader.error("a division by a value or by zero is not affine")
    else:
        scale = Scale(1.0 / constant, zero, roundings=1)
    return reader.append(scale, (x,), reader.shape(x))


def _broadcast(reader: _Reader, constant: Tensor, shape: Shape) -> Tensor:
    """Returns a constant in the value's own shape; the value's batch dimension is 1."""
    try:
        full = torch.broadcast_to(constant, (1, *shape))
    except RuntimeError as error:
        raise reader.error(f"a constant of shape {tuple(constant.shape)} does not fit {shape}") from error
    return full[0].clone()


def _relu(reader: _Reader, proto: onnx.NodeProto) -> int:
    x = reader.operand(proto)
    return reader.append(Relu(proto.name or proto.output[0]), (x,), reader.shape(x))


def _batch_normalization(reader: _Reader, proto: onnx.NodeProto) -> int:
    x, attributes = reader.operand(proto), _attributes(proto)
    if attributes.get("training_mode", 0):
        raise reader.error("batch normalisation in training mode is not a fixed function")
    scale, bias, mean, variance = (reader.weights(proto, k) for k in range(1, 5))
    factor = scale / torch.sqrt(variance + attributes.get("epsilon", 1e-5))
    view = (-1, *([1] * (len(reader.shape(x)) - 1)))
    shape = reader.shape(x)
    parts = factor, bias - mean * factor, bias.abs() + (mean * factor).abs()
    factor, offset, magnitude = (part.view(view).expand(shape).clone() for part in parts)
    return reader.append(Scale(factor, offset, magnitude, NORMALISATION_ROUNDINGS), (x,), shape)


def _reshape(reader: _Reader, proto: onnx.NodeProto) -> int:
    x, attributes = reader.operand(proto), _attributes(proto)
    before = reader.shape(x)
    full = (1, *before)
    if proto.op_type == "Flatten":
        axis = attributes.get("axis", 1)
        axis = axis + len(full) if axis < 0 else axis
        after: tuple[int, ...] = (size(full[:axis]), size(full[axis:]))
    elif proto.op_type == "Reshape":
        target = [int(d) for d in np.ravel(reader.weights(proto, 1).numpy())]
        target = [full[i] if d == 0 and not attributes.get("allowzero", 0) else d for i, d in enumerate(target)]
        known = size([d for d in target if d != -1])
        after = tuple(size(full) // max(known, 1) if d == -1 else d for d in target)
    else:
        after = _squeezed(reader, proto, full)
    if len(after) < 2 or after[0] != 1 or size(after) != size(full):
        raise reader.error(f"a reshape from {full} to {after} does not keep the batch dimension in front")
    return reader.append(Reshape(after[1:]), (x,), after[1:])


def _squeezed(reader: _Reader, proto: onnx.NodeProto, full: Shape) -> Shape:
    given = _attributes(proto).get("axes")
    if given is None and len(proto.input) > 1:
        given = [int(a) for a in np.ravel(reader.weights(proto, 1).numpy())]
    if proto.op_type == "Unsqueeze":
        rank = len(full) + len(given or ())
        axes = {a % rank for a in given or ()}
        rest = iter(full)
        return tuple(1 if a in axes else next(rest) for a in range(rank))
    axes = {a % len(full) for a in given} if given is not None else {i for i, d in enumerate(full) if i and d == 1}
    return tuple(d for i, d in enumerate(full) if i not in axes)


def _transpose(reader: _Reader, proto: onnx.NodeProto) -> int:
    x = reader.operand(proto)
    before = reader.shape(x)
    permutation = _attributes(proto).get("perm") or list(range(len(before) + 1))[::-1]
    if permutation[0] != 0:
        raise reader.error("a transposition must leave the batch dimension in front")
    own = tuple(p - 1 for p in permutation[1:])
    return reader.append(Transpose(own), (x,), tuple(before[p] for p in own))


def _identity(reader: _Reader, proto: onnx.NodeProto) -> int:
    if len(proto.input) > 2 and proto.input[2] and bool(np.any(reader.constant(proto, 2))):
        raise reader.error("dropout in training mode is not a fixed function")
    return reader.operand(proto)


_RULES: Mapping[str, Callable[[_Reader, onnx.NodeProto], int]] = MappingProxyType(
    {
        "Conv": _conv,
        "Pad": _pad,
        "AveragePool": _average_pool,
        "GlobalAveragePool": _average_pool,
        "Gemm": _gemm,
        "MatMul": _matmul,
        "Add": _arithmetic,
        "Sub": _arithmetic,
        "Mul": _arithmetic,
        "Div": _arithmetic,
        "Relu": _relu,
        "BatchNormalization": _batch_normalization,
        "Flatten": _reshape,
        "Reshape": _reshape,
        "Squeeze": _reshape,
        "Unsqueeze": _reshape,
        "Transpose": _transpose,
        "Identity": _identity,
        "Dropout": _identity,
    }
)
