"""Exact minima of any small ReLU network over a box in which two inputs vary and the others are fixed.

The box is a polygon. On a convex polygon where all neurons so far keep their phase every value of the network is
affine, so its values at three points say all; the next activation's zero lines cut the polygon into convex pieces. At
the end the outputs are affine on each piece. ONNX is read by `onnx_torch`, not by the engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from exact import Array, clipped
from onnx_torch import OnnxModule
from torch import Tensor

from harness.domain import OutputPolytope


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A box whose ends differ in two inputs only."""

    lower: Array
    """`(*input_shape)`, values that float32 holds."""
    upper: Array

    @property
    def frame(self) -> Tensor:
        """Three points that span the slice, `(3, *input_shape)`: the lower end, and there one input raised."""
        free = np.argwhere(self.upper > self.lower)
        points = np.stack([self.lower] * 3)
        for k, index in enumerate(free):
            points[(k + 1, *index)] = self.upper[tuple(index)]
        return torch.from_numpy(points)


def a_slice(shape: Sequence[int], radius: float, random: np.random.Generator) -> Slice:
    """Returns a slice of a given radius around a point of the unit cube."""
    centre = random.random(tuple(shape)).astype(np.float32).astype(float)
    lower, upper = centre.copy().ravel(), centre.copy().ravel()
    free = random.choice(centre.size, 2, replace=False)
    lower[free] = (lower[free] - radius).astype(np.float32)
    upper[free] = (upper[free] + radius).astype(np.float32)
    return Slice(lower.reshape(centre.shape), upper.reshape(centre.shape))


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A convex polygon on which the outputs are affine."""

    polygon: Array
    """Vertices as coordinates in [0, 1] along the two inputs, `(vertices, 2)`."""
    frame: Array
    """The outputs at the three points of the frame, `(3, outputs)`."""

    def at_vertices(self, values: Array) -> Array:
        """Returns an affine function's values at the vertices, given at the frame: `(3, ...)` to `(vertices, ...)`."""
        return _at(self.polygon, values)


def _at(polygon: Array, values: Array) -> Array:
    weights = np.column_stack([1 - polygon.sum(1), polygon])
    return np.tensordot(weights, values, 1)


def pieces(model_bytes: bytes, part: Slice) -> list[Piece]:
    """Returns the pieces of a slice, which cover it."""
    net = OnnxModule(model_bytes)
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    constants = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    with torch.no_grad():
        return list(_pieces(net, 0, {"x": part.frame, **constants}, square))


def _pieces(net: OnnxModule, start: int, values: dict[str, Tensor], polygon: Array) -> Iterator[Piece]:
    for k in range(start, len(net.graph.node)):
        node = net.graph.node[k]
        if node.op_type != "Relu":
            values[node.output[0]] = net.computed(node, [values.get(name) for name in node.input])
            continue
        z = values[node.input[0]]
        flat = z.reshape(3, -1).numpy()
        parts = _cut(polygon, flat)
        for part in parts:
            active = torch.from_numpy(_at(part, flat).mean(0) > 0).reshape(z.shape[1:])
            yield from _pieces(net, k + 1, {**values, node.output[0]: z * active}, part)
        return
    yield Piece(polygon, values[net.graph.output[0].name].reshape(3, -1).numpy())


def _cut(polygon: Array, functions: Array) -> list[Array]:
    """Returns the parts of a polygon in which no affine function, given at the frame `(3, functions)`, changes sign."""
    parts = [polygon]
    at_vertices = _at(polygon, functions)
    for j in np.flatnonzero((at_vertices.min(0) < 0) & (at_vertices.max(0) > 0)):
        halves = []
        for part in parts:
            z = _at(part, functions[:, j])
            if z.min() < 0 < z.max():
                halves += [clipped(part, z), clipped(part, -z)]
            else:
                halves.append(part)
        parts = halves
    return parts


def least_violation(found: Sequence[Piece], regions: Sequence[OutputPolytope]) -> float:
    """Returns the minimum over the pieces of min over regions of max over rows of `row y - rhs`.

    Some output lies in some region, rows taken as non-strict, exactly where this is at most 0.
    """
    least = np.inf
    for piece in found:
        for region in regions:
            rows = piece.frame @ region.coefficients.T - region.rhs
            count = rows.shape[1]
            pairs = [(i, j) for i in range(count) for j in range(i)]
            differences = np.stack([rows[:, i] - rows[:, j] for i, j in pairs], 1) if pairs else np.zeros((3, 0))
            # The largest row is one row on each part, so its minimum is at a vertex.
            for part in _cut(piece.polygon, differences):
                values = _at(part, rows)
                largest = values.mean(0).argmax()
                least = min(least, float(values[:, largest].min()))
    return least
