"""Starts a program that dies with its parent: `leash.py PARENT_PID [NAME=VALUE ...] -- PROGRAM [ARGUMENT ...]`.

Run by path with `python -I -S`, so it imports nothing but the standard library. It asks the kernel to kill this process
when the parent dies (prctl PR_SET_PDEATHSIG, Linux), then becomes the program; the request survives that. Doing it here
and not between fork and exec in the parent keeps the parent free to have threads. Elsewhere than on Linux a program has
to notice the end of its standard input.
"""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_CANNOT_START = 127


def main(arguments: list[str]) -> int:
    """Becomes the program; returns an exit status only when that is impossible."""
    parent = int(arguments[0])
    split = arguments.index("--")
    command = arguments[split + 1 :]
    for setting in arguments[1:split]:
        name, _, value = setting.partition("=")
        os.environ[name] = value
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        # A parent that died before the request was made will send nothing.
        if os.getppid() != parent:
            return 1
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell, on purpose
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
    return _CANNOT_START


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
