"""Mask files: which neurons of a network become linear, by the activation's qualified name.

Arrays: `mask` (uint8, flat: all layers one after the other, each in C order), `layer_sizes`, `stage_picks` (one row a
stage, -1 where a stage picked fewer), and as JSON `names`, `shapes` and `provenance`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.domain import BoolArray, GraftMask, UsageError
from harness.grafting.npz import json_array, json_value, layer_sizes, named_shapes, read_npz, write_npz

Shape = tuple[int, ...]


def check_mask(mask: GraftMask, network: Mapping[str, Shape]) -> None:
    """Raises UsageError unless every layer of the mask is an activation of the network, of the same neuron shape.

    Args:
        mask: the mask; it may leave activations out.
        network: activation name to neuron shape (`harness.networks.grafted.neuron_shapes`).
    """
    for name, layer in mask.layers.items():
        if name not in network:
            known = ", ".join(f"{known} {_size(shape)}" for known, shape in network.items()) or "none"
            raise UsageError(f"the mask names activation '{name}' ({_size(layer.shape)}), but the network has: {known}")
        if layer.shape != network[name]:
            raise UsageError(
                f"the mask of activation '{name}' is for neurons {_size(layer.shape)}, but the network's are "
                f"{_size(network[name])}; use a mask made for this network"
            )


def mask_tensors(mask: GraftMask) -> dict[str, Tensor]:
    """Returns the layers of a mask as bool tensors, the form in which `graft_` takes them."""
    return {name: torch.from_numpy(layer.copy()) for name, layer in mask.layers.items()}


def write_mask(
    path: Path,
    mask: BoolArray,
    layer_sizes: Sequence[int],
    stage_picks: Sequence[NDArray[np.int32]] = (),
    layers: Mapping[str, Shape] | None = None,
    provenance: Mapping[str, str] | None = None,
) -> None:
    """Replaces `path` by a mask file; the same mask gives the same bytes.

    Args:
        path: the file.
        mask: flat mask, `(neurons,)`.
        layer_sizes: neurons of each activation.
        stage_picks: the picks of each stage.
        layers: activation name to neuron shape, in order; None where only sizes are known.
        provenance: what the mask is made from.
    """
    width = max((picks.size for picks in stage_picks), default=0)
    table = np.full((len(stage_picks), width), -1, np.int32)
    for row, picks in zip(table, stage_picks, strict=True):
        row[: picks.size] = picks
    arrays: dict[str, NDArray[np.generic]] = {
        "mask": mask.astype(np.uint8),
        "layer_sizes": np.array(layer_sizes, np.int64),
        "stage_picks": table,
        "provenance": json_array(dict(provenance or {})),
    }
    if layers is not None:
        arrays |= {"names": json_array(list(layers)), "shapes": json_array(list(layers.values()))}
    write_npz(path, arrays)


def read_mask(path: Path, layers: Mapping[str, Shape] | None = None) -> GraftMask:
    """Returns the mask of a file.

    Args:
        path: the file.
        layers: activation name to neuron shape, for a file that has no names; its sizes must be the file's, in order.

    Raises:
        UsageError: the file is not a mask file, or has no names and none are given.
    """
    arrays = read_npz(path)
    flat = arrays.get("mask")
    if flat is None or flat.ndim != 1 or flat.dtype.kind not in "uib" or not np.isin(flat, (0, 1)).all():
        raise UsageError(f"{path}: not a mask file: it needs a flat array 'mask' of zeros and ones")
    sizes = layer_sizes(path, arrays, flat.size)
    names, shapes = json_value(path, arrays, "names"), json_value(path, arrays, "shapes")
    if names is not None and shapes is not None:
        layers = named_shapes(path, names, shapes)
    if layers is None:
        raise UsageError(f"{path}: the mask does not name its activations; name them in order with --layers")
    if tuple(math.prod(shape) for shape in layers.values()) != sizes:
        wanted = ", ".join(f"{name} {_size(shape)}" for name, shape in layers.items())
        raise UsageError(f"{path}: a mask of layers with {'+'.join(map(str, sizes))} neurons does not fit {wanted}")
    provenance = json_value(path, arrays, "provenance") or {}
    if not isinstance(provenance, dict):
        raise UsageError(f"{path}: array 'provenance' holds no JSON object")
    return GraftMask(_cut(flat.astype(np.bool_), layers), provenance)


def _cut(flat: BoolArray, layers: Mapping[str, Shape]) -> dict[str, BoolArray]:
    if sum(math.prod(shape) for shape in layers.values()) != flat.size:
        raise UsageError(f"a mask of {flat.size} neurons does not fit the network's activations")
    cut, start = {}, 0
    for name, shape in layers.items():
        size = math.prod(shape)
        cut[name] = flat[start : start + size].reshape(shape)
        start += size
    return cut


def _size(shape: Shape) -> str:
    return "x".join(map(str, shape))
