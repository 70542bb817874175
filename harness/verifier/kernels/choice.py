"""Which kernel a machine gets."""

from __future__ import annotations

import importlib.util
from functools import cache

import numpy as np
import torch

from harness.verifier.fold import FoldedNetwork, SparseColumns, SparseRows
from harness.verifier.kernels.contract import LANES, Kernel, Lanes
from harness.verifier.kernels.torch_kernel import TorchKernel


def make_kernel(network: FoldedNetwork, device: torch.device) -> Kernel:
    """Returns the fastest kernel that this machine can run: Numba's on the CPU where it is installed, else torch's."""
    if device.type == "cpu" and importlib.util.find_spec("numba") is not None:
        # imported late: the engine also runs where Numba is not installed
        from harness.verifier.kernels.numba_kernel import NumbaKernel

        return NumbaKernel(network)
    return TorchKernel(network, device)


@cache
def prepare(device: torch.device) -> None:
    """Compiles the kernel, or loads it from Numba's cache, so that no instance's time pays for it."""
    none, index = np.zeros(0), np.zeros(0, np.int32)
    row, column = SparseRows(np.zeros(2, np.int64), index, none), SparseColumns(np.zeros(3, np.int64), index, none)
    network = FoldedNetwork(
        1, np.zeros(1), row, column, np.zeros(1), np.zeros((2, 1)), -np.ones(1), np.ones(1), np.array([0, 1])
    )
    kernel = make_kernel(network, device)
    lanes = Lanes(np.zeros(LANES, np.int32), np.zeros((1, LANES), np.int8), np.zeros((1, LANES), np.float32))
    kernel.improve(lanes, 1, 0.1, 0.1)
    kernel.certified(lanes)
