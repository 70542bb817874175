"""A small network and small images, for trainings that take milliseconds."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from harness.data.images import ImageSet


def small_network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, 3, 3),
                relu1=nn.ReLU(),
                flatten=nn.Flatten(),
                fc1=nn.Linear(3 * 4 * 4, 6),
                relu2=nn.ReLU(),
                fc2=nn.Linear(6, 3),
            )
        )


def small_images(n: int, seed: int = 0) -> ImageSet:
    """Images whose class is told by which third is bright, so that a network can learn it."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, n)
    images = random.integers(0, 100, (n, 1, 6, 6))
    for image, label in zip(images, labels, strict=True):
        image[0, 2 * label : 2 * label + 2] += 150
    return ImageSet(images.astype(np.uint8), labels)
