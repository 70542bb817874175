"""Image data sets in memory, in the canonical order of their official files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Images with labels, in the data set's own order.

    Raises:
        ValueError: images and labels do not fit each other.
    """

    images: NDArray[np.uint8]
    """`(N, C, H, W)`, 0 to 255."""
    labels: NDArray[np.int64]
    """`(N,)`."""

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise ValueError("images must be a (N, C, H, W) array of uint8")
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError("there must be one label for each image")

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __getitem__(self, part: slice | NDArray[np.int64]) -> ImageSet:
        return ImageSet(self.images[part], self.labels[part])
