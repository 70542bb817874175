"""Branch and bound keeps its domains together and counts them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from families import member
from nets import Array, box_around, graph_of
from test_fold import evaluated

from harness.domain import Counterexample
from harness.verifier import compiled_search
from harness.verifier.bab import Outcome, Search, SearchResult
from harness.verifier.compiled_search import CompiledSearch
from harness.verifier.config import EngineConfig
from harness.verifier.crown import root_bounds
from harness.verifier.fold import FoldedNetwork, fold
from harness.verifier.kernels.contract import LANES
from harness.verifier.kernels.torch_kernel import TorchKernel

CONFIG = EngineConfig()
# torch says once a process that its sparse tensors are in beta.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse:UserWarning")


def network_at(rhs: float | None, family: str = "fully connected", seed: int = 2, margins: int = 1) -> FoldedNetwork:
    """Returns a network whose margins are proved where rhs is low; None: a little below what samples reach."""
    graph = graph_of(member(family, seed))
    box = box_around(graph, 1, 0.5)
    C = torch.tensor([[1.0, -1, 0]], dtype=torch.float64).repeat(margins, 1)
    found = root_bounds(graph, box)
    if rhs is None:
        free = fold(graph, found, C, torch.zeros(margins, dtype=torch.float64))
        random = np.random.default_rng(0)
        points = (np.sign(random.uniform(-1, 1, free.inputs)) for _ in range(300))
        rhs = min(float(evaluated(free, t)[1].min()) for t in points) - 0.05
    return fold(graph, found, C, torch.full((margins,), rhs, dtype=torch.float64))


def nothing(_corner: Array) -> None:
    return None


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs every test of this module with both searches, the compiled one asking its caller after every round."""
    monkeypatch.setitem(KIND, "kind", request.param)
    monkeypatch.setattr(compiled_search, "SLICE_WORK", 0.0)


KIND = {"kind": "compiled"}


def search(
    network: FoldedNetwork,
    max_domains: int | None = None,
    stop: Callable[[int], bool] = lambda _domains: False,
    confirm: Callable[[Array], Counterexample | None] = nothing,
    config: EngineConfig = CONFIG,
) -> SearchResult:
    if KIND["kind"] == "compiled":
        return CompiledSearch(network, config, max_domains, stop, confirm).run()
    kernel = TorchKernel(network, torch.device("cpu"))
    return Search(network, kernel, config, max_domains, stop, confirm).run()


def test_easy_margins_are_proved_at_the_root() -> None:
    result = search(network_at(-1e3))
    assert (result.outcome, result.domains, result.branched) == (Outcome.PROVED, 1, False)


def test_harder_ones_are_proved_by_branching() -> None:
    result = search(network_at(None))
    assert (result.outcome, result.branched) == (Outcome.PROVED, True)
    assert result.domains > 2


def test_what_does_not_hold_is_not_proved() -> None:
    for margins in (1, 3, LANES + 5):
        assert search(network_at(1e3, margins=margins)).outcome is not Outcome.PROVED


def test_one_bad_margin_behind_many_good_ones_is_seen() -> None:
    """More margins than one block holds, only the last one does not hold."""
    good = network_at(-1e3, margins=LANES * 2 + 1)
    good.e[-1] -= 2e3
    assert search(good).outcome is not Outcome.PROVED


@pytest.mark.parametrize("limit", [0, 1, 2, 5, 6, 40])
def test_the_limit_on_domains_is_kept(limit: int) -> None:
    result = search(network_at(1e-9, "convolution"), max_domains=limit)
    assert result.outcome is Outcome.DOMAINS
    assert result.domains <= max(1, limit)


def test_a_search_is_repeatable() -> None:
    def visited() -> list[bytes]:
        corners: list[bytes] = []

        def keep(corner: Array) -> None:
            corners.append(np.asarray(corner).astype(np.int8).tobytes())

        result = search(network_at(1e-9, "convolution"), max_domains=300, confirm=keep)
        return [*corners, str(result.domains).encode()]

    first = visited()
    assert len(first) > 2
    assert first == visited()


def test_a_stopped_search_says_so() -> None:
    asked = iter([False, False, True])
    result = search(network_at(1e-9, "convolution"), stop=lambda _domains: next(asked))
    assert result.outcome is Outcome.STOPPED


def test_too_many_open_domains_are_memory() -> None:
    config = EngineConfig(max_open_domains=20)
    assert search(network_at(1e-9, "convolution"), config=config).outcome is Outcome.MEMORY


def test_a_confirmed_corner_ends_the_search() -> None:
    witness = Counterexample(np.zeros(5, np.float32))
    result = search(network_at(1e3), confirm=lambda _corner: witness)
    assert (result.outcome, result.branched, result.counterexample) == (Outcome.FALSIFIED, False, witness)


def test_without_unstable_neurons_the_root_decides() -> None:
    assert search(network_at(1e3, "affine")).outcome is Outcome.EXHAUSTED
    assert search(network_at(-1e3, "affine")).outcome is Outcome.PROVED


def test_corners_are_signs_of_the_input() -> None:
    network = network_at(1e-9, "convolution")
    seen: list[Array] = []
    search(network, max_domains=200, confirm=lambda corner: seen.append(np.array(corner)))
    assert seen
    assert all(corner.shape == (network.inputs,) and set(np.unique(corner)) <= {-1, 1} for corner in seen)
