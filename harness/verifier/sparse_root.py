"""Bounds of one input's box by compiled passes: `root.Root` on the CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from harness.verifier.fold import RHS_ROUNDING, FoldedNetwork
from harness.verifier.graph import Graph
from harness.verifier.interval import Box
from harness.verifier.kernels.passes import DEAD, Matrix
from harness.verifier.refine import Effort, refine
from harness.verifier.root import Floats, UnstableNeurons
from harness.verifier.rounding import LARGEST_SLACK
from harness.verifier.sparse import SparseNetwork
from harness.verifier.sparse_bounds import SparseBounds, bound_box, tighten
from harness.verifier.sparse_fold import fold_sparse


class SparseRoot:
    """Bounds over one box; see `root.Root`."""

    def __init__(self, graph: Graph, found: SparseBounds, unit: float) -> None:
        self.graph, self.found, self.unit = graph, found, unit

    @classmethod
    def over(cls, graph: Graph, network: SparseNetwork, box: Box, unit: float) -> SparseRoot:
        """Returns bounds over a batch of one box."""
        lower, upper = (end.cpu().numpy().astype(np.float64).ravel() for end in (box.lower, box.upper))
        return cls(graph, bound_box(network, lower, upper, unit), unit)

    def margins(self, C: Tensor, rhs: Tensor) -> Floats:
        """See `Root.margins`."""
        right = rhs.numpy()
        result: Floats = self.found.margins(C.numpy()) - right - RHS_ROUNDING * np.abs(right)
        return result

    def fold(self, C: Tensor, rhs: Tensor) -> FoldedNetwork:
        """See `Root.fold`."""
        return fold_sparse(self.found, C.numpy(), rhs.numpy())

    def covers_float32(self) -> bool:
        """See `Root.covers_float32`."""
        if self.graph.extreme:
            return False
        found, state = self.found, self.found.state
        values = (state.slack, state.activation_slack, found.lb, found.ub)
        return all(bool((np.abs(value) < LARGEST_SLACK).all()) for value in values)

    def refined(self, C: Tensor, seconds: float = np.inf) -> SparseRoot:
        """See `Root.refined`: alpha-CROWN for every unstable row."""
        del C  # all rows are refined: a row that costs nothing now may tighten one that does
        return SparseRoot(self.graph, refine(self.found, self.unit, Effort(seconds=seconds)), self.unit)

    def unstable(self) -> UnstableNeurons:
        """See `Root.unstable`."""
        masks: dict[str, NDArray[np.bool_]] = {}
        nonlinear, net = 0, self.found.network
        for first, last, activation in net.segments:
            if activation is None:
                continue
            self._tighten_grafted(first, last)
            straddling = (self.found.lb[first:last] < 0) & (self.found.ub[first:last] > 0)
            masks[self.graph.activation(activation).name] = straddling
            nonlinear += int((straddling & ~net.linear[first:last]).sum())
        return UnstableNeurons(masks, nonlinear)

    def _tighten_grafted(self, first: int, last: int) -> None:
        """Bounds grafted neurons by CROWN too, which only these statistics need; the first rows' are exact."""
        found, linear = self.found, self.found.network.linear[first:last]
        straddling = (found.lb[first:last] < 0) & (found.ub[first:last] > 0)
        chosen = first + np.flatnonzero(straddling & linear)
        if not first or not len(chosen):
            return
        if (found.state.kind[chosen] == DEAD).any():  # grafted to zero: only the whole matrix still has their entries
            net = found.network
            found = replace(found, matrix=Matrix(net.start[:-1], net.start[1:], net.column, net.value))
        tighten(found, chosen)
