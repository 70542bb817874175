"""What this machine can run."""

from __future__ import annotations

import importlib.util
from functools import cache


@cache
def has_numba() -> bool:
    """Returns whether compiled passes and searches are to be had."""
    return importlib.util.find_spec("numba") is not None
