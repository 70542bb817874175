from __future__ import annotations

import gzip
import logging
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from harness.data.datasets import load_images
from harness.data.folders import read_cifar10_batch, read_idx, read_npz
from harness.domain import UsageError

RANDOM = np.random.default_rng(1)


def text2(data: bytes) -> bytes:
    """A byte string as Python 2 pickled it."""
    return b"T" + struct.pack("<i", len(data)) + data


def python2_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    """A batch file in the very opcodes of the official ones, which Python 3 no longer writes."""
    dtype = b"cnumpy\ndtype\n" + b"(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(M" + struct.pack("<H", len(pixels)) + b"M\x00\x0ct"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        b"(K\x01" + shape + dtype + b"\x89" + text2(pixels.tobytes()) + b"tb"
    )
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + numbers + b"U\x0bbatch_labelU\x03oneu."


def pixels(count: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, 3072)).astype(np.uint8)


@pytest.mark.parametrize("subfolder", ["cifar-10-batches-py", "."])
def test_torchvisions_cifar10(tmp_path: Path, subfolder: str) -> None:
    folder = tmp_path / subfolder
    folder.mkdir(exist_ok=True)
    parts = [pixels(3) for _ in range(5)]
    for i, part in enumerate(parts):
        (folder / f"data_batch_{i + 1}").write_bytes(python2_batch(part, [i, i, 9]))
    (folder / "test_batch").write_bytes(python2_batch(parts[0], [4, 5, 6]))
    train = load_images("cifar10", "train", tmp_path)
    assert train.labels.tolist() == [label for i in range(5) for label in (i, i, 9)]
    assert (train.images == np.concatenate(parts).reshape(-1, 3, 32, 32)).all()
    assert load_images("cifar10", "test", tmp_path, 2).labels.tolist() == [4, 5]
    with pytest.raises(UsageError, match="4 images were asked for, but there are 3"):
        load_images("cifar10", "test", tmp_path, 4)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_batch_that_python_3_wrote(tmp_path: Path, protocol: int) -> None:
    data = pixels(2)
    (tmp_path / "b").write_bytes(pickle.dumps({"data": data, "labels": [1, 2]}, protocol))
    found = read_cifar10_batch(tmp_path / "b")
    assert (found.images.reshape(2, -1) == data).all()


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_cannot_run_anything(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(pickle.dumps({"data": Malicious(tmp_path / "made"), "labels": []}))
    with pytest.raises(UsageError, match="mkdir, which is not allowed"):
        read_cifar10_batch(tmp_path / "b")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps([1, 2]),
        pickle.dumps({"data": 3, "labels": [1]}),
        pickle.dumps({"labels": [1]}),
        pickle.dumps({"data": np.zeros((1, 3072)), "labels": [1]}, 3),
        pickle.dumps({"data": np.zeros((1, 3071), np.uint8), "labels": [1]}, 3),
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, 3),
        python2_batch(np.zeros((2, 3072), np.uint8), [1, 2])[:-3000],
    ],
)
def test_a_file_that_is_no_batch_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b").write_bytes(content)
    with pytest.raises(UsageError, match=r"/b: "):
        read_cifar10_batch(tmp_path / "b")


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("subfolder", ["MNIST/raw", "."])
@pytest.mark.parametrize("zipped", [False, True])
def test_mnists_idx_files(tmp_path: Path, subfolder: str, zipped: bool) -> None:
    folder = tmp_path / subfolder
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = RANDOM.integers(0, 256, (4, 28, 28)).astype(np.uint8), np.array([3, 1, 4, 1], np.uint8)
    for name, array in (("t10k-images-idx3-ubyte", images), ("t10k-labels-idx1-ubyte", labels)):
        data = idx(array)
        (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(data) if zipped else data)
    found = load_images("mnist", "test", tmp_path)
    assert found.images.shape == (4, 1, 28, 28)
    assert (found.images[:, 0] == images).all()
    assert found.labels.tolist() == [3, 1, 4, 1]


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x03", idx(np.zeros((2, 3), np.uint8)), idx(np.zeros((1, 2, 2)))])
def test_a_file_that_is_no_idx_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "i").write_bytes(content)
    with pytest.raises(UsageError, match="not an IDX file"):
        read_idx(tmp_path / "i", 3)
    (tmp_path / "i.gz").write_bytes(b"no gzip")
    with pytest.raises(UsageError, match="cannot be read"):
        read_idx(tmp_path / "i.gz", 3)


def test_npz_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cifar10").mkdir()
    path = tmp_path / "cifar10" / "test.npz"
    images = RANDOM.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    np.savez(path, images=images, labels=np.array([7, 8, 9], np.uint8), exact=np.array([True, True, False]))
    with caplog.at_level(logging.WARNING):
        assert len(load_images("cifar10", "test", tmp_path, 2)) == 2
        assert not caplog.messages
        found = load_images("cifar10", "test", tmp_path)
    assert "1 of 3 images are marked as approximations" in caplog.text
    assert (found.images == images.transpose(0, 3, 1, 2)).all()
    assert found.labels.dtype == np.int64
    path.write_bytes(b"no npz")
    with pytest.raises(UsageError, match="not an npz file"):
        read_npz(path)
    np.savez(path, images=images)
    with pytest.raises(UsageError, match="not an npz file"):
        read_npz(path)


@pytest.mark.parametrize(
    ("images", "labels", "what"),
    [
        (np.zeros((3, 16, 32, 3), np.uint8), [0, 1, 2], "its test images are not cifar10's"),
        (np.zeros((3, 32, 32, 3), np.uint8), [0, 10, 2], "its test labels are not 0 to 9, as cifar10's are"),
        (np.zeros((0, 32, 32, 3), np.uint8), [], "test images has none"),
    ],
)
def test_images_of_another_data_set_are_refused(
    tmp_path: Path, images: np.ndarray, labels: list[int], what: str
) -> None:
    (tmp_path / "cifar10").mkdir()
    np.savez(tmp_path / "cifar10" / "test.npz", images=images, labels=np.array(labels, np.int64))
    with pytest.raises(UsageError, match=what):
        load_images("cifar10", "test", tmp_path)


def test_a_folder_without_the_data_set_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_images("cifar10", "test", tmp_path)
    for part in ("cifar-10-batches-py/{test_batch}", "cifar10/test.npz", "lgbench data fetch"):
        assert part in str(caught.value)
    with pytest.raises(UsageError) as caught:
        load_images("mnist", "train", tmp_path)
    for part in ("MNIST/raw/train-{images-idx3,labels-idx1}-ubyte[.gz]", "mnist/train.npz"):
        assert part in str(caught.value)
