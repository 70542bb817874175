"""The kernels: valid for any multipliers and any phases, never worse than they started, each lane for itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from compiled_kernel import CompiledKernel
from families import member
from nets import Array, box_around, graph_of
from numpy.typing import NDArray
from test_fold import evaluated

from harness.verifier.crown import root_bounds
from harness.verifier.fold import FoldedNetwork, fold
from harness.verifier.kernels.contract import LANES, Kernel, Lanes
from harness.verifier.kernels.torch_kernel import TorchKernel

MakeKernel = Callable[[FoldedNetwork], Kernel]
KERNELS: dict[str, MakeKernel] = {"compiled": CompiledKernel, "torch": lambda n: TorchKernel(n, torch.device("cpu"))}
# torch says once a process that its sparse tensors are in beta.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
KINDS = ("fully connected", "grafted", "convolution", "grafted convolution", "residual", "odd")


def network_of(family: str, seed: int = 0, radius: float = 0.5, margins: int = 5) -> FoldedNetwork:
    graph = graph_of(member(family, seed))
    C = torch.from_numpy(np.random.default_rng(seed).normal(size=(margins, 3)))
    return fold(graph, root_bounds(graph, box_around(graph, 1, radius)), C, torch.zeros(margins, dtype=torch.float64))


def random_lanes(network: FoldedNetwork, seed: int, feasible: bool = True) -> Lanes:
    """Returns domains with random phases (if feasible: those of a random point) and random multipliers."""
    random = np.random.default_rng(seed)
    shape = (network.neurons, LANES)
    phase = random.integers(-1, 2, shape)
    if feasible:
        points = [evaluated(network, random.uniform(-1, 1, network.inputs))[0] for _ in range(LANES)]
        phase = np.where(random.random(shape) < 0.3, np.where(np.stack(points, 1) >= 0, 1, -1), 0)
    alpha, beta = random.choice([0.0, 1.0, 0.3, random.random()], shape), random.exponential(1, shape)
    spec = random.integers(0, len(network.e), LANES)
    p = np.where(phase == 0, alpha, beta * random.integers(0, 2, shape))
    return Lanes(spec.astype(np.int32), phase.astype(np.int8), p.astype(np.float32))


def copy_of(lanes: Lanes, index: NDArray[np.intp] | slice = slice(None)) -> Lanes:
    return Lanes(
        lanes.spec[index].copy(),
        np.array(lanes.phase[:, index], order="C"),
        np.array(lanes.p[:, index], order="C"),
    )


def lowest_margins(network: FoldedNetwork, lanes: Lanes, count: int = 400) -> Array:
    """Returns the lowest margin that random points of each domain reach, inf where none was hit."""
    random = np.random.default_rng(9)
    lowest = np.full(LANES, np.inf)
    for k in range(count):
        t = np.sign(random.uniform(-1, 1, network.inputs)) if k % 2 else random.uniform(-1, 1, network.inputs)
        z, margins = evaluated(network, t)
        inside = ((lanes.phase == 0) | (lanes.phase * z[:, None] >= 0)).all(0)
        lowest = np.where(inside, np.minimum(lowest, margins[lanes.spec]), lowest)
    return lowest


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("family", KINDS)
def test_no_bound_exceeds_a_margin_of_its_domain(family: str, kind: str) -> None:
    network = network_of(family, radius=0.05 if family == "residual" else 0.5)
    lanes = random_lanes(network, seed=1)
    lowest = lowest_margins(network, lanes)
    assert np.isfinite(lowest).sum() >= LANES // 4
    kernel = KERNELS[kind](network)
    assert (kernel.certified(lanes) <= lowest).all()
    improved = kernel.improve(lanes, 20, 0.4, 0.5)
    assert (improved.lb <= lowest + 1e-4).all()
    assert (kernel.certified(lanes) <= lowest).all()


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("feasible", [True, False])
def test_both_kernels_find_the_same_bounds(family: str, feasible: bool) -> None:
    network = network_of(family, seed=3)
    lanes = random_lanes(network, 2, feasible)
    exact = [make(network).certified(lanes) for make in KERNELS.values()]
    np.testing.assert_allclose(exact[0], exact[1], rtol=1e-12, atol=1e-12)
    found = [make(network).improve(copy_of(lanes), 0, 0.4, 0.5) for make in KERNELS.values()]
    scale = 1 + np.abs(exact[0])
    np.testing.assert_allclose(found[0].lb / scale, found[1].lb / scale, atol=1e-4)
    np.testing.assert_allclose(found[0].lb / scale, exact[0] / scale, atol=1e-4)
    agreeing = (found[0].branch == found[1].branch).mean()
    assert agreeing > 0.9


@pytest.mark.parametrize("family", ["fully connected", "grafted convolution"])
def test_the_compiled_kernel_climbs_at_least_as_high(family: str) -> None:
    """Polyak's steps against sign steps: single lanes may do worse, most and the average must not."""
    network = network_of(family, seed=4)
    lanes = random_lanes(network, 3)
    ours, theirs = (make(network).improve(copy_of(lanes), 15, 0.4, 0.5).lb for make in KERNELS.values())
    assert ours.mean() >= theirs.mean()
    assert (ours >= theirs - 0.1 * (1 + np.abs(theirs))).mean() > 0.8


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("family", KINDS)
def test_improving_never_makes_a_bound_worse_and_keeps_multipliers_in_range(family: str, kind: str) -> None:
    network = network_of(family, seed=5)
    kernel = KERNELS[kind](network)
    for seed in range(4):
        lanes = random_lanes(network, seed, feasible=seed % 2 == 0)
        phase, spec = lanes.phase.copy(), lanes.spec.copy()
        before, exact_before = kernel.improve(copy_of(lanes), 0, 0.4, 0.5).lb, kernel.certified(lanes)
        after = kernel.improve(lanes, 7, 0.4, 0.5)
        assert (after.lb >= before).all()
        scale = 1 + np.abs(exact_before)
        assert ((kernel.certified(lanes) - exact_before) / scale >= -1e-4).all()
        assert (lanes.p >= 0).all()
        assert (lanes.p[lanes.phase == 0] <= 1).all()
        np.testing.assert_array_equal(lanes.phase, phase)
        np.testing.assert_array_equal(lanes.spec, spec)


