"""A tiny architecture and tiny images, for the commands and scripts that train, score and graft."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from torch import nn

from harness.data.images import ImageSet


def toy() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 4, 3),
            relu1=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(64, 6),
            relu2=nn.ReLU(),
            fc2=nn.Linear(6, 3),
        )
    )


def images(n: int, seed: int) -> ImageSet:
    random = np.random.default_rng(seed)
    return ImageSet(random.integers(0, 256, (n, 1, 6, 6), dtype=np.uint8), random.integers(0, 3, n))
