"""Proof by cutting the input box: every sub-box bounded by CROWN with hidden bounds of its own, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from harness.verifier.backward import concretize, to_input
from harness.verifier.crown import root_bounds
from harness.verifier.fold import RHS_ROUNDING
from harness.verifier.graph import Graph
from harness.verifier.interval import Box
from harness.verifier.problem import Region
from harness.verifier.rounding import FLOAT32_UNIT
from harness.verifier.rows import Rows

BATCH = 256
"""Sub-boxes that are bounded together."""
MOST_OPEN = 200_000
"""Open sub-boxes at which the search gives up."""


def split_inputs(
    graph: Graph, box: Box, regions: Sequence[Region], is_over: Callable[[], bool], unit: float = FLOAT32_UNIT
) -> tuple[bool, int]:
    """Returns whether no output of the box lies in any region, shown by a cover of sub-boxes, and their number.

    A sub-box is closed when each region has a row `C y - rhs` whose float64 lower bound, less what an
    evaluation of the network with this unit roundoff may round, is above 0. False says nothing.

    Args:
        graph: the network in float64.
        box: one box.
        regions: the violation regions.
        is_over: whether the time is over.
        unit: unit roundoff.
    """
    lower, upper = box.lower.flatten(1), box.upper.flatten(1)
    count = 0
    while len(lower):
        if is_over() or len(lower) > MOST_OPEN:
            return False, count
        low, high, lower, upper = lower[-BATCH:], upper[-BATCH:], lower[:-BATCH], upper[:-BATCH]
        part = Box(low.view(-1, *graph.input_shape), high.view(-1, *graph.input_shape))
        count += len(part)
        is_open, steepness = _bounded(graph, part, regions, unit)
        low, high = low[is_open], high[is_open]
        score = steepness[is_open] * (high - low)
        axis = torch.where(score.amax(1) > 0, score.argmax(1), (high - low).argmax(1))
        if bool(((high - low).gather(1, axis[:, None]) <= 0).any()):
            return False, count  # a point that bounds do not exclude
        middle = ((low + high) / 2).gather(1, axis[:, None])
        lower = torch.cat([lower, low, low.scatter(1, axis[:, None], middle)])
        upper = torch.cat([upper, high.scatter(1, axis[:, None], middle), high])
    return True, count


def _bounded(graph: Graph, part: Box, regions: Sequence[Region], unit: float) -> tuple[Tensor, Tensor]:
    """Returns which boxes are not closed, `(boxes,)`, and how steep their worst margin is, `(boxes, inputs)`."""
    found = root_bounds(graph, part, unit)
    boxes, last = len(part), len(graph.nodes) - 1
    is_open = torch.zeros(boxes, dtype=torch.bool)
    steepness = torch.zeros(boxes, part.lower[0].numel(), dtype=part.lower.dtype)
    for region in regions:
        rows = len(region.rhs)
        owner = torch.arange(boxes).repeat_interleave(rows)
        A = region.C.repeat(boxes, 1).view(-1, *graph.output_shape)
        passed = to_input(graph, last, Rows(A, owner), found.rule())
        rhs = region.rhs.repeat(boxes)
        margin = (concretize(passed, part) - rhs - RHS_ROUNDING * rhs.abs()).view(boxes, rows)
        best = margin.argmax(1)
        missed = ~(margin.gather(1, best[:, None])[:, 0] > 0)
        slopes = passed.rows.whole(graph.input_shape).A.flatten(1).view(boxes, rows, -1).abs()
        steepness = torch.where(missed[:, None], steepness + slopes[torch.arange(boxes), best], steepness)
        is_open |= missed
    return is_open, steepness
