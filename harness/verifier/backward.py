"""Backward bound propagation (CROWN): rows of a value become rows of the input plus a constant.

Linear operations are passed exactly. At an activation the caller says what to do, by a rule: relax it (CROWN bounds),
or stop there (folding). Sources: Zhang et al. 2018 (CROWN); Xu et al. 2020 (general graphs).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from harness.verifier.graph import (
    Add,
    Concat,
    Conv,
    Graph,
    Linear,
    Pick,
    Relu,
    Reshape,
    Scale,
    Smooth,
    Transpose,
    size,
)
from harness.verifier.interval import Bounds, Box
from harness.verifier.patience import tick
from harness.verifier.rows import Rows, conv_backward, conv_rows, sum_rows, unit_rows
from harness.verifier.smooth import smooth_lines

ROW_BYTES = 64 * 2**20
"""Working set of one chunk of rows; larger chunks fall out of the cache and are no faster."""


class Passed(NamedTuple):
    """What becomes of rows on their way to the input: rows of an earlier value, and what each row gains."""

    rows: Rows
    const: Tensor
    lost: Tensor
    """`(rows,)`: how far rounding in the network's evaluation may move each row's value, either way."""


AtActivation: TypeAlias = Callable[[int, Rows], tuple[Rows, Tensor]]
"""Node index of an activation and rows of its output, to rows of its input and what their constants gain."""


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """How rows are passed back."""

    at_activation: AtActivation
    slack: Mapping[int, Tensor]
    """Node index to how far its computed value may be from the exact one, `(batch, *shape)`; the input's is 0."""

    def lost(self, index: int, rows: Rows) -> Tensor | None:
        """Returns what rounding at a node costs rows of its value, `(rows,)`; None: nothing."""
        slack = self.slack.get(index)
        return None if slack is None else sum_rows(rows.A.abs() * rows.gather(slack))


@dataclass(frozen=True, slots=True, eq=False)
class Relaxation:
    """Linear bounds of one activation over a batch of boxes.

    Guarantees `lower_slope z + lower_offset <= a(z) <= upper_slope z + upper_offset` for every z in the bounds it was
    made from, up to rounding; for a linear (grafted) neuron both are the function itself and `lower_offset` equals
    `upper_offset`; for a smooth activation it holds in real arithmetic.
    """

    lower_slope: Tensor
    """`(batch, *neurons)`; alpha where the neuron is unstable."""
    upper_slope: Tensor
    lower_offset: Tensor
    """Zero but for grafted neurons and smooth activations."""
    upper_offset: Tensor


def relax(op: Relu | Smooth, bounds: Bounds) -> Relaxation:
    """Returns the tightest upper line and the area-minimising lower line of every neuron (Zhang et al. 2018).

    Args:
        op: the activation; of a smooth one the lines are `smooth_lines`.
        bounds: bounds of its input; they must hold.
    """
    lb, ub = bounds
    if isinstance(op, Smooth):
        return Relaxation(*smooth_lines(op.kind, lb, ub))
    active, inactive = lb >= 0, ub <= 0
    width = torch.where(active | inactive, torch.ones_like(lb), ub - lb)
    upper = torch.where(active, torch.ones_like(lb), torch.where(inactive, torch.zeros_like(lb), ub / width))
    lower = torch.where(active | inactive, upper, (ub > -lb).to(lb.dtype))
    offset = torch.where(active | inactive, torch.zeros_like(lb), -upper * lb)
    if op.linear is None or op.slope is None or op.intercept is None:
        return Relaxation(lower, upper, torch.zeros_like(lb), offset)
    return Relaxation(
        torch.where(op.linear, op.slope, lower),
        torch.where(op.linear, op.slope, upper),
        torch.where(op.linear, op.intercept, torch.zeros_like(lb)),
        torch.where(op.linear, op.intercept, offset),
    )


