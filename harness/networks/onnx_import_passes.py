"""Rewrites of a foreign ONNX graph before it becomes a PyTorch network: batches, names, grafted activations.

Every pass changes the given model in place and keeps its function for a batch of one. Only plain graphs are handled.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from harness.networks.onnx_passes import attributes, fold_batch_norm_, fold_constants_, prune_

AFFINE_LAYERS = ("Conv", "Gemm", "MatMul", "ConvTranspose")
_PASSED_ON = ("Identity", "Dropout")


@dataclass(frozen=True, slots=True, eq=False)
class GraftConstants:
    """A, B and C of an activation that the graph spells as A * x + B + C * relu(x)."""

    slope: NDArray[Any]
    intercept: NDArray[Any]
    keep: NDArray[Any]
    """1 where the neuron is a ReLU, 0 where it is linear."""


def normalise_(model: onnx.ModelProto) -> dict[str, GraftConstants]:
    """Brings a graph into the form that is converted; afterwards every Relu node has a qualified name of its own.

    Constants and batch normalisation are folded, what does nothing in evaluation is removed, a clip to [0, inf) is
    called a ReLU, a reshape keeps whatever batch comes, and each grafted activation is one Relu node.

    Returns:
        Name of each grafted activation to its constants.
    """
    fix_free_dimensions_(model)
    inline_shapes_(model)
    fold_constants_(model)
    remove_identities_(model)
    clips_to_relus_(model)
    fold_batch_norm_(model)
    keep_batch_(model)
    name_relus_(model)
    grafts = collapse_grafts_(model)
    prune_(model)
    return grafts


def fix_free_dimensions_(model: onnx.ModelProto) -> None:
    """Gives every free dimension of the inputs the size 1; weights that older files list as inputs are left out."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    for value in inputs:
        for dimension in value.type.tensor_type.shape.dim:
            dimension.dim_value = max(dimension.dim_value, 1)
    kept = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in inputs]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def inline_shapes_(model: onnx.ModelProto) -> None:
    """Replaces the shapes that the graph asks for by constants, wherever inference knows them."""
    if not any(node.op_type == "Shape" for node in model.graph.node):
        return
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.input, *inferred.graph.value_info)
        if value.type.tensor_type.HasField("shape")
    }
    for node in list(model.graph.node):
        shape = shapes.get(node.input[0]) if node.op_type == "Shape" and not node.attribute else None
        if shape is not None and all(size > 0 for size in shape):
            model.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), node.output[0]))
            model.graph.node.remove(node)


def remove_identities_(model: onnx.ModelProto) -> None:
    """Removes nodes that pass their input on in evaluation, dropout among them, unless they make the output."""
    outputs = {value.name for value in model.graph.output}
    readers = Counter(name for node in model.graph.node for name in node.input)
    for node in list(model.graph.node):
        masks = sum(readers[name] for name in node.output[1:])
        if node.op_type in _PASSED_ON and not masks and node.output[0] not in outputs:
            _read_instead(model, node.output[0], node.input[0])
            model.graph.node.remove(node)


def clips_to_relus_(model: onnx.ModelProto) -> None:
    """Calls each clip to [0, inf) what it is: a ReLU."""
    constants = _constants(model)
    for node in model.graph.node:
        if node.op_type != "Clip":
            continue
        low, high = (constants.get(name) if name else None for name in (*node.input[1:], "", "")[:2])
        given = attributes(node)
        least = given.get("min") if low is None else float(low)
        open_above = high is None and len([name for name in node.input[2:] if name]) == 0 and "max" not in given
        if least == 0 and open_above:
            node.op_type = "Relu"
            del node.input[1:]
            del node.attribute[:]


def keep_batch_(model: onnx.ModelProto) -> None:
    """Lets each reshape to a batch of one keep whatever batch comes."""
    constants = _constants(model)
    for index, node in enumerate(model.graph.node):
        target = constants.get(node.input[1]) if node.op_type == "Reshape" and len(node.input) > 1 else None
        if target is None or target.size < 2 or target[0] != 1:
            continue
        # Several nodes may read the same constant.
        name = f"{node.output[0]}/shape/{index}"
        model.graph.initializer.append(numpy_helper.from_array(np.r_[np.int64(0), target[1:]].astype(np.int64), name))
        node.input[1] = name


