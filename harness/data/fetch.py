"""Downloads of the whole data sets from their official archives, checked against the published MD5 sums.

The result is torchvision's layout: `cifar-10-batches-py/` and `MNIST/raw/`. Everything can be interrupted and started
again: a part of an archive is continued, a complete file is not fetched twice.
"""

from __future__ import annotations

import hashlib
import ssl
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from types import MappingProxyType

from harness.data.folders import CIFAR10_FOLDER, MNIST_FOLDER
from harness.domain import UsageError
from harness.files import write_atomically

TIMEOUT_S = 60.0
"""Seconds without a byte after which a download fails."""
BLOCK = 1 << 16

Progress = Callable[[str, int, int | None], None]
"""Told the archive's name, bytes there, and bytes in all if the server says."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A file to download, and what is unpacked from it."""

    url: str
    md5: str
    path: str
    """Where it is kept, relative to the data folder."""
    members: Mapping[str, str] = field(default_factory=dict)
    """Files to take out of a tar archive, by their path there and in the data folder, to their MD5 sums."""


_CIFAR10_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
_MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}

ARCHIVES: Mapping[str, tuple[Archive, ...]] = MappingProxyType(
    {
        "cifar10": (
            Archive(
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "c58f30108f718f92721af3b95e74349a",
                "cifar-10-python.tar.gz",
                {f"{CIFAR10_FOLDER}/{name}": md5 for name, md5 in _CIFAR10_MD5.items()},
            ),
        ),
        # The authors' own server has long refused downloads; this copy is the one that torchvision uses.
        "mnist": tuple(
            Archive(f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}", md5, f"{MNIST_FOLDER}/{name}")
            for name, md5 in _MNIST_MD5.items()
        ),
    }
)
"""Data set name to the archives that hold it."""


def fetch(
    dataset: str,
    root: Path,
    progress: Progress = lambda _name, _done, _total: None,
    archives: Mapping[str, tuple[Archive, ...]] = ARCHIVES,
) -> None:
    """Makes sure that `root` has the whole data set with the published MD5 sums; downloads only what is missing.

    Args:
        dataset: a name in `archives`.
        root: the data folder; made if missing.
        progress: told about each block that arrives.
        archives: where the data sets are.

    Raises:
        UsageError: there is no such data set, the download fails (a part stays and is continued), a sum is wrong,
            or the folder cannot be written.
    """
    if dataset not in archives:
        raise UsageError(f"there is no data set '{dataset}'; use one of: {', '.join(archives)}")
    for archive in archives[dataset]:
        wanted = archive.members or {archive.path: archive.md5}
        if all(_has_md5(root / path, md5) for path, md5 in wanted.items()):
            continue
        try:
            _download(archive, root / archive.path, progress)
            if archive.members:
                _unpack(root / archive.path, archive.members, root)
        except OSError as error:
            raise UsageError(f"{root}: cannot be written ({error.strerror or error}); name another folder") from error


def _download(archive: Archive, target: Path, progress: Progress) -> None:
    """Brings the archive to `target`; bytes that an earlier try left in `<target>.part` are kept."""
    if _has_md5(target, archive.md5):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    hint = "check the network, or copy the file there by hand; the same command continues"
    try:
        _receive(archive, part, progress)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise UsageError(f"{archive.url}: the server answers {error.code} {error.reason}; {hint}") from error
        # The part is as long as the archive, or longer; its sum tells which.
    except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise UsageError(f"{archive.url}: the download failed ({error}); {hint}") from error
    if not _has_md5(part, archive.md5):
        part.unlink(missing_ok=True)
        raise UsageError(f"{archive.url}: the file's MD5 sum is not the published {archive.md5}; start again")
    part.replace(target)


def _receive(archive: Archive, part: Path, progress: Progress) -> None:
    """Appends what is missing of the archive to `part`.

    Raises:
        ConnectionError: the server closed the connection before the end.
    """
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "lg-bench"} | ({"Range": f"bytes={have}-"} if have else {})
    request = urllib.request.Request(archive.url, headers=headers)  # noqa: S310 - the addresses above, http(s) only
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
        # A server that ignores the range answers 200 and sends the file from its start.
        continued = response.status == HTTPStatus.PARTIAL_CONTENT
        done = have if continued else 0
        total = _total(response, done)
        with part.open("ab" if continued else "wb") as stream:
            while block := response.read(BLOCK):
                stream.write(block)
                done += len(block)
                progress(Path(archive.path).name, done, total)
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _total(response: HTTPResponse, done: int) -> int | None:
    length = response.headers.get("Content-Length")
    return done + int(length) if length is not None and length.isdigit() else None


def _unpack(archive: Path, members: Mapping[str, str], root: Path) -> None:
    """Writes the named regular files of a tar archive below `root`, and nothing else of it."""
    missing = dict(members)
    try:
        with tarfile.open(archive, "r:*") as tar:
            for entry in tar:
                # Only names that are known beforehand are written, so no path of the archive can lead elsewhere.
                stream = tar.extractfile(entry) if entry.name in missing and entry.isreg() else None
                if stream is None:
                    continue
                data = stream.read()
                if hashlib.md5(data, usedforsecurity=False).hexdigest() != missing.pop(entry.name):
                    raise UsageError(f"{archive}: its file {entry.name} has a wrong MD5 sum; delete the archive")
                write_atomically(root / entry.name, data)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UsageError(f"{archive}: damaged archive ({error}); delete it and fetch again") from error
    if missing:
        raise UsageError(f"{archive}: has no {', '.join(missing)}; delete it and fetch again")


def _has_md5(path: Path, md5: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest() == md5