def relaxing(relaxations: Mapping[int, Relaxation], slack: Mapping[int, Tensor] | None = None) -> Rule:
    """Returns the rule that lower-bounds activations by their relaxations, and rounding by its slack (None: exact)."""

    def relaxed(index: int, rows: Rows) -> tuple[Rows, Tensor]:
        relaxation = relaxations[index]
        lower, upper = rows.gather(relaxation.lower_slope), rows.gather(relaxation.upper_slope)
        A = torch.where(rows.A < 0, upper, lower).mul_(rows.A)
        gained = rows.A.clamp(max=0).mul_(rows.gather(relaxation.upper_offset))
        if bool((relaxation.lower_offset != 0).any()):
            gained += rows.A.clamp(min=0).mul_(rows.gather(relaxation.lower_offset))
        return rows.with_coefficients(A), sum_rows(gained)

    return Rule(relaxed, slack or {})


def to_input(graph: Graph, start: int, rows: Rows, rule: Rule) -> Passed:
    """Passes rows of a node's value back to the network's input.

    With the rule of `relaxing`, guarantees `row . value(x) >= rows . x + const - lost` for every x in the boxes of the
    relaxations and every evaluation whose values are off by at most the rule's slack.

    Args:
        graph: the network.
        start: the node whose value the rows are over.
        rows: coefficients, `(rows, *shape of start)`.
        rule: what happens at activations.
    """
    pending: dict[int, Rows] = {start: rows}
    const, lost = rows.A.new_zeros(len(rows)), rows.A.new_zeros(len(rows))
    for index in range(start, 0, -1):
        here = pending.pop(index, None)
        if here is None:
            continue
        tick()
        cost = rule.lost(index, here)
        lost = lost if cost is None else lost + cost
        op, inputs = graph.nodes[index].op, graph.nodes[index].inputs
        if isinstance(op, Add | Concat):
            for source, part in zip(inputs, _parts(graph, index, here), strict=True):
                _collect(graph, pending, source, part)
            continue
        activated = isinstance(op, Relu | Smooth)
        before, gained = rule.at_activation(index, here) if activated else _affine(graph, index, here)
        const = const + gained
        _collect(graph, pending, inputs[0], before)
    result = pending.get(0)
    if result is None:
        result = Rows(rows.A.new_zeros(len(rows), *graph.input_shape), rows.owner)
    cost = rule.lost(0, result)
    return Passed(result, const, lost if cost is None else lost + cost)


def _parts(graph: Graph, index: int, rows: Rows) -> list[Rows]:
    """Returns the rows of each operand of a node that joins several values."""
    node = graph.nodes[index]
    if isinstance(node.op, Add):
        return [rows if sign > 0 else rows.with_coefficients(-rows.A) for sign in node.op.signs]
    if not isinstance(node.op, Concat):
        raise TypeError(f"{type(node.op).__name__} has one operand")
    axis = node.op.axis
    if axis > 0:
        rows = rows.whole(node.shape)  # windows of an image can be cut by channel only
    sizes = [graph.nodes[i].shape[axis] for i in node.inputs]
    return [rows.with_coefficients(part) for part in torch.split(rows.A, sizes, axis + 1)]


def _collect(graph: Graph, pending: dict[int, Rows], index: int, rows: Rows) -> None:
    """Adds rows to what other consumers of the same value have left there."""
    other = pending.get(index)
    if other is None:
        pending[index] = rows
        return
    shape = graph.nodes[index].shape
    pending[index] = Rows(other.whole(shape).A + rows.whole(shape).A, rows.owner)


