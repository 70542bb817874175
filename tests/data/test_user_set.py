"""A user's own images: layouts, numbers, split, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.user_set import read_user_set
from harness.domain import UsageError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (40, 3, 8, 8), dtype=np.uint8)
LABELS = RANDOM.integers(0, 4, 40)


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "own.npz", **arrays)
    return folder / "own.npz"


def test_the_last_tenths_are_held_out(tmp_path: Path) -> None:
    found = read_user_set(saved(tmp_path, images=IMAGES, labels=LABELS))
    assert [len(part) for part in (found.train, found.validation, found.test)] == [32, 4, 4]
    parts = (found.train, found.validation, found.test)
    assert (np.concatenate([part.images for part in parts]) == IMAGES).all()
    assert not found.own_test


@pytest.mark.parametrize(
    "names", [("images", "labels", "test_images", "test_labels"), ("x_train", "y_train", "x_test", "y_test")]
)
def test_test_images_of_its_own(tmp_path: Path, names: tuple[str, ...]) -> None:
    arrays = dict(zip(names, (IMAGES[:30], LABELS[:30], IMAGES[30:], LABELS[30:]), strict=True))
    found = read_user_set(saved(tmp_path, **arrays), (3, 8, 8))
    assert [len(part) for part in (found.train, found.validation, found.test)] == [27, 3, 10]
    assert (found.test.images == IMAGES[30:]).all()
    assert found.own_test


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        (IMAGES.transpose(0, 2, 3, 1), (3, 8, 8)),
        (IMAGES.transpose(0, 2, 3, 1), None),
        (IMAGES.reshape(40, -1), (3, 8, 8)),
        (IMAGES.astype(np.int64), (3, 8, 8)),
    ],
)
def test_every_layout_and_kind_of_number_gives_the_same_images(
    tmp_path: Path, given: Any, shape: tuple[int, ...] | None
) -> None:
    found = read_user_set(saved(tmp_path, images=given, labels=LABELS[:, None]), shape)
    assert (found.everything.images == IMAGES).all()
    assert found.everything.images.dtype == np.uint8
    assert (found.everything.labels == LABELS).all()


def test_channels_last_images_of_a_flat_network(tmp_path: Path) -> None:
    found = read_user_set(saved(tmp_path, images=IMAGES.transpose(0, 2, 3, 1), labels=LABELS), (192, 1))
    assert (found.everything.images == IMAGES.reshape(40, 192, 1)).all()


@pytest.mark.parametrize("shape", [None, (1, 8, 8)])
def test_grey_images_without_a_channel(tmp_path: Path, shape: tuple[int, ...] | None) -> None:
    found = read_user_set(saved(tmp_path, images=IMAGES[:, 0], labels=LABELS), shape)
    assert (found.everything.images == IMAGES[:, :1]).all()


def test_floats_stay_floats(tmp_path: Path) -> None:
    found = read_user_set(saved(tmp_path, images=IMAGES / 255.0, labels=LABELS))
    assert found.everything.images.dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": IMAGES}, "only one is there"),
        ({"pixels": IMAGES}, "needs the arrays images and labels, but has: pixels"),
        ({"images": IMAGES / 2.0, "labels": LABELS}, r"outside \[0, 1\]"),
        ({"images": np.full((40, 2), np.nan), "labels": LABELS}, r"outside \[0, 1\]"),
        ({"images": IMAGES.astype(np.int64) - 300, "labels": LABELS}, "bytes from 0 to 255"),
        ({"images": IMAGES, "labels": LABELS[:5]}, "do not fit each other"),
        ({"images": IMAGES, "labels": LABELS - 9}, "class numbers from 0"),
        ({"images": IMAGES, "labels": LABELS + 0.5}, "class numbers from 0"),
        ({"images": IMAGES[:2], "labels": LABELS[:2]}, "at least 3"),
        ({"images": IMAGES[:, :, :7], "labels": LABELS}, "do not fit a network whose input is"),
        ({"images": np.array([{}] * 3), "labels": LABELS}, "not a readable .npz"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_user_set(saved(tmp_path, **arrays), (3, 8, 8))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_user_set(tmp_path / "own.npz")
