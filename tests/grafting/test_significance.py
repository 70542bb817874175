"""Significance against a plain computation, one image at a time, in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.data.datasets import score_subset
from harness.data.images import ImageSet
from harness.domain import UsageError
from harness.grafting.significance import Heuristic, random_significance, significance
from harness.networks.grafted import graft_


class Branched(nn.Module):
    """Activations registered in another order than they are used in, one nested, one in place."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.ReLU()
        self.block = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Flatten())
        self.fc1, self.fc2 = nn.Linear(3 * 4 * 4, 5), nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.late(self.fc1(self.block(x))))


@pytest.fixture
def network() -> Branched:
    torch.manual_seed(3)
    return Branched()


@pytest.fixture
def images() -> ImageSet:
    random = np.random.default_rng(0)
    return ImageSet(random.integers(0, 256, (13, 1, 6, 6), dtype=np.uint8), random.integers(0, 4, 13))


def reference(network: Branched, images: ImageSet) -> dict[str, dict[str, np.ndarray]]:
    """The formulas of the reference, image by image, without hooks."""
    network = network.double()
    rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"block.1": [], "late": []}
    for pixels, label in zip(images.images, images.labels, strict=True):
        x = torch.from_numpy(pixels.astype(np.float64) / 255)[None]
        z1 = network.block[0](x)
        z2 = network.fc1(torch.relu(z1).flatten(1))
        logits = network.fc2(torch.relu(z2))
        loss = functional.cross_entropy(logits, torch.tensor([label]))
        for name, z, g in zip(rows, (z1, z2), torch.autograd.grad(loss, (z1, z2)), strict=True):
            rows[name].append((z[0].detach().numpy(), g[0].numpy()))
    zs = {name: np.stack([z for z, _ in pairs]) for name, pairs in rows.items()}
    gs = {name: np.stack([g for _, g in pairs]) for name, pairs in rows.items()}
    return {
        "gradient": {name: np.abs(g).mean(0) for name, g in gs.items()},
        "magnitude": {name: np.abs(z).mean(0) for name, z in zs.items()},
        "variance": {name: z.var(0, ddof=1) for name, z in zs.items()},
        "product": {name: np.abs(gs[name] * z).mean(0) for name, z in zs.items()},
    }


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_scores_are_the_formulas(network: Branched, images: ImageSet, batch_size: int) -> None:
    found = significance(network, images, batch_size=batch_size)
    expected = reference(network, images)
    assert set(found) == set(expected)
    for heuristic, layers in found.items():
        assert list(layers) == ["block.1", "late"], "in the order of use"
        for name, score in layers.items():
            assert score.dtype == np.float32
            np.testing.assert_allclose(score, expected[heuristic][name], rtol=2e-5, atol=1e-7)


def test_variance_does_not_cancel_beside_a_large_mean(images: ImageSet) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 2), nn.ReLU(), nn.Linear(2, 4)).double()
    with torch.no_grad():
        network[1].weight.mul_(1e-3)
        network[1].bias.fill_(1e5)
    wrapped = nn.Sequential(_ToDouble(), network)
    found = significance(wrapped, images, [Heuristic.VARIANCE], batch_size=2)[Heuristic.VARIANCE]["1.2"]
    z = network[:2](torch.from_numpy(images.images).float().div(255).double())
    np.testing.assert_allclose(found, z.var(0).detach().numpy(), rtol=1e-4)


class _ToDouble(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.double()


def test_a_neuron_that_never_fires_has_gradient_zero(network: Branched, images: ImageSet) -> None:
    with torch.no_grad():
        network.fc1.weight[2] = 0
        network.fc1.bias[2] = -1
    found = significance(network, images)
    assert found[Heuristic.GRADIENT]["late"][2] == 0
    assert found[Heuristic.MAGNITUDE]["late"][2] == 1


def test_the_network_is_left_as_it_was(network: Branched, images: ImageSet) -> None:
    network.train()
    significance(network, images)
    assert network.training
    assert all(p.grad is None for p in network.parameters())
    assert not network.late._forward_pre_hooks


def test_grafted_neurons_are_scored_too(network: Branched, images: ImageSet) -> None:
    with torch.no_grad():
        network.fc1.bias[0] = -100
    graft_(network, {"late": torch.tensor([True, False, False, False, False])})
    found = significance(network, images)[Heuristic.GRADIENT]["late"]
    assert found[0] > 0


def test_an_activation_used_twice_is_refused(images: ImageSet) -> None:
    relu = nn.ReLU()
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), relu, nn.Linear(4, 4), relu)
    with pytest.raises(UsageError, match="twice"):
        significance(network, images)


def test_a_network_without_relu_is_refused(images: ImageSet) -> None:
    with pytest.raises(UsageError, match="no ReLU"):
        significance(nn.Sequential(nn.Flatten(), nn.Linear(36, 4)), images)


@pytest.mark.parametrize(
    ("text", "expected"), [("GAP", "gradient"), ("sap", "magnitude"), ("variance", "variance"), ("Product", "product")]
)
def test_heuristics_by_either_name(text: str, expected: str) -> None:
    assert Heuristic.parse(text).value == expected


def test_product_is_of_each_image_and_not_of_the_means(network: Branched, images: ImageSet) -> None:
    found = significance(network, images)
    for name in ("block.1", "late"):
        of_means = found[Heuristic.GRADIENT][name] * found[Heuristic.MAGNITUDE][name]
        assert not np.allclose(found[Heuristic.PRODUCT][name], of_means, rtol=0.01)


def test_learned_and_random_scores_are_no_means(network: Branched, images: ImageSet) -> None:
    with pytest.raises(ValueError, match="means over images"):
        significance(network, images, [Heuristic.HYDRA])


def test_random_scores_are_those_of_their_seed() -> None:
    scores = random_significance(5000, 3)
    assert (scores == random_significance(5000, 3)).all()
    assert (scores != random_significance(5000, 4)).any()
    assert scores.dtype == np.float32
    assert 0 <= scores.min() < 0.01
    assert 0.99 < scores.max() < 1


def test_progress_counts_images(network: Branched, images: ImageSet) -> None:
    told: list[int] = []
    significance(network, images, batch_size=5, progress=told.append)
    assert told == [5, 10, 13]


def test_an_unknown_heuristic_is_refused() -> None:
    with pytest.raises(UsageError, match="known: gradient"):
        Heuristic.parse("entropy")


def test_the_subset_is_the_published_one(shared_dir: Path) -> None:
    with np.load(shared_dir / "golden/score_subset_indices.npz") as golden:
        for name, size in (("cifar10", 50000), ("mnist", 60000), ("svhn", 73257)):
            assert (score_subset(size) == golden[name]).all()
