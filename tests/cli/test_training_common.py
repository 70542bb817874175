"""Trainings by an architecture's name follow its data set."""

from __future__ import annotations

import pytest
import torch

from harness.cli.training_common import training_plan
from harness.domain import UsageError


@pytest.mark.parametrize(
    ("architecture", "dataset", "eps", "augment"),
    [("mnist_8_200_bn", "mnist", 0.1, False), ("cifar10_resnet4b", "cifar10", 2 / 255, True)],
)
def test_an_architecture_is_trained_as_its_data_set_asks(
    architecture: str, dataset: str, eps: float, augment: bool
) -> None:
    plan = training_plan(architecture, None, torch.device("cpu"))
    assert (plan.architecture, plan.dataset) == (architecture, dataset)
    assert (plan.config.eps, plan.config.augment, plan.config.epochs) == (eps, augment, 200)
    assert plan.config.alpha == pytest.approx(1.25 * eps)


def test_what_is_neither_an_architecture_nor_a_benchmark_is_refused() -> None:
    with pytest.raises(UsageError, match="no benchmark 'mnist_9_999'"):
        training_plan("mnist_9_999", None, torch.device("cpu"))