def _affine(graph: Graph, index: int, rows: Rows) -> tuple[Rows, Tensor]:
    node = graph.nodes[index]
    op, before = node.op, graph.nodes[node.inputs[0]].shape
    nothing = rows.A.new_zeros(len(rows))
    if isinstance(op, Conv):
        const = torch.einsum("rchw,c->r", rows.A, op.bias)
        return conv_backward(rows, op, before), const
    if isinstance(op, Linear):
        A = rows.whole(node.shape).A
        return Rows(A @ op.weight, rows.owner), A @ op.bias
    if isinstance(op, Scale):
        const = sum_rows(rows.A * rows.gather(op.offset[None].expand(_owners(rows), *node.shape)))
        factor = rows.gather(op.factor[None].expand(_owners(rows), *node.shape))
        return rows.with_coefficients(rows.A * factor), const
    if isinstance(op, Reshape):
        return Rows(rows.whole(node.shape).A.reshape(len(rows), *before), rows.owner), nothing
    if isinstance(op, Pick):
        return Rows(op.backward(rows.whole(node.shape).A, before), rows.owner), nothing
    if isinstance(op, Transpose):
        inverse = [0] * len(op.permutation)
        for new, old in enumerate(op.permutation):
            inverse[old] = new + 1
        return Rows(rows.whole(node.shape).A.permute(0, *inverse), rows.owner), nothing
    raise TypeError(f"no backward rule for {type(op).__name__}")


def _owners(rows: Rows) -> int:
    return int(rows.owner.max()) + 1 if len(rows) else 1


def concretize(passed: Passed, box: Box) -> Tensor:
    """Returns the minimum of each row over its owner's box, `(rows,)`.

    Guarantees `row . x + const - lost >= result` for every x in the box, up to rounding.
    """
    rows = passed.rows
    low = sum_rows(rows.A * rows.gather(box.centre)) - sum_rows(rows.A.abs() * rows.gather(box.radius))
    return low + passed.const - passed.lost


def lower_bounds(graph: Graph, index: int, neurons: Tensor, owner: Tensor, sign: int, rule: Rule, box: Box) -> Tensor:
    """Returns lower bounds of `sign * value` for chosen elements of a node's value, `(rows,)`.

    Args:
        graph: the network.
        index: node of the value.
        neurons: flat index of each element, `(rows,)`.
        owner: input that each belongs to, `(rows,)`.
        sign: 1, or -1 to bound from above.
        rule: relaxation of the activations below.
        box: the inputs.
    """
    parts = []
    for start in range(0, len(neurons), row_chunk(graph, index)):
        tick()
        stop = start + row_chunk(graph, index)
        passed = element_rows(graph, index, neurons[start:stop], owner[start:stop], sign, rule)
        parts.append(concretize(passed, box))
    return torch.cat(parts) if parts else box.lower.new_zeros(0)


def element_rows(graph: Graph, index: int, neurons: Tensor, owner: Tensor, sign: int, rule: Rule) -> Passed:
    """Passes rows that each are `sign` times one element of a node's value back to the input.

    The first step takes rows of the weight where there is one, instead of a product with unit rows.

    Args:
        graph: the network.
        index: node of the value.
        neurons: flat index of each element, `(rows,)`.
        owner: input that each belongs to, `(rows,)`.
        sign: 1 or -1.
        rule: what happens at activations.
    """
    node = graph.nodes[index]
    op = node.op
    if isinstance(op, Linear):
        start, const = Rows(op.weight[neurons], owner), op.bias[neurons]
    elif isinstance(op, Conv) and op.groups == 1:
        before = graph.nodes[node.inputs[0]].shape
        start, const = conv_rows(neurons, owner, op, node.shape, before), op.bias[neurons // size(node.shape[1:])]
    else:
        rows = unit_rows(neurons, owner, node.shape, _any_weight(graph))
        return to_input(graph, index, rows.with_coefficients(sign * rows.A), rule)
    passed = to_input(graph, node.inputs[0], start.with_coefficients(sign * start.A), rule)
    slack = rule.slack.get(index)
    lost = passed.lost if slack is None else passed.lost + slack.flatten(1)[owner, neurons]
    return Passed(passed.rows, passed.const + sign * const, lost)


def _any_weight(graph: Graph) -> Tensor:
    return torch.empty(0, dtype=graph.dtype, device=graph.device)


def row_chunk(graph: Graph, index: int) -> int:
    """Returns how many rows of a node to pass back together, so that the working set stays in bounds."""
    widest = max(size(n.shape) for n in graph.nodes[: index + 1])
    windowed = len(graph.nodes[index].shape) == 3
    elements = min(widest, 4096) if windowed else widest
    return max(16, ROW_BYTES // (8 * elements))