def name_relus_(model: onnx.ModelProto) -> None:
    """Gives each Relu node a name that is unique and can be a module's: the exporter's scopes, joined by dots."""
    names = NameTable()
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.name = names.unique(qualified(node.name, "Relu") or "relu1")


def collapse_grafts_(model: onnx.ModelProto) -> dict[str, GraftConstants]:
    """Makes A * x + B + C * relu(x) with constants one Relu node each; returns the constants by the node's name."""
    found = {}
    for relu in [node for node in model.graph.node if node.op_type == "Relu"]:
        index = _Readers(model)
        parts = index.graft(relu)
        if parts is None:
            continue
        nodes, constants = parts
        found[relu.name] = constants
        relu.output[0] = nodes[-1].output[0]
        for node in nodes:
            model.graph.node.remove(node)
    return found


class NameTable:
    """Names that can stand side by side as qualified module names: none is another, and none is inside another."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def unique(self, name: str) -> str:
        """Returns `name`, with a number where it would collide, and takes it."""
        stem = name.rstrip("0123456789")
        number = int(name[len(stem) :] or 1)
        while self._collides(name):
            number += 1
            name = f"{stem}{number}" if stem else f"n{number}"
        self._taken.add(name)
        return name

    def _collides(self, name: str) -> bool:
        return any(name == t or name.startswith(f"{t}.") or t.startswith(f"{name}.") for t in self._taken)


def qualified(name: str, op_type: str) -> str:
    """Returns an ONNX node's name as a qualified module name: `/block1/relu2/Relu` is `block1.relu2`."""
    parts = [re.sub(r"[^A-Za-z0-9_#-]", "_", part) for part in re.split(r"[/.]", name) if part]
    if len(parts) > 1 and parts[-1] == op_type:
        parts.pop()
    return ".".join(parts)


class _Readers:
    """Who reads which value of a graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.constants = _constants(model)
        self.outputs = {value.name for value in model.graph.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def graft(self, relu: onnx.NodeProto) -> tuple[list[onnx.NodeProto], GraftConstants] | None:
        """Returns the four nodes around a Relu that graft it, the last one first in no other use, and A, B, C."""
        for kept, keep in self._combined("Mul", relu.output[0], alone=True):
            for product, slope in self._combined("Mul", relu.input[0]):
                for line, intercept in self._combined("Add", product.output[0], alone=True):
                    total = self._only_reader(line.output[0])
                    same = total is not None and total is self._only_reader(kept.output[0])
                    if same and total is not None and total.op_type == "Add" and _is_graft(slope, intercept, keep):
                        return [product, line, kept, total], GraftConstants(slope, intercept, keep)
        return None

    def _combined(self, op_type: str, name: str, alone: bool = False) -> Iterator[tuple[onnx.NodeProto, NDArray[Any]]]:
        """Yields each node that combines the value with a constant; `alone`: only if nothing else reads the value."""
        readers = self.readers.get(name, [])
        if alone and (len(readers) != 1 or name in self.outputs):
            return
        for node in readers:
            other = next((i for i in node.input if i != name), "")
            if node.op_type == op_type and other in self.constants:
                yield node, self.constants[other]

    def _only_reader(self, name: str) -> onnx.NodeProto | None:
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None


def _is_graft(slope: NDArray[Any], intercept: NDArray[Any], keep: NDArray[Any]) -> bool:
    """Whether the three say for each neuron either a ReLU or a line, and nothing in between."""
    relu = keep == 1
    plain = np.broadcast_arrays(slope, intercept, relu)
    return bool((relu | (keep == 0)).all() and not ((plain[0] != 0) | (plain[1] != 0))[plain[2]].any())


def _constants(model: onnx.ModelProto) -> Mapping[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _read_instead(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name == old:
                node.input[position] = new
