"""A user's own PyTorch code as a network: `module:factory`, its weights, and the form in which it is grafted."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.domain import LgBenchError, UsageError
from harness.networks.export import check_parity, export_onnx
from harness.networks.from_onnx import network_from_onnx

FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""What names a factory: a module that can be imported, a colon, a callable in it."""
_NESTED = ("state_dict", "model_state_dict", "model", "net")
"""Where training scripts put the weights in a checkpoint."""


def is_factory(text: str) -> bool:
    """Returns whether the text has the form `module:factory`."""
    return FACTORY.fullmatch(text) is not None


def build_user_network(factory: str, weights: Path | None = None) -> nn.Module:
    """Returns what `module:factory` returns when it is called without arguments, with the weights of a file.

    The module is looked for in the current folder too. It is the user's own code and is run.

    Args:
        factory: `module:factory`.
        weights: a state dict (`.pt`, `.pth`, read without running code) or `.safetensors`; None keeps what the
            factory set.

    Raises:
        UsageError: there is no such factory, it fails or returns something else, or the weights do not fit.
    """
    module_name, _, attribute = factory.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        made: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            made = getattr(made, part)
        network = made()
    except Exception as error:
        # A user's code may raise anything.
        raise UsageError(f"{factory}: cannot be called ({type(error).__name__}: {_first_line(error)})") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"{factory}: returns a {type(network).__name__}; an nn.Module is needed")
    if weights is not None:
        load_weights_(network, weights)
    return network.eval()


def load_weights_(network: nn.Module, path: Path) -> None:
    """Loads a state dict into the network; every weight must be there, and no other.

    Checkpoints that hold the state dict under a usual name are understood, and so is the prefix `module.` of
    `nn.DataParallel`.

    Raises:
        UsageError: the file is missing, unreadable or holds code, or the weights do not fit.
    """
    state = read_weights(path)
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    own = network.state_dict()
    missing, foreign = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    sizes = sorted(
        f"{name} {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in own.keys() & state.keys()
        if state[name].shape != own[name].shape
    )
    kinds = (("missing", missing), ("unknown", foreign), ("of another size", sizes))
    wrong = [f"{what}: {_some(names)}" for what, names in kinds if names]
    if wrong:
        raise UsageError(f"{path}: the weights are not this network's; {'; '.join(wrong)}")
    network.load_state_dict(state)


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Returns the tensors of a state dict by name; no code of the file is run.

    Raises:
        UsageError: the file is missing, is not a state dict, or needs the package safetensors, which is not installed.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; --weights names a state dict (.pt, .pth or .safetensors)")
    try:
        found = _safetensors(path) if path.suffix == ".safetensors" else _state_dict(path)
    except UsageError:
        raise
    except Exception as error:
        # Pickle, zip and safetensors each have errors of their own.
        raise UsageError(f"{path}: not a readable state dict ({_first_line(error)})") from error
    nested = next((found[key] for key in _NESTED if isinstance(found, Mapping) and key in found), found)
    state = nested if isinstance(nested, Mapping) else found
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(f"{path}: not a state dict of tensors; save it with torch.save(network.state_dict(), FILE)")
    return dict(state)


def _state_dict(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise UsageError(f"{path}: reading it needs the package safetensors: pip install safetensors") from error
    return load_file(path)


def graftable(network: nn.Module, input_shape: tuple[int, ...], label: str) -> tuple[bytes, nn.Module]:
    """Returns the network as ONNX, and the PyTorch network of that file, every ReLU of which is a child of its own.

    Activations keep their qualified names; a ReLU that is a function call, or the second call of one module, cannot be
    replaced by name, so it becomes a module: `block.Relu`, `relu#2`. Batch normalisation is merged into the layer
    before it and dropout is gone: the network is the one that is evaluated.

    Args:
        network: maps `(batch, *input_shape)` to logits.
        input_shape: shape of one input, without the batch dimension.
        label: what to call the network in errors.

    Raises:
        UsageError: the network takes another shape, cannot be exported, or its export computes something else.
    """
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *input_shape))
    except Exception as error:
        raise UsageError(
            f"{label}: cannot be evaluated on an input of shape {input_shape} ({_first_line(error)}); see --input-shape"
        ) from error
    try:
        data = export_onnx(network, input_shape)
        report = check_parity(network, data, input_shape)
    except LgBenchError as error:
        raise UsageError(f"{label}: {_first_line(error)}") from error
    if not report.agrees:
        raise UsageError(f"{label}: its ONNX form differs from PyTorch by {report.max_abs_diff:.3g}; it is not used")
    return data, network_from_onnx(data, label)


def unnamed_relus(network: nn.Module, names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns those of the activations `names` that are no child module of the user's network: functional or reused."""
    own = dict(network.named_modules(remove_duplicate=False))
    return tuple(name for name in names if name not in own)


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
