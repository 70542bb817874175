"""A process that feeds damaged files to the readers, and tells what a reader must not do.

    fuzz_child.py FOLDER KINDS FIRST COUNT

KINDS are separated by commas; of each, COUNT files are read. FOLDER is empty; what is written outside of it, or read
outside of it and the installation, is a finding. So is every error that is none of ours, a message of more than one
line, code that is run, and a process that is started. Memory is limited to 2 GiB more than the process has after
reading good files, processor time to 20 s a file: past either the process ends, and FOLDER/now says on which file. The
last line of standard output is JSON.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import sysconfig
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from fuzz_corpus import SEEDS, damaged
from fuzz_targets import NAMES, READERS, prepare

from harness.domain import LgBenchError

MEMORY = 2 * 2**30
CPU_S = 20.0
LONGEST = 2000
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "pickle.find_class")
FORBIDDEN_PREFIXES = ("socket.", "ctypes.", "winreg.", "ftplib.", "urllib.", "smtplib.")
CHANGES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.chown",
    "os.truncate",
)


class Watch:
    """Notes what the interpreter is asked to do; see `sys.addaudithook`."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder.resolve())
        own = (Path(__file__).parents[2], sys.prefix, sys.base_prefix, sysconfig.get_paths()["stdlib"])
        self.readable = (*(str(Path(path).resolve()) for path in own), "/proc", "/sys", "/dev/null")
        self.armed = False
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event in FORBIDDEN or event.startswith(FORBIDDEN_PREFIXES):
            self.seen.append(f"{event} {arguments!r}"[:200])
        elif event == "open" and isinstance(arguments[0], str | bytes):
            path, mode, flags = arguments
            writes = any(c in (mode or "") for c in "wax+") or bool(
                (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            self._path(event, os.fsdecode(path), () if writes else self.readable)
        elif event in CHANGES and isinstance(arguments[0], str | bytes):
            self._path(event, os.fsdecode(arguments[0]), ())

    def _path(self, event: str, path: str, others: tuple[str, ...]) -> None:
        place = os.path.realpath(path)
        if not any(place == root or place.startswith(root + os.sep) for root in (self.folder, *others)):
            self.seen.append(f"{event} {place}")


def main() -> int:
    folder, kinds, first, count = Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3]), int(sys.argv[4])
    warnings.simplefilter("ignore")
    logging.disable()
    watch = Watch(folder)
    sys.addaudithook(watch)
    prepare(folder)
    for kind in kinds:
        read_good_files(folder, kind)
    started = psutil.Process().memory_info()
    resource.setrlimit(resource.RLIMIT_AS, (started.vms + MEMORY,) * 2)
    found = Findings()
    for kind in kinds:
        for number in range(first, first + count):
            feed(folder, kind, number, watch, found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - started.rss
    print(json.dumps({**vars(found), "peak_mib": peak >> 20}))
    return 0


def read_good_files(folder: Path, kind: str) -> None:
    """Reads the files that the damaged ones are made of, so that what is imported late is imported."""
    path, outcomes = folder / NAMES.get(kind, "file"), []
    for seed in SEEDS[kind]:
        path.write_bytes(seed())
        outcomes += [attempt(read, path) for read in READERS[kind]]
    if ("read", "") not in outcomes:
        raise AssertionError(f"no good file of kind {kind} is read: {outcomes}")


class Findings:
    """What is told at the end."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.findings: list[str] = []
        self.slowest_s = 0.0


def feed(folder: Path, kind: str, number: int, watch: Watch, found: Findings) -> None:
    """Gives one damaged file to the readers of its kind."""
    path = folder / NAMES.get(kind, "file")
    (folder / "now").write_text(f"{kind} {number}\n")
    path.write_bytes(damaged(kind, number))
    for read in READERS[kind]:
        watch.seen.clear()
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        began = time.process_time()
        watch.armed = True
        outcome, finding = attempt(read, path)
        watch.armed = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        found.slowest_s = max(found.slowest_s, time.process_time() - began)
        found.counts[f"{kind} {outcome}"] += 1
        found.findings += [f"{kind} {number}: {words}" for words in ([finding] if finding else []) + watch.seen]


def attempt(read: Any, path: Path) -> tuple[str, str]:
    """Returns whether a file was read or refused, and what is wrong with that."""
    try:
        read(path)
    except LgBenchError as error:
        message = str(error)
        good = message.isprintable() and 0 < len(message) <= LONGEST
        return "refused", "" if good else f"not one clear line: {message[:300]!r}"
    except Exception as error:  # noqa: BLE001 - every one is a finding
        where = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in where if "harness" in frame.filename]
        return "broken", f"{type(error).__name__}: {str(error)[:200]!r} at {' > '.join(ours[-4:])}"
    return "read", ""


if __name__ == "__main__":
    sys.exit(main())
