from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from harness.networks.architectures import (
    ARCHITECTURES,
    CIFAR10_MEAN,
    CIFAR10_STD,
    BasicBlock,
    Normalize,
    cifar10_cnn_b,
)
from harness.networks.grafted import neuron_shapes, relu_names


def test_cnn_b_is_the_studys() -> None:
    network = cifar10_cnn_b()
    assert sum(p.numel() for p in network.parameters()) == 2_118_856
    shapes = neuron_shapes(network, (3, 32, 32))
    assert shapes == {"relu1": (32, 16, 16), "relu2": (128, 8, 8), "relu3": (250,)}
    assert [torch.Size(s).numel() for s in shapes.values()] == [8192, 8192, 250]
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


FULLY_CONNECTED = {"mnist_1_64": (64,), "mnist_2_32": (32, 32), "mnist_8_200": (200,) * 7, "mnist_8_200_bn": (200,) * 7}
CONV_BIG_MNIST = ((32, 28, 28), (32, 14, 14), (64, 14, 14), (64, 7, 7), 512, 512)
CONV_BIG_32 = ((32, 32, 32), (32, 16, 16), (64, 16, 16), (64, 8, 8), 512, 512)
CONV_HUGE = ((64, 32, 32), (64, 32, 32), (128, 16, 16), (128, 16, 16), (128, 16, 16), 512)
# Architecture to parameters, neurons and shapes of the activations, counted in the published code.
TABLE: dict[str, tuple[int, int, tuple[Any, ...]]] = {
    "cifar10_cnn_b": (2_118_856, 16_634, ((32, 16, 16), (128, 8, 8), 250)),
    "mnist_conv_big": (1_974_762, 48_064, CONV_BIG_MNIST),
    "mnist_conv_big_bn": (1_977_194, 48_064, CONV_BIG_MNIST),
    "cifar10_conv_big": (2_466_858, 62_464, CONV_BIG_32),
    "svhn_conv_big": (2_466_858, 62_464, CONV_BIG_32),
    "cifar10_cnn_17m": (17_192_650, 229_888, CONV_HUGE),
    "cifar10_cnn_17m_nobn": (17_190_602, 229_888, CONV_HUGE),
    "mnist_1_64": (50_890, 64, FULLY_CONNECTED["mnist_1_64"]),
    "mnist_2_32": (26_506, 64, FULLY_CONNECTED["mnist_2_32"]),
    "mnist_8_200": (400_210, 1_400, FULLY_CONNECTED["mnist_8_200"]),
    "mnist_8_200_bn": (403_010, 1_400, FULLY_CONNECTED["mnist_8_200_bn"]),
    "cifar10_resnet4b": (123_734, 14_436, ((16, 16, 16), *[(32, 8, 8)] * 4, *[(32, 4, 4)] * 4, 100)),
    "cifar10_resnet2b": (112_006, 6_244, ((8, 16, 16), *[(16, 8, 8)] * 4, 100)),
}


def input_shape(architecture: str) -> tuple[int, int, int]:
    return (1, 28, 28) if architecture.startswith("mnist") else (3, 32, 32)


def test_the_table_has_every_architecture() -> None:
    assert TABLE.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parameters_neurons_and_shapes_are_the_studys(architecture: str) -> None:
    parameters, neurons, shapes = TABLE[architecture]
    network = ARCHITECTURES[architecture]()
    assert sum(p.numel() for p in network.parameters()) == parameters
    found = neuron_shapes(network, input_shape(architecture))
    assert tuple(found.values()) == tuple(s if isinstance(s, tuple) else (s,) for s in shapes), "in forward order"
    assert sum(math.prod(shape) for shape in found.values()) == neurons
    assert tuple(found) == relu_names(network), "registered in forward order"
    assert network.eval()(torch.zeros(2, *input_shape(architecture))).shape == (2, 10)


def test_conv_huge_loses_exactly_the_normalisations_parameters() -> None:
    norms = [m for m in ARCHITECTURES["cifar10_cnn_17m"]().modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert [m.num_features for m in norms] == [64, 64, 128, 128, 128, 512]
    assert 2 * sum(m.num_features for m in norms) == 17_192_650 - 17_190_602


def test_a_residual_block_adds_its_input() -> None:
    torch.manual_seed(0)
    same, changed = BasicBlock(3, 3, 1), BasicBlock(3, 5, 2)
    x = torch.rand(2, 3, 6, 6)
    inner = same.conv2(same.conv1(x).relu())
    torch.testing.assert_close(same(x), (inner + x).relu())
    inner = changed.conv2(changed.conv1(x).relu())
    assert changed(x).shape == (2, 5, 3, 3)
    torch.testing.assert_close(changed(x), (inner + changed.shortcut(x)).relu())
    assert changed.shortcut.bias is not None


def test_conv_big_on_svhn_differs_by_its_normalisation() -> None:
    cifar10, svhn = ARCHITECTURES["cifar10_conv_big"](), ARCHITECTURES["svhn_conv_big"]()
    svhn.load_state_dict({k: v for k, v in cifar10.state_dict().items() if "normalize" not in k}, strict=False)
    pixel = torch.full((1, 3, 32, 32), 0.5)
    assert not torch.equal(cifar10(pixel), svhn(pixel))
    assert torch.equal(cifar10[1:](pixel), svhn[1:](pixel))


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
