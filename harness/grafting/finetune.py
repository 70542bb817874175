"""Grafting a trained network and fine-tuning it: the published code's second training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from harness.domain import GraftMask, UsageError
from harness.grafting.masks import check_mask, mask_tensors
from harness.networks.grafted import INITIAL_INTERCEPT, INITIAL_SLOPE, graft_, neuron_shapes
from harness.training.loop import TrainingConfig
from harness.training.schedule import Schedule

FINETUNE_EPOCHS = 100
WEIGHT_LR = 0.001
GRAFT_LR_THESIS = 0.1
"""Learning rate of slopes and intercepts in the thesis' text; 0.01 in the published code, whose script keeps that."""


def grafted_copy(
    baseline: nn.Module,
    mask: GraftMask,
    input_shape: tuple[int, ...],
    slope: float = INITIAL_SLOPE,
    intercept: float = INITIAL_INTERCEPT,
    *,
    keep: bool = False,
) -> nn.Module:
    """Returns a copy of `baseline` whose masked neurons are linear; the baseline stays as it is.

    Grafting, grafting again, grafting some layers only and pruning (slope and intercept 0) are all this.

    Args:
        baseline: a trained network; it may be grafted already.
        mask: which neurons to graft; activations that it leaves out stay ReLUs.
        input_shape: shape of one input, without the batch dimension.
        slope: start value of every slope; 0 together with intercept 0 prunes the neuron.
        intercept: start value of every intercept.
        keep: whether neurons that are linear already stay so, with their slopes and intercepts; if not, each activation
            that the mask names gets exactly the mask.

    Raises:
        UsageError: the mask is for another network, or grafts nothing.
    """
    check_mask(mask, neuron_shapes(baseline, input_shape))
    if not mask.count:
        raise UsageError("the mask grafts no neuron; choose a larger ratio")
    return graft_(copy.deepcopy(baseline), mask_tensors(mask), slope, intercept, keep=keep)


def only_layers(mask: GraftMask, names: Sequence[str]) -> GraftMask:
    """Returns the part of a mask that is of the named activations.

    Raises:
        UsageError: the mask has no activation of one of the names.
    """
    for name in names:
        if name not in mask.layers:
            raise UsageError(f"the mask has no activation '{name}'; it has: {', '.join(mask.layers)}")
    return GraftMask({name: mask.layers[name] for name in names}, mask.provenance)


def finetune_config(
    base: TrainingConfig,
    epochs: int = FINETUNE_EPOCHS,
    retrain_weights: bool = True,
    weight_lr: float = WEIGHT_LR,
    graft_lr: float = GRAFT_LR_THESIS,
) -> TrainingConfig:
    """Returns the fine-tuning that follows the baseline training `base`, as the published code does it.

    Data, attack, regulariser, batch size, momentum, decay and seed are the baseline's; cosine annealing to 0.

    Args:
        base: the baseline's training.
        epochs: epochs of fine-tuning.
        retrain_weights: whether weights move too; if not, only slopes and intercepts do.
        weight_lr: peak learning rate of the weights.
        graft_lr: peak learning rate of slopes and intercepts; 0 freezes them.
    """
    return replace(
        base,
        epochs=epochs,
        lr=weight_lr if retrain_weights else 0.0,
        graft_lr=graft_lr,
        schedule=Schedule.COSINE,
        knots=(),
    )
