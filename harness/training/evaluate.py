"""Standard accuracy and robust accuracy of a network, deterministic under a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from harness.data.images import ImageSet
from harness.training.adversarial import input_gradient, project, uniform_noise


@dataclass(frozen=True, slots=True)
class PgdConfig:
    """A PGD attack with signed steps; the last iterate counts (reference, section 2).

    `PgdConfig.pgd100` is the attack of the published RA, `PgdConfig.fgsm` the one that selects the epoch.
    """

    eps: float
    """Radius in the maximum norm, in [0, 1] image units."""
    steps: int
    alpha: float
    """Size of a step."""
    restarts: int = 1
    """Random starts; an input counts as robust only if it withstands all of them."""

    @staticmethod
    def pgd100(eps: float, restarts: int = 1) -> PgdConfig:
        """100 steps of 2.5 eps / 100; the "100 restarts" of the thesis are those of its verifier, not of its RA."""
        return PgdConfig(eps, 100, 2.5 * eps / 100, restarts)

    @staticmethod
    def fgsm(eps: float, alpha: float) -> PgdConfig:
        """One step from a random start."""
        return PgdConfig(eps, 1, alpha)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How many of `n` inputs are classified rightly, and how many still are under an attack."""

    n: int
    correct: int
    robust: int

    @property
    def sa(self) -> float:
        """Standard accuracy in percent."""
        return 100.0 * self.correct / self.n

    @property
    def ra(self) -> float:
        """Robust accuracy in percent."""
        return 100.0 * self.robust / self.n


def to_float(images: np.ndarray, device: torch.device) -> Tensor:
    """Returns uint8 images as float32 in [0, 1] on `device`; the value of a pixel is `byte / 255` in float32."""
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).float().div_(255)


def withstands(network: nn.Module, x: Tensor, y: Tensor, attack: PgdConfig, generator: torch.Generator) -> Tensor:
    """Returns which inputs keep their label under the attack, `(batch,)` bool; `x` itself is checked too.

    Inputs that are lost already, to `x` itself or to an earlier restart, are not attacked again. The noise is drawn for
    the whole batch all the same, so that an input's random start does not depend on the fate of the others.
    """
    with torch.no_grad():
        robust: Tensor = network(x).argmax(1) == y
    for _ in range(attack.restarts):
        noise = uniform_noise(x, attack.eps, generator)
        left = robust.nonzero().flatten()
        if not left.numel():
            break
        x_left, y_left = x[left], y[left]
        delta = project(x_left, noise[left], attack.eps)
        for _ in range(attack.steps):
            gradient = input_gradient(network, x_left + delta, y_left)
            delta = project(x_left, delta + attack.alpha * gradient.sign(), attack.eps)
        with torch.no_grad():
            robust[left] = network(x_left + delta).argmax(1) == y_left
    return robust


def evaluate(
    network: nn.Module,
    data: ImageSet,
    attack: PgdConfig,
    seed: int = 0,
    batch_size: int = 500,
    progress: Callable[[int], None] = lambda _done: None,
) -> Accuracy:
    """Returns the network's accuracies on `data`; the same seed, device and batch size give the same figures.

    Args:
        network: maps images in [0, 1] to logits; evaluated in eval mode, its mode is restored.
        data: images and labels.
        attack: what RA is measured under.
        seed: seeds the attack's random starts.
        batch_size: inputs a batch.
        progress: called with the number of inputs done.
    """
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    correct = robust = 0
    try:
        for start in range(0, len(data), batch_size):
            part = data[start : start + batch_size]
            x, y = to_float(part.images, device), torch.from_numpy(part.labels).to(device)
            generator = torch.Generator(device).manual_seed(seed * 1_000_003 + start)
            with torch.no_grad():
                correct += int((network(x).argmax(1) == y).sum())
            robust += int(withstands(network, x, y, attack, generator).sum())
            progress(start + len(part))
    finally:
        network.train(was_training)
    return Accuracy(len(data), correct, robust)
