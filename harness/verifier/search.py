"""Which branch and bound over neurons a machine gets: the compiled one, or torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from harness.domain import Counterexample
from harness.verifier.bab import Search, SearchResult
from harness.verifier.config import EngineConfig
from harness.verifier.fold import FoldedNetwork
from harness.verifier.kernels.choice import has_numba
from harness.verifier.kernels.torch_kernel import TorchKernel


class NeuronSearch(Protocol):
    """Branch and bound over the open margins of one folded network."""

    def run(self) -> SearchResult:
        """Bounds the roots, then splits until everything is closed or a limit is reached."""


def neuron_search(
    network: FoldedNetwork,
    config: EngineConfig,
    device: torch.device,
    max_domains: int | None,
    should_stop: Callable[[int], bool],
    confirm: Callable[[NDArray[np.float32]], Counterexample | None],
    give_up_after: int | None = None,
    threads: int = 1,
) -> NeuronSearch:
    """Returns the fastest search that this machine can run; arguments as of `bab.Search`.

    With `give_up_after` it may give up early (LARGE), after so many slices of work; otherwise it may use `threads`.
    """
    if device.type == "cpu" and has_numba():
        # imported late: the engine also runs where Numba is not installed
        from harness.verifier.compiled_search import CompiledSearch
        from harness.verifier.team_search import TeamSearch

        if give_up_after is not None:
            return CompiledSearch(network, config, max_domains, should_stop, confirm, give_up_after=give_up_after)
        return TeamSearch(network, config, max_domains, should_stop, confirm, threads)
    return Search(network, TorchKernel(network, device), config, max_domains, should_stop, confirm)
