"""Grafting a copy, and the configuration of its fine-tuning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from harness.domain import GraftMask, UsageError
from harness.grafting.finetune import finetune_config, grafted_copy, only_layers
from harness.networks.grafted import GraftedReLU
from harness.training.loop import TrainingConfig, parameter_groups
from harness.training.schedule import Schedule


@pytest.fixture
def baseline() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


MASK = GraftMask({"2": np.array([True, False, True])})


def test_masked_neurons_are_linear_and_the_baseline_is_untouched(baseline: nn.Module) -> None:
    grafted = grafted_copy(baseline, MASK, (1, 2, 2), slope=0.25, intercept=0.5)
    assert isinstance(baseline[2], nn.ReLU)
    x = torch.randn(8, 1, 2, 2)
    z = baseline[1](x.flatten(1))
    expected = torch.where(torch.tensor([True, False, True]), 0.25 * z + 0.5, z.relu())
    torch.testing.assert_close(grafted[:3](x), expected)
    with torch.no_grad():
        grafted[1].weight.zero_()
    assert baseline[1].weight.abs().sum() > 0


@pytest.mark.parametrize(
    "mask", [GraftMask({"2": np.zeros(3, np.bool_)}), GraftMask({"2": np.ones(4, np.bool_)}), GraftMask({})]
)
def test_masks_that_cannot_be_used(baseline: nn.Module, mask: GraftMask) -> None:
    with pytest.raises(UsageError):
        grafted_copy(baseline, mask, (1, 2, 2))


def test_defaults_are_those_of_the_thesis() -> None:
    base = TrainingConfig(eps=0.1, alpha=0.125, augment=False, seed=7)
    config = finetune_config(base)
    assert (config.epochs, config.schedule) == (100, Schedule.COSINE)
    assert (config.lr, config.graft_lr, config.weight_decay, config.momentum) == (0.001, 0.1, 5e-4, 0.9)
    assert (config.eps, config.alpha, config.augment, config.seed) == (0.1, 0.125, False, 7)


def test_a_piecewise_baseline_is_tuned_by_cosine() -> None:
    base = TrainingConfig(epochs=4, schedule=Schedule.PIECEWISE, knots=((0.0, 0.0), (4.0, 1.0)))
    assert finetune_config(base, epochs=2).knots == ()


def test_without_retraining_only_slopes_and_intercepts_move(baseline: nn.Module) -> None:
    grafted = grafted_copy(baseline, MASK, (1, 2, 2))
    (group,) = parameter_groups(grafted, finetune_config(TrainingConfig(), retrain_weights=False))
    activation = grafted[2]
    assert isinstance(activation, GraftedReLU)
    assert {id(p) for p in group["params"]} == {id(activation.slope), id(activation.intercept)}
    assert group["weight_decay"] == 0


def test_with_retraining_weights_have_their_own_rate_and_decay(baseline: nn.Module) -> None:
    weights, graft = parameter_groups(
        grafted_copy(baseline, MASK, (1, 2, 2)), finetune_config(TrainingConfig(), graft_lr=0.01)
    )
    assert (weights["peak_lr"], weights["weight_decay"], len(weights["params"])) == (0.001, 5e-4, 4)
    assert (graft["peak_lr"], graft["weight_decay"], len(graft["params"])) == (0.01, 0.0, 2)


def test_a_second_mask_is_added_or_replaces_the_first(baseline: nn.Module) -> None:
    first = grafted_copy(baseline, MASK, (1, 2, 2), slope=0.25)
    second = GraftMask({"2": np.array([False, True, True])})
    joined = grafted_copy(first, second, (1, 2, 2), slope=0.5, keep=True)[2]
    assert joined.mask.tolist() == [True, True, True]
    assert joined.slope.tolist() == [0.25, 0.5, 0.25], "what was linear keeps its slope"
    replaced = grafted_copy(first, second, (1, 2, 2), slope=0.5)[2]
    assert replaced.mask.tolist() == [False, True, True]
    assert replaced.slope[replaced.mask].tolist() == [0.5, 0.5]
    assert first[2].mask.tolist() == [True, False, True], "the source stays"


def test_a_part_of_a_mask_has_the_named_layers_alone() -> None:
    mask = GraftMask({"a": np.ones(2, np.bool_), "b": np.ones(3, np.bool_)}, {"ratio": "0.5"})
    part = only_layers(mask, ["b"])
    assert list(part.layers) == ["b"]
    assert part.provenance == {"ratio": "0.5"}
    with pytest.raises(UsageError, match="it has: a, b"):
        only_layers(mask, ["c"])


def test_a_frozen_graft_is_in_no_group(baseline: nn.Module) -> None:
    grafted = grafted_copy(baseline, MASK, (1, 2, 2), slope=0.0)
    (group,) = parameter_groups(grafted, finetune_config(TrainingConfig(), graft_lr=0.0))
    assert len(group["params"]) == 4
    assert group["weight_decay"] == 5e-4
