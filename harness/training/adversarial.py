"""Fast adversarial training: the FGSM example with random start and the GradAlign regulariser.

Sources: Wong et al., "Fast is better than free" (FGSM-RS); Andriushchenko & Flammarion, "Understanding and improving
fast adversarial training" (GradAlign); constants and order of operations as in the published grafting code.
All images are in [0, 1], `(batch, C, H, W)`; the network normalises them itself.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class Network(Protocol):
    """Anything that maps images to logits."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Returns the logits of `x`, `(batch, classes)`."""
        ...


def input_gradient(network: Network, x: Tensor, y: Tensor, *, create_graph: bool = False) -> Tensor:
    """Returns the gradient of the batch-mean cross-entropy with respect to the images, shape of `x`.

    Args:
        network: maps `x` to logits.
        x: images; not changed.
        y: labels, `(batch,)`.
        create_graph: keep the graph, so that the gradient can itself be differentiated.
    """
    point = x.detach().requires_grad_(True)
    loss = functional.cross_entropy(network(point), y)
    (gradient,) = torch.autograd.grad(loss, point, create_graph=create_graph)
    return gradient


def project(x: Tensor, delta: Tensor, eps: float) -> Tensor:
    """Returns `delta` moved into the eps-ball and then so that `x + delta` stays in [0, 1]."""
    return (x + delta.clamp(-eps, eps)).clamp(0, 1) - x


def fgsm_random_start(
    network: nn.Module, x: Tensor, y: Tensor, eps: float, alpha: float, generator: torch.Generator
) -> Tensor:
    """Returns the one-step adversarial perturbation of `x`; the network is left in eval mode.

    The start is uniform in the ball, cut so that the image stays valid; one signed step of size `alpha`; projection.
    With a single start the published code keeps the result whatever its loss, so no comparison is needed.
    """
    network.eval()
    delta = project(x, uniform_noise(x, eps, generator), eps)
    gradient = input_gradient(network, x + delta, y)
    return project(x, delta + alpha * gradient.sign(), eps)


def uniform_noise(x: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    """Returns noise of the shape of `x`, uniform in [-eps, eps]."""
    return torch.empty_like(x).uniform_(-eps, eps, generator=generator)


def grad_align(network: Network, x: Tensor, y: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    """Returns `1 - mean cos(g1, g2)`, differentiable in the network's weights through g2.

    g1 is the input gradient at `x` (constant), g2 the one at `x` plus uniform noise that is not cut to [0, 1].
    Inputs where either gradient vanishes are left out of the mean; if none is left the result is 0.
    """
    g1 = input_gradient(network, x, y).flatten(1)
    g2 = input_gradient(network, x + uniform_noise(x, eps, generator), y, create_graph=True).flatten(1)
    norm1, norm2 = g1.norm(dim=1), g2.norm(dim=1)
    kept = (norm1 > 0) & (norm2 > 0)
    if not bool(kept.any()):
        return g2.sum() * 0
    cosine = (g1[kept] * g2[kept]).sum(1) / (norm1[kept] * norm2[kept])
    regulariser: Tensor = 1 - cosine.mean()
    return regulariser
