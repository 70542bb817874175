"""PyTorch to ONNX: standard operators only, the same bytes for the same network, checked against PyTorch.

A grafted activation y = (1 - m) max(x, 0) + m (a x + b) becomes `A * x + B + C * Relu(x)` with the constant tensors
A = m a, B = m b, C = 1 - m. The Relu node of every activation carries the activation's qualified name, so that a
verifier's findings about neurons lead back to the module.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.domain import LgBenchError, UnsupportedNetworkError
from harness.formats.onnx_file import open_session, run_flat
from harness.networks.batch_norm import merge_batch_norm_
from harness.networks.grafted import GraftedReLU
from harness.networks.modes import eval_mode
from harness.networks.onnx_passes import attributes, fold_batch_norm_, fold_constants_, strip_

OPSET = 13
OPSETS = range(13, 18)
"""Versions that VNN-COMP's verifiers read."""
PARITY_TOLERANCE = 1e-4
"""Largest difference of two logits, as a fraction of the input's largest logit (of 1, if that is larger)."""

ROUNDINGS: Mapping[str, torch.dtype] = MappingProxyType({"float16": torch.float16, "bfloat16": torch.bfloat16})
"""Types that weights may be rounded to, by name."""
_MARKER_DOMAIN = "lgbench"


@dataclass(frozen=True, slots=True)
class ParityReport:
    """How far ONNX Runtime's outputs are from PyTorch's."""

    inputs: int
    """Number of inputs compared."""
    max_abs_diff: float
    """Largest difference of two logits; NaN if either side gave one."""
    max_rel_diff: float
    """The same over the input's largest logit in PyTorch (over 1, if that is larger)."""
    label_flips: int
    """Inputs whose largest logit is another class; with a small difference these are near-ties."""

    @property
    def agrees(self) -> bool:
        """Whether the difference is rounding only."""
        return self.max_rel_diff <= PARITY_TOLERANCE


def export_onnx(model: nn.Module, input_shape: tuple[int, ...], opset: int = OPSET) -> bytes:
    """Returns the network as an ONNX model: standard operators, batch 1, static shapes, `input` to `output`.

    The same network gives the same bytes. The network itself is not changed; it is exported in eval mode, and batch
    normalisation is merged into the layer before it. An activation that is called more than once gets one node a
    call: `relu`, `relu#2`.

    Args:
        model: maps `(1, *input_shape)` to `(1, outputs)`.
        input_shape: shape of one input, without the batch dimension.
        opset: version of the ONNX operators, 13 to 17.

    Raises:
        UnsupportedNetworkError: the network cannot be written with standard operators.
        ValueError: the opset is not one of `OPSETS`.
    """
    if opset not in OPSETS:
        raise ValueError(f"opset {opset} is not one of {OPSETS.start} to {OPSETS.stop - 1}")
    proto = _traced(_prepared(model, input_shape), input_shape, opset)
    _replace_markers_(proto)
    fold_constants_(proto)
    fold_batch_norm_(proto)
    strip_(proto)
    foreign = sorted({f"{node.domain}::{node.op_type}" for node in proto.graph.node if node.domain})
    if foreign:
        raise UnsupportedNetworkError(f"the network needs operators that are not ONNX standard: {', '.join(foreign)}")
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))


def check_parity(model: nn.Module, onnx_bytes: bytes, input_shape: tuple[int, ...], seed: int = 0) -> ParityReport:
    """Returns how far the ONNX model is from the network, on random and on corner inputs in [0, 1].

    The inputs: all zeros, all ones, random vertices of the cube, uniform noise, and noise that crowds towards the
    vertices (Beta(1/2, 1/2)), where a lost clamp or a wrong constant shows first.

    Args:
        model: the source; evaluated in eval mode on its device, its mode is restored.
        onnx_bytes: the export.
        input_shape: shape of one input, without the batch dimension.
        seed: seeds the inputs.
    """
    session = open_session(onnx_bytes)
    inputs = _probes(input_shape, seed)
    expected = _evaluate(model, inputs)
    found = np.stack([run_flat(session, x.ravel()) for x in inputs])
    if found.shape != expected.shape:
        raise LgBenchError(f"the ONNX model gives {found.shape[1]} outputs, the network {expected.shape[1]}")
    difference = np.abs(found.astype(np.float64) - expected).max(axis=1)
    scale = np.maximum(np.abs(expected).max(axis=1), 1.0)
    flips = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    return ParityReport(len(inputs), float(difference.max()), float((difference / scale).max()), flips)


def round_weights_(model: nn.Module, kind: str) -> nn.Module:
    """Rounds every parameter to the nearest value that a shorter type holds; types, masks and buffers stay as they are.

    The network stays a float32 network, whose zipped file is smaller. Nothing is changed on an error.

    Args:
        model: the network.
        kind: of `ROUNDINGS`.

    Returns:
        `model` itself.

    Raises:
        LgBenchError: a parameter is beyond the type's range or not finite.
    """
    dtype = ROUNDINGS[kind]
    rounded = {name: p.detach().to(dtype).to(p.dtype) for name, p in model.named_parameters()}
    for name, value in rounded.items():
        if not bool(torch.isfinite(value).all()):
            most = torch.finfo(dtype).max
            raise LgBenchError(f"the parameter '{name}' has values beyond {kind}'s range ({most:g}); it is not rounded")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(rounded[name])
    return model


