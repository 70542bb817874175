"""The committed networks: `models/<benchmark>/<variant>.onnx.gz`, each with its manifest `<variant>.json`.

The ONNX file is the only copy of the weights. `load_network` rebuilds the PyTorch network from it exactly, so that what
is trained further is what was verified.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from harness.domain import UsageError
from harness.files import sha256_bytes, write_atomically
from harness.formats.onnx_file import load_model_bytes
from harness.networks.architectures import ARCHITECTURES
from harness.networks.batch_norm import batch_norm_names, merge_batch_norm_
from harness.networks.from_onnx import network_from_onnx
from harness.networks.grafted import GraftedReLU, neuron_shapes, relu_names, restore_graft_

MANIFEST_SCHEMA = 1
FOREIGN = "onnx"
"""Architecture of a network that came as an ONNX file; one that came as code is called `module:factory`."""
NETWORK_SUFFIX = ".onnx.gz"
MANIFEST_SUFFIX = ".json"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FileHash:
    """A file beside the manifest and what is in it."""

    file: str
    sha256: str
    """Of the file's bytes; of a gzipped network, of the bytes inside."""


@dataclass(frozen=True, slots=True)
class ParentNetwork:
    """The network that a grafted one was made from."""

    variant: str
    sha256: str
    """Of its uncompressed ONNX bytes."""


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """The training that led to the weights."""

    config: Mapping[str, Any]
    """Every field of the `TrainingConfig`."""
    digest: str
    """Hash of `config`; a checkpoint carries the same."""
    epochs_run: int
    best_epoch: int
    """Epoch, from 0, whose weights these are: the one with the best validation RA; -1: they were not trained here."""
    val_sa: float
    """Percent, of that epoch."""
    val_ra: float
    """Percent, of that epoch, under the one-step attack of training."""
    note: str = ""
    """How the schedule differs from the published one, for readers of tables."""


@dataclass(frozen=True, slots=True)
class Activation:
    """One activation of the network."""

    name: str
    """Qualified name, as masks use it."""
    shape: tuple[int, ...]
    """Shape of its neurons."""
    grafted: int = 0
    """How many of them are linear."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the ONNX file, on ONNX Runtime, is from the PyTorch network."""

    max_abs_diff: float
    """Largest difference of a logit."""
    inputs: int


@dataclass(frozen=True, slots=True)
class NetworkManifest:
    """What a committed network is, where it comes from and what was measured of it."""

    benchmark: str
    variant: str
    architecture: str
    """Key of `ARCHITECTURES`; `onnx` or `module:factory` of a user's own network."""
    input_shape: tuple[int, ...]
    onnx: FileHash
    parameters: int
    activations: tuple[Activation, ...]
    training: TrainingRecord
    metrics: Mapping[str, Mapping[str, Any]]
    """`SA` and `RA`: `value` in percent, `n` inputs and what it was measured under."""
    versions: Mapping[str, str]
    parity: Parity | None = None
    parent: ParentNetwork | None = None
    mask: FileHash | None = None
    rounding: str = "float16"
    """`float16`, `bfloat16`: all weights are numbers of that type, stored as float32; `none`."""
    batch_norm: str = "none"
    """`folded`: the architecture has batch normalisation, which is merged into the layers' weights; `kept`; `none`."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Hashes of the images, and remarks on them."""
    schema: int = MANIFEST_SCHEMA

    @property
    def grafted_neurons(self) -> int:
        """Number of linear neurons."""
        return sum(activation.grafted for activation in self.activations)


def manifest_path(folder: Path, variant: str) -> Path:
    """Returns where the manifest of a variant stands."""
    return folder / f"{variant}{MANIFEST_SUFFIX}"


def network_path(folder: Path, variant: str) -> Path:
    """Returns where the network of a variant stands."""
    return folder / f"{variant}{NETWORK_SUFFIX}"


def write_manifest(path: Path, manifest: NetworkManifest) -> None:
    """Replaces `path` by the manifest as JSON with sorted keys; `grafted_neurons` is written for readers."""
    raw = asdict(manifest) | {"grafted_neurons": manifest.grafted_neurons}
    write_atomically(path, json.dumps(raw, indent=2, sort_keys=True) + "\n")


def read_manifest(path: Path) -> NetworkManifest:
    """Returns the manifest of a file.

    Raises:
        UsageError: there is no such file, or it is not a manifest of this schema.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] != MANIFEST_SCHEMA:
            raise UsageError(f"{path}: manifest schema {raw['schema']}, but only {MANIFEST_SCHEMA} is known; upgrade")
        activations = tuple(Activation(a["name"], tuple(a["shape"]), a["grafted"]) for a in raw["activations"])
        values = {key: value for key, value in raw.items() if key != "grafted_neurons"}
        return NetworkManifest(
            **values
            | {
                "input_shape": tuple(raw["input_shape"]),
                "onnx": FileHash(**raw["onnx"]),
                "activations": activations,
                "training": TrainingRecord(**raw["training"]),
                "parity": _optional(Parity, raw["parity"]),
                "parent": _optional(ParentNetwork, raw["parent"]),
                "mask": _optional(FileHash, raw["mask"]),
            }
        )
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such manifest; train the network, or name one of models/") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not a network manifest ({error})") from error


def load_network(folder: Path, variant: str) -> nn.Module:
    """Returns the committed network as a PyTorch module in eval mode, its weights bit-equal to the ONNX file's.

    A user's own network is rebuilt from the file alone; the code that once made it is not needed.

    Args:
        folder: `models/<benchmark>`.
        variant: the network's name in it.

    Raises:
        UsageError: manifest or network are missing, do not belong together or are of an unknown architecture.
    """
    manifest, path = read_manifest(manifest_path(folder, variant)), network_path(folder, variant)
    data = load_model_bytes(path)
    if sha256_bytes(data) != manifest.onnx.sha256:
        raise UsageError(f"{path}: not the network of its manifest (SHA-256 differs); fetch or export both again")
    if is_foreign(manifest.architecture):
        network = network_from_onnx(data, str(path))
    else:
        network = restore(build(manifest.architecture), data, manifest.input_shape, str(path))
    if activations(network, manifest.input_shape) != manifest.activations:
        raise UsageError(f"{path}: its activations are not those of its manifest; export both again")
    return network


def is_foreign(architecture: str) -> bool:
    """Returns whether the architecture is a user's own, so that the file alone says what the network is."""
    return architecture == FOREIGN or ":" in architecture


