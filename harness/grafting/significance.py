"""Significance: how much each neuron matters to the classification, from a few training images.

Four scores per neuron, all on the value z before the activation, as the published code and the thesis compute them: the
mean of |dCE/dz| (gradient, GAP), the mean of |z| (magnitude, SAP), the unbiased variance of z (variance, VAP) and the
mean of |dCE/dz * z| (product). Two more are not means over images: learned scores (`harness.grafting.hydra`) and random
ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from harness.data.images import ImageSet
from harness.domain import UsageError
from harness.networks.grafted import relu_names
from harness.networks.modes import eval_mode
from harness.training.evaluate import to_float


class Heuristic(StrEnum):
    """What a neuron's significance is measured by."""

    GRADIENT = "gradient"
    """GAP: mean over images of |dCE/dz|; exactly 0 for a neuron that never fires."""
    MAGNITUDE = "magnitude"
    """SAP: mean over images of |z|."""
    VARIANCE = "variance"
    """VAP: variance of z over images, with n - 1."""
    PRODUCT = "product"
    """Mean over images of |dCE/dz * z|: the paper's "gradient times activation"."""
    HYDRA = "hydra"
    """Learned by gradient descent through a top-k mask, weights frozen; see `harness.grafting.hydra`."""
    RANDOM = "random"
    """Uniform in [0, 1) under a seed: what the others have to beat."""

    @classmethod
    def parse(cls, text: str) -> Heuristic:
        """Returns the heuristic of that name; `gap`, `sap` and `vap` are the thesis' names for them.

        Raises:
            UsageError: no heuristic is called so.
        """
        name = ALIASES.get(text.lower(), text.lower())
        if name not in set(cls):
            raise UsageError(f"unknown heuristic '{text}'; known: {', '.join((*cls, *ALIASES))}")
        return cls(name)


ALIASES: Mapping[str, str] = {"gap": "gradient", "sap": "magnitude", "vap": "variance"}
MEANS = (Heuristic.GRADIENT, Heuristic.MAGNITUDE, Heuristic.VARIANCE, Heuristic.PRODUCT)
"""The heuristics that one pass over the images gives."""


def random_significance(neurons: int, seed: int) -> NDArray[np.float32]:
    """Returns random scores, `(neurons,)` uniform in [0, 1); the same seed gives the same on every machine."""
    return np.random.default_rng(seed).random(neurons, np.float32)


def significance(
    network: nn.Module,
    images: ImageSet,
    heuristics: Collection[Heuristic] = MEANS,
    batch_size: int = 100,
    progress: Callable[[int], None] = lambda _done: None,
) -> dict[Heuristic, dict[str, NDArray[np.float32]]]:
    """Returns for each heuristic and each activation the neurons' scores, float32 of the neurons' shape.

    The network is evaluated in eval mode (its mode and its gradients are left as they were); sums run in float64, so
    that the batch size shows only in the last float32 digit.

    Args:
        network: maps `(batch, C, H, W)` images in [0, 1] to logits; each activation is used once in a forward pass.
        images: clean images with labels, at least two; see `harness.data.datasets.score_subset`.
        heuristics: which scores to compute, of `MEANS`.
        batch_size: images a pass.
        progress: called with the number of images done.

    Raises:
        UsageError: the network has no activation to score, or there are fewer than two images.
        ValueError: a heuristic is not one of `MEANS`.
    """
    if not set(heuristics) <= set(MEANS):
        raise ValueError(f"only {', '.join(MEANS)} are means over images")
    names = relu_names(network)
    if not names:
        raise UsageError("the network has no ReLU: there is nothing to score or graft")
    if len(images) < 2:
        raise UsageError(f"scores need at least two images, not {len(images)}")
    sums = {name: _Moments() for name in names}
    device = next(network.parameters()).device
    with eval_mode(network), _pre_activations(network, names) as captured:
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            captured.clear()
            x = to_float(part.images, device).requires_grad_(True)
            logits = network(x)
            # The sum, not the mean: a row of the gradient is then that image's own gradient.
            loss = functional.cross_entropy(logits, torch.from_numpy(part.labels).to(device), reduction="sum")
            order = list(captured)
            gradients = torch.autograd.grad(loss, [captured[name] for name in order])
            for name, gradient in zip(order, gradients, strict=True):
                sums[name].add(captured[name].detach(), gradient)
            progress(start + len(part))
    return {h: {name: sums[name].score(h) for name in captured} for h in heuristics}


class _Moments:
    """Running sums of one activation's neurons over the images seen so far, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.gradient = self.magnitude = self.product = self.mean = self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, z: Tensor, gradient: Tensor) -> None:
        z64, gradient64 = z.double(), gradient.double()
        count = z64.shape[0]
        mean = z64.mean(0)
        # Chan's merge of two samples: no difference of large squares, so a large mean costs no digits.
        delta = mean - self.mean.to(z64.device)
        total = self.count + count
        squares = (z64 - mean).square().sum(0) + delta.square() * (self.count * count / total)
        self.squares = self.squares.to(z64.device) + squares
        self.mean = self.mean.to(z64.device) + delta * (count / total)
        self.magnitude = self.magnitude.to(z64.device) + z64.abs().sum(0)
        self.gradient = self.gradient.to(z64.device) + gradient64.abs().sum(0)
        self.product = self.product.to(z64.device) + (gradient64 * z64).abs().sum(0)
        self.count = total

    def score(self, heuristic: Heuristic) -> NDArray[np.float32]:
        value = {
            Heuristic.GRADIENT: lambda: self.gradient / self.count,
            Heuristic.MAGNITUDE: lambda: self.magnitude / self.count,
            Heuristic.VARIANCE: lambda: self.squares / (self.count - 1),
            Heuristic.PRODUCT: lambda: self.product / self.count,
        }[heuristic]()
        return value.float().cpu().numpy()


@contextmanager
def _pre_activations(network: nn.Module, names: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Yields a dict that every forward pass fills with the inputs of the named activations, in order of use."""
    captured: dict[str, Tensor] = {}

    def hook_of(name: str, inplace: bool) -> object:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            if name in captured:
                raise UsageError(f"activation '{name}' is used twice in a forward pass; give each use its own module")
            captured[name] = inputs[0]
            # An in-place activation would overwrite the value that was just captured.
            return (inputs[0].clone(), *inputs[1:]) if inplace else None

        return hook

    handles = []
    for name in names:
        module = network.get_submodule(name)
        hook = hook_of(name, bool(getattr(module, "inplace", False)))
        handles.append(module.register_forward_pre_hook(hook))  # type: ignore[arg-type]
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()
