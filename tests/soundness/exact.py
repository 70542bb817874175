"""The exact minimum of a small ReLU network of two inputs: every activation pattern, by cutting polygons.

On a convex polygon where all neurons so far have a fixed phase the network is affine, so the next neuron's zero set is
a line, which cuts the polygon in two. At the end the margin is affine on every piece and lowest at a vertex.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


class Layer(NamedTuple):
    """A fully connected layer; where `linear` is set the activation behind it is `slope z + intercept`."""

    weight: Array
    bias: Array
    linear: NDArray[np.bool_] | None = None
    slope: Array | None = None
    intercept: Array | None = None


class Minimum(NamedTuple):
    value: float
    x: Array


def exact_minimum(layers: Sequence[Layer], row: Array, lower: Array, upper: Array) -> Minimum:
    """Returns the lowest `row . network(x)` over the box, and where it is attained; exact up to float64 rounding.

    Args:
        layers: the last one has no activation.
        row: `(outputs,)`.
        lower: `(2,)`.
        upper: `(2,)`.
    """
    box = np.array([[lower[0], lower[1]], [upper[0], lower[1]], [upper[0], upper[1]], [lower[0], upper[1]]])
    best = Minimum(np.inf, box[0])
    for polygon, J, c in _pieces(box, np.eye(2), np.zeros(2), layers):
        values = (polygon @ J.T + c) @ row
        k = int(values.argmin())
        best = min(best, Minimum(float(values[k]), polygon[k]), key=lambda m: m.value)
    return best


def _pieces(polygon: Array, J: Array, c: Array, layers: Sequence[Layer]) -> Iterator[tuple[Array, Array, Array]]:
    """Yields the pieces of a polygon on which the network is `J x + c`, with J and c."""
    layer = layers[0]
    J, c = layer.weight @ J, layer.weight @ c + layer.bias
    if len(layers) == 1:
        yield polygon, J, c
        return
    for piece, active in _phases(polygon, J, c, np.zeros(0), _grafted(layer)):
        factor, offset = active, np.zeros(len(c))
        if layer.linear is not None and layer.slope is not None and layer.intercept is not None:
            factor = np.where(layer.linear, layer.slope, active)
            offset = np.where(layer.linear, layer.intercept, 0.0)
        yield from _pieces(piece, factor[:, None] * J, factor * c + offset, layers[1:])


def _grafted(layer: Layer) -> NDArray[np.bool_]:
    return np.zeros(len(layer.bias), bool) if layer.linear is None else layer.linear


def _phases(
    polygon: Array, J: Array, c: Array, active: Array, skip: NDArray[np.bool_]
) -> Iterator[tuple[Array, Array]]:
    """Yields the pieces of a polygon on which the neurons of one layer keep their phase, with the phases."""
    j = len(active)
    if j == len(c):
        yield polygon, active
        return
    z = polygon @ J[j] + c[j]
    for sign, state in ((1.0, 1.0), (-1.0, 0.0)):
        if skip[j] and state == 0:
            continue
        half = polygon if skip[j] else clipped(polygon, sign * z)
        if len(half):
            yield from _phases(half, J, c, np.append(active, state), skip)


def clipped(polygon: Array, z: Array) -> Array:
    """Returns the part of a convex polygon where the affine z, given at its vertices, is not negative."""
    kept = []
    for k in range(len(polygon)):
        after = (k + 1) % len(polygon)
        if z[k] >= 0:
            kept.append(polygon[k])
        if (z[k] < 0 < z[after]) or (z[after] < 0 < z[k]):
            kept.append(polygon[k] + (polygon[after] - polygon[k]) * (z[k] / (z[k] - z[after])))
    return np.array(kept)
