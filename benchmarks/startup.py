"""What one trivial instance costs as a whole process, against the bare imports that no answer can do without."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from harness.config import REPOSITORY
from harness.domain import LgBenchError
from harness.tools.builtin import ENGINE_SETTINGS

RUNS = 5
LIMIT_S = 300.0
BARE = "import torch, onnx, onnxruntime"
NETWORK = "sdp_cifar_cnn_a/onnx/cifar_cnn_a_adv.onnx"
SAT = "sdp_cifar_cnn_a/vnnlib/cifar_cnn_a_adv_000.vnnlib"
"""Decided by the first attack."""
UNSAT = "sdp_cifar_cnn_a/vnnlib/cifar_cnn_a_adv_002.vnnlib"
"""Decided by root bounds."""


@dataclass(frozen=True, slots=True)
class StartupFigures:
    """Seconds from the start of a process to its end, each a list of runs that took turns."""

    imports_s: tuple[float, ...]
    sat_s: tuple[float, ...]
    unsat_s: tuple[float, ...]
    wrong: tuple[str, ...] = ()
    """One line for each run that did not print its verdict."""

    @property
    def sat_ratio(self) -> float:
        """The sat instance against the imports, medians."""
        return median(self.sat_s) / median(self.imports_s)

    @property
    def unsat_ratio(self) -> float:
        """The unsat instance against the imports, medians."""
        return median(self.unsat_s) / median(self.imports_s)

    def as_json(self) -> dict[str, Any]:
        """Returns the figures as JSON values."""
        return {**asdict(self), "sat_ratio": self.sat_ratio, "unsat_ratio": self.unsat_ratio}


def measure_startup(folder: Path, runs: int, on_round: Callable[[int, int], None]) -> StartupFigures:
    """Returns the times of `runs` rounds of three processes: bare imports, a sat and an unsat instance.

    A round that is not counted goes before them: it leaves byte code and files in the caches, where a second start by
    a user finds them too.

    Args:
        folder: holds the public cases.
        runs: rounds that count.
        on_round: told of the progress.

    Raises:
        LgBenchError: a process fails.
    """
    verify = (sys.executable, "-m", "harness", "verify", str(folder / NETWORK))
    commands: Mapping[str, Sequence[str]] = {
        "imports": (sys.executable, "-c", BARE),
        "sat": (*verify, str(folder / SAT)),
        "unsat": (*verify, str(folder / UNSAT)),
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    wrong = []
    for k in range(runs + 1):
        for name, command in commands.items():
            seconds, first_line = _timed(command)
            if name not in ("imports", first_line):
                wrong.append(f"startup: {first_line or 'nothing'} where {name} is right")
            if k:
                taken[name].append(seconds)
        on_round(k, runs)
    return StartupFigures(tuple(taken["imports"]), tuple(taken["sat"]), tuple(taken["unsat"]), tuple(wrong))


def _timed(command: Sequence[str]) -> tuple[float, str]:
    """Returns the seconds of a process and the first line that it printed."""
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=settings | ENGINE_SETTINGS, capture_output=True, text=True,
            timeout=LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LgBenchError(f"{' '.join(command)}: not done after {LIMIT_S:.0f} s") from error
    seconds = time.perf_counter() - before
    if done.returncode != 0:
        raise LgBenchError(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr.strip()[-500:]}")
    return seconds, done.stdout.partition("\n")[0].strip()
