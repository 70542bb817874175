"""Image data sets in memory, in the canonical order of their official files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Images with labels, in the data set's own order.

    Raises:
        ValueError: images and labels do not fit each other, or the images are of another kind.
    """

    images: NDArray[np.uint8] | NDArray[np.float32]
    """`(N, C, H, W)`, bytes from 0 to 255. A user's own may have another shape `(N, ...)`, or be float32 in [0, 1]."""
    labels: NDArray[np.int64]
    """`(N,)`."""

    def __post_init__(self) -> None:
        if self.images.ndim < 2 or self.images.dtype not in (np.uint8, np.float32):
            raise ValueError("images must be a (N, ...) array of uint8, or of float32 in [0, 1]")
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError("there must be one label for each image")

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __getitem__(self, part: slice | NDArray[np.int64]) -> ImageSet:
        return ImageSet(self.images[part], self.labels[part])
