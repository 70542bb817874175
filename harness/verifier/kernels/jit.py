"""How every kernel is compiled, and how its code is put on disk when several processes compile at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")

LOCK = "saving.lock"
"""File in the folder of compiled code that is locked while code is saved."""


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compiles a function when it is first called with arguments of new types, and keeps its code on disk.

    The function runs without Python's lock, does not check indices, and divides by zero as numpy does.
    """
    return _exclusive(numba.njit(nogil=True, cache=True, error_model="numpy")(function))


def fused(function: Callable[P, R]) -> Callable[P, R]:
    """Compiles as `compiled` does, and allows a fused multiply-add, which rounds less; nothing else is relaxed."""
    return _exclusive(numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})(function))


def _exclusive(dispatcher: Callable[P, R]) -> Callable[P, R]:
    """Lets one process at a time save code for new types; returns the dispatcher.

    Numba (0.68, `IndexDataCacheFile.save`) reads an index, takes the next free file name for the types at hand, writes
    the index and then the file. Two processes that do so at once for different types take the same name, and from then
    on one's types are answered with the other's code, which reads its arguments as what they are not.
    """
    cache: Any = getattr(dispatcher, "_cache", None)
    file = getattr(cache, "_cache_file", None)
    if file is not None:  # without a cache there is nothing to guard
        save = file.save

        def save_alone(key: Any, data: Any) -> None:
            from filelock import FileLock  # only those who compile wait for this import

            with FileLock(Path(cache.cache_path) / LOCK):
                save(key, data)

        file.save = save_alone
    return dispatcher
