"""The network architectures of the linearity-grafting study, with the input normalisation inside.

Every factory returns an `nn.Sequential` (or a module made of them) whose children carry telling names: an
activation is addressed by its qualified name (`relu1`, `block2.relu1`), never by position. Inputs are NCHW float
images in [0, 1]; outputs are 10 logits. Layers, shapes of neurons and numbers of parameters are those
of the published code of the grafting paper (Chen et al., ICML 2022); docs/architectures.md has the table, and the tests
hold every one of them to it.

Layers are numbered by kind (`conv1`, `fc1`), activations through the whole network (`relu1`, ...), and a batch
normalisation as the activation that follows it (`bn1` before `relu1`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor, nn

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2023, 0.1994, 0.2010)
SVHN_MEAN = (0.4377, 0.4438, 0.4728)
SVHN_STD = (0.1201, 0.1231, 0.1052)

Layers = list[tuple[str, nn.Module]]
"""Children of a network: name and module."""


class Normalize(nn.Module):
    """Maps an image `x` to `(x - mean) / std`, channel by channel.

    The constants are buffers, not parameters: they travel with the state dict and the ONNX file, are never trained
    and do not count as parameters.

    Args:
        mean: per-channel mean, `(C,)`.
        std: per-channel standard deviation, `(C,)`, all positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError("mean and std need one value per channel, and std must be positive")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the normalised images, `(batch, C, H, W)`."""
        return (x - self.mean) / self.std


def cifar10_cnn_b() -> nn.Sequential:
    """CNN-B for CIFAR-10: two strided convolutions and two fully connected layers.

    ReLU neurons: 32x16x16 + 128x8x8 + 250 = 16,634; parameters: 2,118,856.
    """
    return nn.Sequential(
        OrderedDict(
            normalize=Normalize(CIFAR10_MEAN, CIFAR10_STD),
            pad=nn.ZeroPad2d((1, 2, 1, 2)),
            conv1=nn.Conv2d(3, 32, kernel_size=5, stride=2),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(32, 128, kernel_size=4, stride=2, padding=1),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(128 * 8 * 8, 250),
            relu3=nn.ReLU(),
            fc2=nn.Linear(250, 10),
        )
    )


def mnist_conv_big() -> nn.Sequential:
    """ConvBig for MNIST: four convolutions and three fully connected layers, no normalisation (mean 0, deviation 1).

    ReLU neurons: 32x28x28 + 32x14x14 + 64x14x14 + 64x7x7 + 512 + 512 = 48,064; parameters: 1,974,762.
    """
    return _conv_big(1, 64 * 7 * 7)


def mnist_conv_big_bn() -> nn.Sequential:
    """ConvBig for MNIST with batch normalisation after every hidden layer.

    ReLU neurons: 48,064, as `mnist_conv_big`; parameters: 1,977,194.
    """
    return _conv_big(1, 64 * 7 * 7, batch_norm=True)


def cifar10_conv_big() -> nn.Sequential:
    """ConvBig for CIFAR-10: as for MNIST, with three channels.

    ReLU neurons: 32x32x32 + 32x16x16 + 64x16x16 + 64x8x8 + 512 + 512 = 62,464; parameters: 2,466,858.
    """
    return _conv_big(3, 64 * 8 * 8, ("normalize", Normalize(CIFAR10_MEAN, CIFAR10_STD)))


def svhn_conv_big() -> nn.Sequential:
    """ConvBig for SVHN: `cifar10_conv_big` with that data set's normalisation."""
    return _conv_big(3, 64 * 8 * 8, ("normalize", Normalize(SVHN_MEAN, SVHN_STD)))


def cifar10_cnn_17m() -> nn.Sequential:
    """ConvHuge for CIFAR-10: five convolutions and two fully connected layers, all normalised but the last.

    ReLU neurons: 2 x 64x32x32 + 3 x 128x16x16 + 512 = 229,888; parameters: 17,192,650. What is verified has the
    normalisation merged into the layer before it (`batch_norm.fold_batch_norm`); then it has the parameters of
    `cifar10_cnn_17m_nobn`.
    """
    return _conv_huge(batch_norm=True)


def cifar10_cnn_17m_nobn() -> nn.Sequential:
    """ConvHuge for CIFAR-10 without batch normalisation.

    ReLU neurons: 229,888; parameters: 17,190,602.
    """
    return _conv_huge(batch_norm=False)


def cifar10_resnet2b() -> nn.Sequential:
    """ResNet2B for CIFAR-10: a convolution, two residual blocks of 16 channels, two fully connected layers.

    ReLU neurons: 8x16x16 + 4 x 16x8x8 + 100 = 6,244; parameters: 112,006.
    """
    return _resnet(8, 16, stages=1, features=16 * 8 * 8)


def cifar10_resnet4b() -> nn.Sequential:
    """ResNet4B for CIFAR-10: a convolution, four residual blocks of 32 channels, two fully connected layers.

    ReLU neurons: 16x16x16 + 4 x 32x8x8 + 4 x 32x4x4 + 100 = 14,436; parameters: 123,734.
    """
    return _resnet(16, 32, stages=2, features=32 * 4 * 4)


