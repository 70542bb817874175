"""Standard accuracy and robust accuracy of a network, deterministic under a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from harness.data.images import ImageSet
from harness.networks.modes import eval_mode
from harness.training.adversarial import input_gradient, project, uniform_noise

BLOCK = 500
"""Inputs whose random starts are drawn together."""


@dataclass(frozen=True, slots=True)
class PgdConfig:
    """A PGD attack with signed steps; the last iterate counts, as in the published code.

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
    def pgd100(eps: float) -> PgdConfig:
        """100 steps of 2.5 eps / 100; the "100 restarts" of the thesis are those of its verifier, not of its RA."""
        return PgdConfig(eps, 100, 2.5 * eps / 100)

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
    """Returns images as float32 in [0, 1] on `device`; the value of a pixel of bytes is `byte / 255` in float32."""
    return in_unit_range(torch.from_numpy(np.ascontiguousarray(images)).to(device))


def in_unit_range(images: Tensor) -> Tensor:
    """Returns bytes as float32 in [0, 1]; images that are float32 already are as they are."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def withstands(network: nn.Module, x: Tensor, y: Tensor, attack: PgdConfig, draw: Callable[[], Tensor]) -> Tensor:
    """Returns which inputs keep their label under the attack, `(batch,)` bool; `x` itself is checked too.

    Inputs that are lost already, to `x` itself or to an earlier restart, are not attacked again. The noise is drawn for
    the whole batch all the same, so that an input's random start does not depend on the fate of the others.

    Args:
        network: maps images in [0, 1] to logits.
        x: images.
        y: labels, `(batch,)`.
        attack: the attack.
        draw: returns the noise that a restart begins with, of the shape of `x`.
    """
    robust = _right(network, x, y)
    for _ in range(attack.restarts):
        noise = draw()
        left = robust.nonzero().flatten()
        if not left.numel():
            break
        x_left, y_left = x[left], y[left]
        delta = project(x_left, noise[left], attack.eps)
        for _ in range(attack.steps):
            gradient = input_gradient(network, x_left + delta, y_left)
            delta = project(x_left, delta + attack.alpha * gradient.sign(), attack.eps)
        robust[left] = _right(network, x_left + delta, y_left)
    return robust


def _right(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        right: Tensor = network(x).argmax(1) == y
    return right


def evaluate(
    network: nn.Module,
    data: ImageSet,
    attack: PgdConfig,
    seed: int = 0,
    batch_size: int = BLOCK,
    progress: Callable[[int], None] = lambda _done: None,
) -> Accuracy:
    """Returns the network's accuracies on `data`; the same seed and device give the same figures.

    Every input's random starts are a function of the seed and of its place in `data`, whatever the batch size. A
    library may still sum in another order in batches of another size, which can move an input that stands on the edge.

    Args:
        network: maps images in [0, 1] to logits; evaluated in eval mode; each of its modules gets its own mode back.
        data: images and labels.
        attack: what RA is measured under.
        seed: seeds the attack's random starts.
        batch_size: inputs a pass, at most `BLOCK`.
        progress: called with the number of inputs done.
    """
    device = next(network.parameters()).device
    correct = robust = 0
    with eval_mode(network):
        for block in range(0, len(data), BLOCK):
            part = data[block : block + BLOCK]
            x, y = to_float(part.images, device), torch.from_numpy(part.labels).to(device)
            for at in range(0, len(part), batch_size):
                some = slice(at, at + batch_size)
                generator = torch.Generator(device).manual_seed(seed * 1_000_003 + block)
                draw = partial(_part_of_noise, x, attack.eps, generator, some)
                correct += int(_right(network, x[some], y[some]).sum())
                robust += int(withstands(network, x[some], y[some], attack, draw).sum())
                progress(min(block + at + batch_size, block + len(part)))
    return Accuracy(len(data), correct, robust)


def _part_of_noise(x: Tensor, eps: float, generator: torch.Generator, part: slice) -> Tensor:
    # Drawn for the whole block each time: what is left out costs little beside the attack's steps.
    return uniform_noise(x, eps, generator)[part]
