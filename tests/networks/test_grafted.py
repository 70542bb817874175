from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from harness.domain import UsageError
from harness.networks.grafted import INITIAL_INTERCEPT, INITIAL_SLOPE, GraftedReLU, graft_, neuron_shapes, relu_names


def nested() -> nn.Sequential:
    block = nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 3, 3, padding=1), relu1=nn.ReLU()))
    return nn.Sequential(
        OrderedDict(block1=block, relu=nn.ReLU(), flatten=nn.Flatten(), fc=nn.Linear(48, 4), relu2=nn.ReLU())
    )


def test_forward_is_the_definition() -> None:
    mask = torch.tensor([True, False, True, False])
    layer = GraftedReLU(mask, slope=-0.5, intercept=2.0)
    x = torch.tensor([[3.0, 3.0, -3.0, -3.0]])
    assert layer(x).tolist() == [[0.5, 3.0, 3.5, 0.0]]


def test_gradients_are_the_references() -> None:
    mask = torch.tensor([True, True, False, False, False])
    layer = GraftedReLU(mask)
    x = torch.tensor([[2.0, -2.0, 1.0, -1.0, 0.0], [1.0, 0.0, 2.0, -1.0, 0.0]], requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    # A ReLU neuron has derivative 1 at 0; a linear one has its slope everywhere.
    torch.testing.assert_close(x.grad, torch.tensor([[0.4, 0.4, 1.0, 0.0, 1.0]] * 2))
    assert layer.slope.grad is not None
    assert layer.intercept.grad is not None
    assert layer.slope.grad.tolist() == [3.0, -2.0, 0.0, 0.0, 0.0]
    assert layer.intercept.grad.tolist() == [2.0, 2.0, 0.0, 0.0, 0.0]


def test_the_start_is_the_papers() -> None:
    layer = GraftedReLU(torch.ones(2, 3, dtype=torch.bool))
    assert (layer.slope == INITIAL_SLOPE).all()
    assert (layer.intercept == INITIAL_INTERCEPT).all()
    assert (INITIAL_SLOPE, INITIAL_INTERCEPT) == (0.4, 0.0)


def test_grafting_goes_by_qualified_name() -> None:
    network = nested()
    names = relu_names(network)
    assert names == ("block1.relu1", "relu", "relu2")
    mask = torch.rand(3, 4, 4) < 0.5
    assert graft_(network, {"block1.relu1": mask}, slope=0.25, intercept=0.5) is network
    grafted = network.get_submodule("block1.relu1")
    assert isinstance(grafted, GraftedReLU)
    assert torch.equal(grafted.mask, mask)
    assert isinstance(network.relu, nn.ReLU)
    assert relu_names(network) == names
    assert neuron_shapes(network, (2, 4, 4)) == {"block1.relu1": (3, 4, 4), "relu": (3, 4, 4), "relu2": (4,)}


def test_asking_for_shapes_changes_nothing() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Dropout())
    network[3].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert neuron_shapes(network, (3,)) == {"2": (2,)}
    assert [module.training for module in network] == [True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_mask_is_kept_apart_and_saved() -> None:
    mask = torch.tensor([True, False])
    layer = GraftedReLU(mask)
    mask[0] = False
    assert layer.mask.tolist() == [True, False]
    assert set(layer.state_dict()) == {"mask", "slope", "intercept"}


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'relu3', but the network has only: block1\.relu1, relu, relu2"):
        graft_(nested(), {"relu3": torch.ones(4, dtype=torch.bool)})


def test_a_mask_is_bool() -> None:
    with pytest.raises(ValueError, match="bool"):
        GraftedReLU(torch.ones(4))
