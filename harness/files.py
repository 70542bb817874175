"""Files: atomic replacement, content hashes, archives of arrays. The only helpers that write whole files."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

MOST_ARRAY_BYTES = 2**30
"""Of all arrays of an archive together, unzipped; a large archive may hold `MOST_GROWTH` times its size."""
MOST_GROWTH = 4


def sha256_bytes(data: bytes) -> str:
    """Returns the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def atomic_writer(path: Path) -> Iterator[IO[bytes]]:
    """Yields a binary stream whose content replaces `path` when the block ends without an error.

    Readers see the old file or the whole new one, never a part: the data goes to a temporary file in the same folder,
    is synced to disk and renamed. On an error the old file stays and the temporary one is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        # The temporary file's name says nothing to whoever asked for this one.
        error.filename = str(path)
        raise
    try:
        with os.fdopen(handle, "wb") as stream:
            yield cast(IO[bytes], stream)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes | str) -> None:
    """Replaces the content of `path` by `data`; see `atomic_writer`."""
    with atomic_writer(path) as stream:
        stream.write(data.encode() if isinstance(data, str) else data)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Returns all arrays of an `.npz` archive; nothing in it is executed, and no header makes memory be taken.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, is not such an archive, is damaged, holds objects, or has more than
            `MOST_ARRAY_BYTES` though it is small; the text is the reason alone.
    """
    try:
        # From memory: numpy leaves the file open when it is damaged.
        data = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
            most = max(MOST_ARRAY_BYTES, MOST_GROWTH * len(data))
            if total > most:
                raise ValueError(f"its arrays have {total} bytes, and {most} are read at most")
            return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in archive.infolist()}
    except FileNotFoundError:
        raise
    except zipfile.BadZipFile as error:
        raise ValueError(f"no archive, or a damaged one: {error}") from error
    except (OSError, EOFError, KeyError, MemoryError, OverflowError, RuntimeError, TypeError, zlib.error) as error:
        # The zip module has an error of its own for each thing that an entry may say of itself.
        raise ValueError(str(error) or type(error).__name__) from error


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    content = archive.read(entry)
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    values = 1
    for size in shape:
        values *= int(size)
    # A header may ask for more than there is, and numpy would take the memory before it looks.
    if dtype.hasobject or values < 0 or values * dtype.itemsize > len(content):
        raise ValueError(f"'{entry.filename}' is no plain array, or shorter than it says")
    stream.seek(0)
    array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array
