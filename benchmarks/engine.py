"""`python -m benchmarks.engine`: the engine's speed on public cases, against its targets and its own past.

Exit codes: 0 measured, 1 a wrong answer, an error, a missing answer or an interruption, 2 usage error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from benchmarks.cases import SETTINGS, check_names, load_set
from benchmarks.figures import SetFigures
from benchmarks.history import SCHEMA, Record, keep, last_of, of_arithmetic, read_all, results_file
from benchmarks.measure import INTERRUPTED, Choices, measure
from benchmarks.startup import RUNS, StartupFigures, measure_startup
from benchmarks.table import set_lines, startup_lines, target_lines
from benchmarks.targets import compare
from harness.config import REPOSITORY
from harness.domain import ARITHMETICS, LgBenchError, UsageError
from harness.workflow.provenance import git_revision, package_version

STARTUP = "startup"
NAMES = (*SETTINGS, STARTUP)
RESULTS = Path(__file__).with_name("results")
DEFAULT_CASES = REPOSITORY.parent / "shared" / "vnncomp_cases"
PACKAGES = ("torch", "numpy", "numba", "onnx", "onnxruntime")


class Benchmark:
    """One call of the program: measures set after set and keeps each result as soon as it is there.

    Args:
        options: of the command line.
        say: prints a line of the table.
    """

    def __init__(self, options: argparse.Namespace, say: Callable[[str], None]) -> None:
        self.options, self.say = options, say
        self.figures: dict[str, SetFigures] = {}
        self.startup: StartupFigures | None = None
        self.interrupted = False
        self.failed: list[str] = []
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.commit = git_revision(REPOSITORY)
        self.machine = this_machine()
        self.file = options.out or results_file(RESULTS, self.record())
        known = {*RESULTS.glob("*.json"), *([self.file] if self.file.exists() else [])}
        self.earlier = of_arithmetic(read_all(sorted(known)), options.arithmetic)

    def run(self, names: Sequence[str]) -> None:
        """Measures the sets one after the other; a Ctrl-C ends it after what is measured is kept."""
        try:
            for name in names:
                try:
                    self._startup() if name == STARTUP else self._set(name)
                except UsageError:
                    raise
                except LgBenchError as error:
                    self.failed.append(f"{name}: {error}")
                keep(self.file, self.record())
                if self.interrupted:
                    return
        except KeyboardInterrupt:
            self.interrupted = True

    def _set(self, name: str) -> None:
        options = self.options
        with tempfile.TemporaryDirectory(prefix="lgbench-") as scratch:
            place = Path(scratch)
            cases = load_set(name, options.cases, place, limit=options.limit, timeout_s=options.timeout)
            with ProgressLine(name) as progress:
                found = measure(cases, Choices(options.seed, options.device, options.arithmetic), progress)
        self.figures[name] = found
        self.interrupted = INTERRUPTED in found.notes
        earlier = last_of(self.earlier, name, found.as_json(), self.started)
        for line in (*set_lines(cases.setting.title, found, earlier), ""):
            self.say(line)

    def _startup(self) -> None:
        with ProgressLine(STARTUP) as progress:
            self.startup = measure_startup(self.options.cases, self.options.runs, progress)
        earlier = last_of(self.earlier, STARTUP, {}, self.started)
        for line in (*startup_lines(self.startup, earlier), ""):
            self.say(line)

    @property
    def wrong(self) -> list[str]:
        """Every wrong answer of every set, one line each."""
        lines = [line for found in self.figures.values() for line in found.wrong]
        return lines + list(self.startup.wrong if self.startup is not None else ())

    def record(self) -> Record:
        """Returns what is known so far as JSON values."""
        sets: dict[str, Mapping[str, Any]] = {name: found.as_json() for name, found in self.figures.items()}
        if self.startup is not None:
            sets[STARTUP] = self.startup.as_json()
        return {
            "schema": SCHEMA,
            "started": self.started,
            "commit": self.commit,
            "machine": self.machine,
            "device": self.options.device,
            "seed": self.options.seed,
            "arithmetic": self.options.arithmetic,
            "interrupted": self.interrupted,
            "sets": sets,
            "targets": [asdict(row) for row in compare(self.figures, self.startup)],
        }


class ProgressLine:
    """A line on standard error that says how far a set is; on a terminal it is rewritten in place.

    Args:
        name: of the set.
    """

    def __init__(self, name: str) -> None:
        self.name, self.text = name, f"{name}: started"
        self.terminal = sys.stderr.isatty()

    def __enter__(self) -> Self:
        if self.terminal:
            self._write("\r")
        return self

    def __call__(self, done: int, total: int) -> None:
        """Says that `done` of `total` are done."""
        self.text = f"{self.name}: {done}/{total}"
        if self.terminal:
            self._write("\r")

    def __exit__(self, *_: object) -> None:
        self._write("\r" if self.terminal else "", "\n")

    def _write(self, start: str, end: str = "") -> None:
        sys.stderr.write(f"{start}{self.text}{end}")
        sys.stderr.flush()


def this_machine() -> dict[str, Any]:
    """Returns what tells the figures of two machines apart, as JSON values."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")), ""
    )
    return {
        "cpu": model or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: package_version(name) for name in PACKAGES},
    }


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Returns the options of a command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", default=",".join(NAMES), metavar="A,B", help=f"of {', '.join(NAMES)}; default: all")
    cases = Path(os.environ.get("LGBENCH_CASES", DEFAULT_CASES))
    parser.add_argument("--cases", type=Path, default=cases, metavar="DIR", help="folder of the public cases")
    parser.add_argument("--limit", type=_positive_int, metavar="N", help="only the first N inputs of each set")
    parser.add_argument("--timeout", type=_positive, metavar="S", help="lower the limit of each input to S seconds")
    parser.add_argument("--runs", type=_positive_int, default=RUNS, metavar="N", help="rounds of start-up")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--arithmetic", choices=ARITHMETICS, default=ARITHMETICS[0], help="what unsat speaks of")
    parser.add_argument("--seed", type=int, default=0, help="of the engine's random starts")
    parser.add_argument("--json", action="store_true", help="print the record instead of the tables")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the record there instead of benchmarks/results/")
    return parser.parse_args(argv)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive number")
    return value


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive whole number")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what the command line asks for; returns the exit code."""
    options = parse(argv)

    def say(line: str) -> None:
        if not options.json:
            print(line, flush=True)

    try:
        benchmark = Benchmark(options, say)
        benchmark.run(check_names([name for name in options.sets.split(",") if name], NAMES))
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for line in target_lines(compare(benchmark.figures, benchmark.startup)):
        say(line)
    if options.json:
        print(json.dumps(benchmark.record(), indent=1))
    sys.stderr.writelines(f"WRONG {line}\n" for line in benchmark.wrong)
    sys.stderr.writelines(f"error: {line}\n" for line in benchmark.failed)
    if benchmark.interrupted:
        sys.stderr.write("interrupted; what was measured is kept\n")
    whole = all(found.complete and not found.broken for found in benchmark.figures.values())
    return 1 if benchmark.wrong or benchmark.failed or benchmark.interrupted or not whole else 0


if __name__ == "__main__":
    sys.exit(main())
