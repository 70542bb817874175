"""The compiled search's bounds behind the kernels' contract, so that both are tested alike."""

from __future__ import annotations

import numpy as np
from nets import Array
from numpy.typing import NDArray

from harness.verifier.compiled_search import compiled_nets, empty_block
from harness.verifier.fold import FoldedNetwork
from harness.verifier.kernels import domains
from harness.verifier.kernels.contract import LANES, LaneBounds, Lanes
from harness.verifier.kernels.domains import Block, Pseudo


class CompiledKernel:
    """Bounds of one folded network's domains by compiled code; see `Kernel`."""

    def __init__(self, network: FoldedNetwork) -> None:
        self.network = network
        self.fast, self.exact = compiled_nets(network)

    def improve(self, lanes: Lanes, iterations: int, _alpha_step: float, _beta_step: float) -> LaneBounds:
        block, n = self._block(lanes, np.float32), self.network.neurons
        best, kept, stepped = np.empty(LANES, np.float32), np.empty_like(block.p), np.empty_like(block.p)
        domains.improve(self.fast, block, iterations, np.ones(LANES, np.bool_), best, kept, stepped)
        branch, score = np.empty((LANES, domains.SPLITS), np.int32), np.empty(LANES)
        domains.choose(self.fast, block, Pseudo(np.ones(n + 1), np.ones(n + 1)), branch, score)
        np.copyto(lanes.p, block.p)
        return LaneBounds(best, branch[:, 0], block.point[: self.network.inputs])

    def certified(self, lanes: Lanes) -> NDArray[np.float64]:
        block = self._block(lanes, np.float64)
        domains.backward(self.exact, block)
        bounds: Array = block.lb
        return np.where(np.isfinite(bounds), bounds, -np.inf)

    def _block(self, lanes: Lanes, dtype: type[np.floating]) -> Block:
        network = self.network
        block = empty_block(network.neurons, len(network.e) + 1, network.inputs, dtype)
        block.spec[:], block.phase[:], block.p[:] = lanes.spec, lanes.phase, lanes.p
        return block
