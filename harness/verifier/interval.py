"""Interval bounds of every value of a graph (Gowal et al. 2018), batched over inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from harness.verifier.graph import Add, Concat, Conv, Graph, Linear, Op, Pick, Relu, Reshape, Scale, Smooth, Transpose

SMOOTH_SLACK = 4.0
"""What sigmoid and tanh are trusted to: four times the distance of 1 to the next number. Measured against longer
arithmetic, torch's are within one."""


class Bounds(NamedTuple):
    """Elementwise `lb <= value <= ub` of one value, each `(batch, *shape)`."""

    lb: Tensor
    ub: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """A batch of input boxes, in the graph's type and shape."""

    lower: Tensor
    """`(batch, *input_shape)`."""
    upper: Tensor
    """`(batch, *input_shape)`."""

    @property
    def centre(self) -> Tensor:
        """Midpoint of each box."""
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> Tensor:
        """Half the width of each box, so large that centre +- radius covers the box in spite of rounding."""
        centre = self.centre
        return torch.maximum(self.upper - centre, centre - self.lower)

    def __len__(self) -> int:
        return len(self.lower)

    def __getitem__(self, index: slice | Tensor | list[int]) -> Box:
        return Box(self.lower[index], self.upper[index])


def propagate(op: Op, operands: list[Bounds]) -> Bounds:
    """Returns bounds of an operation's value, given bounds of its operands."""
    first = operands[0]
    if isinstance(op, Conv | Linear):
        centre, radius = (first.lb + first.ub) / 2, (first.ub - first.lb) / 2
        middle = op.forward(centre)
        spread = replace(op, weight=op.weight.abs(), bias=torch.zeros_like(op.bias)).forward(radius)
        return Bounds(middle - spread, middle + spread)
    if isinstance(op, Scale):
        low, high = op.factor * first.lb + op.offset, op.factor * first.ub + op.offset
        return Bounds(torch.minimum(low, high), torch.maximum(low, high))
    if isinstance(op, Add):
        second = operands[1] if op.signs[1] > 0 else Bounds(-operands[1].ub, -operands[1].lb)
        first = first if op.signs[0] > 0 else Bounds(-first.ub, -first.lb)
        return Bounds(first.lb + second.lb, first.ub + second.ub)
    if isinstance(op, Relu):
        low, high = op.forward(first.lb), op.forward(first.ub)
        return Bounds(torch.minimum(low, high), torch.maximum(low, high))
    if isinstance(op, Smooth):
        slack = SMOOTH_SLACK * torch.finfo(first.lb.dtype).eps
        return Bounds(op.forward(first.lb) - slack, op.forward(first.ub) + slack)
    if isinstance(op, Concat):
        return Bounds(op.forward(*(b.lb for b in operands)), op.forward(*(b.ub for b in operands)))
    if isinstance(op, Reshape | Transpose | Pick):
        return Bounds(op.forward(first.lb), op.forward(first.ub))
    raise TypeError(f"no interval rule for {type(op).__name__}")


def interval_bounds(graph: Graph, box: Box, known: dict[int, Bounds] | None = None) -> dict[int, Bounds]:
    """Returns bounds of every node's value over each box, tightened by the bounds that are already known.

    Guarantees, up to floating-point rounding: `lb <= value(x) <= ub` for every x in the box. `known` bounds replace the
    computed ones of their nodes; they must hold.

    Args:
        graph: the network.
        box: the inputs.
        known: node index to bounds that hold and are at least as tight as intervals.
    """
    bounds = {0: Bounds(box.lower, box.upper)}
    for k, node in enumerate(graph.nodes[1:], start=1):
        given = None if known is None else known.get(k)
        bounds[k] = propagate(node.op, [bounds[i] for i in node.inputs]) if given is None else given
    return bounds
