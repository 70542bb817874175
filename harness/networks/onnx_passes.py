"""Rewrites of an exported ONNX graph that keep its function: folding, pruning, what makes the bytes reproducible.

Every pass changes the given model in place. Only plain graphs are handled: no subgraphs, no functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

PRODUCER = "lg-bench"


def fold_constants_(model: onnx.ModelProto) -> None:
    """Replaces every value that does not depend on the input by an initializer of the same name."""
    graph = model.graph
    known = {tensor.name for tensor in graph.initializer} | {""}
    constant = []
    for node in graph.node:
        if all(name in known for name in node.input) and not node.domain:
            constant.append(node)
            known.update(node.output)
    if not constant:
        return
    kept = [node for node in graph.node if not any(node is other for other in constant)]
    produced = {name for node in constant for name in node.output}
    wanted = sorted(produced & _used(graph, kept))
    if wanted:
        values = _evaluate(model, constant, wanted)
        graph.initializer.extend(numpy_helper.from_array(values[name], name) for name in wanted)
    _replace_nodes(graph, kept)
    prune_(model)


def fold_batch_norm_(model: onnx.ModelProto) -> None:
    """Merges each batch normalisation into the convolution or fully connected layer whose only reader it is.

    A normalisation elsewhere stays; the merged weights are computed in float64 and rounded once.
    """
    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producer = {node.output[0]: node for node in graph.node}
    readers = Counter(name for node in graph.node for name in node.input)
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        layer = producer.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if (
            layer is None
            or not _is_affine_layer(layer, weights)
            or readers[node.input[0]] != 1
            or node.input[0] in outputs
            or not all(name in weights for name in node.input[1:5])
        ):
            kept.append(node)
            continue
        merged = _merged(layer, node, weights)
        names = [f"{node.output[0]}.{part}" for part in ("weight", "bias")]
        graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in zip(names, merged, strict=True))
        layer.input[:] = [layer.input[0], *names]
        layer.output[0] = node.output[0]
    _replace_nodes(graph, kept)
    prune_(model)


def prune_(model: onnx.ModelProto) -> None:
    """Removes initializers that nothing reads."""
    used = _used(model.graph, list(model.graph.node))
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def strip_(model: onnx.ModelProto) -> None:
    """Removes what says when and with what the model was made, and sets the lowest format version that fits."""
    model.producer_name, model.producer_version, model.doc_string, model.domain = PRODUCER, "", "", ""
    model.graph.name, model.graph.doc_string = "network", ""
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
    for field in (model.metadata_props, model.graph.value_info, model.graph.metadata_props):
        del field[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Returns a node's attributes as Python values."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _used(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> set[str]:
    return {name for node in nodes for name in node.input} | {value.name for value in graph.output}


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _evaluate(model: onnx.ModelProto, nodes: list[onnx.NodeProto], names: list[str]) -> dict[str, NDArray[np.generic]]:
    """Returns the values of the named tensors, which `nodes` compute from initializers alone."""
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in names]
    graph = onnx.helper.make_graph(nodes, "constants", [], outputs, list(model.graph.initializer))
    opsets = [opset for opset in model.opset_import if not opset.domain]
    part = onnx.helper.make_model(graph, opset_imports=opsets)
    values = ReferenceEvaluator(part).run(names, {})
    return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}


def _is_affine_layer(node: onnx.NodeProto, weights: Mapping[str, NDArray[np.generic]]) -> bool:
    if node.op_type not in ("Conv", "Gemm") or not all(name in weights for name in node.input[1:]):
        return False
    given = attributes(node)
    return node.op_type == "Conv" or (given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0)


def _merged(
    layer: onnx.NodeProto, norm: onnx.NodeProto, weights: Mapping[str, NDArray[np.generic]]
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Returns weight and bias of the layer followed by the normalisation."""
    weight = weights[layer.input[1]].astype(np.float64)
    gamma, beta, mean, variance = (weights[name].astype(np.float64) for name in norm.input[1:5])
    bias = weights[layer.input[2]].astype(np.float64) if len(layer.input) > 2 else np.zeros_like(mean)
    scale = gamma / np.sqrt(variance + attributes(norm).get("epsilon", 1e-5))
    outputs_last = layer.op_type == "Gemm" and not attributes(layer).get("transB", 0)
    shape = (-1,) if outputs_last else (-1,) + (1,) * (weight.ndim - 1)
    dtype = weights[layer.input[1]].dtype
    return (weight * scale.reshape(shape)).astype(dtype), ((bias - mean) * scale + beta).astype(dtype)
