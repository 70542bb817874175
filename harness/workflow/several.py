"""Rows of a list that name several networks: decided as rows of one, made of them, which every verifier takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.domain import Instance
from harness.files import sha256_bytes
from harness.formats.competition import file_stem
from harness.formats.compressed import locate, read_bytes, write_gz
from harness.formats.instances import ListedInstance
from harness.formats.several import Joiner
from harness.run.identity import JobPlanner, content_sha256

JOINED_FOLDER = "joined"
"""Below the run folder: what was made of instances of several networks."""
_NAME_BYTES, _DIGITS = 150, 12


class JoinedRows:
    """The instances that were made of rows of several networks; their files are written only when all is planned.

    Args:
        folder: the run folder.
        planner: is told the hashes of the files.
    """

    def __init__(self, folder: Path, planner: JobPlanner) -> None:
        self._folder, self._planner = folder / JOINED_FOLDER, planner
        self._joiner = Joiner()
        self._files: dict[Path, bytes] = {}

    def instance(self, listed: ListedInstance) -> Instance:
        """Returns the row as an instance of one network; its names are those of the list.

        Raises:
            UsageError: see `Joiner.join`.
            UnsupportedPropertyError: likewise.
        """
        joined = self._joiner.join(listed.networks, listed.instance.property)
        stems = listed.instance.network.name, file_stem(listed.instance.property.name)
        network = self._take(f"onnx/{_short(stems[0])}", ".onnx", joined.model)
        prop = self._take(f"vnnlib/{_short(stems[1])}", ".vnnlib", joined.text.encode())
        return replace(listed.instance, network=network, property=prop)

    def unjoined(self, listed: ListedInstance) -> Instance:
        """Returns the row as it is, identified by the content of all its networks; no tool can be asked about it."""
        hashes = [f"{name}:{content_sha256(file)}" for name, file in listed.networks]
        self._planner.know(listed.instance.network, sha256_bytes("\n".join(hashes).encode()))
        return listed.instance

    def write(self) -> None:
        """Writes the files that are not there yet."""
        for path, data in self._files.items():
            if locate(path) is None or read_bytes(path) != data:
                write_gz(path, data)

    def _take(self, stem: str, suffix: str, data: bytes) -> Path:
        sha256 = sha256_bytes(data)
        path = self._folder / f"{stem}-{sha256[:_DIGITS]}{suffix}.gz"
        self._files[path] = data
        self._planner.know(path, sha256)
        return path


def _short(stem: str) -> str:
    return stem.encode()[:_NAME_BYTES].decode(errors="ignore")