@pytest.mark.parametrize("family", ["fully connected", "grafted convolution"])
def test_improving_helps(family: str) -> None:
    network = network_of(family, seed=6)
    lanes = random_lanes(network, 1)
    kernel = CompiledKernel(network)
    before = kernel.improve(copy_of(lanes), 0, 0.4, 0.5).lb
    assert (kernel.improve(lanes, 20, 0.4, 0.5).lb - before).mean() > 0.05


@pytest.mark.parametrize("family", ["fully connected", "convolution"])
def test_a_lane_does_not_depend_on_its_neighbours(family: str) -> None:
    """Bit for bit: in another place, and among other domains."""
    network = network_of(family, seed=7)
    lanes, others = random_lanes(network, 4), random_lanes(network, 5, feasible=False)
    order = np.random.default_rng(0).permutation(LANES)
    keep = np.arange(LANES) % 3 == 0
    mixed = Lanes(
        np.where(keep, lanes.spec, others.spec),
        np.where(keep, lanes.phase, others.phase),
        np.where(keep, lanes.p, others.p),
    )
    kernel = CompiledKernel(network)
    found = []
    for block in (copy_of(lanes), copy_of(lanes, order), mixed):
        result = kernel.improve(block, 5, 0.4, 0.5)
        corner = result.corner.copy()
        found.append((result.lb, result.branch, corner, block.p, kernel.certified(block)))
    for first, moved, amid in zip(*found, strict=True):
        np.testing.assert_array_equal(first[..., order], moved)
        np.testing.assert_array_equal(first[..., keep], amid[..., keep])


@pytest.mark.parametrize("kind", KERNELS)
def test_the_corner_attains_the_bound_of_an_affine_network(kind: str) -> None:
    network = network_of("affine", seed=1)
    assert network.neurons == 0
    empty = np.zeros((0, LANES))
    lanes = Lanes(np.zeros(LANES, np.int32), empty.astype(np.int8), empty.astype(np.float32))
    kernel = KERNELS[kind](network)
    bounds = kernel.improve(lanes, 3, 0.4, 0.5)
    assert (bounds.branch == -1).all()
    reached = evaluated(network, np.asarray(bounds.corner)[:, 0].astype(float))[1][0]
    np.testing.assert_allclose(kernel.certified(lanes), reached, rtol=1e-7)
    assert (kernel.certified(lanes) <= reached).all()


@pytest.mark.parametrize("kind", KERNELS)
def test_the_chosen_neuron_is_free_and_there_is_none_when_all_are_split(kind: str) -> None:
    network = network_of("fully connected", seed=8)
    kernel = KERNELS[kind](network)
    lanes = random_lanes(network, 6, feasible=False)
    lanes.phase[:, 0] = 1
    lanes.phase[:, 1] = 0
    branch = kernel.improve(lanes, 1, 0.4, 0.5).branch
    assert branch[0] == -1
    assert branch[1] >= 0
    chosen = np.flatnonzero(branch >= 0)
    assert (lanes.phase[branch[chosen], chosen] == 0).all()


def test_multipliers_that_are_no_numbers_prove_nothing() -> None:
    network = network_of("fully connected", seed=9)
    lanes = random_lanes(network, 7, feasible=False)
    lanes.p[:, 3] = np.nan
    for make in KERNELS.values():
        assert make(network).certified(lanes)[3] == -np.inf


def test_slack_costs_a_bound_what_its_coefficients_say() -> None:
    network = network_of("fully connected", seed=3)
    lanes = random_lanes(network, 2)
    exact = replace(network, slack=np.zeros(network.neurons))
    for make in KERNELS.values():
        ours, without = make(network).certified(lanes), make(exact).certified(lanes)
        assert (ours < without).all()
        assert (ours > without - 1e-2 * (1 + np.abs(without))).all()
