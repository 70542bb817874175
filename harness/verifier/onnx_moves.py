"""Rules for ONNX operators that move numbers without computing, and the folding of constants.

What an operator does to positions is found by letting it move the positions themselves: the ONNX reference evaluator
runs the node, by the model's own version of it, on an array of flat indices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from harness.verifier.graph import Concat, Shape, Transpose, size
from harness.verifier.onnx_context import MOST_ELEMENTS, Context, Value, attributes_of, positions, type_name

MOVES = frozenset(
    {"Concat", "ConstantOfShape", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice",
     "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)  # fmt: skip
EXACT = frozenset(
    {"Abs", "Add", "And", "Cast", "Ceil", "Div", "Equal", "Floor", "Greater", "Less", "Max", "Min", "Mod", "Mul", "Neg",
     "Not", "Or", "Range", "Reciprocal", "ReduceProd", "Relu", "Shape", "Size", "Sqrt", "Sub", "Where"}
)  # fmt: skip
"""Of constants these have one right result in floating point, which every implementation gives."""

_BROADCAST = EXACT - {"Cast", "Range", "ReduceProd", "Shape", "Size"}


def folded(context: Context, proto: onnx.NodeProto) -> Sequence[NDArray[Any]]:
    """Returns the outputs of a node whose operands are all constants.

    Raises:
        UnsupportedNetworkError: implementations may differ in the result's last digit.
        UsageError: it cannot be computed, or is too large.
    """
    if proto.op_type == "Constant":
        stored = next((a.t for a in proto.attribute if a.name == "value"), None)
        if stored is not None:
            return (context.stored(stored),)
    elif proto.op_type not in MOVES | EXACT:
        raise context.unsupported(f"operator {proto.op_type} of constants is not supported")
    given = {n: context.named_constant(n) for n in proto.input if n}
    _check_size(context, proto, given)
    return _evaluated(context, proto, given)


def _check_size(context: Context, proto: onnx.NodeProto, given: Mapping[str, NDArray[Any]]) -> None:
    """Raises UsageError if an operator that can make much out of little would make too much."""
    operands = [given[n] for n in proto.input if n]
    if not operands:
        return
    kind, first, last = proto.op_type, operands[0], operands[-1]
    shape: Sequence[float] = first.shape
    if kind == "ConstantOfShape":
        shape = np.ravel(first).tolist()
    elif kind == "Tile":
        shape = [first.size, *np.ravel(last).tolist()]
    elif kind == "Concat":
        shape = [sum(v.size for v in operands)]
    elif kind == "Gather":
        shape = [first.size / max(first.shape[attributes_of(proto).get("axis", 0)], 1), last.size]
    elif kind == "Pad":
        amounts = attributes_of(proto)["pads"] if len(operands) < 2 else np.ravel(operands[1]).tolist()
        shape = [max(n, 1) + sum(map(abs, amounts)) for n in first.shape]
    elif kind == "Range":
        start, limit, delta = (float(np.ravel(o)[0]) for o in operands)
        shape = [abs(limit - start) / max(abs(delta), 1e-300)]
    elif kind == "Expand":
        shape = context.common_shape(first.shape, tuple(int(d) for d in np.ravel(last)))
    elif kind in _BROADCAST:
        shape = context.common_shape(*(o.shape for o in operands))
    if float(np.prod(np.abs(np.asarray(shape, np.float64)))) > max(MOST_ELEMENTS, first.size):
        raise context.malformed("what it makes is too large")


def _evaluated(context: Context, proto: onnx.NodeProto, given: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
    """Returns the outputs of one node, by the model's own version of its operator."""
    from onnx.reference import ReferenceEvaluator  # its own operators take a while to import; most networks need none

    inputs = [onnx.ValueInfoProto(name=n) for n in given]
    outputs = [onnx.ValueInfoProto(name=n) for n in proto.output if n]
    graph = onnx.helper.make_graph([proto], "node", inputs, outputs)
    try:
        values = ReferenceEvaluator(graph, opsets=context.opsets).run(None, dict(given))
    except Exception as error:  # the evaluator raises whatever its numpy code raises
        raise context.wrapped(error) from error
    return cast(Sequence[NDArray[Any]], values)


def moved(context: Context, proto: onnx.NodeProto) -> Sequence[Value]:
    """Slice, Split, Gather, Expand, Tile, DepthToSpace and the like: elements of the operand, in another order."""
    x = context.operand(proto)
    given = {n: context.named_constant(n) for n in proto.input[1:] if n and context.is_constant(n)}
    if any(n and n not in given for n in proto.input[1:]):
        raise context.unsupported("only its first operand may depend on the input")
    where = positions(x)
    _check_size(context, proto, {proto.input[0]: where, **given})
    results = _evaluated(context, proto, {proto.input[0]: where, **given})
    return [context.pick(x, np.asarray(r, np.int64)) for r in results]


