"""What an ONNX model asks of memory and time, found out before anything is run or allocated.

A model of a hundred bytes may ask for a tensor of any size (`ConstantOfShape`, `Expand`, an outer product), which ONNX
Runtime allocates as early as it loads it, or for a loop that never ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import onnx
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]

from harness.domain import UsageError

MOST_VALUES = 2**26
"""Numbers in one tensor of a network: 256 MiB in float32, twenty times what the largest public network has."""
_LOOPS = frozenset({"Loop", "Scan", "SequenceMap"})
_SMALL = 1024
"""Stored tensors of at most so many numbers may be shapes, and are given to shape inference."""
_INFERENCE_ERRORS = (onnx.shape_inference.InferenceError, RuntimeError, ValueError, MemoryError, EncodeError)


def check_limits(data: bytes, label: str) -> None:
    """Raises UsageError where a model has a loop, or a tensor of more than `MOST_VALUES` numbers.

    Sizes are those that ONNX's shape inference finds, free dimensions read as 1; what it cannot find is let pass.

    Args:
        data: the model; one that cannot be parsed is let pass as well: ONNX Runtime says so better.
        label: what errors call it.
    """
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError):
        return
    for node in _nodes((*model.graph.node, *(node for function in model.functions for node in function.node))):
        if node.op_type in _LOOPS:
            raise UsageError(f"{label}: has the operator {node.op_type}, which may never end; unroll the loop")
    try:
        found = onnx.shape_inference.infer_shapes(_without_weights(model), data_prop=True).graph
    except _INFERENCE_ERRORS:
        return
    for value in (*found.value_info, *found.output, *found.input):
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim if d.dim_value > 0]
        if math.prod(dims) > MOST_VALUES:
            shape = "x".join(map(str, dims))
            raise UsageError(f"{label}: its value '{value.name}' has the shape {shape}; {MOST_VALUES} numbers are most")


def stored_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yields every stored tensor of a model: of its graph, the graphs inside it, its functions, and sparse ones."""
    yield from _tensors(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yields nodes and those of the graphs inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner.node)


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with its large stored tensors made inputs, so that none is copied."""
    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph = light.graph
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    known = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
        elif tensor.name not in known:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return light
