"""Compiling ahead: a small network goes through the engine's stages, so that no instance's time pays for compilation.

Compiled code is kept on disk, so this takes minutes once, and then about as long as loading it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.domain import Counterexample
from harness.verifier.config import EngineConfig
from harness.verifier.graph import Graph, Input, Linear, Node, Relu
from harness.verifier.input_split import INPUTS, prepare_input_search
from harness.verifier.interval import Box
from harness.verifier.kernels.cache import note_compiled, was_compiled
from harness.verifier.kernels.choice import has_numba
from harness.verifier.root import Root, bound_root
from harness.verifier.search import neuron_search
from harness.verifier.sparse import SparseNetwork, sparse_network

WIDTHS = (6, 12, 12, 2)
"""Inputs, two hidden layers, outputs: enough for hidden bounds to refine, and for subtrees with bounds of their own."""
NEURONS = "neurons"
"""Name of compiled branch and bound over neurons."""
DOMAINS = 300
"""The margin cannot be proved, so this is where the search ends."""


def warm_up(device: torch.device) -> None:
    """Makes ready whatever the engine may run on a device, so that nothing is left to compile."""
    prepare_neuron_search(device)
    prepare_input_search(_sparse(_network(device)))


@cache
def prepare_bounds(device: torch.device) -> None:
    """Makes root bounds ready: intervals, CROWN, margins."""
    _root(device).margins(*_margin())


@cache
def prepare_neuron_search(device: torch.device) -> None:
    """Makes branch and bound over neurons ready, from folding to the optimised hidden bounds of large trees."""
    found, (C, rhs) = _root(device), _margin()
    found.margins(C, rhs)
    for root, slices in ((found, EngineConfig().small_slices), (found.refined(C) or found, None)):
        network = root.fold(C, rhs)
        neuron_search(network, EngineConfig(), device, DOMAINS, lambda _: False, _no_counterexample, slices).run()
    found.unstable()
    note_compiled(NEURONS)


def idle() -> None:
    """Prepares nothing."""


class Prepared(Protocol):
    """What an engine says of itself, as `preparations` reads it."""

    device: torch.device
    splits_inputs: bool
    splits_neurons: bool

    @property
    def sparse(self) -> SparseNetwork | None:
        """Its network's sparse form, if it is used."""


def preparations(engine: Prepared) -> tuple[Callable[[], None], Callable[[], None]]:
    """Returns what loads or compiles all that an engine needs: before any instance, and beside the first ones.

    What is compiled is loaded beside them. While something is being compiled nothing else can be loaded, and instances
    would wait for it at their own expense: that comes before.
    """

    def bounds() -> None:
        if engine.sparse is not None:
            prepare_bounds(engine.device)

    def search() -> None:
        if engine.splits_inputs:
            prepare_input_search(engine.sparse)
        elif engine.splits_neurons:
            prepare_neuron_search(engine.device)

    def both() -> None:
        bounds()
        search()

    loads = engine.device.type != "cpu" or not has_numba() or was_compiled(INPUTS if engine.splits_inputs else NEURONS)
    return (bounds, search) if loads else (both, idle)


def _no_counterexample(_corner: NDArray[np.float32]) -> Counterexample | None:
    return None


def _network(device: torch.device) -> Graph:
    """Returns a network most of whose neurons are unstable over the box from -1 to 1."""
    random = np.random.default_rng(0)
    nodes = [Node(Input(), (), (WIDTHS[0],))]
    for before, after in pairwise(WIDTHS):
        if len(nodes) > 1:
            nodes.append(Node(Relu(f"relu{len(nodes)}"), (len(nodes) - 1,), (before,)))
        weight = torch.from_numpy(random.normal(size=(after, before)))
        nodes.append(Node(Linear(weight, torch.zeros(after, dtype=torch.float64)), (len(nodes) - 1,), (after,)))
    return Graph(tuple(nodes)).to(torch.float64, device)


def _margin() -> tuple[Tensor, Tensor]:
    """Returns the margin `y0 - y1`, which is negative at some corners of the box."""
    return torch.tensor([[1.0, -1.0]], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)


def _sparse(graph: Graph) -> SparseNetwork | None:
    return sparse_network(graph) if graph.device.type == "cpu" and has_numba() else None


def _root(device: torch.device) -> Root:
    graph = _network(device)
    side = torch.ones(1, WIDTHS[0], dtype=torch.float64, device=device)
    return bound_root(graph, _sparse(graph), Box(-side, side))
