from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.data.fetch import ARCHIVES, Archive, fetch
from harness.domain import UsageError

CONTENT = {"folder/one": b"first" * 50_000, "folder/two": b"second"}


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


class Server:
    """A local archive server; counts what it sends, and can break off or ignore ranges."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.break_after: int | None = None
        self.ranges = True
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.requests.append((request.path, wanted))
        data = self.files.get(request.path)
        if data is None:
            request.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start >= len(data):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(data) - start))
        request.end_headers()
        request.wfile.write(data[start:][: self.break_after])


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever)
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


@pytest.fixture
def archives(server: Server) -> dict[str, tuple[Archive, ...]]:
    tar, plain = tar_of(CONTENT | {"folder/other": b"?", "../escaped": b"!"}), b"plain file"
    server.files = {"/a.tar.gz": tar, "/b.gz": plain}
    members = {name: md5(data) for name, data in CONTENT.items()}
    return {
        "set": (
            Archive(f"{server.url}/a.tar.gz", md5(tar), "a.tar.gz", members),
            Archive(f"{server.url}/b.gz", md5(plain), "sub/raw/b.gz"),
        )
    }


def tree(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_everything_is_fetched_once_and_nothing_else_is_unpacked(
    tmp_path: Path, server: Server, archives: dict[str, tuple[Archive, ...]]
) -> None:
    told: list[tuple[str, int, int | None]] = []
    root = tmp_path / "data"
    fetch("set", root, lambda *step: told.append(step), archives)
    assert tree(tmp_path) == {"data/a.tar.gz", "data/folder/one", "data/folder/two", "data/sub/raw/b.gz"}
    assert (root / "folder/one").read_bytes() == CONTENT["folder/one"]
    size = len(server.files["/a.tar.gz"])
    assert ("a.tar.gz", size, size) in told
    fetch("set", root, archives=archives)
    assert len(server.requests) == 2


def test_a_lost_member_comes_from_the_archive_without_a_download(
    tmp_path: Path, server: Server, archives: dict[str, tuple[Archive, ...]]
) -> None:
    fetch("set", tmp_path, archives=archives)
    (tmp_path / "folder/two").write_bytes(b"damaged")
    fetch("set", tmp_path, archives=archives)
    assert (tmp_path / "folder/two").read_bytes() == b"second"
    assert len(server.requests) == 2


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_continued(
    tmp_path: Path, server: Server, archives: dict[str, tuple[Archive, ...]], ranges: bool
) -> None:
    server.break_after, server.ranges = 100, ranges
    with pytest.raises(UsageError, match="the download failed"):
        fetch("set", tmp_path, archives=archives)
    assert (tmp_path / "a.tar.gz.part").stat().st_size == 100
    server.break_after = None
    fetch("set", tmp_path, archives=archives)
    assert server.requests[1] == ("/a.tar.gz", "bytes=100-")
    assert "folder/one" in tree(tmp_path)


def test_a_part_that_was_complete_is_used(
    tmp_path: Path, server: Server, archives: dict[str, tuple[Archive, ...]]
) -> None:
    (tmp_path / "a.tar.gz.part").write_bytes(server.files["/a.tar.gz"])
    fetch("set", tmp_path, archives=archives)
    assert "folder/one" in tree(tmp_path)


def test_a_wrong_sum_is_refused_and_leaves_nothing(
    tmp_path: Path, server: Server, archives: dict[str, tuple[Archive, ...]]
) -> None:
    server.files["/a.tar.gz"] = b"something else"
    with pytest.raises(UsageError, match="MD5 sum is not the published"):
        fetch("set", tmp_path, archives=archives)
    assert tree(tmp_path) == set()


def test_a_wrong_or_missing_member_is_refused(tmp_path: Path, server: Server) -> None:
    tar = tar_of({"one": b"1"})
    server.files["/t"] = tar
    for members, what in (({"one": md5(b"2")}, "wrong MD5"), ({"two": md5(b"2")}, "has no two")):
        with pytest.raises(UsageError, match=what):
            fetch("set", tmp_path, archives={"set": (Archive(f"{server.url}/t", md5(tar), "t", members),)})
    assert tree(tmp_path) == {"t"}


def test_failures_are_usage_errors(tmp_path: Path, server: Server, archives: dict[str, tuple[Archive, ...]]) -> None:
    server.files.clear()
    with pytest.raises(UsageError, match="the server answers 404"):
        fetch("set", tmp_path, archives=archives)
    with pytest.raises(UsageError, match="use one of: set"):
        fetch("other", tmp_path, archives=archives)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        fetch("set", tmp_path / "file", archives=archives)
    nobody = {"set": (Archive("http://127.0.0.1:1/x", "0" * 32, "x"),)}
    with pytest.raises(UsageError, match="the download failed"):
        fetch("set", tmp_path, archives=nobody)


def test_the_official_archives() -> None:
    (cifar10,) = ARCHIVES["cifar10"]
    assert cifar10.md5 == "c58f30108f718f92721af3b95e74349a"
    assert all(a.url.startswith("https://") for group in ARCHIVES.values() for a in group)
    assert {a.path for a in ARCHIVES["mnist"]} == {
        f"MNIST/raw/{part}" for part in (
            "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
            "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz",
        )
    }  # fmt: skip
