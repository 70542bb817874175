"""Learned scores: what they find, what they leave alone, and that an interruption does not show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness.data.images import ImageSet
from harness.domain import UsageError
from harness.grafting.hydra import GatedNetwork, HydraConfig, HydraProgress, HydraTraining
from harness.networks.grafted import graft_

pytestmark = pytest.mark.usefixtures("one_thread")

HIDDEN = 8
USEFUL = (2, 5)


@pytest.fixture
def images() -> ImageSet:
    """The label is which of the first two pixels is brighter."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (256, 1, 2, 2), dtype=np.uint8)
    return ImageSet(pixels, (pixels[:, 0, 0, 0] > pixels[:, 0, 0, 1]).astype(np.int64))


@pytest.fixture
def network() -> nn.Sequential:
    """Only two neurons reach the logits; they are the smallest, so that nothing but learning can find them."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, HIDDEN), nn.ReLU(inplace=True), nn.Linear(HIDDEN, 2))
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].bias.fill_(1.0)
        network[3].weight.zero_()
        network[3].bias.zero_()
        for neuron, sign in zip(USEFUL, (1.0, -1.0), strict=True):
            network[1].weight[neuron, 0], network[1].weight[neuron, 1] = sign, -sign
            network[1].bias[neuron] = 0
            network[3].weight[0 if sign < 0 else 1, neuron] = 20.0
    return network


CONFIG = HydraConfig(epochs=4, keep=0.25, batch_size=32)


def learned(network: nn.Module, images: ImageSet, config: HydraConfig = CONFIG) -> np.ndarray:
    training = HydraTraining(network, config, images)
    assert training.run()
    return training.significance()["2"]


def test_the_neurons_that_matter_are_found(network: nn.Module, images: ImageSet) -> None:
    before = HydraTraining(network, CONFIG, images).significance()["2"]
    assert set(np.argsort(-before)[:2]).isdisjoint(USEFUL)
    assert set(np.argsort(-learned(network, images))[:2].tolist()) == set(USEFUL)


def test_the_network_is_left_alone(network: nn.Sequential, images: ImageSet) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    learned(network, images)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert isinstance(network[2], nn.ReLU)
    assert network[2].inplace
    assert network.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


def test_a_seed_determines_the_scores(network: nn.Module, images: ImageSet) -> None:
    first = learned(network, images)
    assert first.dtype == np.float32
    assert (first == learned(network, images)).all()
    assert (first != learned(network, images, HydraConfig(epochs=4, keep=0.25, batch_size=32, seed=2))).any()


@pytest.mark.parametrize("adversarial", [False, True])
def test_an_interruption_does_not_show(network: nn.Module, images: ImageSet, tmp_path: Path, adversarial: bool) -> None:
    config = HydraConfig(epochs=2, keep=0.25, batch_size=32, adversarial=adversarial, eps=0.1, alpha=0.125)
    told: list[HydraProgress] = []
    part = HydraTraining(network, config, images, tmp_path / "hydra.ckpt")
    assert not part.run(told.append, should_stop=lambda: len(told) == 11)
    rest = HydraTraining(network, config, images, tmp_path / "hydra.ckpt")
    assert rest.step == 11
    assert rest.run(told.append)
    assert [p.step for p in told] == list(range(1, 17))
    assert {p.steps for p in told} == {16}
    assert (rest.significance()["2"] == learned(network, images, config)).all()


def test_a_foreign_checkpoint_is_refused(network: nn.Sequential, images: ImageSet, tmp_path: Path) -> None:
    path = tmp_path / "hydra.ckpt"
    HydraTraining(network, CONFIG, images, path).save()
    HydraTraining(network, CONFIG, images, path)
    with pytest.raises(UsageError, match="other scores"):
        HydraTraining(network, HydraConfig(epochs=9), images, path)
    with torch.no_grad():
        network[1].weight[0, 0] += 1
    with pytest.raises(UsageError, match="other scores"):
        HydraTraining(network, CONFIG, images, path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(UsageError, match="not a readable checkpoint"):
        HydraTraining(network, CONFIG, images, path)


def test_dropped_neurons_give_their_slope_and_kept_ones_stay(network: nn.Sequential, images: ImageSet) -> None:
    x = torch.from_numpy(images.images[:5]).float() / 255
    gated = GatedNetwork(network, (1, 2, 2), HydraConfig(keep=0.25, slope=0.4), x)
    with torch.no_grad():
        gated.scores.copy_(torch.tensor([0.0, 0, -3, 0, 0, 2, 1, 0]))
        z = network[1](x.flatten(1))
        kept = torch.zeros(HIDDEN, dtype=torch.bool)
        kept[[2, 5]] = True
        torch.testing.assert_close(gated(x), network[3](torch.where(kept, z.relu(), 0.4 * z)))


def test_the_gradient_of_a_score_is_that_of_its_mask(network: nn.Sequential, images: ImageSet) -> None:
    x, y = torch.from_numpy(images.images[:5]).float() / 255, torch.from_numpy(images.labels[:5])
    gated = GatedNetwork(network, (1, 2, 2), HydraConfig(keep=0.25), x)
    with torch.no_grad():
        gated.scores.copy_(torch.tensor([0.0, 0, -3, 0, 0, 1, 2, 0]))
    nn.functional.cross_entropy(gated(x), y).backward()
    mask = torch.zeros(HIDDEN)
    mask[[2, 6]] = 1
    mask.requires_grad_(True)
    logits = network[3](mask * network[1](x.flatten(1)).relu())
    nn.functional.cross_entropy(logits, y).backward()
    assert mask.grad is not None
    sign = torch.tensor([0.0, 0, -1, 0, 0, 1, 1, 0])
    torch.testing.assert_close(gated.scores.grad, mask.grad * sign)
    assert gated.scores.grad[5] != 0, "a dropped neuron learns too"


def test_adversarial_examples_change_the_scores(network: nn.Module, images: ImageSet) -> None:
    config = HydraConfig(epochs=4, keep=0.25, batch_size=32, adversarial=True, eps=0.1, alpha=0.125)
    assert (learned(network, images, config) != learned(network, images)).any()


def test_grafted_and_nested_activations(images: ImageSet) -> None:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(1, 3, 2, padding=1), nn.BatchNorm2d(3), nn.ReLU())
    network = nn.Sequential(inner, nn.Flatten(), nn.Linear(27, 5), nn.ReLU(), nn.Linear(5, 2))
    graft_(network, {"3": torch.tensor([True, False, True, False, False])})
    training = HydraTraining(network, HydraConfig(epochs=1, batch_size=64), images)
    assert training.run()
    assert {name: score.shape for name, score in training.significance().items()} == {"0.2": (3, 3, 3), "3": (5,)}
    assert network[0][1].num_batches_tracked == 0, "batch norm's statistics are frozen too"


@pytest.mark.parametrize(
    "values",
    [{"epochs": 0}, {"keep": 0.0}, {"keep": 1.0}, {"lr": 0.0}, {"lr": float("nan")}, {"batch_size": 0},
     {"slope": float("inf")}, {"adversarial": True, "eps": 0.0}],
)  # fmt: skip
def test_impossible_settings(values: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        HydraConfig(**values)  # type: ignore[arg-type]


def test_a_network_without_relu_is_refused(images: ImageSet) -> None:
    with pytest.raises(UsageError, match="no ReLU"):
        HydraTraining(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), CONFIG, images)
