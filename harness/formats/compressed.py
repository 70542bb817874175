"""Files that may be gzipped: found under either name, read transparently, written with the same bytes every time."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from harness.domain import UsageError
from harness.files import write_atomically

MOST_BYTES = 2**30
"""Of a file, unzipped: half of what protobuf allows a network, and more than any public benchmark has."""
MOST_TEXT_BYTES = 2**26
"""Of a text: properties take up to thirty times their size while they are read."""

GZIP_MAGIC = b"\x1f\x8b"
# Deflate, no flags, modification time 0, no word of the level, unknown system: nothing that differs between two runs.
GZIP_HEADER = GZIP_MAGIC + bytes((8, 0, 0, 0, 0, 0, 0, 255))
# A run writes one property an input before it decides any: the best level takes three times as long for a tenth less.
GZIP_LEVEL = 5


def locate(path: Path) -> Path | None:
    """Returns the existing file that `path` names: itself, else the one with `.gz` added; None if there is neither."""
    candidates = (path, path.with_name(path.name + ".gz"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def existing(path: Path) -> Path:
    """Returns the existing file that `path` names, as `locate` does.

    Raises:
        UsageError: there is none.
        OSError: it cannot be looked for.
    """
    found = locate(path)
    if found is None and path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file")
    if found is None:
        raise UsageError(f"{path}: no such file, and no {path.name}.gz beside it; check the path")
    return found


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Returns the content of the file that `path` names, unzipped if its first bytes say so.

    Args:
        path: a file; where it is missing, the one with `.gz` added is read.
        most: bytes that it may have, unzipped; not much more memory is taken, whatever the file holds.

    Raises:
        UsageError: there is no such file, it cannot be read, its gzip data is damaged, or it is too large.
    """
    with _in_words(path):
        found = existing(path)
    with _in_words(found), found.open("rb") as stream:
        zipped = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        stream.seek(0)
        data = _unzipped(stream, most) if zipped else stream.read(min(os.fstat(stream.fileno()).st_size, most) + 1)
    if len(data) > most:
        raise UsageError(f"{found}: has more than {most} bytes; no file of its kind is read that is larger")
    return data


def read_head(path: Path, size: int) -> bytes:
    """Returns the first `size` bytes of what `read_bytes` would return, or all of it where that is less.

    Raises:
        UsageError: as `read_bytes`, as far as these bytes show it.
    """
    with _in_words(path):
        found = existing(path)
    with _in_words(found):
        with found.open("rb") as stream:
            if stream.read(len(GZIP_MAGIC)) != GZIP_MAGIC:
                stream.seek(0)
                return stream.read(size)
        with gzip.open(found) as unzipped:
            return unzipped.read(size)


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Raises UsageError for what goes wrong with a file in the block."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UsageError(f"{path}: damaged gzip data ({error}); fetch or make the file again") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _unzipped(stream: IO[bytes], most: int) -> bytes:
    """Returns the content of a gzip stream, or the beginning of one that has more than `most` bytes."""
    # Reading `most` bytes at once would take the memory for them at once.
    found = io.BytesIO()
    with gzip.GzipFile(fileobj=stream) as content:
        while found.tell() <= most and (part := content.read(2**20)):
            found.write(part)
    return found.getvalue()


def read_text(path: Path) -> str:
    """Returns the content of the file that `path` names as UTF-8 text, unzipped if it is gzipped; see `read_bytes`.

    Raises:
        UsageError: as `read_bytes`, or the content is not UTF-8; a text may have `MOST_TEXT_BYTES`.
    """
    data = read_bytes(path, MOST_TEXT_BYTES)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: not a UTF-8 text file; check that it is the right one") from error


def gzip_bytes(data: bytes) -> bytes:
    """Returns `data` gzipped; the same data gives the same bytes wherever zlib is the same."""
    deflate = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(data) + deflate.flush()
    return GZIP_HEADER + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def write_gz(path: Path, data: bytes | str) -> None:
    """Replaces `path` atomically by `data`, gzipped as `gzip_bytes` does."""
    write_atomically(path, gzip_bytes(data.encode() if isinstance(data, str) else data))
