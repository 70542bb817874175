"""Batch normalisation merged into the layer before it: what is trained has it, what is verified does not.

In eval mode a normalisation is an affine map of each channel, and so is a part of the convolution or fully connected
layer that it follows. The published code of the grafting paper verifies networks without
normalisation; docs/design/005-batch-norm.md says where it is merged here, and why there.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, Final, Literal

import torch
from torch import Tensor, fx, nn

from harness.domain import UnsupportedNetworkError
from harness.networks.modes import eval_mode

BatchNormState = Literal["none", "folded", "kept"]
"""A network's batch normalisation: there is none; all of it was merged into layers; some of it is still there."""

TOLERANCE: Final = 1e-4
"""Largest difference of two outputs after merging, as a fraction of the input's largest (of 1, if that is larger)."""

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class MergedBatchNorm(nn.Identity):
    """The identity that stands where a batch normalisation was merged into the layer before it."""


def batch_norm_state(network: nn.Module) -> BatchNormState:
    """Returns what has become of the network's batch normalisation."""
    if batch_norm_names(network):
        return "kept"
    return "folded" if any(isinstance(module, MergedBatchNorm) for module in network.modules()) else "none"


def batch_norm_names(network: nn.Module) -> tuple[str, ...]:
    """Returns the qualified names of all batch normalisations, in registration order."""
    return tuple(name for name, module in network.named_modules() if isinstance(module, _NORMS))


