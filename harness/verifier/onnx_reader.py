"""From an ONNX file's bytes to the engine's graph.

What cannot be read exactly is refused with the node's name before any work is done: nothing is approximated here.
Only what the output needs is read. Shapes are fixed, so whatever is computed from shapes and constants is a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx

from harness.domain import LgBenchError, UsageError
from harness.verifier.graph import Conv, Graph, Input, Linear, Node, Scale, Shape
from harness.verifier.onnx_context import Context, Value, is_finite, type_name
from harness.verifier.onnx_moves import EXACT, MOVES, folded, shape_of
from harness.verifier.onnx_rules import RULES
from harness.verifier.rewrite import simplify

OLDEST_OPSET = 7
"""Before this version, sums were broadcast by attributes."""
_OF_CONSTANTS = MOVES | EXACT | {"Constant"}
_TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)


def read_graph(model_bytes: bytes, source: str) -> Graph:
    """Returns the network as a graph in float64 on the CPU.

    Args:
        model_bytes: an ONNX model, not compressed.
        source: name of the file, for messages.

    Raises:
        UnsupportedNetworkError: a node, type or form that is right is not known here.
        UsageError: no reader could use it: no ONNX model, damaged, weights that are no finite numbers, shapes that do
            not fit. Both messages name the file, and the node if there is one.
    """
    try:
        model = onnx.load_model_from_string(model_bytes)
    except Exception as error:  # protobuf raises its own, undocumented classes
        reason = " ".join(str(error).split())
        raise UsageError(f"{source}: not an ONNX model ({reason})") from error
    context = Context(model, source)
    result = simplify(_read(context))
    if not all(is_finite(node.op) for node in result.nodes if isinstance(node.op, Conv | Linear | Scale)):
        raise context.malformed("constants of operators that follow each other have products that are not finite")
    return replace(result, extreme=context.extreme)


def _read(context: Context) -> Graph:
    graph = context.graph
    stored = {t.name for t in graph.initializer}
    inputs = [v for v in graph.input if v.name not in stored]
    if len(inputs) != 1 or len(graph.output) != 1:
        reason = f"{len(inputs)} inputs and {len(graph.output)} outputs; one of each is supported"
        raise context.unsupported(reason) if inputs and graph.output else context.malformed(reason)
    version, newest = context.opsets.get("", 0), onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= version <= newest:
        raise context.unsupported(f"operators of version {version}; {OLDEST_OPSET} to {newest} are supported")
    shape = _input_shape(context, inputs[0])
    context.values[inputs[0].name] = context.append(Input(), (), shape)
    needed = _needed(context)
    _refuse_unknown(context, needed)
    for proto in needed:
        context.proto = proto
        try:
            _read_node(context, proto)
        except LgBenchError:
            raise
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise context.wrapped(error) from error
    context.proto = None
    output = graph.output[0].name
    if output not in context.values:
        raise context.unsupported(f"output '{output}' does not depend on the input")
    return _with_output_last(context.nodes, context.values[output])


def _input_shape(context: Context, found: onnx.ValueInfoProto) -> Shape:
    """Returns the input's shape; a free first dimension is the batch and read as 1."""
    kind = found.type.tensor_type
    if kind.elem_type not in _TYPES:
        name = type_name(kind.elem_type)
        raise context.unsupported(f"input '{found.name}' is of type {name}; FLOAT and DOUBLE are supported")
    dims = [d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim]
    if dims and dims[0] <= 0:
        dims[0] = 1
    if not dims or min(dims) <= 0:
        shown = [d.dim_param or d.dim_value or "?" for d in kind.shape.dim]
        raise context.malformed(
            f"input '{found.name}' has shape {shown}; only the first dimension, the batch, may be free"
        )
    return tuple(dims)


def _needed(context: Context) -> list[onnx.NodeProto]:
    """Returns the nodes that the output depends on, in the file's order."""
    wanted, kept = {v.name for v in context.graph.output}, []
    for proto in reversed(context.graph.node):
        if any(name in wanted for name in proto.output):
            wanted.update(proto.input)
            kept.append(proto)
    return kept[::-1]


def _refuse_unknown(context: Context, needed: Sequence[onnx.NodeProto]) -> None:
    """Raises UnsupportedNetworkError at the first operator that is not known, before any constant is read."""
    for context.proto in needed:
        domain, kind = context.proto.domain, context.proto.op_type
        if domain not in ("", "ai.onnx"):
            raise context.unsupported(f"operators of the domain '{domain}' are not supported")
        if kind not in RULES and kind not in _OF_CONSTANTS:
            raise context.unsupported(f"operator {kind} is not supported")
    context.proto = None


def _read_node(context: Context, proto: onnx.NodeProto) -> None:
    """Reads one node: its outputs become constants or values."""
    names = [n for n in proto.input if n]
    missing = next((n for n in names if n not in context.values and not context.is_constant(n)), None)
    if missing is not None:
        raise context.malformed(f"its operand '{missing}' is not defined by an earlier node")
    if proto.op_type in ("Shape", "Size") and names[0] in context.values:
        context.constants[proto.output[0]] = shape_of(context, proto)
    elif all(context.is_constant(n) for n in names):
        context.constants.update(zip(proto.output, folded(context, proto), strict=False))
    elif proto.op_type not in RULES:
        raise context.unsupported(f"operator {proto.op_type} is not supported")
    else:
        result = RULES[proto.op_type](context, proto)
        made = [result] if isinstance(result, Value) else result
        context.values.update((name, v) for name, v in zip(proto.output, made, strict=False) if name)


def _with_output_last(nodes: Sequence[Node], output: Value) -> Graph:
    return Graph(tuple(nodes[: output.node + 1]))
