"""Bounds of hidden layers and of margins: intervals first, then CROWN for what is still unstable."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.verifier.backward import (
    Relaxation,
    Rule,
    concretize,
    lower_bounds,
    relax,
    relaxing,
    row_chunk,
    to_input,
)
from harness.verifier.graph import Graph, Relu, Smooth, size
from harness.verifier.interval import Bounds, Box, propagate
from harness.verifier.rounding import FLOAT32_UNIT, input_slack, magnitude, rounding_slack, sum_share, widened
from harness.verifier.rows import Rows


@dataclass(frozen=True, slots=True, eq=False)
class RootBounds:
    """Bounds over a batch of boxes, and the relaxations made from them.

    Guarantees: every activation's input lies within its bounds for every x in the box, and for every evaluation whose
    values are off by at most their slack.
    """

    box: Box
    activations: dict[int, Bounds]
    """Activation node to bounds of its *input*, each `(batch, *neurons)`."""
    relaxations: dict[int, Relaxation]
    slack: dict[int, Tensor]
    """Node index to how far its computed value may be from the exact one, `(batch, *shape)`; exact ones left out. The
    output's also pays for summing up a margin's coefficients."""

    def rule(self) -> Rule:
        """Returns the rule for `to_input` that relaxes the activations by these bounds."""
        return relaxing(self.relaxations, self.slack)


def root_bounds(graph: Graph, box: Box, unit: float = FLOAT32_UNIT) -> RootBounds:
    """Returns bounds of every activation's input: interval bounds, improved by CROWN where a ReLU is unstable by them.

    Grafted neurons are linear and need no relaxation; they keep interval bounds, which only statistics read.

    Args:
        graph: the network, in the type that the bounds shall have.
        box: the inputs.
        unit: unit roundoff of the evaluation that the bounds shall cover; 0: of exact values only.
    """
    found = RootBounds(box, {}, {}, {0: input_slack(box)} if unit else {})
    values = {0: Bounds(box.lower, box.upper)}
    for k, node in enumerate(graph.nodes[1:], start=1):
        if isinstance(node.op, Relu | Smooth):
            source = node.inputs[0]
            bounds = values[source]
            if found.activations:
                bounds = tightened(graph, k, bounds, _nonlinear(node.op, bounds), found)
                values[source] = bounds
            found.activations[k] = bounds
            found.relaxations[k] = relax(node.op, bounds)
        operands = [values[i] for i in node.inputs]
        slack = rounding_slack(node.op, operands, unit) if unit else None
        values[k] = widened(propagate(node.op, operands), slack)
        if slack is not None:
            found.slack[k] = slack
    if unit:
        last = len(graph.nodes) - 1
        own = sum_share(size(graph.output_shape)) * magnitude(values[last])
        found.slack[last] = own + found.slack.get(last, torch.zeros_like(own))
    return found


def with_grafted_neurons(graph: Graph, found: RootBounds) -> dict[int, Bounds]:
    """Returns the activations' bounds with those of the grafted neurons improved by CROWN as well.

    Only statistics need them: the published UNR counts a grafted neuron as unstable when its input's bounds straddle
    zero.
    """
    result = dict(found.activations)
    first = min(result, default=0)
    for k, bounds in found.activations.items():
        op = graph.nodes[k].op
        if isinstance(op, Relu) and op.linear is not None and k != first:
            result[k] = tightened(graph, k, bounds, unstable(bounds) & op.linear, found)
    return result


def unstable(bounds: Bounds) -> Tensor:
    """Returns where `lb < 0 < ub`, both strict."""
    return (bounds.lb < 0) & (bounds.ub > 0)


def _nonlinear(op: Relu | Smooth, bounds: Bounds) -> Tensor:
    """Returns the neurons whose relaxation depends on their bounds; of a smooth activation these are all."""
    chosen = unstable(bounds)
    if isinstance(op, Smooth):
        return torch.ones_like(chosen)
    return chosen if op.linear is None else chosen & ~op.linear


def tightened(graph: Graph, activation: int, bounds: Bounds, chosen: Tensor, found: RootBounds) -> Bounds:
    """Returns bounds of an activation's input, improved by CROWN for the chosen neurons and never looser.

    The upper side is computed only where the new lower bound leaves the neuron unstable.

    Args:
        graph: the network.
        activation: node index of the activation.
        bounds: bounds that hold already, `(batch, *neurons)`.
        chosen: bool, `(batch, *neurons)`.
        found: relaxations of the activations below.
    """
    source, rule, box = graph.nodes[activation].inputs[0], found.rule(), found.box
    lb, ub = bounds.lb.flatten(1).clone(), bounds.ub.flatten(1).clone()
    owner, neuron = chosen.flatten(1).nonzero(as_tuple=True)
    low = lower_bounds(graph, source, neuron, owner, 1, rule, box)
    lb[owner, neuron] = torch.maximum(lb[owner, neuron], low)
    open_ = torch.ones_like(owner, dtype=torch.bool)
    if isinstance(graph.nodes[activation].op, Relu):
        open_ = lb[owner, neuron] < 0
    owner, neuron = owner[open_], neuron[open_]
    high = -lower_bounds(graph, source, neuron, owner, -1, rule, box)
    ub[owner, neuron] = torch.minimum(ub[owner, neuron], high)
    shape = bounds.lb.shape
    return Bounds(lb.view(shape), ub.view(shape))


def margins(graph: Graph, C: Tensor, owner: Tensor, found: RootBounds) -> Tensor:
    """Returns CROWN lower bounds of `C y`, `(rows,)`.

    Args:
        graph: the network.
        C: rows over the flattened output, `(rows, outputs)`.
        owner: box that each row belongs to, `(rows,)`.
        found: bounds of the hidden layers.
    """
    last, parts = len(graph.nodes) - 1, []
    for start in range(0, len(C), row_chunk(graph, last)):
        stop = start + row_chunk(graph, last)
        A = C[start:stop].reshape(-1, *graph.output_shape)
        parts.append(concretize(to_input(graph, last, Rows(A, owner[start:stop]), found.rule()), found.box))
    return torch.cat(parts) if parts else C.new_zeros(0)
