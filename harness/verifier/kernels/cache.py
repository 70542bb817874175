"""Where compiled code is kept: in a folder whose name is a digest of the sources that it was compiled from.

Numba takes a function's compiled code for fresh as long as the file that defines the function is unchanged. What the
function calls and which constants it takes from other modules is compiled into it and not looked at, so an edit or an
upgrade of one module would leave its callers running the old one. Here every state of the sources has a folder of its
own. (Numba itself tells its own versions, Python's and processors apart.)
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType

VARIABLE = "NUMBA_CACHE_DIR"
"""Numba's own setting, and that of child processes."""
KEPT = 4
"""Folders of other states of the sources that a base keeps, the most recently used ones."""

_OURS = re.compile(r"lg-bench-[0-9a-f]{16}")


def source_key(folder: Path) -> str:
    """Returns a digest that differs whenever a Python source directly in the folder differs, or its name.

    Raises:
        OSError: the sources cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py":
            content = path.read_bytes()
            digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def keyed_directory(folder: Path, environ: MutableMapping[str, str]) -> Path:
    """Returns the existing, writable directory for code compiled from the folder's sources.

    It lies in the first of these that can be written: what the user named in `NUMBA_CACHE_DIR`, the sources'
    `__pycache__`, the user's cache folder, a temporary folder that only this user may write.

    Raises:
        OSError: the sources cannot be read, or nothing can be written.
    """
    name = f"lg-bench-{source_key(folder)}"
    for base in _bases(folder, environ):
        found = _made(base / name)
        if found is not None:
            return found
    return Path(tempfile.mkdtemp(prefix="lg-bench-"))


def use_keyed_cache(
    folder: Path,
    environ: MutableMapping[str, str] = os.environ,
    modules: Mapping[str, ModuleType] = sys.modules,
) -> None:
    """Lets Numba keep what is decorated from now on in the directory for the folder's sources; never fails.

    Where that is impossible Numba keeps its own rules. Set in the environment too: Numba may not be imported yet, which
    takes time that not every run has to pay, and it reads its settings again when a variable of its own has changed.
    """
    try:
        directory = str(keyed_directory(folder, environ))
    except OSError:
        return
    environ[VARIABLE] = directory
    config = modules.get("numba.core.config")
    if config is not None:
        vars(config)["CACHE_DIR"] = directory


def was_compiled(what: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Returns whether `note_compiled` was called here for these sources, on such a processor with such a Numba.

    It says what a call is likely to take, no more: the code itself may have been removed.
    """
    mark = _mark(what, environ)
    return mark is not None and mark.exists()


def note_compiled(what: str, environ: Mapping[str, str] = os.environ) -> None:
    """Leaves a mark that what has this name is compiled; never fails."""
    mark = _mark(what, environ)
    if mark is not None:
        with suppress(OSError):
            mark.touch()


def _mark(what: str, environ: Mapping[str, str]) -> Path | None:
    directory = Path(environ.get(VARIABLE, ""))
    version = sys.modules["numba"].__version__ if "numba" in sys.modules else importlib.metadata.version("numba")
    name = f"{what}-{sys.implementation.cache_tag}-numba-{version}-{_processor()}.compiled"
    return directory / name if _OURS.fullmatch(directory.name) else None


@cache
def _processor() -> str:
    """Returns what differs between kinds of processors, which compiled code is for; where it is not told, the same."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    first = {line.partition(":")[0].strip(): line for line in reversed(lines)}
    kind = first.get("model name", ""), first.get("flags", ""), platform.machine()
    return hashlib.sha256("\0".join(kind).encode()).hexdigest()[:8]


def _bases(folder: Path, environ: MutableMapping[str, str]) -> Iterator[Path]:
    named = environ.get(VARIABLE)
    if named:
        base = Path(named).absolute()
        # A child process inherits its parent's directory, perhaps one for other sources.
        yield base.parent if _OURS.fullmatch(base.name) else base
    yield folder / "__pycache__"
    home = Path(environ.get("HOME") or "~").expanduser()
    caches = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    if caches.is_absolute():
        yield caches / "lg-bench"
    private = _private(Path(tempfile.gettempdir()))
    if private is not None:
        yield private


def _private(temporary: Path) -> Path | None:
    """Returns a folder for this user alone, the same every time; None where another one may have made it.

    Code is loaded from it.
    """
    folder = temporary / f"lg-bench-{os.getuid() if hasattr(os, 'getuid') else os.getlogin()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
    except OSError:
        return None
    mine = stat.S_ISDIR(state.st_mode) and (os.name == "nt" or state.st_uid == os.getuid())
    return folder if mine and not state.st_mode & 0o022 else None


def _made(directory: Path) -> Path | None:
    """Returns the directory, made where it is missing; None if it cannot be written."""
    try:
        if not directory.is_dir():
            directory.mkdir(parents=True, exist_ok=True)
            _drop_oldest(directory)
        elif not os.access(directory, os.W_OK | os.X_OK):
            return None
        os.utime(directory)
    except OSError:
        return None
    return directory


def _drop_oldest(new: Path) -> None:
    """Removes directories for other sources beside a new one, but for the most recently used ones.

    A process that runs on such sources compiles again what it has not loaded yet.
    """
    ours: list[tuple[float, Path]] = []
    for path in new.parent.iterdir():
        # Another process may be removing it at the same time.
        with suppress(OSError):
            if _OURS.fullmatch(path.name) and path != new:
                ours.append((path.stat().st_mtime, path))
    for _, path in sorted(ours, reverse=True)[KEPT:]:
        shutil.rmtree(path, ignore_errors=True)