def fold_batch_norm(network: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
    """Returns a copy in eval mode that computes the same, its batch normalisations merged as `merge_batch_norm_` does.

    The network itself is not changed. The copy's outputs are compared with the network's on random inputs in [0, 1].

    Args:
        network: any module; without batch normalisation the copy is the same.
        input_shape: shape of one input, without the batch dimension.

    Raises:
        UnsupportedNetworkError: the outputs differ by more than rounding.
    """
    folded = copy.deepcopy(network).eval()
    if merge_batch_norm_(folded, input_shape):
        difference = _difference(network, folded, input_shape)
        if not difference <= TOLERANCE:
            raise UnsupportedNetworkError(
                f"merging batch normalisation changes the outputs by {difference:.3g} of the largest "
                f"({TOLERANCE:g} is allowed); a layer has running statistics or weights that are not finite or extreme"
            )
    return folded


def merge_batch_norm_(network: nn.Module, input_shape: tuple[int, ...]) -> tuple[str, ...]:
    """Merges each batch normalisation into the layer that alone feeds it; `MergedBatchNorm` takes its place.

    The layer is a convolution or a fully connected layer that is called once and read by nothing else. Its weight and
    bias are worked out in float64 and rounded once; every other parameter and every name stays. A normalisation that
    follows something else stays too, and so do all of a network whose forward pass cannot be traced.

    Args:
        network: changed in place, as it computes in eval mode; its mode stays.
        input_shape: shape of one input, without the batch dimension.

    Returns:
        Names of the normalisations that were merged.
    """
    pairs = _pairs(network, input_shape) if batch_norm_names(network) else {}
    for norm_name, layer_name in pairs.items():
        _merge_(network.get_submodule(layer_name), network.get_submodule(norm_name))
        parent, _, child = norm_name.rpartition(".")
        setattr(network.get_submodule(parent), child, MergedBatchNorm())
    return tuple(pairs)


class _Leaves(fx.Tracer):
    """Traces the calls of modules without children; what happens inside those does not matter here."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or not any(m.children())


def _pairs(network: nn.Module, input_shape: tuple[int, ...]) -> dict[str, str]:
    """Returns the mergeable normalisations, each with the layer before it."""
    try:
        nodes = list(_Leaves().trace(network).nodes)
    except Exception:  # noqa: BLE001 - tracing runs the user's forward pass on stand-ins, which can fail in any way
        return {}
    calls = Counter(node.target for node in nodes if node.op == "call_module")
    uses = Counter(id(p) for _, p in network.named_parameters(remove_duplicate=False))
    pairs: dict[str, str] = {}
    for node in nodes:
        layer = node.args[0] if _calls(network, node, _NORMS) and node.args else None
        if (
            isinstance(layer, fx.Node)
            and _calls(network, layer, (*_CONVOLUTIONS, nn.Linear))
            and calls[node.target] == calls[layer.target] == len(layer.users) == 1
            and _has_statistics(network.get_submodule(str(node.target)))
            and _owns_weights(network.get_submodule(str(layer.target)), uses)
        ):
            pairs[str(node.target)] = str(layer.target)
    dense = {norm for norm, layer in pairs.items() if isinstance(network.get_submodule(layer), nn.Linear)}
    flat = _vectors(network, dense, input_shape) if dense else set()
    return {norm: layer for norm, layer in pairs.items() if norm not in dense or norm in flat}


def _calls(network: nn.Module, node: fx.Node, kinds: tuple[type[nn.Module], ...]) -> bool:
    # Exact types: a subclass may compute something else.
    return node.op == "call_module" and type(network.get_submodule(str(node.target))) in kinds


def _has_statistics(norm: Any) -> bool:
    return norm.running_mean is not None and norm.running_var is not None


def _owns_weights(layer: nn.Module, uses: Counter[int]) -> bool:
    """Returns whether weight and bias are plain parameters of the layer that no other layer shares."""
    own = dict(layer.named_parameters(recurse=False))
    given = {name for name in ("weight", "bias") if getattr(layer, name) is not None}
    return given <= own.keys() and all(uses[id(parameter)] == 1 for parameter in own.values())


def _vectors(network: nn.Module, norms: set[str], input_shape: tuple[int, ...]) -> set[str]:
    """Returns those of the named normalisations whose inputs are vectors.

    One of sequences, (batch, channels, length), normalises another axis than the one a fully connected layer makes.
    """
    flat: set[str] = set()

    def record(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if inputs[0].ndim == 2:
                flat.add(name)

        return hook

    handles = [network.get_submodule(n).register_forward_pre_hook(record(n)) for n in norms]
    try:
        _outputs(network, torch.zeros(1, *input_shape))
    finally:
        for handle in handles:
            handle.remove()
    return flat


def _merge_(layer: Any, norm: Any) -> None:
    """Gives the layer the weight and bias with which it computes what the normalisation makes of its output."""
    with torch.no_grad():
        weight = layer.weight.double()
        bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.double()
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.double()
        merged = (bias - norm.running_mean.double()) * scale
        if norm.bias is not None:
            merged = merged + norm.bias.double()
        layer.weight.copy_(weight * scale.reshape(-1, *(1,) * (weight.ndim - 1)))
        merged = merged.to(layer.weight.dtype)
        if layer.bias is None:
            layer.bias = nn.Parameter(merged, requires_grad=layer.weight.requires_grad)
        else:
            layer.bias.copy_(merged)


def _difference(network: nn.Module, folded: nn.Module, input_shape: tuple[int, ...]) -> float:
    """Returns the largest difference of two outputs over the input's largest, on random inputs; NaN if either is."""
    inputs = torch.rand(8, *input_shape, generator=torch.Generator().manual_seed(0))
    expected, found = (_outputs(module, inputs).double() for module in (network, folded))
    scale = expected.abs().amax(dim=1).clamp(min=1)
    return float(((found - expected).abs().amax(dim=1) / scale).max())


def _outputs(network: nn.Module, inputs: Tensor) -> Tensor:
    """Returns the network's outputs in eval mode, `(batch, outputs)`, with inputs moved to its device and type."""
    like = next(network.parameters(), inputs)
    with torch.no_grad(), eval_mode(network):
        outputs: Tensor = network(inputs.to(like.device, like.dtype))
    return outputs.flatten(1)
