"""Draws a benchmark's instances anew: the same seed gives the same files everywhere.

This module is shipped with each exported benchmark as `generate_properties.py`, the two writers that it imports put in
place of their import. So it stays with Python 3.9, its standard library, numpy and ONNX Runtime.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from harness.formats.vnnlib2_writer import (
    BASE,
    GRAFT,
    write_difference_query,
    write_regression_query,
    write_robustness_query,
)
from harness.formats.vnnlib_writer import robustness_box, write_robustness_property

SETTINGS_FILE, IMAGES_FILE = "data/benchmark.json", "data/inputs.npz"
"""What the benchmark is, and the test inputs that are drawn from; below the folder of the script."""
VERSIONS = ("1.0", "2.0")
TYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}

OnProgress = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and how much there is."""


def silent(_what: str, _done: int, _total: int) -> None:
    """Does nothing."""


class Input(NamedTuple):
    """A test input."""

    number: int
    """Position in the data set."""
    label: int
    image: NDArray[np.float32]
    """`(inputs,)` in [0, 1], flat in C order."""


class Network:
    """A network of the benchmark on ONNX Runtime.

    Args:
        path: its file, `.onnx` or `.onnx.gz`.

    Raises:
        ValueError: it has not one floating-point input and output.
    """

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            gzip.decompress(data) if path.suffix == ".gz" else data, options, providers=["CPUExecutionProvider"]
        )
        given, wanted = self.session.get_inputs(), self.session.get_outputs()
        if len(given) != 1 or len(wanted) != 1 or given[0].type not in TYPES:
            raise ValueError(f"{path}: not a network with one floating-point input and one output")
        self.name: str = given[0].name
        self.dtype: str = TYPES[given[0].type]
        self.input_shape = _fixed(given[0].shape)
        self.output_shape = _fixed(wanted[0].shape)

    def label(self, image: NDArray[np.float32]) -> int:
        """Returns the class of one flat image; of equal outputs the first wins."""
        x = image.astype(self.dtype).reshape(self.input_shape)
        return int(np.asarray(self.session.run(None, {self.name: x})[0]).argmax())