def mnist_fully_connected(depth: int, width: int, *, batch_norm: bool = False) -> nn.Sequential:
    """A fully connected network for MNIST: so many hidden layers, all of one width.

    ReLU neurons: `depth * width`. `mnist_1_64` has 50,890 parameters, `mnist_2_32` 26,506, `mnist_8_200` (seven hidden
    layers: the name counts the last one too) 400,210, with batch normalisation 403,010.
    """
    sizes = (28 * 28, *(width,) * depth)
    hidden = [nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes)]
    layers: Layers = [("flatten", nn.Flatten())]
    for k, layer in enumerate(hidden, start=1):
        layers += _activated(f"fc{k}", layer, k, batch_norm=batch_norm)
    return nn.Sequential(OrderedDict([*layers, (f"fc{depth + 1}", nn.Linear(width, 10))]))


class BasicBlock(nn.Module):
    """A residual block: `relu(conv(relu(conv(x))) + shortcut(x))`, both convolutions 3x3 with a bias.

    The shortcut is the identity, or a 1x1 convolution with the block's stride where the shape changes.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        stride: of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        changed = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if changed else nn.Identity()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Returns the block's features, `(batch, outputs, H / stride, W / stride)`."""
        features: Tensor = self.relu2(self.conv2(self.relu1(self.conv1(x))) + self.shortcut(x))
        return features


def _conv_big(channels: int, features: int, *before: tuple[str, nn.Module], batch_norm: bool = False) -> nn.Sequential:
    """Returns ConvBig for images of some channels, whose last convolution leaves so many features."""
    layers: Layers = [*before]
    sizes = ((channels, 32, 3, 1), (32, 32, 4, 2), (32, 64, 3, 1), (64, 64, 4, 2))
    for k, (inputs, outputs, kernel, stride) in enumerate(sizes, start=1):
        layers += _activated(
            f"conv{k}", nn.Conv2d(inputs, outputs, kernel, stride, padding=1), k, batch_norm=batch_norm
        )
    layers += [("flatten", nn.Flatten())]
    layers += _activated("fc1", nn.Linear(features, 512), 5, batch_norm=batch_norm)
    layers += _activated("fc2", nn.Linear(512, 512), 6, batch_norm=batch_norm)
    return nn.Sequential(OrderedDict([*layers, ("fc3", nn.Linear(512, 10))]))


def _conv_huge(*, batch_norm: bool) -> nn.Sequential:
    layers: Layers = [("normalize", Normalize(CIFAR10_MEAN, CIFAR10_STD))]
    sizes = ((3, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 128, 1))
    for k, (inputs, outputs, stride) in enumerate(sizes, start=1):
        layers += _activated(f"conv{k}", nn.Conv2d(inputs, outputs, 3, stride, padding=1), k, batch_norm=batch_norm)
    layers += [("flatten", nn.Flatten())]
    layers += _activated("fc1", nn.Linear(128 * 16 * 16, 512), 6, batch_norm=batch_norm)
    return nn.Sequential(OrderedDict([*layers, ("fc2", nn.Linear(512, 10))]))


def _resnet(first: int, channels: int, stages: int, features: int) -> nn.Sequential:
    """Returns a network whose stages are two blocks each; the first of a stage halves height and width."""
    layers: Layers = [("normalize", Normalize(CIFAR10_MEAN, CIFAR10_STD))]
    layers += [("conv1", nn.Conv2d(3, first, 3, stride=2, padding=1)), ("relu1", nn.ReLU())]
    inputs = first
    for k in range(2 * stages):
        layers += [(f"block{k + 1}", BasicBlock(inputs, channels, stride=1 if k % 2 else 2))]
        inputs = channels
    layers += [("flatten", nn.Flatten()), ("fc1", nn.Linear(features, 100)), ("relu2", nn.ReLU())]
    return nn.Sequential(OrderedDict([*layers, ("fc2", nn.Linear(100, 10))]))


def _activated(name: str, layer: nn.Conv2d | nn.Linear, k: int, *, batch_norm: bool) -> Layers:
    """Returns the layer, its normalisation if it has one, and activation `k`."""
    norm: Layers = []
    if batch_norm:
        norm = [(f"bn{k}", _batch_norm(layer))]
    return [(name, layer), *norm, (f"relu{k}", nn.ReLU())]


def _batch_norm(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    if isinstance(layer, nn.Conv2d):
        return nn.BatchNorm2d(layer.out_channels)
    return nn.BatchNorm1d(layer.out_features)


ARCHITECTURES: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "cifar10_cnn_b": cifar10_cnn_b,
        "cifar10_conv_big": cifar10_conv_big,
        "cifar10_cnn_17m": cifar10_cnn_17m,
        "cifar10_cnn_17m_nobn": cifar10_cnn_17m_nobn,
        "cifar10_resnet2b": cifar10_resnet2b,
        "cifar10_resnet4b": cifar10_resnet4b,
        "mnist_conv_big": mnist_conv_big,
        "mnist_conv_big_bn": mnist_conv_big_bn,
        "mnist_1_64": partial(mnist_fully_connected, 1, 64),
        "mnist_2_32": partial(mnist_fully_connected, 2, 32),
        "mnist_8_200": partial(mnist_fully_connected, 7, 200),
        "mnist_8_200_bn": partial(mnist_fully_connected, 7, 200, batch_norm=True),
        "svhn_conv_big": svhn_conv_big,
    }
)
"""Architecture name, as a benchmark spec writes it, to the factory of an untrained network.

Names begin with the data set.
"""
