"""Score files: significance and instability of every neuron of a network, flat, in one archive.

Arrays: `layer_sizes` (neurons of each activation), `instability` and one array a heuristic (all layers one after the
other, each in C order), and, where we wrote the file, `names`, `shapes` and `provenance` as JSON. A file that knows
instability by both ways of counting has the way that masks are not made from as `instability_bab` or
`instability_crown`. Other arrays are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.domain import UsageError
from harness.grafting.instability import Instability, InstabilitySource
from harness.grafting.npz import json_array, json_value, layer_sizes, named_shapes, read_npz, write_npz
from harness.grafting.significance import Heuristic

INSTABILITY = "instability"
"""The array that masks are made from."""


def instability_array(source: InstabilitySource) -> str:
    """Returns what the array of the other way of counting instability is called."""
    return f"{INSTABILITY}_{source}"


ARRAYS = frozenset((*Heuristic, INSTABILITY, *map(instability_array, InstabilitySource)))
"""Every array that has a number for each neuron."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Scores of all neurons of one network.

    Raises:
        UsageError: names, shapes and arrays do not fit each other.
    """

    layer_sizes: tuple[int, ...]
    arrays: Mapping[str, NDArray[np.float32]]
    """Names of `ARRAYS` to one number a neuron, `(neurons,)`."""
    names: tuple[str, ...] = ()
    """Qualified names of the activations, in forward order; empty in files that others wrote."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """Neuron shapes of the activations; empty where `names` is."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """What the scores were computed from."""

    def __post_init__(self) -> None:
        for name, array in self.arrays.items():
            if array.shape != (self.neurons,):
                raise UsageError(f"score '{name}' has {array.size} entries, but the network has {self.neurons} neurons")
        if self.names and (len(self.names) != len(self.layer_sizes) or len(self.shapes) != len(self.names)):
            raise UsageError(f"{len(self.names)} activation names for {len(self.layer_sizes)} layers of scores")
        for name, shape, size in zip(self.names, self.shapes, self.layer_sizes, strict=bool(self.names)):
            if math.prod(shape) != size:
                raise UsageError(f"the scores of activation '{name}' are for {size} neurons, but its shape is {shape}")

    @property
    def neurons(self) -> int:
        """Number of neurons of the network."""
        return sum(self.layer_sizes)

    def array(self, name: str) -> NDArray[np.float32]:
        """Returns one score, `(neurons,)`, all finite.

        Raises:
            UsageError: there is no score of that name, or one of its entries is not a finite number.
        """
        if name not in self.arrays:
            raise UsageError(f"there are no '{name}' scores; there are: {', '.join(self.arrays)}")
        finite = np.isfinite(self.arrays[name])
        if not finite.all():
            place = int(np.argmin(finite))
            value = self.arrays[name][place]
            raise UsageError(f"'{name}' of neuron {place} is {value}, not a finite number; compute the scores again")
        return self.arrays[name]


def collect_scores(
    significance: Mapping[Heuristic, Mapping[str, NDArray[np.float32]]],
    unstable: Instability | None = None,
    provenance: Mapping[str, str] | None = None,
    others: Mapping[InstabilitySource, Instability] | None = None,
) -> Scores:
    """Returns the scores of each activation joined into flat arrays.

    Args:
        significance: heuristic to activation to scores of the neurons' shape; at least one heuristic. Its order of
            activations is kept.
        unstable: instability counts that masks are made from, if they are known yet.
        provenance: what the scores were computed from.
        others: instability counted in other ways, kept under names of their own.

    Raises:
        UsageError: the instability counts are of another network.
    """
    layers = next(iter(significance.values()))
    arrays = {str(h): np.concatenate([s.ravel() for s in values.values()]) for h, values in significance.items()}
    counted = {instability_array(source): counts for source, counts in (others or {}).items()}
    for array, counts in (counted if unstable is None else {INSTABILITY: unstable, **counted}).items():
        for name, layer in layers.items():
            if name not in counts.counts or counts.counts[name].size != layer.size:
                raise UsageError(f"the instability counts do not cover activation '{name}' of {layer.size} neurons")
        arrays[array] = np.concatenate([counts.counts[name] for name in layers]).astype(np.float32)
    return Scores(
        tuple(int(layer.size) for layer in layers.values()),
        arrays,
        tuple(layers),
        tuple(layer.shape for layer in layers.values()),
        dict(provenance or {}),
    )


def write_scores(path: Path, scores: Scores) -> None:
    """Replaces `path` by a score file."""
    arrays = {
        "layer_sizes": np.array(scores.layer_sizes, np.int64),
        "names": json_array(scores.names),
        "shapes": json_array(scores.shapes),
        "provenance": json_array(dict(scores.provenance)),
    }
    write_npz(path, {**arrays, **scores.arrays})


def read_scores(path: Path) -> Scores:
    """Returns the scores of a file; one without names, shapes and provenance is read too.

    Raises:
        UsageError: the file is not a score file.
    """
    arrays = read_npz(path)
    scores = {name: array for name, array in arrays.items() if name in ARRAYS}
    if not scores:
        raise UsageError(f"{path}: holds no scores; known arrays are {', '.join((*Heuristic, INSTABILITY))}")
    for name, array in scores.items():
        if array.ndim != 1 or array.dtype.kind not in "fiu":
            raise UsageError(f"{path}: array '{name}' is not a flat array of numbers")
    sizes = layer_sizes(path, arrays, _neurons(arrays, scores))
    names, shapes = json_value(path, arrays, "names"), json_value(path, arrays, "shapes")
    layers = named_shapes(path, names or [], shapes or [])
    provenance = json_value(path, arrays, "provenance") or {}
    if not isinstance(provenance, dict):
        raise UsageError(f"{path}: array 'provenance' holds no JSON object")
    try:
        return Scores(
            sizes,
            {name: _float32(array) for name, array in scores.items()},
            tuple(layers),
            tuple(layers.values()),
            provenance,
        )
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _neurons(arrays: Mapping[str, NDArray[Any]], scores: Mapping[str, NDArray[Any]]) -> int:
    """Returns the number of neurons that the layers and some score agree on, else that of the first score."""
    lengths = [array.size for array in scores.values()]
    sizes = arrays.get("layer_sizes")
    stated = int(sizes.sum()) if sizes is not None and sizes.dtype.kind in "iu" else -1
    return stated if stated in lengths else lengths[0]


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    # What is too large becomes infinite, and is refused where it is used.
    with np.errstate(over="ignore"):
        return array.astype(np.float32)
