"""The pieces of fast adversarial training against plain statements of them."""

from __future__ import annotations

import pytest
import torch
from small import small_images, small_network
from torch import Tensor, nn
from torch.nn import functional

from harness.training.adversarial import fgsm_random_start, grad_align, input_gradient, project, uniform_noise
from harness.training.augment import crop_and_flip
from harness.training.evaluate import to_float

EPS = 0.1


@pytest.fixture
def network() -> nn.Sequential:
    return small_network()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    data = small_images(12)
    return to_float(data.images, torch.device("cpu")), torch.from_numpy(data.labels)


def test_projection_obeys_both_limits() -> None:
    x = torch.tensor([0.0, 0.05, 0.5, 1.0])
    moved = project(x, torch.tensor([-1.0, -1.0, 1.0, 1.0]), EPS)
    torch.testing.assert_close(moved, torch.tensor([0.0, -0.05, 0.1, 0.0]))


def test_fgsm_is_one_signed_step_from_its_start(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    delta = fgsm_random_start(network.train(), x, y, EPS, 0.125, torch.Generator().manual_seed(0))
    start = project(x, uniform_noise(x, EPS, torch.Generator().manual_seed(0)), EPS)
    expected = project(x, start + 0.125 * input_gradient(network, x + start, y).sign(), EPS)
    assert torch.equal(delta, expected)
    assert not network.training
    assert all(p.grad is None for p in network.parameters())


def test_grad_align_is_one_minus_the_mean_cosine(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    found = grad_align(network, x, y, EPS, torch.Generator().manual_seed(4))
    noise = uniform_noise(x, EPS, torch.Generator().manual_seed(4))
    gradients = []
    for point in (x, x + noise):
        rows = []
        for image, label in zip(point, y, strict=True):
            leaf = image[None].clone().requires_grad_(True)
            functional.cross_entropy(network(leaf), label[None]).backward()
            assert leaf.grad is not None
            rows.append(leaf.grad.flatten())
        gradients.append(torch.stack(rows))
    expected = 1 - functional.cosine_similarity(*gradients).mean()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_grad_align_trains_the_weights(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    grad_align(network, x, y, EPS, torch.Generator().manual_seed(4)).backward()
    assert network.conv1.weight.grad.abs().sum() > 0


def test_grad_align_without_any_gradient_is_zero(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    nn.init.zeros_(network[1].weight)
    value = grad_align(network, x, y, EPS, torch.Generator().manual_seed(4))
    value.backward()
    assert value == 0


def test_crops_and_flips_are_those_of_the_padded_image() -> None:
    x = torch.arange(1.0, 2 * 3 * 4 * 4 + 1).view(2, 3, 4, 4)
    seen = set()
    for seed in range(200):
        for image, out in zip(x, crop_and_flip(x, torch.Generator().manual_seed(seed), padding=1), strict=True):
            padded = functional.pad(image, (1, 1, 1, 1))
            candidates = {
                (top, left, flip): crop.flip(-1) if flip else crop
                for top in range(3)
                for left in range(3)
                for flip in (False, True)
                for crop in [padded[:, top : top + 4, left : left + 4]]
            }
            matches = [key for key, value in candidates.items() if torch.equal(value, out)]
            assert len(matches) == 1
            seen.update(matches)
    assert len(seen) == 18, "every shift, mirrored and not, comes up"
