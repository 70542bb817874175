"""The data sets of the product by name: images from the embedded samples or from a folder, and the study's splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.codec import decode_images
from harness.data.folders import find_cifar10, find_mnist
from harness.data.images import ImageSet
from harness.domain import UsageError

EMBEDDED = 1000
"""The first this many test images of each data set ship with the package."""
SCORE_SUBSET = 1000
"""Training images that importance scores are computed on."""


@dataclass(frozen=True, slots=True)
class DataSetInfo:
    """What is known of a data set without loading it."""

    shape: tuple[int, int, int]
    """`(C, H, W)` of an image."""
    classes: int
    train: int
    """Images of the training file."""
    test: int
    """Images of the test file."""
    validation: int
    """How many at the end of the training file the study holds out."""
    find: Callable[[Path, str, int | None], ImageSet]
    """Reads the head of a split, or all of it, from a folder."""


DATASETS: Mapping[str, DataSetInfo] = MappingProxyType(
    {
        "cifar10": DataSetInfo((3, 32, 32), 10, 50_000, 10_000, 5_000, find_cifar10),
        "mnist": DataSetInfo((1, 28, 28), 10, 60_000, 10_000, 6_000, find_mnist),
    }
)
"""Data set name, as a benchmark spec writes it, to what is known of it."""


class TrainingSplit(NamedTuple):
    """The study's split of a training file."""

    train: ImageSet
    validation: ImageSet


def load_images(dataset: str, split: str, root: Path | None = None, count: int | None = None) -> ImageSet:
    """Returns the first `count` images of a data set's split, in the order of the official files.

    Args:
        dataset: a name in `DATASETS`.
        split: `train` or `test`.
        root: a folder with the data set (torchvision's layout, IDX or npz files); None: the embedded sample, which
            has the first 1,000 test images.
        count: number of images; None: all that there are.

    Raises:
        UsageError: there is no such data set or split, the folder has it not, or it has fewer images.
    """
    info = DATASETS.get(dataset)
    if info is None:
        raise UsageError(f"there is no data set '{dataset}'; use one of: {', '.join(DATASETS)}")
    if split not in ("train", "test"):
        raise UsageError(f"{dataset} has no split '{split}'; use train or test")
    if count is not None and count < 1:
        raise UsageError(f"{count} images cannot be loaded; ask for at least 1")
    if root is None:
        images = _embedded(dataset, info, split, count)
    elif not root.is_dir():
        raise UsageError(f"{root}: no such folder; name one that has {dataset}; 'lgbench data fetch' makes one")
    else:
        images = info.find(root, split, count)
        if not len(images):
            raise UsageError(f"{root}: its file of {dataset}'s {split} images has none; name another folder")
        if images.images.shape[1:] != info.shape:
            raise UsageError(f"{root}: its {split} images are not {dataset}'s {info.shape}; name another folder")
        if not 0 <= images.labels.min() <= images.labels.max() < info.classes:
            most = info.classes - 1
            raise UsageError(f"{root}: its {split} labels are not 0 to {most}, as {dataset}'s are; name another folder")
    if count is not None and count > len(images):
        raise UsageError(
            f"{dataset} {split}: {count} images were asked for, but there are {len(images)}; ask for fewer"
        )
    return images if count is None else images[:count]


def train_validation(dataset: str, images: ImageSet) -> TrainingSplit:
    """Returns the study's split: CIFAR-10's last 5,000 training images, MNIST's last 6,000, are held out.

    Args:
        dataset: a name in `DATASETS`.
        images: the whole training file.

    Raises:
        ValueError: `images` is not the whole training file.
    """
    info = DATASETS[dataset]
    if len(images) != info.train:
        raise ValueError(f"{len(images)} images are not {dataset}'s training file of {info.train}")
    kept = info.train - info.validation
    return TrainingSplit(images[:kept], images[kept:])


def score_subset(n_train: int, count: int = SCORE_SUBSET) -> NDArray[np.int64]:
    """Returns the indices of the training images that importance scores are computed on, `(count,)`.

    They are those of the published scores: the head of the permutation of numpy's legacy generator with seed 1.

    Args:
        n_train: images of the whole training file, the held-out part included.
        count: how many.
    """
    # The legacy generator is frozen by numpy's compatibility policy; the new one would choose other images.
    return np.random.RandomState(1).permutation(n_train)[:count].astype(np.int64)


def _embedded(dataset: str, info: DataSetInfo, split: str, count: int | None) -> ImageSet:
    if split != "test" or (count is not None and count > EMBEDDED):
        wanted = f"{split} images" if split != "test" else f"{count} test images"
        raise UsageError(
            f"{dataset}: {wanted} are not embedded (only the first {EMBEDDED} test images are); "
            "'lgbench data fetch' gets the data set; name its folder with --data or LGBENCH_DATA"
        )
    data = resources.files("harness.data").joinpath("samples", f"{dataset}.xz").read_bytes()
    return decode_images(data, EMBEDDED, info.shape)
