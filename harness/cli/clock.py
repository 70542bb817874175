"""How long this process has been running: the competition's clock runs from the start of the tool, imports included."""

from __future__ import annotations

import os
import time

_STARTED_FIELD = 19
"""Of /proc/self/stat, counted from the field after the program's name."""
_LONGEST_START = 600.0
"""Seconds from a process's start to its first import, at the very most."""
_LOADED = time.monotonic()


def process_start() -> float:
    """Returns when this process started, on the clock of `time.monotonic`; never later than this module was loaded.

    Linux says it to a hundredth of a second; elsewhere it is the moment when this module was loaded.
    """
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as stream:  # noqa: PTH123 - `--help` needs no pathlib
            # The program's name is in parentheses and may contain any character.
            fields = stream.read().rpartition(")")[2].split()
        since_boot = int(fields[_STARTED_FIELD]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot
    except (OSError, ValueError, IndexError, AttributeError):
        return _LOADED
    before_loading = age - (time.monotonic() - _LOADED)
    # A host that counts the two clocks from different moments must not make a nonsense of every limit.
    return _LOADED - before_loading if 0 <= before_loading < _LONGEST_START else _LOADED
