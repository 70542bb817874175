"""Bounds of one input's box, whichever way they were computed: by compiled passes, or by torch.

Both forms guarantee the same: margins and folded networks hold for every x in the box and for every evaluation of the
network in floating point whose operations are off by at most their slack (`rounding`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.verifier.crown import RootBounds, margins, root_bounds, unstable, with_grafted_neurons
from harness.verifier.fold import RHS_ROUNDING, FoldedNetwork, fold
from harness.verifier.graph import Graph, Relu
from harness.verifier.interval import Box
from harness.verifier.rounding import FLOAT32_UNIT, LARGEST_SLACK
from harness.verifier.sparse import SparseNetwork

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class UnstableNeurons:
    """Which neurons are unstable over a box."""

    masks: dict[str, NDArray[np.bool_]]
    """Activation name to flat mask, grafted neurons included, as the published figures count them."""
    nonlinear: int
    """How many of them are not grafted."""


class Root(Protocol):
    """Bounds over one box."""

    def margins(self, C: Tensor, rhs: Tensor) -> Floats:
        """Returns proved lower bounds of `C y - rhs`, `(rows,)`."""

    def fold(self, C: Tensor, rhs: Tensor) -> FoldedNetwork:
        """Returns the box's network over its unstable neurons, with the margins `C y - rhs`."""

    def covers_float32(self) -> bool:
        """Returns whether no sum of an evaluation in float32 can overflow; where one may, nothing here is a proof."""

    def refined(self, C: Tensor, seconds: float = np.inf) -> Root | None:
        """Returns tighter bounds at a higher price, with the open margins `C y` in view; None where there are none.

        Where the seconds are short, they are less tight.
        """

    def unstable(self) -> UnstableNeurons:
        """Returns which neurons are unstable."""


def bound_root(graph: Graph, sparse: SparseNetwork | None, box: Box, unit: float = FLOAT32_UNIT) -> Root:
    """Returns bounds over one box.

    Args:
        graph: the network in float64.
        sparse: its sparse form, where that is the faster one; else None.
        box: a batch of one box.
        unit: unit roundoff of the evaluations that the bounds shall cover; `REAL_UNIT`: of exact values only.
    """
    if sparse is None:
        return _TorchRoot(graph, root_bounds(graph, box, unit))
    # imported late: the engine also runs where Numba is not installed
    from harness.verifier.sparse_root import SparseRoot

    return SparseRoot.over(graph, sparse, box, unit)


@dataclass(frozen=True, slots=True, eq=False)
class _TorchRoot:
    graph: Graph
    found: RootBounds

    def margins(self, C: Tensor, rhs: Tensor) -> Floats:
        device = self.found.box.lower.device
        owner = torch.zeros(len(C), dtype=torch.int64, device=device)
        values = margins(self.graph, C.to(device), owner, self.found).cpu() - rhs - RHS_ROUNDING * rhs.abs()
        result: Floats = values.numpy()
        return result

    def fold(self, C: Tensor, rhs: Tensor) -> FoldedNetwork:
        device = self.found.box.lower.device
        return fold(self.graph, self.found, C.to(device), rhs.to(device))

    def covers_float32(self) -> bool:
        if self.graph.extreme:
            return False
        values = [*self.found.slack.values(), *(end for bounds in self.found.activations.values() for end in bounds)]
        return all(bool((value.abs() < LARGEST_SLACK).all()) for value in values)

    def refined(self, C: Tensor, seconds: float = np.inf) -> Root | None:  # noqa: ARG002  # the protocol's
        return None

    def unstable(self) -> UnstableNeurons:
        masks: dict[str, NDArray[np.bool_]] = {}
        nonlinear = 0
        for k, bounds in with_grafted_neurons(self.graph, self.found).items():
            op = self.graph.nodes[k].op
            if isinstance(op, Relu):
                mask = _flat(unstable(bounds))
                masks[op.name] = mask
                nonlinear += int(mask.sum()) if op.linear is None else int((mask & ~_flat(op.linear)).sum())
        return UnstableNeurons(masks, nonlinear)


def _flat(mask: Tensor) -> NDArray[np.bool_]:
    flat: NDArray[np.bool_] = mask.flatten().cpu().numpy()
    return flat
