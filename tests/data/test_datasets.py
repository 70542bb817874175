from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from harness.data.codec import decode_images, encode_images
from harness.data.datasets import DATASETS, load_images, score_subset, train_validation
from harness.data.images import ImageSet
from harness.domain import UsageError

PIXELS = {
    "cifar10": "da362006b99671213d1a5d856cab2bedf64d40bad4501630ee60f4ceb2d3ec7f",
    "mnist": "f8f3c5a608a9f7d4bd5e9d69b90c53932b8b99371d9db26121b42f62f3abcd56",
}
LABELS = {"cifar10": [3, 8, 8, 0, 6, 6, 1, 6, 3, 1], "mnist": [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]}
GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "score_subset_indices.npz"


@pytest.mark.parametrize("dataset", list(DATASETS))
def test_the_embedded_sample_is_the_head_of_the_official_test_file(dataset: str) -> None:
    images = load_images(dataset, "test")
    assert len(images) == 1000
    assert images.images.shape[1:] == DATASETS[dataset].shape
    raw = np.ascontiguousarray(images.images.transpose(0, 2, 3, 1)).tobytes()
    assert hashlib.sha256(raw).hexdigest() == PIXELS[dataset]
    assert images.labels[:10].tolist() == LABELS[dataset]
    assert set(images.labels.tolist()) == set(range(10))
    head = load_images(dataset, "test", count=7)
    assert len(head) == 7
    assert (head.images == images.images[:7]).all()


def test_what_is_not_embedded_says_how_to_get_it() -> None:
    for split, count in (("train", None), ("train", 5), ("test", 1001)):
        with pytest.raises(UsageError, match="lgbench data fetch"):
            load_images("cifar10", split, count=count)


@pytest.mark.parametrize(
    ("dataset", "split", "count", "what"),
    [
        ("cifar100", "test", None, "use one of: cifar10, mnist"),
        ("mnist", "validation", None, "use train or test"),
        ("mnist", "test", 0, "at least 1"),
    ],
)
def test_what_does_not_exist_is_refused(dataset: str, split: str, count: int | None, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        load_images(dataset, split, count=count)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        load_images("mnist", "test", tmp_path / "nowhere")


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 8, 8), (2, 1, 3)])
def test_the_codec_loses_nothing(shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (11, *shape)).astype(np.uint8)
    images[0], images[1] = 0, 255
    given = ImageSet(images, random.integers(0, 256, 11))
    data = encode_images(given)
    found = decode_images(data, 11, shape)
    assert (found.images == given.images).all()
    assert (found.labels == given.labels).all()
    with pytest.raises(ValueError, match="are not 12 images"):
        decode_images(data, 12, shape)
    with pytest.raises(ValueError, match="damaged"):
        decode_images(data[:-20], 11, shape)


@pytest.mark.parametrize("label", [-1, 256])
def test_labels_that_do_not_fit_are_refused(label: int) -> None:
    with pytest.raises(ValueError, match="byte"):
        encode_images(ImageSet(np.zeros((1, 1, 2, 2), np.uint8), np.array([label])))


@pytest.mark.parametrize(("dataset", "kept", "held_out"), [("cifar10", 45_000, 5_000), ("mnist", 54_000, 6_000)])
def test_the_studys_split_holds_out_the_end(dataset: str, kept: int, held_out: int) -> None:
    n = kept + held_out
    whole = ImageSet(np.zeros((n, 1, 1, 1), np.uint8), np.arange(n))
    split = train_validation(dataset, whole)
    assert (len(split.train), len(split.validation)) == (kept, held_out)
    assert split.validation.labels[0] == kept
    with pytest.raises(ValueError, match="training file"):
        train_validation(dataset, whole[:100])


def test_the_score_subset_is_the_published_one() -> None:
    assert score_subset(50_000)[:5].tolist() == [26247, 35067, 34590, 16668, 12196]
    assert score_subset(60_000)[:5].tolist() == [15281, 21435, 44536, 13518, 47529]
    assert len(set(score_subset(50_000).tolist())) == 1000


@pytest.mark.skipif(not GOLDEN.is_file(), reason="../shared/golden is not here")
def test_the_score_subset_equals_the_golden_indices() -> None:
    golden = np.load(GOLDEN)
    arrays = {golden[name].tobytes() for name in golden.files if golden[name].shape == (1000,)}
    for n in (50_000, 60_000):
        wanted = score_subset(n)
        assert {wanted.astype(t).tobytes() for t in (np.int32, np.int64, np.uint16, np.uint32)} & arrays
