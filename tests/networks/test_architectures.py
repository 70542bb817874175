from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.networks.architectures import ARCHITECTURES, CIFAR10_MEAN, CIFAR10_STD, Normalize, cifar10_cnn_b
from harness.networks.grafted import neuron_shapes, relu_names


def test_cnn_b_is_the_studys() -> None:
    network = cifar10_cnn_b()
    assert sum(p.numel() for p in network.parameters()) == 2_118_856
    shapes = neuron_shapes(network, (3, 32, 32))
    assert shapes == {"relu1": (32, 16, 16), "relu2": (128, 8, 8), "relu3": (250,)}
    assert [torch.Size(s).numel() for s in shapes.values()] == [8192, 8192, 250]
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_every_architecture_can_be_made_and_has_activations() -> None:
    for factory in ARCHITECTURES.values():
        assert relu_names(factory())


def test_normalisation_is_inside_and_exact_per_channel() -> None:
    normalize = Normalize(CIFAR10_MEAN, CIFAR10_STD)
    assert not list(normalize.parameters())
    mean = torch.tensor(CIFAR10_MEAN).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert normalize(mean).abs().max() == 0
    torch.testing.assert_close(normalize(mean + torch.tensor(CIFAR10_STD).view(1, 3, 1, 1)), torch.ones(1, 3, 2, 2))


def test_padding_is_zero_after_normalisation() -> None:
    network = cifar10_cnn_b()
    head = nn.Sequential(*list(network.children())[:2])
    assert isinstance(head[1], nn.ZeroPad2d)
    x = head(torch.rand(1, 3, 32, 32))
    assert x.shape == (1, 3, 35, 35)
    assert x[:, :, 0].abs().max() == x[:, :, 33:].abs().max() == 0
    assert x[..., 0].abs().max() == x[..., 33:].abs().max() == 0


@pytest.mark.parametrize(("mean", "std"), [((0.0,), (1.0, 1.0)), ((0.0,), (0.0,)), ((0.0,), (-1.0,))])
def test_senseless_normalisations_are_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="mean and std"):
        Normalize(mean, std)
