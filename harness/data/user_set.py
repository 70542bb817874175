"""A user's own images in one `.npz` file: shapes, kinds of numbers, and the split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.images import ImageSet
from harness.domain import UsageError
from harness.files import read_arrays

IMAGE_NAMES = (("images", "labels"), ("x_train", "y_train"))
"""Names of the arrays, those of Keras' files among them."""
TEST_NAMES = (("test_images", "test_labels"), ("x_test", "y_test"))
HELD_OUT = 10
"""One image of so many is held out for validation, and for testing where the file has no test images."""
MINIMUM = 3


@dataclass(frozen=True, slots=True, eq=False)
class UserSet:
    """All images of a file, and their parts."""

    everything: ImageSet
    """Training, validation and, where the file has no test images of its own, test images: in the file's order."""
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    own_test: bool
    """Whether the file has test images of its own."""


def read_user_set(path: Path, shape: tuple[int, ...] | None = None) -> UserSet:
    """Returns the images of a file, split by position: the last tenth is held out for validation.

    Arrays: `images` and `labels`; optionally `test_images` and `test_labels` (or Keras' `x_train`, `y_train`, `x_test`,
    `y_test`). Without test images the last tenth is the test set and the tenth before it validation. Images are bytes
    or floats in [0, 1]; their layout is the network's, or with the channels last.

    Args:
        path: the file.
        shape: shape of one input of the network, without the batch dimension; None: as the images are, a
            single channel first.

    Raises:
        UsageError: the file cannot be read, lacks an array, or its images or labels cannot be used.
    """
    arrays = _arrays(path)
    everything = _image_set(path, arrays, IMAGE_NAMES, shape)
    if everything is None:
        found = ", ".join(arrays) or "none"
        raise UsageError(f"{path}: needs the arrays images and labels, but has: {found}")
    test = _image_set(path, arrays, TEST_NAMES, shape or everything.images.shape[1:])
    if len(everything) < MINIMUM or (test is not None and not len(test)):
        raise UsageError(f"{path}: has {len(everything)} images; at least {MINIMUM} are needed, and one of each part")
    held = max(1, len(everything) // HELD_OUT)
    if test is not None:
        return UserSet(everything, everything[:-held], everything[-held:], test, True)
    parts = everything[: -2 * held], everything[-2 * held : -held], everything[-held:]
    return UserSet(everything, *parts, False)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        return read_arrays(path)
    except FileNotFoundError as error:
        raise UsageError(
            f"{path}: no such file, nor a data set of that name; name cifar10, mnist, or a .npz file"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path}: not a readable .npz archive of plain arrays ({error})") from error


def _image_set(
    path: Path, arrays: dict[str, NDArray[Any]], names: tuple[tuple[str, str], ...], shape: tuple[int, ...] | None
) -> ImageSet | None:
    """Returns the images and labels under one of the pairs of names; None where neither of a pair is there."""
    for images_name, labels_name in names:
        images, labels = arrays.get(images_name), arrays.get(labels_name)
        if images is None and labels is None:
            continue
        if images is None or labels is None:
            raise UsageError(f"{path}: of the arrays {images_name} and {labels_name} only one is there")
        if images.ndim < 2 or labels.shape not in (images.shape[:1], (*images.shape[:1], 1)):
            raise UsageError(
                f"{path}: {images_name} {images.shape} and {labels_name} {labels.shape} do not fit each other"
            )
        pixels = _laid_out(path, _pixels(path, images_name, images), shape)
        return ImageSet(np.ascontiguousarray(pixels), _whole(path, labels_name, labels).reshape(-1))
    return None


def _pixels(path: Path, name: str, images: NDArray[Any]) -> NDArray[Any]:
    if images.dtype.kind in "iu" and (
        images.dtype == np.uint8 or 0 <= images.min(initial=0) <= images.max(initial=0) <= 255
    ):
        return images.astype(np.uint8)
    if images.dtype.kind != "f":
        raise UsageError(f"{path}: {name} is of {images.dtype}; bytes from 0 to 255 or floats in [0, 1] are needed")
    if not (np.isfinite(images).all() and images.min(initial=0) >= 0 and images.max(initial=0) <= 1):
        raise UsageError(
            f"{path}: {name} has floats outside [0, 1]; divide by 255, and put other normalisation into the network"
        )
    return images.astype(np.float32)


def _whole(path: Path, name: str, labels: NDArray[Any]) -> NDArray[np.int64]:
    whole = labels.astype(np.int64) if labels.dtype.kind in "iuf" else None
    if whole is None or (whole != labels).any() or whole.min(initial=0) < 0:
        raise UsageError(f"{path}: {name} needs class numbers from 0")
    return whole


def _laid_out(path: Path, images: NDArray[Any], shape: tuple[int, ...] | None) -> NDArray[Any]:
    """Returns the images in the network's layout."""
    own = images.shape[1:]
    channels_last = len(own) == 3 and own[-1] in (1, 3) and own[0] not in (1, 3)
    if shape is None and len(own) == 2:
        return images[:, None]
    if shape is None:
        return np.moveaxis(images, -1, 1) if channels_last else images
    if own == shape:
        return images
    if len(own) == len(shape) == 3 and (own[2], *own[:2]) == shape:
        return np.moveaxis(images, -1, 1)
    if math.prod(own) == math.prod(shape):
        planes = np.moveaxis(images, -1, 1) if channels_last else images
        return planes.reshape(len(images), *shape)
    raise UsageError(f"{path}: images of shape {own} do not fit a network whose input is {shape}")
