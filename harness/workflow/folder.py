"""The run folder: opened without harm to what is in it, and filled with the benchmark as other verifiers take it.

Layout: `results.db`, `summary.json`, `results.csv`, `report.html`, `counterexamples/`, `logs/` and
`benchmark/{instances.csv,onnx/,vnnlib/}`.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from harness.analysis.summary import RunHeader
from harness.data.images import ImageSet
from harness.domain import Instance, UsageError
from harness.formats.compressed import read_bytes, write_gz
from harness.formats.instances import write_instances
from harness.formats.vnnlib import robustness_box, write_robustness_property
from harness.report.source import HEADER_META, NEXT_HEADER_META, STORE_FILE
from harness.run.access import usable_folder
from harness.run.lock import LOCK_NAME, run_lock
from harness.run.salvage import SCRATCH, mend_store
from harness.run.store import Store
from harness.workflow.plan import CheckedNetwork

BENCHMARK_FOLDER = "benchmark"
LOG_FOLDER = "logs"
REPLACED = ("results.csv", "summary.json", "report.html", "manifest.json", "transfer.json", "counterexamples")
"""What a run replaces in its folder at its end; `counterexamples` has no others' files afterwards."""

logger = logging.getLogger(__name__)


def earlier_header(folder: Path, *, resume: bool) -> RunHeader | None:
    """Returns the header of the run in a folder that is to be resumed; None where nothing was begun there.

    Of a resume that was ended before it had planned anything it is that one's: its options are not asked for again. A
    results file that is to be resumed and is damaged is mended first, with a warning that says what was saved.

    Raises:
        UsageError: the folder has results and they are not to be resumed, or it cannot be a run folder, e.g. because it
            has files that a run would replace and that no run has made.
    """
    path = folder / STORE_FILE
    with usable_folder(folder):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder}: is a file, not a folder; choose another --out")
        if resume and path.exists():
            _mend(folder)
        if not Store.is_begun(path):
            _refuse_strangers(folder)
            return None
    if not resume:
        # The lock first: a run that is still working in the folder is the better reason to name.
        with run_lock(folder):
            raise UsageError(f"{folder}: has results already; continue them with --resume, or choose another --out")
    with Store.read(path) as store:
        header = store.meta.get(NEXT_HEADER_META) or store.meta.get(HEADER_META)
    return None if header is None else RunHeader.from_json(header)


def _refuse_strangers(folder: Path) -> None:
    """Raises where a folder in which no run has worked has files that a run would replace."""
    if (folder / STORE_FILE).exists() or (folder / LOCK_NAME).exists():
        return
    strangers = [name for name in REPLACED if (folder / name).exists()]
    if strangers:
        raise UsageError(
            f"{folder}: is no run folder, but has {', '.join(strangers)}, which a run replaces; choose another --out"
        )


def _mend(folder: Path) -> None:
    with run_lock(folder):
        saved = mend_store(folder / STORE_FILE)
    if saved is not None:
        logger.warning("%s", saved.words(folder / STORE_FILE))


@contextmanager
def open_run(folder: Path, *, resume: bool) -> Iterator[Store]:
    """Yields the folder's store, made if it is missing, and keeps every other run out until the block ends.

    Raises:
        UsageError: the folder cannot be made, another run works in it, or left results that are not to be resumed. Also
            where the block meets a file that cannot be read or written: disks fill up, and parts may belong to others.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{folder}: cannot be written; choose another --out, or change its permissions")
    with run_lock(folder):
        with usable_folder(folder):
            _sweep(folder)
        if not resume and Store.is_begun(folder / STORE_FILE):
            raise UsageError(f"{folder}: has results already; continue them with --resume, or choose another --out")
        with Store.open(folder / STORE_FILE, create=True) as store, usable_folder(folder):
            yield store


def _sweep(folder: Path) -> None:
    """Removes what a killed run was writing: its files had not got their names yet."""
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)
    for scratch in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(scratch, ignore_errors=True)


def float_images(images: ImageSet) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Returns the images as networks take them: `(N, inputs)` float32 in [0, 1], flat in C order."""
    return images.images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def write_benchmark(
    folder: Path,
    networks: Sequence[CheckedNetwork],
    images: ImageSet,
    *,
    eps: float,
    classes: int,
    dataset: str,
    timeout_s: float,
) -> dict[str, list[Instance]]:
    """Leaves `benchmark/` as VNN-COMP lays it out and returns each variant's instances, one for each image in order.

    One property an image is shared by all networks. Files that are there already with the same content are not touched,
    so a resumed run finds the same bytes, and with them the same jobs.
    """
    root = folder / BENCHMARK_FOLDER
    properties = []
    for index, (image, label) in enumerate(zip(float_images(images), images.labels, strict=True)):
        name = f"vnnlib/{dataset}_test_{index:05d}.vnnlib"
        comment = f"{dataset} test image {index}, label {label}, l-infinity radius {eps!r}"
        lower, upper = robustness_box(image, eps)
        text = write_robustness_property(lower, upper, int(label), classes, comment)
        _leave(root / f"{name}.gz", text.encode())
        properties.append(name)
    instances: dict[str, list[Instance]] = {}
    for network in networks:
        name = f"onnx/{network.variant}.onnx"
        _leave(root / f"{name}.gz", network.model)
        instances[network.variant] = [
            Instance(root / f"{name}.gz", root / f"{prop}.gz", timeout_s, name, prop) for prop in properties
        ]
    write_instances(root / "instances.csv", [one for variant in instances.values() for one in variant])
    return instances


def _leave(path: Path, content: bytes) -> None:
    """Makes sure that the gzipped file `path` has that content; one that has it already is not written again."""
    try:
        if read_bytes(path) == content:
            return
    except UsageError:
        # Missing, or damaged by whatever ended the earlier run: written anew.
        pass
    write_gz(path, content)
