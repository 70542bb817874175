"""What the rules for single operators know of the ONNX file being read, and how they add to the engine's graph.

A value keeps the shape that ONNX gives it, batch included, beside its node; the node's own shape is that shape without
a leading 1. So operators that touch the leading dimension need no rules of their own: they mean what they mean for the
one input that ONNX Runtime is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from harness.domain import LgBenchError, UnsupportedNetworkError, UsageError
from harness.verifier.graph import Conv, Linear, Node, Op, Pick, Reshape, Scale, Shape, size

FLOAT = torch.float64
MOST_ELEMENTS = 2**24
"""Elements of one value; the largest of VGG-16 has 2**22. More is taken for a damaged file."""


LARGEST_FACTOR = 1e9
"""Weights and factors up to which any four of them can be multiplied in float32. ONNX Runtime takes scales into the
convolutions before them, and those around a matrix product into one number."""


class Value(NamedTuple):
    """A value of the ONNX graph that depends on the input."""

    node: int
    """Its node."""
    shape: Shape
    """As ONNX has it, batch included; the node's value has the same elements in the same order."""


def own_shape(shape: Shape) -> Shape:
    """Returns the shape of the node of a value: without the batch dimension where that is 1; never empty."""
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape or (1,)


class Context:
    """The file being read: constants and values by name, and the nodes so far.

    Args:
        model: the file.
        source: its name, for messages.
    """

    def __init__(self, model: onnx.ModelProto, source: str) -> None:
        self.graph, self.source = model.graph, source
        self.opsets = {opset.domain or "": opset.version for opset in model.opset_import}
        self.proto: onnx.NodeProto | None = None
        """The ONNX node being read, for messages."""
        self.nodes: list[Node] = []
        self.extreme = False
        """Whether some factor is larger than `LARGEST_FACTOR`."""
        self.values: dict[str, Value] = {}
        self.constants: dict[str, NDArray[Any]] = {}
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}

    def is_constant(self, name: str) -> bool:
        """Returns whether a name is known and does not depend on the input."""
        return name in self.constants or name in self._stored

    def named_constant(self, name: str) -> NDArray[Any]:
        """Returns a constant by name; stored ones are read when they are first needed."""
        if name not in self.constants:
            self.constants[name] = self.stored(self._stored[name])
        return self.constants[name]

    def stored(self, tensor: onnx.TensorProto) -> NDArray[Any]:
        """Returns a stored tensor.

        Raises:
            UsageError: it is damaged, or kept in another file.
        """
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise self.malformed(f"the weights '{tensor.name}' are in another file; save the model as one file")
        try:
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError, OSError, KeyError, AttributeError, OverflowError) as error:
            raise self.malformed(f"the weights '{tensor.name}' cannot be read ({_first_line(error)})") from error

    # What a node is given.

    def operand(self, proto: onnx.NodeProto, position: int = 0) -> Value:
        """Returns an operand that depends on the input."""
        name = proto.input[position]
        if name not in self.values:
            raise self.unsupported(f"operand {position} must not be a constant")
        return self.values[name]

    def operand_or_constant(self, proto: onnx.NodeProto, position: int) -> Value:
        """Returns an operand; a constant becomes a value of its own."""
        name = proto.input[position]
        if name in self.values:
            return self.values[name]
        constant = self.tensor(self.named_constant(name))
        shape = tuple(constant.shape)
        start = self.pick(Value(0, (1, *self.nodes[0].shape)), np.zeros(shape, np.int64))
        offset = constant.reshape(own_shape(shape))
        return self.append(Scale(torch.zeros_like(offset), offset, roundings=0), (start,), shape)

    def constant(self, proto: onnx.NodeProto, position: int) -> NDArray[Any] | None:
        """Returns a constant operand; None where the optional operand is absent."""
        if position >= len(proto.input) or not proto.input[position]:
            return None
        name = proto.input[position]
        if not self.is_constant(name):
            raise self.unsupported(f"operand {position} ('{name}') must be a constant")
        return self.named_constant(name)

    def integers(self, proto: onnx.NodeProto, position: int) -> list[int] | None:
        """Returns a constant operand of whole numbers, flat; None where it is absent."""
        array = self.constant(proto, position)
        if array is None:
            return None
        if array.dtype.kind not in "iu":
            raise self.malformed(f"operand {position} has to be whole numbers")
        return [int(v) for v in np.ravel(array)]

    def weights(self, proto: onnx.NodeProto, position: int) -> Tensor:
        """Returns a constant operand in float64."""
        array = self.constant(proto, position)
        if array is None:
            raise self.malformed(f"operand {position} is missing")
        return self.tensor(array)

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """Returns a constant in float64, into which every float32 fits exactly.

        Raises:
            UsageError: it has a number that is not finite.
        """
        if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
            raise self.malformed(f"a constant of type {array.dtype} where numbers are needed")
        full = np.array(array, dtype=np.float64)
        if not np.isfinite(full).all():
            raise self.malformed("a constant is not a finite number")
        return torch.from_numpy(full)

    # What a rule makes.

    def append(self, op: Op, inputs: Sequence[Value], shape: Shape) -> Value:
        """Adds a node and returns its value.

        Args:
            op: an operation whose result has `own_shape(shape)`.
            inputs: its operands; each node's own shape has to be what the operation takes.
            shape: the result's shape as ONNX has it.
        """
        if not 0 < size(shape) <= MOST_ELEMENTS:
            raise self.malformed(f"a value of shape {shape} cannot be computed")
        if isinstance(op, Conv | Linear | Scale) and not is_finite(op):
            raise self.malformed("its constants are not finite numbers")
        if isinstance(op, Conv | Linear | Scale):
            factors = op.factor if isinstance(op, Scale) else op.weight
            self.extreme = self.extreme or float(factors.abs().max()) > LARGEST_FACTOR
        self.nodes.append(Node(op, tuple(v.node for v in inputs), own_shape(shape)))
        return Value(len(self.nodes) - 1, shape)

    def reshaped(self, value: Value, shape: Shape) -> Value:
        """Returns the same elements in another shape."""
        if size(shape) != size(value.shape) or min(shape, default=1) < 1:
            raise self.malformed(f"{value.shape} cannot be given the shape {shape}")
        if own_shape(shape) == self.nodes[value.node].shape:
            return Value(value.node, shape)
        return self.append(Reshape(own_shape(shape)), (value,), shape)

    def pick(self, value: Value, index: NDArray[np.int64]) -> Value:
        """Returns elements of a value.

        Args:
            value: where they are from.
            index: flat index of each element, in the result's shape.
        """
        shape = tuple(int(d) for d in index.shape)
        flat = np.ascontiguousarray(index).ravel()
        if flat.size == size(value.shape) and np.array_equal(flat, np.arange(flat.size)):
            return self.reshaped(value, shape)
        return self.append(Pick(torch.from_numpy(flat.astype(np.int64)), own_shape(shape)), (value,), shape)

    def broadcast(self, value: Value, shape: Shape) -> Value:
        """Returns a value in a shape that numpy's rules broadcast it to."""
        if size(shape) == size(value.shape):
            return self.reshaped(value, shape)
        if size(shape) > MOST_ELEMENTS:
            raise self.malformed(f"a value of shape {shape} cannot be computed")
        return self.pick(value, np.broadcast_to(positions(value), shape))

    def scaled(
        self,
        value: Value,
        factor: Tensor | float = 1.0,
        offset: Tensor | float = 0.0,
        roundings: int = 1,
        bias_size: Tensor | None = None,
    ) -> Value:
        """Returns `factor * value + offset`; the constants have a shape that the value's can be broadcast with."""
        parts = [torch.as_tensor(p, dtype=FLOAT) for p in (factor, offset)]
        shape = self.common_shape(value.shape, *(tuple(p.shape) for p in parts))

        def full(constant: Tensor) -> Tensor:
            return torch.broadcast_to(constant, shape).reshape(own_shape(shape)).clone()

        x, own = self.broadcast(value, shape), None if bias_size is None else full(bias_size)
        return self.append(Scale(full(parts[0]), full(parts[1]), own, roundings), (x,), shape)

    def common_shape(self, *shapes: Shape) -> Shape:
        """Returns the shape that numpy's rules broadcast the given ones to."""
        try:
            shape = tuple(int(d) for d in np.broadcast_shapes(*shapes))
        except ValueError as error:
            raise self.malformed(f"shapes {' and '.join(map(str, shapes))} do not fit together") from error
        if size(shape) > MOST_ELEMENTS:
            raise self.malformed(f"a value of shape {shape} cannot be computed")
        return shape

    # What goes wrong.

    def unsupported(self, reason: str) -> UnsupportedNetworkError:
        """Returns the error for what is right but not known here; it names file and node."""
        return UnsupportedNetworkError(self._placed(reason))

    def malformed(self, reason: str) -> UsageError:
        """Returns the error for what no reader could use; it names file and node."""
        return UsageError(self._placed(reason))

    def _placed(self, reason: str) -> str:
        where = ""
        if self.proto is not None:
            name = self.proto.name or next(iter(self.proto.output), "")
            where = f", node '{name}' ({self.proto.op_type})"
        return self.source + "".join(c if c.isprintable() else "?" for c in f"{where}: {reason}")

    def wrapped(self, error: Exception) -> LgBenchError:
        """Returns the error for a node whose attributes or operands made its rule fail."""
        return self.malformed(f"its attributes or operands do not fit ({type(error).__name__}: {_first_line(error)})")


def positions(value: Value) -> NDArray[np.int64]:
    """Returns the flat index of every element of a value, in its shape."""
    return np.arange(size(value.shape), dtype=np.int64).reshape(value.shape)


def attributes_of(proto: onnx.NodeProto) -> dict[str, Any]:
    """Returns a node's attributes as Python values."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}


def type_name(number: int) -> str:
    """Returns the name of a tensor's type, whatever number a damaged file has."""
    names: dict[int, str] = {value: name for name, value in onnx.TensorProto.DataType.items()}
    return names.get(number, f"number {number}")


def is_finite(op: Conv | Linear | Scale) -> bool:
    """Returns whether all of an operation's constants are finite numbers."""
    parts = (op.factor, op.offset) if isinstance(op, Scale) else (op.weight, op.bias)
    return all(bool(torch.isfinite(part).all()) for part in parts)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
