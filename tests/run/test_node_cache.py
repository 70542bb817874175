from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.domain import LgBenchError
from harness.files import sha256_bytes
from harness.formats.compressed import gzip_bytes
from harness.run.node_cache import MIN_AGE_S, NodeCache


class Origin:
    """Files by content, and how often each was asked for."""

    def __init__(self, *contents: bytes) -> None:
        self.files = {sha256_bytes(content): gzip_bytes(content) for content in contents}
        self.asked: list[str] = []

    def __call__(self, sha256: str) -> bytes:
        self.asked.append(sha256)
        return self.files[sha256]


def test_a_file_is_fetched_once_a_node_and_keeps_its_name(tmp_path: Path) -> None:
    origin, sha256 = Origin(b"network"), sha256_bytes(b"network")
    first, second = NodeCache(tmp_path / "files", origin), NodeCache(tmp_path / "files", origin)
    path = first.path(sha256, "onnx/base.onnx.gz")
    assert path.name == "base.onnx.gz"
    assert path.read_bytes() == gzip_bytes(b"network")
    assert first.path(sha256, "base.onnx.gz") == path
    assert second.path(sha256, "base.onnx.gz") == path, "another worker of the node"
    assert origin.asked == [sha256]
    assert (tmp_path / "files").stat().st_mode & 0o077 == 0


def test_what_lies_there_is_not_believed(tmp_path: Path) -> None:
    origin, sha256 = Origin(b"property"), sha256_bytes(b"property")
    path = NodeCache(tmp_path, origin).path(sha256, "p.vnnlib")
    path.write_bytes(b"another property")
    assert NodeCache(tmp_path, origin).path(sha256, "p.vnnlib").read_bytes() == gzip_bytes(b"property")
    assert len(origin.asked) == 2


def test_a_file_that_is_not_what_was_planned_is_refused(tmp_path: Path) -> None:
    sha256 = sha256_bytes(b"as planned")
    cache = NodeCache(tmp_path, lambda _: b"changed since")
    with pytest.raises(LgBenchError, match="it changed during the run"):
        cache.path(sha256, "p.vnnlib")
    assert not list(tmp_path.rglob("*.vnnlib"))


def test_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    origin = Origin(b"x")
    path = NodeCache(tmp_path / "files", origin).path(sha256_bytes(b"x"), "../../../evil.onnx")
    assert path.is_relative_to(tmp_path / "files")


def test_old_files_go_when_there_are_too_many_bytes(tmp_path: Path) -> None:
    contents = [bytes([k]) * 1000 for k in range(3)]
    cache = NodeCache(tmp_path, lambda sha256: dict(zip(map(sha256_bytes, contents), contents, strict=True))[sha256])
    paths = [cache.path(sha256_bytes(content), f"{k}.vnnlib") for k, content in enumerate(contents)]
    long_ago = time.time() - 2 * MIN_AGE_S
    for k in (0, 1):
        os.utime(paths[k], (long_ago + k, long_ago + k))
    NodeCache(tmp_path, Origin(), max_bytes=2000)
    assert [path.exists() for path in paths] == [False, True, True]
    NodeCache(tmp_path, Origin(), max_bytes=0)
    assert [path.exists() for path in paths] == [False, False, True], "the last may be in use"
    assert cache.path(sha256_bytes(contents[0]), "0.vnnlib").exists(), "what went is fetched again"
