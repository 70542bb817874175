"""An instance's files as a tool of others takes them: unzipped copies in a folder that is its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.domain import Instance
from harness.formats.compressed import read_bytes

RESULT_NAME = "result.txt"


@dataclass(frozen=True, slots=True)
class StagedInstance:
    """Where a tool finds an instance and leaves its answer."""

    folder: Path
    """Holds everything else; the tool may write here, as some do beside their inputs."""
    network: Path
    """`onnx/<stem>.onnx` in the folder."""
    property: Path
    """`vnnlib/<stem>.vnnlib` in the folder."""
    result: Path
    """Does not exist yet."""


@contextmanager
def staged(instance: Instance, category: str) -> Iterator[StagedInstance]:
    """Yields copies of an instance's files in a temporary folder, removed at the end.

    Names are those of the originals without `.gz`; no other folder on the path is called `onnx` or `vnnlib`, because
    the competition's programs look for these names.

    Args:
        instance: what is copied.
        category: the benchmark's name, which becomes the folder's.

    Raises:
        UsageError: a file is missing or damaged.
        OSError: there is no room for the copies.
    """
    root = Path(tempfile.mkdtemp(prefix="lgbench-tool-"))
    try:
        folder = root / (category if category not in ("", "onnx", "vnnlib") and "/" not in category else "benchmark")
        copies = []
        for source, kind in ((instance.network, "onnx"), (instance.property, "vnnlib")):
            name = source.name.removesuffix(".gz").removesuffix(f".{kind}") + f".{kind}"
            copy = folder / kind / name
            copy.parent.mkdir(parents=True)
            copy.write_bytes(read_bytes(source))
            copies.append(copy)
        result = root / "out" / RESULT_NAME
        result.parent.mkdir()
        yield StagedInstance(folder, copies[0], copies[1], result)
    finally:
        # A tool may have left files that cannot be removed; they are in the system's temporary folder.
        shutil.rmtree(root, ignore_errors=True)
