"""Which kernel a machine gets."""

from __future__ import annotations

import importlib.util

import torch

from harness.verifier.fold import FoldedNetwork
from harness.verifier.kernels.contract import Kernel
from harness.verifier.kernels.torch_kernel import TorchKernel


def make_kernel(network: FoldedNetwork, device: torch.device) -> Kernel:
    """Returns the fastest kernel that this machine can run: Numba's on the CPU where it is installed, else torch's."""
    if device.type == "cpu" and importlib.util.find_spec("numba") is not None:
        # imported late: the engine also runs where Numba is not installed
        from harness.verifier.kernels.numba_kernel import NumbaKernel

        return NumbaKernel(network)
    return TorchKernel(network, device)
