"""A property in the form in which the engine works on it: one box with its violation regions, as tensors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.domain import InputBox, OutputPolytope, Property, UsageError
from harness.verifier.graph import Graph, size
from harness.verifier.interval import Box


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A violation region: all outputs y with `C y <= rhs` (`<` where strict). Its rows are float64 on the CPU."""

    C: Tensor
    """`(rows, outputs)`."""
    rhs: Tensor
    """`(rows,)`."""
    strict: Tensor
    """`(rows,)` bool."""
    least: Tensor | None = None
    """`(rows,)`: right-hand sides that a witness has to stand before; None: `rhs`."""

    def contains(self, y: Tensor) -> Tensor:
        """Returns which outputs lie in the region, `(batch,)` for `(batch, outputs)`.

        Compared in float64, with the right-hand side as it is and as the outputs' type holds it: a witness has to stand
        in real arithmetic and before the competition, which casts numbers to the outputs' type.
        """
        least = self.rhs if self.least is None else self.least
        value, rhs = y.double() @ self.C.T, torch.minimum(least, least.to(y.dtype).double())
        return torch.where(self.strict, value < rhs, value <= rhs).all(1)


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """One case of a property: is there an input of the box whose output lies in some region?"""

    box: InputBox
    regions: tuple[Region, ...]

    def seed(self, base: int) -> int:
        """Returns a seed that depends on the box and `base` alone, so that no answer depends on its neighbours."""
        digest = hashlib.sha256(self.box.lower.tobytes() + self.box.upper.tobytes() + str(base).encode())
        return int.from_bytes(digest.digest()[:8], "big") >> 1

    def violated_by(self, y: Tensor) -> Tensor:
        """Returns which outputs violate, `(batch,)` bool."""
        hit = torch.zeros(len(y), dtype=torch.bool)
        for region in self.regions:
            hit |= region.contains(y.cpu())
        return hit


def problems_of(
    prop: Property, graph: Graph, source: str, dtype: np.dtype[np.floating[Any]] | None = None
) -> tuple[Problem, ...]:
    """Returns the cases of a property that have a point in their box.

    Bounds are widened to their values in the network's floating type where casting moves them outwards: that is the set
    over which the competition judges a witness of a float32 network (VNN-COMP 2026).

    Args:
        prop: the property.
        graph: the network.
        source: what errors call the property.
        dtype: floating type of the network's input; None: float32.

    Raises:
        UsageError: the property is over other numbers of inputs or outputs than the network has.
    """
    inputs, outputs = size(graph.input_shape), size(graph.output_shape)
    if (prop.input_size, prop.output_size) != (inputs, outputs):
        raise UsageError(
            f"{source}: a property over {prop.input_size} inputs and {prop.output_size} outputs, but the network has "
            f"{inputs} and {outputs}; check that network and property belong together"
        )
    kind = dtype or np.dtype(np.float32)
    boxes = [_widened(case.box, kind) for case in prop.cases]
    # A box that is empty in doubles alone has the points that a witness is judged by.
    return tuple(
        Problem(box, tuple(_region(p, kind) for p in case.polytopes))
        for box, case in zip(boxes, prop.cases, strict=True)
        if not box.is_empty
    )


def _widened(box: InputBox, dtype: np.dtype[np.floating[Any]]) -> InputBox:
    low, high = box.ends(dtype)
    lower, upper = np.minimum(box.lower, low), np.maximum(box.upper, high)
    return InputBox(lower, upper, box.open_lower, box.open_upper)


def _region(polytope: OutputPolytope, dtype: np.dtype[np.floating[Any]]) -> Region:
    """Returns a region as large as the number or its value in the network's type makes it: a proof excludes both."""
    with np.errstate(over="ignore"):
        rhs = np.maximum(polytope.rhs, polytope.rhs.astype(dtype).astype(np.float64))
    parts = (polytope.coefficients, rhs, polytope.strict, polytope.rhs)
    return Region(*(torch.from_numpy(np.array(a)) for a in parts))


def boxes_of(problems: list[Problem], graph: Graph) -> Box:
    """Returns the problems' boxes as one batch, in the graph's type and on its device."""

    def stack(ends: list[np.ndarray]) -> Tensor:
        flat = torch.from_numpy(np.stack(ends)).to(graph.device, graph.dtype)
        return flat.view(len(problems), *graph.input_shape)

    return Box(stack([p.box.lower for p in problems]), stack([p.box.upper for p in problems]))