class _MarkedRelu(torch.autograd.Function):
    """A ReLU that leaves its activation's name in the traced graph.

    The exporter's own node names are made from scopes and differ between versions; an attribute of a node does not.
    """

    @staticmethod
    def forward(_ctx: Any, x: Tensor, _name: str) -> Tensor:
        return torch.relu(x)

    @staticmethod
    def symbolic(g: Any, x: Any, name: str) -> Any:
        output = g.op(f"{_MARKER_DOMAIN}::Relu", x, name_s=name)
        output.setType(x.type())
        return output


class _NamedRelu(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        marked: Tensor = _MarkedRelu.apply(x, self.name)  # type: ignore[no-untyped-call]
        return marked


class _NamedGraft(_NamedRelu):
    """The grafted activation with its three constants worked out."""

    slope: Tensor
    intercept: Tensor
    keep: Tensor

    def __init__(self, name: str, source: GraftedReLU) -> None:
        super().__init__(name)
        linear = source.mask.to(source.slope.dtype)
        self.register_buffer("slope", source.slope.detach() * linear)
        self.register_buffer("intercept", source.intercept.detach() * linear)
        self.register_buffer("keep", 1 - linear)

    def forward(self, x: Tensor) -> Tensor:
        return self.slope * x + self.intercept + self.keep * super().forward(x)


def _prepared(model: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
    """Returns a copy on the CPU in eval mode, whose layers and activations carry their names into the export."""
    prepared = copy.deepcopy(model).cpu().eval()
    # Left to the exporter, merged layers lose their names and are rounded more than once.
    merge_batch_norm_(prepared, input_shape)
    for name, module in list(prepared.named_modules(remove_duplicate=False)):
        if isinstance(module, nn.ReLU | GraftedReLU):
            named = _NamedGraft(name, module) if isinstance(module, GraftedReLU) else _NamedRelu(name)
            parent_name, _, child_name = name.rpartition(".")
            setattr(prepared.get_submodule(parent_name), child_name, named)
        elif isinstance(module, nn.Linear) and "bias" not in dict(module.named_parameters()):
            # With a bias it is exported as one Gemm, into which a batch normalisation can be merged.
            module.bias = nn.Parameter(torch.zeros_like(module.weight[:, 0]))
    return prepared


def _traced(model: nn.Module, input_shape: tuple[int, ...], opset: int) -> onnx.ModelProto:
    parameter = next(model.parameters(), None)
    example = torch.zeros(1, *input_shape, dtype=torch.float32 if parameter is None else parameter.dtype)
    with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        # The tracing exporter is deprecated but needs no further package, and its graph is checked below.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                model,
                (example,),
                file,
                dynamo=False,
                opset_version=opset,
                input_names=["input"],
                output_names=["output"],
                custom_opsets={_MARKER_DOMAIN: 1},
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UnsupportedNetworkError(f"the network cannot be exported to ONNX: {reason}") from error
        return onnx.load_model_from_string(file.read_bytes())


def _replace_markers_(proto: onnx.ModelProto) -> None:
    """Turns the marked activations into standard Relu nodes with their names, unique in the graph."""
    calls: Counter[str] = Counter()
    for node in proto.graph.node:
        if node.domain == _MARKER_DOMAIN:
            name = attributes(node)["name"].decode()
            calls[name] += 1
            node.domain = ""
            node.name = name if calls[name] == 1 else f"{name}#{calls[name]}"
            del node.attribute[:]
    standard = [opset for opset in proto.opset_import if opset.domain != _MARKER_DOMAIN]
    del proto.opset_import[:]
    proto.opset_import.extend(standard)


def _probes(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Returns the inputs of the comparison, `(inputs, *shape)`."""
    random = np.random.default_rng(seed)
    parts = (
        np.zeros((1, *shape)),
        np.ones((1, *shape)),
        random.integers(0, 2, (30, *shape)),
        random.random((32, *shape)),
        random.beta(0.5, 0.5, (32, *shape)),
    )
    return np.concatenate(parts).astype(np.float32)


def _evaluate(model: nn.Module, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the network's outputs one input at a time, as ONNX Runtime sees them, `(inputs, outputs)`."""
    parameter = next(model.parameters(), torch.zeros(()))
    with torch.no_grad(), eval_mode(model):
        return np.stack(list(_outputs(model, inputs, parameter)))


def _outputs(model: nn.Module, inputs: NDArray[np.float32], like: Tensor) -> Iterator[NDArray[np.float64]]:
    for x in inputs:
        batch = torch.from_numpy(x).to(like.device, like.dtype).unsqueeze(0)
        yield model(batch).double().cpu().numpy().ravel()
