"""The network architectures of the linearity-grafting study, with the input normalisation inside.

Every factory returns an `nn.Sequential` (or a module made of them) whose children carry telling names: an
activation is addressed by its qualified name (`relu1`, `block2.relu1`), never by position. Inputs are NCHW float
images in [0, 1]; outputs are 10 logits. Shapes and parameter counts: docs/design and the tests beside them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2023, 0.1994, 0.2010)


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

    ReLU neurons: 32x16x16 + 128x8x8 + 250 = 16,634; parameters: 2,118,856 (linear-grafting reference, section 1).
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

    ReLU neurons: 32x28x28 + 32x14x14 + 64x14x14 + 64x7x7 + 512 + 512 = 48,064; parameters: 1,974,762 (linear-grafting
    reference, section 1).
    """
    return _conv_big(1, 64 * 7 * 7)


def _conv_big(channels: int, features: int, *before: tuple[str, nn.Module]) -> nn.Sequential:
    """Returns ConvBig for images of some channels, whose last convolution leaves so many features."""
    layers: list[tuple[str, nn.Module]] = [*before]
    sizes = ((channels, 32, 3, 1), (32, 32, 4, 2), (32, 64, 3, 1), (64, 64, 4, 2))
    for k, (inputs, outputs, kernel, stride) in enumerate(sizes, start=1):
        layers += [(f"conv{k}", nn.Conv2d(inputs, outputs, kernel, stride, padding=1)), (f"relu{k}", nn.ReLU())]
    layers += [("flatten", nn.Flatten()), ("fc1", nn.Linear(features, 512)), ("relu5", nn.ReLU())]
    layers += [("fc2", nn.Linear(512, 512)), ("relu6", nn.ReLU()), ("fc3", nn.Linear(512, 10))]
    return nn.Sequential(OrderedDict(layers))


ARCHITECTURES: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {"cifar10_cnn_b": cifar10_cnn_b, "mnist_conv_big": mnist_conv_big}
)
"""Architecture name, as a benchmark spec writes it, to the factory of an untrained network."""
