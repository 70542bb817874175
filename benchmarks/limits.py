"""`python -m benchmarks.limits`: how far a tool's processes get beyond their limits before they are gone.

Memory: one process, and several in sessions of their own, fill it as fast as they can. Time: a tool that ignores every
signal it can, with children that do so too, notes the time until it is ended. Both say themselves how far they got.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.table import columns
from harness.tools.process import ChildEndedError, LineProcess
from harness.tools.script import GRACE_S
from harness.tools.supervise import Step, ToolBounds, supervise

GIB = 2**30
MOST_OVER = 0.1
MOST_LATE_S = 2.0
FILL = """
import mmap, os, struct, sys
path, children = sys.argv[1], int(sys.argv[2])
with open(path, "w+b") as file:
    file.truncate(8 * (children + 1))
    taken = mmap.mmap(file.fileno(), 0)
number = 0
for child in range(children):
    if os.fork() == 0:
        number = child + 1
        os.setsid()
        break
kept = []
while True:
    kept.append(bytearray(b"x") * 2**20)
    taken[8 * number : 8 * number + 8] = struct.pack("q", len(kept) * 2**20)
"""
DEAF = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        break
with open(sys.argv[1], "a") as notes:
    while True:
        notes.write(f"{time.monotonic()}\\n")
        notes.flush()
        time.sleep(0.01)
"""


def filled(path: Path) -> int:
    """Returns the bytes that all processes say they have."""
    data = path.read_bytes()
    return sum(int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8))


def memory_supervised(folder: Path, limit_gib: float, children: int) -> float:
    """Returns what share of the limit a script tool's processes took, at their greatest."""
    path = folder / "filled"
    command = [sys.executable, "-I", "-S", "-c", FILL, str(path), str(children)]
    (report,) = supervise([Step(command, 600.0, folder)], folder / "log", ToolBounds(memory_gib=limit_gib))
    if report.stopped != "memory":
        raise RuntimeError(f"ended by '{report.stopped}': {report.how()}")
    return max(filled(path), report.peak_bytes if children == 0 else 0) / (limit_gib * GIB)


def memory_guarded(folder: Path, limit_gib: float, children: int) -> float:
    """Returns the same of a child as our engine is one."""
    path = folder / "filled"
    command = [sys.executable, "-I", "-S", "-c", FILL, str(path), str(children)]
    with LineProcess(command, folder / "log", memory_bytes=int(limit_gib * GIB)) as child:
        try:
            child.next_line(600.0)
        except ChildEndedError as error:
            if "out of memory" not in str(error):
                raise
    return filled(path) / (limit_gib * GIB)


def lateness(folder: Path, limit_s: float) -> float:
    """Returns how many seconds after its limit the last process of a deaf tool was still alive."""
    path = folder / "notes"
    path.unlink(missing_ok=True)
    command = [sys.executable, "-I", "-S", "-c", DEAF, str(path)]
    began = time.monotonic()
    supervise([Step(command, limit_s + GRACE_S, folder)], folder / "log")
    os.sync()
    return max(map(float, path.read_text().split())) - began - limit_s


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Has so many processes compute for nothing meanwhile."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints a table; returns 0 where every limit held, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--memory", type=float, default=1.0, metavar="GIB")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="other processes that compute meanwhile")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="lgbench-limits-") as scratch, busy(options.busy):
        folder = Path(scratch)
        shares: list[tuple[str, Callable[[], float]]] = [
            ("script tool, 1 process", lambda: memory_supervised(folder, options.memory, 0)),
            ("script tool, 4 processes", lambda: memory_supervised(folder, options.memory, 3)),
            ("engine, 1 process", lambda: memory_guarded(folder, options.memory, 0)),
            ("engine, 4 processes", lambda: memory_guarded(folder, options.memory, 3)),
        ]
        over = {name: [measure() - 1 for _ in range(options.runs)] for name, measure in shares}
        late = [lateness(folder, 1.0) for _ in range(options.runs)]
    rows = [["memory beyond the limit", "median", "greatest"]]
    rows += [[name, f"{sorted(found)[len(found) // 2]:+.1%}", f"{max(found):+.1%}"] for name, found in over.items()]
    print("\n".join(columns(rows)))
    middle = sorted(late)[len(late) // 2]
    print(f"a deaf tool with deaf children, alive after its limit: median {middle:.2f} s, greatest {max(late):.2f} s")
    print(f"load of the host: {os.getloadavg()[0]:.1f}")
    held = max(map(max, over.values())) <= MOST_OVER and max(late) <= MOST_LATE_S
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
