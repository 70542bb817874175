"""ONNX to PyTorch: a network to be grafted or trained, from a file that somebody else may have written.

The conversion is onnx2pytorch's. Its result is traced into a plain graph of modules with telling names and compared
with ONNX Runtime before anybody gets it: the package is known to deviate from ONNX in places.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor, fx, nn

from harness.domain import LgBenchError, UsageError
from harness.formats.onnx_file import open_session
from harness.networks.export import PARITY_TOLERANCE, check_parity
from harness.networks.grafted import neuron_shapes, restore_graft_
from harness.networks.onnx_import_passes import AFFINE_LAYERS, GraftConstants, NameTable, normalise_, qualified

_BATCH = 3
"""Inputs of the batch that is compared with its inputs one by one."""


def network_from_onnx(data: bytes, label: str = "the network") -> nn.Module:
    """Returns a PyTorch network, in eval mode, that computes what ONNX Runtime computes, for batches of any size.

    Every ReLU is a child module under the name of its Relu node (scopes joined by dots), used once; an activation that
    stands in the file as A * x + B + C * relu(x) with constants comes back as the `GraftedReLU` it was exported from.
    A layer is named after its weight: `conv1.weight` gives `conv1`. Weights are float32 parameters, batch normalisation
    is merged into the layer before it.

    Args:
        data: the model; one input and one output, batch first.
        label: what to call the network in errors.

    Raises:
        UsageError: the model has no ReLU, cannot be converted, or the converted network computes something else.
    """
    session = open_session(data)
    proto = onnx.load_model_from_string(data)
    shape = session.input.shape[1:]
    if session.input.shape[:1] != (1,) or not shape:
        raise UsageError(f"{label}: its input is {session.input.shape}, but a batch of one must stand first: (1, ...)")
    try:
        grafts = normalise_(proto)
        if not any(node.op_type == "Relu" for node in proto.graph.node):
            found = ", ".join(sorted({node.op_type for node in proto.graph.node})) or "none"
            raise UsageError(f"{label}: has no ReLU to graft; its operators are {found}")
        network = _converted(proto).float().eval()
        _restore_grafts_(network, grafts, shape)
    except UsageError:
        raise
    except Exception as error:
        # onnx2pytorch, torch.fx and onnx raise whatever comes up in their depths.
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UsageError(f"{label}: cannot be converted to PyTorch ({reason}); simplify or re-export it") from error
    _check(network, data, shape, label)
    return network


def input_shape_of(data: bytes) -> tuple[int, ...]:
    """Returns the shape of one input of an ONNX model, without the batch dimension.

    Raises:
        UsageError: ONNX Runtime cannot load the model.
    """
    return open_session(data).input.shape[1:]


@dataclass(frozen=True, slots=True)
class _Origin:
    """The node that made a value."""

    op_type: str
    name: str
    """A qualified module name that would say where it comes from; it may be taken already."""


def _converted(proto: onnx.ModelProto) -> fx.GraphModule:
    """Returns the graph of a normalised model, its modules under telling names."""
    origins = _plain_values_(proto)
    with warnings.catch_warnings():
        # Remarks on opsets and on arrays that are not writeable; what they could lead to is checked by the values.
        warnings.simplefilter("ignore")
        root = _Root(_onnx2pytorch().ConvertModel(proto))
        graph = _Tracer().trace(root)
    names = NameTable(origin.name for origin in origins.values() if origin.op_type == "Relu")
    parts: dict[str, Any] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            old = str(node.target)
            origin = origins[old.rpartition("_")[2]]
            node.target = origin.name if origin.op_type == "Relu" else names.unique(origin.name)
            parts[node.target] = _plain_module(root.get_submodule(old))
            if origin.op_type == "Reshape":
                # The target shape is in the module; as a tensor it would have to be read back from the device.
                node.args = node.args[:1]
    for node in list(graph.nodes):
        if node.op == "get_attr" and not node.users:
            graph.erase_node(node)
        elif node.op == "get_attr":
            value = getattr(root.inner, str(node.target).rpartition(".")[2])
            node.target = names.unique("constant1")
            parts[node.target] = value
    return fx.GraphModule(parts, graph, "OnnxNetwork")


def _plain_values_(proto: onnx.ModelProto) -> dict[str, _Origin]:
    """Renames every value to letters and digits, which attributes can be called; returns who made each.

    The converter joins a product and the sum that follows under the sum's value, so the sum is called like the product.
    """
    graph = proto.graph
    plain: dict[str, str] = {"": ""}

    def renamed(name: str) -> str:
        return plain.setdefault(name, f"v{len(plain)}")

    weights = {tensor.name for tensor in graph.initializer}
    origins: dict[str, _Origin] = {}
    for node in graph.node:
        weight = next((name for name in node.input[1:2] if name in weights and name.endswith(".weight")), None)
        name = qualified(node.name, node.op_type) or f"{node.op_type.lower()}1"
        if node.op_type == "Relu":
            name = node.name
        elif node.op_type in AFFINE_LAYERS and weight is not None:
            name = qualified(weight.removesuffix(".weight"), "")
        elif node.op_type == "Add":
            made = [origins[plain[i]] for i in node.input if plain.get(i) in origins]
            name = made[0].name if len(made) == 1 and made[0].op_type == "MatMul" else name
        for output in node.output:
            origins[renamed(output)] = _Origin(node.op_type, name)
    for node in graph.node:
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = renamed(value.name)
    del graph.value_info[:]
    return origins


def _plain_module(module: nn.Module) -> nn.Module:
    """Returns PyTorch's own module where the converter's does the same."""
    if type(module).__name__ == "Flatten" and getattr(module, "start_dim", None) == 1:
        return nn.Flatten()
    if isinstance(module, nn.Linear):
        # A product's bias may be a row; its weight is a transposed view.
        module.weight = nn.Parameter(module.weight.detach().contiguous())
        if module.bias is not None:
            module.bias = nn.Parameter(module.bias.detach().flatten())
    return module


def _restore_grafts_(network: nn.Module, grafts: dict[str, GraftConstants], shape: tuple[int, ...]) -> None:
    """Puts the grafted activations back that the normalisation took for plain ReLUs."""
    if not grafts:
        return
    shapes = neuron_shapes(network, shape)
    for name, constants in grafts.items():
        restore_graft_(network, name, shapes[name], (constants.slope, constants.intercept, constants.keep))


def _check(network: nn.Module, data: bytes, shape: tuple[int, ...], label: str) -> None:
    """Raises UsageError unless the network computes what the file says, for one input and for several at once."""
    if next(network.parameters(), None) is None:
        raise UsageError(f"{label}: has no weights that could be trained")
    try:
        report = check_parity(network, data, shape)
        with torch.no_grad():
            inputs = torch.rand(_BATCH, *shape, generator=torch.Generator().manual_seed(0))
            together, single = network(inputs), torch.cat([network(x.unsqueeze(0)) for x in inputs])
    except (LgBenchError, RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UsageError(f"{label}: PyTorch cannot evaluate it on a batch of inputs ({reason})") from error
    if not report.agrees:
        raise UsageError(
            f"{label}: the PyTorch form differs from ONNX Runtime by {report.max_abs_diff:.3g}; it is not used"
        )
    if together.ndim != 2:
        raise UsageError(f"{label}: its output is {tuple(together.shape[1:])}; a row of logits is needed")
    if together.shape != single.shape or not _close(together, single):
        raise UsageError(f"{label}: several inputs at once give other outputs than one at a time; it is not used")


def _close(found: Tensor, expected: Tensor) -> bool:
    scale = expected.abs().amax(dim=1, keepdim=True).clamp(min=1)
    return bool(((found - expected).abs() <= PARITY_TOLERANCE * scale).all())


class _Root(nn.Module):
    """Calls the converted network with one positional argument, which is what a tracer can follow."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return y


class _Tracer(fx.Tracer):
    """Follows the converter's loop over nodes; each node's module is one step."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 - torch.fx's signature
        return type(m).__name__ != "ConvertModel"


def _onnx2pytorch() -> Any:
    """Returns the package, which is imported only where it is used.

    It imports torchvision, whose CUDA build fails beside a CPU build of torch: its operator `nms` is then unknown when
    a fake of it is registered. Declaring the operator is all that is missing; nothing here calls it.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import onnx2pytorch
    except ImportError as error:
        raise UsageError(f"this needs the package onnx2pytorch ({error}); install it") from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [n for n in sys.modules if n.partition(".")[0] in ("torchvision", "onnx2pytorch")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        _KEPT.append(library)
        for operator in ("nms", "qnms"):
            schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(schema)  # type: ignore[no-untyped-call]
        import onnx2pytorch
    return onnx2pytorch


_KEPT: list[torch.library.Library] = []
"""What is declared to torch lives as long as the object that declared it."""
