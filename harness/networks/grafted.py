"""The grafted activation, and the replacement of a network's ReLUs by it.

A grafted neuron is linear, the others stay ReLUs:  y = (1 - m) * max(x, 0) + m * (a * x + b),  m in {0, 1}
(Chen et al., ICML 2022, eq. 3). Mask, slope and intercept have one entry per neuron: nothing is per channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.domain import UsageError
from harness.networks.modes import eval_mode

INITIAL_SLOPE = 0.4
INITIAL_INTERCEPT = 0.0


class GraftedReLU(nn.Module):
    """An elementwise activation that is linear where `mask` is set and a ReLU elsewhere.

    Gradients are those of the published code: the derivative at x == 0 of a ReLU neuron is 1 (not torch's 0), and slope
    and intercept of neurons that are not grafted receive exactly zero.

    Args:
        mask: bool tensor of the neurons' shape, without batch dimension.
        slope: start value of every slope a.
        intercept: start value of every intercept b.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, slope: float = INITIAL_SLOPE, intercept: float = INITIAL_INTERCEPT) -> None:
        super().__init__()
        if mask.dtype != torch.bool:
            raise ValueError(f"a graft mask is a bool tensor, not {mask.dtype}")
        self.register_buffer("mask", mask.clone())
        self.slope = nn.Parameter(torch.full(mask.shape, slope))
        self.intercept = nn.Parameter(torch.full(mask.shape, intercept))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the activations of `x`, `(batch, *neurons)`."""
        # clamp's derivative at the boundary is 1, relu's is 0; the published code uses 1.
        return torch.where(self.mask, self.slope * x + self.intercept, x.clamp(min=0))


def relu_names(model: nn.Module) -> tuple[str, ...]:
    """Returns the qualified names of all activations that can be grafted, in registration order.

    Both plain ReLUs and activations that are already grafted are named.
    """
    return tuple(name for name, module in model.named_modules() if isinstance(module, nn.ReLU | GraftedReLU))


def graft_(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    slope: float = INITIAL_SLOPE,
    intercept: float = INITIAL_INTERCEPT,
    *,
    keep: bool = False,
) -> nn.Module:
    """Replaces the named activations of `model` in place; activations without a mask stay as they are.

    Args:
        model: any module whose activations are `nn.ReLU` (or already `GraftedReLU`) children.
        masks: qualified name of an activation to a bool tensor of its neurons' shape.
        slope: start value of every slope.
        intercept: start value of every intercept.
        keep: of an activation that is grafted already, whether its linear neurons stay linear, with their slopes and
            intercepts, beside the mask's; if not, it gets exactly the mask, and all start values.

    Returns:
        `model` itself.

    Raises:
        UsageError: a name is not one of the model's activations.
    """
    known = relu_names(model)
    for name, mask in masks.items():
        if name not in known:
            raise UsageError(f"the mask names activation '{name}', but the network has only: {', '.join(known)}")
        parent_name, _, child_name = name.rpartition(".")
        old, new = model.get_submodule(name), GraftedReLU(mask, slope, intercept)
        if keep and isinstance(old, GraftedReLU):
            new = _joined(old, new)
        setattr(model.get_submodule(parent_name), child_name, new)
    return model


def restore_graft_(
    model: nn.Module, name: str, shape: tuple[int, ...], constants: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
) -> None:
    """Grafts an activation of `model` as a file states it: A * x + B + C * relu(x), linear where C is 0.

    Slope and intercept of a neuron that is not grafted are not in a file: they get start values, on which no output
    depends.

    Args:
        model: changed in place.
        name: qualified name of the activation.
        shape: of its neurons.
        constants: A, B and C, each of that shape or one that spreads to it, with or without a batch of one.
    """
    slope, intercept, keep = (
        torch.from_numpy(np.broadcast_to(value, (1, *shape))[0].astype(np.float32)) for value in constants
    )
    module = GraftedReLU(keep == 0)
    with torch.no_grad():
        module.slope.copy_(torch.where(module.mask, slope, module.slope))
        module.intercept.copy_(torch.where(module.mask, intercept, module.intercept))
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _joined(old: GraftedReLU, new: GraftedReLU) -> GraftedReLU:
    """Returns an activation that is linear where either is; where both are, slope and intercept are the old one's."""
    joined = GraftedReLU(old.mask | new.mask)
    with torch.no_grad():
        joined.slope.copy_(torch.where(old.mask, old.slope, new.slope))
        joined.intercept.copy_(torch.where(old.mask, old.intercept, new.intercept))
    return joined


def neuron_shapes(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each activation's neurons, in the order in which a forward pass in eval mode reaches them.

    Args:
        model: a network that takes `(batch, *input_shape)`.
        input_shape: shape of one input, without the batch dimension.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def record(name: str) -> object:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            shapes[name] = tuple(inputs[0].shape[1:])

        return hook

    handles = [model.get_submodule(n).register_forward_hook(record(n)) for n in relu_names(model)]  # type: ignore[arg-type]
    try:
        with torch.no_grad(), eval_mode(model):
            parameter = next(model.parameters())
            model(torch.zeros(1, *input_shape, device=parameter.device, dtype=parameter.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return shapes