def concat(context: Context, proto: onnx.NodeProto) -> Value:
    """Concat of values and constants."""
    parts = [context.operand_or_constant(proto, k) for k in range(len(proto.input))]
    rank, axis = len(parts[0].shape), attributes_of(proto)["axis"]
    if not -rank <= axis < rank:
        raise context.malformed(f"there is no axis {axis} of {rank}")
    axis %= rank
    rest = {p.shape[:axis] + p.shape[axis + 1 :] for p in parts}
    if any(len(p.shape) != rank for p in parts) or len(rest) > 1:
        raise context.malformed(f"shapes {', '.join(str(p.shape) for p in parts)} cannot be joined along axis {axis}")
    shape = list(parts[0].shape)
    shape[axis] = sum(p.shape[axis] for p in parts)
    return joined(context, parts, axis, tuple(shape))


def joined(context: Context, parts: Sequence[Value], axis: int, shape: Shape) -> Value:
    """Returns values joined along an axis; all of them have the result's rank."""
    if len(parts) == 1:
        return parts[0]
    # With a 1 in front, no node's own shape loses a dimension, whatever its leading one is.
    own = shape if shape[0] != 1 or axis == 0 or len(shape) == 1 else shape[1:]
    axis -= len(shape) - len(own)
    full = [context.reshaped(p, (1, *p.shape[len(p.shape) - len(own) :])) for p in parts]
    return context.reshaped(context.append(Concat(axis), full, (1, *own)), shape)


def reshape(context: Context, proto: onnx.NodeProto) -> Value:
    """Flatten, Reshape, Squeeze and Unsqueeze."""
    x, attributes = context.operand(proto), attributes_of(proto)
    before = x.shape
    if proto.op_type == "Flatten":
        axis = attributes.get("axis", 1)
        axis = axis + len(before) if axis < 0 else axis
        return context.reshaped(x, (size(before[:axis]), size(before[axis:])))
    if proto.op_type != "Reshape":
        return context.reshaped(x, _squeezed(context, proto, before))
    target = context.integers(proto, 1)
    if target is None:
        raise context.malformed("operand 1 is missing")
    if not attributes.get("allowzero", 0):
        target = [before[i] if d == 0 else d for i, d in enumerate(target)]
    known = size([d for d in target if d != -1])
    if target.count(-1) > 1 or (-1 in target and (known <= 0 or size(before) % known)):
        raise context.malformed(f"{before} cannot be given the shape {tuple(target)}")
    return context.reshaped(x, tuple(size(before) // known if d == -1 else d for d in target))


def _squeezed(context: Context, proto: onnx.NodeProto, before: Shape) -> Shape:
    given = attributes_of(proto).get("axes")
    if given is None:
        given = context.integers(proto, 1)
    if given is None:
        if proto.op_type == "Unsqueeze":
            raise context.malformed("it names no axes")
        return tuple(d for d in before if d != 1)
    rank = len(before) + (len(given) if proto.op_type == "Unsqueeze" else 0)
    axes = {a % rank for a in given if -rank <= a < rank}
    if len(axes) != len(given):
        raise context.malformed(f"axes {list(given)} of {rank} are none, or named twice")
    if proto.op_type == "Unsqueeze":
        rest = iter(before)
        return tuple(1 if a in axes else next(rest) for a in range(rank))
    if any(before[a] != 1 for a in axes):
        raise context.malformed(f"axes {list(given)} of {before} are not all of size 1")
    return tuple(d for a, d in enumerate(before) if a not in axes)


def transpose(context: Context, proto: onnx.NodeProto) -> Value:
    """A permutation of all dimensions."""
    x = context.operand(proto)
    order = attributes_of(proto).get("perm") or list(range(len(x.shape)))[::-1]
    if sorted(order) != list(range(len(x.shape))):
        raise context.malformed(f"{order} does not permute {len(x.shape)} dimensions")
    return permuted(context, x, order)


def permuted(context: Context, value: Value, order: Sequence[int]) -> Value:
    """Returns a value with its dimensions in another order."""
    shape = tuple(value.shape[d] for d in order)
    if len(shape) > 1 and order[0] == 0 and shape[0] == 1:
        return context.append(Transpose(tuple(d - 1 for d in order[1:])), (value,), shape)
    return context.pick(value, positions(value).transpose(order))


def shape_of(context: Context, proto: onnx.NodeProto) -> NDArray[np.int64]:
    """Returns what Shape or Size says of a value: shapes are known before anything is computed."""
    shape, attributes = context.operand(proto).shape, attributes_of(proto)
    if proto.op_type == "Size":
        return np.asarray(size(shape), np.int64)
    return np.asarray(shape[attributes.get("start", 0) : attributes.get("end", len(shape))], np.int64)


def unchanged(context: Context, proto: onnx.NodeProto) -> Value:
    """Identity, and Dropout where it drops nothing."""
    training = context.constant(proto, 2)
    if training is not None and bool(np.any(training)):
        raise context.unsupported("dropout in training mode is not a fixed function")
    return context.operand(proto)


def cast_(context: Context, proto: onnx.NodeProto) -> Value:
    """Cast to the type that the values have anyway."""
    wanted = attributes_of(proto)["to"]
    own = next(v.type.tensor_type.elem_type for v in context.graph.input if v.name in context.values)
    if wanted != own:
        raise context.unsupported(f"a cast of values to {type_name(wanted)} rounds or changes what follows")
    return context.operand(proto)
