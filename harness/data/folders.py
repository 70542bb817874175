"""Image data sets from folders that a user already has: torchvision's layout, IDX files, npz files.

Nothing in these files is executed: CIFAR-10's pickles are read by an unpickler that knows arrays and nothing else.
"""

from __future__ import annotations

import gzip
import io
import logging
import math
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.images import ImageSet
from harness.domain import UsageError
from harness.files import read_arrays

logger = logging.getLogger(__name__)

IDX_STEMS = {"train": "train", "test": "t10k"}
CIFAR10_BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
CIFAR10_FOLDER, MNIST_FOLDER = "cifar-10-batches-py", "MNIST/raw"


def find_cifar10(root: Path, split: str, count: int | None = None) -> ImageSet:
    """Returns CIFAR-10's first `count` (None: all) `train` or `test` images from a folder; fewer, if it has fewer.

    Looked for, in this order: `cifar-10-batches-py/` (torchvision), the same files in `root` itself,
    `cifar10/<split>.npz`.

    Raises:
        UsageError: nothing of it is there (with what was looked for), or a file is not what its name says.
    """
    looked: list[str] = []
    for folder in (root / CIFAR10_FOLDER, root):
        files = [folder / name for name in CIFAR10_BATCHES[split]]
        if all(file.is_file() for file in files):
            return _joined([read_cifar10_batch(file) for file in files])[:count]
        looked.append(f"{folder}/{{{','.join(CIFAR10_BATCHES[split])}}}")
    return _npz_or_error("cifar10", root, split, count, looked)


def find_mnist(root: Path, split: str, count: int | None = None) -> ImageSet:
    """Returns MNIST's first `count` (None: all) `train` or `test` images from a folder; fewer, if it has fewer.

    Looked for, in this order: IDX files (plain or `.gz`) in `MNIST/raw/` (torchvision) or in `root` itself,
    `mnist/<split>.npz`.

    Raises:
        UsageError: as `find_cifar10`.
    """
    looked: list[str] = []
    stem = IDX_STEMS[split]
    for folder in (root / MNIST_FOLDER, root):
        images = _plain_or_gz(folder / f"{stem}-images-idx3-ubyte")
        labels = _plain_or_gz(folder / f"{stem}-labels-idx1-ubyte")
        if images is not None and labels is not None:
            pixels = read_idx(images, 3)
            return _image_set(images, pixels[:, np.newaxis], read_idx(labels, 1))[:count]
        looked.append(f"{folder}/{stem}-{{images-idx3,labels-idx1}}-ubyte[.gz]")
    return _npz_or_error("mnist", root, split, count, looked)


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Returns the bytes of an IDX file as an array of as many dimensions; a `.gz` file is unzipped.

    Raises:
        UsageError: the file cannot be read or is not an IDX file of bytes with these dimensions.
    """
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: cannot be read ({error}); fetch it again") from error
    start = 4 + 4 * dimensions
    shape = tuple(int(n) for n in np.frombuffer(data[4:start], ">u4")) if len(data) >= start else ()
    if data[:4] != bytes((0, 0, 8, dimensions)) or len(data) - start != math.prod(shape):
        raise UsageError(f"{path}: not an IDX file of bytes with {dimensions} dimensions; fetch it again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read_cifar10_batch(path: Path) -> ImageSet:
    """Returns the images of one of CIFAR-10's batch files, without executing anything in it.

    Raises:
        UsageError: the file cannot be read or is not such a batch.
    """
    try:
        batch = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        pixels = _field(batch, "data").array()
        labels = np.array(_field(batch, "labels"), np.int64)
        return _image_set(path, pixels.reshape(-1, 3, 32, 32), labels)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UsageError(f"{path}: not a batch of CIFAR-10's Python version ({error}); fetch it again") from error


def read_npz(path: Path, count: int | None = None) -> ImageSet:
    """Returns the first `count` images of an npz file with arrays `images` (N, H, W[, C]) and `labels` (N,).

    Where it also has `exact` (N,) bool, those among them that are approximations are counted in a warning.

    Raises:
        UsageError: the file cannot be read or has not these arrays.
    """
    try:
        arrays = read_arrays(path)
        images, labels = arrays["images"][:count], arrays["labels"][:count]
        exact = arrays["exact"][:count] if "exact" in arrays else np.ones(len(labels), np.bool_)
        if exact.dtype != np.bool_:
            raise ValueError(f"exact is of {exact.dtype}, not bool")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(f"{path}: not an npz file with arrays images and labels ({error}); make it again") from error
    if not exact.all():
        logger.warning("%s: %d of %d images are marked as approximations", path, int((~exact).sum()), exact.size)
    if images.ndim not in (3, 4) or labels.dtype.kind not in "iu":
        raise UsageError(f"{path}: needs images (N, H, W[, C]) and labels (N,) of whole numbers; make it again")
    pixels = images[:, np.newaxis] if images.ndim == 3 else np.moveaxis(images, -1, 1)
    return _image_set(path, pixels, labels)


class _Dtype:
    """Stands for a pickled numpy type."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        self.code = code.decode("ascii") if isinstance(code, bytes) else code

    def __setstate__(self, _state: object) -> None:
        """Byte order and the like do not matter for bytes."""


class _Array:
    """Stands for a pickled numpy array: keeps what was stored, builds an array of bytes only when asked."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> NDArray[np.uint8]:
        _version, shape, dtype, fortran, data = self.state
        if dtype.code != "u1" or not isinstance(data, bytes):
            raise ValueError("its array is not of bytes")
        return np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _encode(text: str, encoding: str | bytes) -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise ValueError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Builds containers, numbers, text and the stand-ins above; every other name in the file is refused."""

    # `_codecs.encode` is how Python 3 writes bytes in the old protocol; both module paths of numpy occur.
    _KNOWN: dict[tuple[str, str], Callable[..., Any]] = {  # noqa: RUF012 - never changed
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module_name: str, global_name: str, /) -> Callable[..., Any]:
        """Returns the stand-in of a numpy name."""
        try:
            return self._KNOWN[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, which is not allowed") from None


def _field(batch: Any, name: str) -> Any:
    if not isinstance(batch, dict):
        raise TypeError("it holds no dictionary")
    return batch[name.encode()] if name.encode() in batch else batch[name]


def _plain_or_gz(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def _npz_or_error(dataset: str, root: Path, split: str, count: int | None, looked: list[str]) -> ImageSet:
    path = root / dataset / f"{split}.npz"
    if path.is_file():
        return read_npz(path, count)
    places = ", ".join((*looked, str(path)))
    raise UsageError(f"{root}: no {dataset} {split} images (looked for {places}); 'lgbench data fetch' gets them")


def _joined(parts: list[ImageSet]) -> ImageSet:
    return ImageSet(np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts]))


def _image_set(path: Path, images: NDArray[Any], labels: NDArray[Any]) -> ImageSet:
    try:
        return ImageSet(np.ascontiguousarray(images), labels.astype(np.int64))
    except ValueError as error:
        raise UsageError(f"{path}: {error}; fetch it again") from error