def load_inputs(path: Path, shape: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns the test inputs of an npz file with the arrays `images` and `labels`.

    Args:
        path: the file; images are uint8 or floats in [0, 1], channels first or last.
        shape: of one input, channels first.

    Returns:
        Inputs `(N, inputs)` float32 in [0, 1], flat in C order, and labels `(N,)`.

    Raises:
        ValueError: the arrays do not have this form.
    """
    with np.load(path) as arrays:
        if "images" not in arrays or "labels" not in arrays:
            raise ValueError(f"{path}: has no arrays 'images' and 'labels'")
        images, labels = arrays["images"], arrays["labels"].astype(np.int64)
    if images.ndim == len(shape) + 1 and tuple(images.shape[1:]) != tuple(shape):
        images = np.moveaxis(images, -1, 1)
    flat = np.ascontiguousarray(images).reshape(len(images), -1)
    if flat.shape[1] != int(np.prod(shape)) or labels.shape != flat.shape[:1]:
        raise ValueError(f"{path}: its images are not of shape {tuple(shape)}, with one label each")
    if flat.dtype == np.uint8:
        return flat.astype(np.float32) / np.float32(255), labels
    flat = flat.astype(np.float32)
    if not ((flat >= 0) & (flat <= 1)).all():
        raise ValueError(f"{path}: images are neither bytes nor in [0, 1]")
    return flat, labels


def draw(candidates: Sequence[int], seed: int, count: int) -> list[int]:
    """Returns `count` of the candidates (all, if there are fewer) in the order that the seed gives them.

    The order is that of SHA-256 over seed and number: no library's generator has to stay as it is.
    """
    return sorted(candidates, key=lambda index: hashlib.sha256(f"{seed}:{index}".encode()).digest())[:count]


def generate(
    root: Path, seed: int, every: bool = False, data: Path | None = None, on_progress: OnProgress = silent
) -> int:
    """Writes `vnnlib/` and `instances.csv` of each version below `root`; what was there of them is replaced.

    Drawn are inputs that every network classifies rightly, as many as the benchmark's number of instances takes.

    Args:
        root: the benchmark's folder, with `data/` and, in `1.0/` and `2.0/` or directly, `onnx/`.
        seed: of the draw.
        every: take all such inputs instead.
        data: an npz file of other test inputs; None: those in `data/`.
        on_progress: is told how far it is.

    Returns:
        The number of instances.

    Raises:
        ValueError: networks or data cannot be used, or no input is left.
        OSError: a file cannot be read or written.
    """
    settings = json.loads((root / SETTINGS_FILE).read_text(encoding="utf-8"))
    images, labels = load_inputs(data or root / IMAGES_FILE, settings["input_shape"])
    folders = {version: root / version for version in VERSIONS if (root / version / "onnx").is_dir()}
    folders = folders or {"1.0": root}
    networks = _networks(next(iter(folders.values())) / "onnx", settings["networks"])
    right = _rightly_classified(networks, images, labels, on_progress)
    if not right:
        raise ValueError("no input is classified rightly by every network; nothing can be drawn")
    columns = _columns(settings)
    limit = len(right) * len(columns) if every else int(settings["instances"])
    chosen = draw(right, seed, -(-limit // len(columns)))
    # Input by input up to the limit, then listed network by network.
    slots = [(position, index) for index in chosen for position in range(len(columns))][:limit]
    network = next(iter(networks.values()))
    for version, folder in folders.items():
        rows = []
        texts: dict[str, Callable[[], str]] = {}
        for position, index in sorted(slots):
            listed, kind, tag = columns[position]
            name = f"{tag}{settings['dataset']}_test_{index:05d}.vnnlib"
            asked = Input(index, int(labels[index]), images[index])
            texts[name] = _writer(version, kind, settings, network, asked)
            rows.append((listed, f"vnnlib/{name}", _seconds(settings["timeout_s"])))
        _replace(folder, texts, rows, bool(settings["gzip"]), f"writing {version}", on_progress)
    return len(slots)


def _networks(folder: Path, names: Sequence[str]) -> dict[str, Network]:
    networks = {}
    for name in names:
        path = folder / f"{name}.onnx"
        networks[name] = Network(path if path.is_file() else folder / f"{name}.onnx.gz")
    kinds = {(network.input_shape, network.output_shape, network.dtype) for network in networks.values()}
    if len(kinds) != 1:
        raise ValueError(f"{folder}: its networks have different input or output shapes or types")
    return networks


def _rightly_classified(
    networks: Mapping[str, Network], images: NDArray[np.float32], labels: NDArray[np.int64], on_progress: OnProgress
) -> list[int]:
    right = list(range(len(images)))
    for name, network in networks.items():
        kept = []
        for done, index in enumerate(right):
            on_progress(f"classifying with {name}", done, len(right))
            if network.label(images[index]) == int(labels[index]):
                kept.append(index)
        right = kept
    return right


def _columns(settings: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns what is asked of each input: column 1 of the list, kind of property, start of the property's name."""
    if not settings["pairs"]:
        return [(f"onnx/{name}.onnx", "robust", "") for name in settings["networks"]]
    columns = []
    for base, graft in settings["pairs"]:
        listed = repr([(BASE, f"onnx/{base}.onnx"), (GRAFT, f"onnx/{graft}.onnx")])
        columns += [(listed, kind, f"{kind}_{graft}_") for kind in ("difference", "regression")]
    return columns


def _writer(version: str, kind: str, settings: Mapping[str, Any], network: Network, asked: Input) -> Callable[[], str]:
    """Returns what makes a property's text; texts of many inputs would fill the memory."""
    eps, forms = float(settings["eps"]), (network.input_shape, network.output_shape, network.dtype)
    comment = f"{settings['dataset']} test input {asked.number}, label {asked.label}, l-infinity radius {eps!r}"

    def text() -> str:
        lower, upper = robustness_box(asked.image, eps)
        if kind == "difference":
            delta = float(settings["delta"])
            said = f"{comment}: an output differs by more than {delta}"
            return write_difference_query(lower, upper, delta, *forms, said)
        if kind == "regression":
            said = f"{comment}: {BASE} is right and {GRAFT} is wrong"
            return write_regression_query(lower, upper, asked.label, *forms, said)
        if version == "2.0":
            return write_robustness_query(lower, upper, asked.label, *forms, comment)
        return write_robustness_property(lower, upper, asked.label, int(np.prod(network.output_shape)), comment)

    return text


def _replace(
    folder: Path,
    texts: Mapping[str, Callable[[], str]],
    rows: Sequence[tuple[str, str, str]],
    zipped: bool,
    what: str,
    on_progress: OnProgress,
) -> None:
    """Puts the new properties in place of the old ones when all are written, then the list."""
    # Not called vnnlib: paths are cut at the first folder of that name.
    part, final = folder / "properties.part", folder / "vnnlib"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for done, (name, text) in enumerate(texts.items()):
        on_progress(what, done, len(texts))
        data = text().encode("ascii")
        path = part / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(data, mtime=0) if zipped else data)
    listed = io.StringIO()
    csv.writer(listed, lineterminator="\n").writerows(rows)
    if final.exists():
        shutil.rmtree(final)
    part.rename(final)
    (folder / "instances.csv").write_text(listed.getvalue(), encoding="ascii")


def _seconds(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _fixed(shape: Sequence[Any]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) and size > 0 else 1 for size in shape)


def _line_each() -> OnProgress:
    """Returns what writes a line to standard error whenever something else begins."""
    said: set[str] = set()

    def report(what: str, _done: int, total: int) -> None:
        if what not in said:
            said.add(what)
            sys.stderr.write(f"{what}: {total}\n")

    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Generates the instances for the seed on the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Draw the instances of this benchmark anew.")
    parser.add_argument("seed", type=int, help="the same seed gives the same files")
    parser.add_argument("--all", action="store_true", help="take all inputs that every network classifies rightly")
    parser.add_argument("--data", type=Path, metavar="FILE", help="npz file with the arrays images and labels")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent, help="the benchmark's folder")
    given = parser.parse_args(arguments)
    try:
        count = generate(given.root, given.seed, given.all, given.data, _line_each())
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{count} instances\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