def build(architecture: str, seed: int | None = None) -> nn.Module:
    """Returns an untrained network; torch's own random state is left as it was when a seed is given.

    Args:
        architecture: key of `ARCHITECTURES`.
        seed: seeds the initial weights; None takes whatever comes.

    Raises:
        UsageError: no architecture is called so.
    """
    if architecture not in ARCHITECTURES:
        raise UsageError(f"unknown architecture '{architecture}'; known: {', '.join(sorted(ARCHITECTURES))}")
    if seed is None:
        return ARCHITECTURES[architecture]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARCHITECTURES[architecture]()


def restore(
    network: nn.Module, onnx_bytes: bytes, input_shape: tuple[int, ...], label: str = "the network"
) -> nn.Module:
    """Returns `network`, in eval mode, with the weights and graftings of an ONNX file that was exported from its twin.

    Files have batch normalisation merged into the layers, so the network loses it too, as by `merge_batch_norm_`.
    A grafted activation stands in the file as A * x + B + C * relu(x) with constants; its mask is C == 0. Slope and
    intercept of a neuron that is not grafted are not in the file and get their start values: no output depends on them.

    Args:
        network: the architecture, not grafted; changed in place.
        onnx_bytes: the model.
        input_shape: shape of one input, without the batch dimension.
        label: what to call the file in errors.

    Raises:
        UsageError: the file lacks a weight of the network or has it in another shape.
    """
    graph = _Graph(onnx.load_model_from_string(onnx_bytes).graph)
    merge_batch_norm_(network, input_shape)
    shapes = neuron_shapes(network, input_shape)
    grafts = {name: graft for name in relu_names(network) if (graft := graph.graft(name)) is not None}
    with torch.no_grad():
        for name, parameter in _stored(network):
            value = graph.constants.get(name)
            if value is None or tuple(value.shape) != tuple(parameter.shape):
                found = "is missing" if value is None else f"is {value.shape}, not {tuple(parameter.shape)}"
                raise UsageError(f"{label}: weight '{name}' {found}; the file is of another architecture")
            parameter.copy_(torch.from_numpy(value.copy()))
    for name, constants in grafts.items():
        restore_graft_(network, name, shapes[name], constants)
    return network.eval()


def activations(network: nn.Module, input_shape: tuple[int, ...]) -> tuple[Activation, ...]:
    """Returns name, neuron shape and number of grafted neurons of each activation, in forward order."""
    found = []
    for name, shape in neuron_shapes(network, input_shape).items():
        module = network.get_submodule(name)
        grafted = int(module.mask.sum()) if isinstance(module, GraftedReLU) else 0
        found.append(Activation(name, shape, grafted))
    return tuple(found)


def parameter_count(network: nn.Module) -> int:
    """Returns the number of parameters that the output depends on: slopes and intercepts of grafted neurons only."""
    grafts = [module for module in network.modules() if isinstance(module, GraftedReLU)]
    ignored = sum(2 * int((~module.mask).sum()) for module in grafts)
    return sum(parameter.numel() for parameter in network.parameters()) - ignored


def versions() -> dict[str, str]:
    """Returns the versions that a manifest records."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "onnx": onnx.__version__,
    }


def _stored(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields what a file has to say of a network: its parameters, and statistics that could not be merged into them."""
    yield from network.named_parameters()
    for norm in batch_norm_names(network):
        for name, buffer in network.get_submodule(norm).named_buffers(recurse=False):
            if name in ("running_mean", "running_var"):
                yield f"{norm}.{name}", buffer


def _optional(kind: type[T], raw: Mapping[str, Any] | None) -> T | None:
    return None if raw is None else kind(**raw)


class _Graph:
    """The constants of an ONNX graph, and the grafted activations among its nodes."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = list(graph.node)
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)

    def graft(self, name: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None:
        """Returns A, B and C of the activation whose Relu node is called `name`; None if it is a plain ReLU.

        A grafted activation without a Relu node is not known here: the exporter always writes one.
        """
        relu = next((n for n in self.nodes if n.op_type == "Relu" and n.name == name), None)
        if relu is None:
            return None
        keep = next((c for _, c in self._with_constant("Mul", relu.output[0])), None)
        product = next(self._with_constant("Mul", relu.input[0]), None)
        if keep is None or product is None:
            return None
        linear, slope = product
        intercept = next((c for _, c in self._with_constant("Add", linear)), None)
        return None if intercept is None else (slope, intercept, keep)

    def _with_constant(self, op_type: str, operand: str) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yields output and constant of each node that combines `operand` with a constant."""
        for node in self.nodes:
            if node.op_type == op_type and operand in node.input:
                other = next((i for i in node.input if i != operand), operand)
                if other in self.constants:
                    yield node.output[0], self.constants[other]
