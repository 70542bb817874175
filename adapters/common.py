"""What the adapters share: the arguments of `run_instance.sh`, the property, the result file, and a replay of `sat`.

Runs in a verifier's own environment, with this repository's `harness.formats` and `harness.judging` beside it; they
need numpy, onnx and onnxruntime there, and vnnlib for properties of VNN-LIB 2.0.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.cli.clock import process_start
from harness.domain import Counterexample, FloatArray, InputBox, LgBenchError, Property, WitnessVerdict
from harness.files import write_atomically
from harness.formats.assignment import format_witness
from harness.formats.competition import network_paths
from harness.formats.compressed import read_text
from harness.formats.onnx_file import OnnxSession, open_session
from harness.formats.vnnlib import exact_decimal, parse_property
from harness.judging.replay import replay_with_outputs


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One instance to decide."""

    network: Path
    session: OnnxSession
    property_file: Path
    prop: Property
    result: Path
    deadline: float
    """On the clock of `time.monotonic`."""

    def left(self) -> float:
        """Returns the seconds until the limit."""
        return self.deadline - time.monotonic()

    def say(self, word: str) -> None:
        """Replaces the result file by a word."""
        write_atomically(self.result, f"{word}\n")

    def confirmed(self, x: NDArray[np.floating]) -> bool:
        """Returns whether an input violates the property on ONNX Runtime; then the result file says so.

        The input is moved into the nearest box first: solvers work with tolerances, the competition with none.
        """
        for case in self.prop.cases:
            inside = _inside(x, case.box.lower, case.box.upper, self.session.input.dtype)
            replayed = replay_with_outputs(self.session, self.prop, Counterexample(inside))
            if replayed.check.verdict is WitnessVerdict.CORRECT and replayed.counterexample is not None:
                text = format_witness(replayed.counterexample, read_text(self.property_file), str(self.property_file))
                write_atomically(self.result, f"sat\n{text}")
                return True
        return False


def read_task(arguments: list[str], spare_s: float = 1.0) -> Task:
    """Returns the instance of a call `CATEGORY ONNX VNNLIB RESULT SECONDS`; its result file says `timeout` from now on.

    At the limit the process ends itself, whatever it is doing: not every solver keeps the limit it is given.

    Args:
        arguments: of the program.
        spare_s: seconds of the limit to keep for the end.

    Raises:
        SystemExit: with status 1 and a line on standard error where a file cannot be used, or several networks are
            named.
    """
    _, onnx, vnnlib, result, seconds = arguments
    write_atomically(Path(result), "timeout\n")
    deadline = process_start() + float(seconds) - spare_s
    watch = threading.Timer(max(deadline + spare_s / 2 - time.monotonic(), 0.0), os._exit, [0])
    watch.daemon = True
    watch.start()
    try:
        ((_, network),) = network_paths(onnx, "argument 3")
        prop = parse_property(read_text(Path(vnnlib)), vnnlib)
        session = open_session(Path(network))
        if (session.input.size, session.output.size) != (prop.input_size, prop.output_size):
            raise ValueError(f"{vnnlib}: is not about the inputs and outputs of {network}")
    except (LgBenchError, ValueError) as error:
        sys.exit(f"error: {error}")
    return Task(Path(network), session, Path(vnnlib), prop, Path(result), deadline)


def plain_text(prop: Property) -> str:
    """Returns a property in the form of VNN-LIB 1.0 that every reader takes: an `or` of `and`s, exact bounds.

    Strict inequalities become weak ones: `unsat` holds for the property too, `sat` has to be replayed.
    Empty boxes are left out.

    Raises:
        SystemExit: with status 1 and a line on standard error where a constraint is neither `Y_i <= Y_j` nor a bound.
    """
    cases = [case for case in prop.cases if not case.box.is_empty]
    lines = [f"(declare-const X_{i} Real)" for i in range(prop.input_size)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(prop.output_size)]
    if len(cases) == 1:
        lines += [f"(assert {part})" for part in _bounds(cases[0].box)]
    lines.append("(assert (or")
    for case in cases:
        shared = [] if len(cases) == 1 else _bounds(case.box)
        for polytope in case.polytopes:
            rows = [_row(row, float(rhs)) for row, rhs in zip(polytope.coefficients, polytope.rhs, strict=True)]
            lines.append(f"    (and {' '.join([*shared, *rows])})")
    return "\n".join([*lines, "))"]) + "\n"


def _bounds(box: InputBox) -> list[str]:
    pairs = enumerate(zip(box.lower.tolist(), box.upper.tolist(), strict=True))
    return [
        f"({sign} X_{i} {exact_decimal(value)})"
        for i, pair in pairs
        for sign, value in zip((">=", "<="), pair, strict=True)
    ]


def _row(row: FloatArray, rhs: float) -> str:
    used = np.flatnonzero(row).tolist()
    if len(used) == 1:
        (i,) = used
        return f"({'<=' if row[i] > 0 else '>='} Y_{i} {exact_decimal(rhs / float(row[i]))})"
    if len(used) == 2 and rhs == 0 and row[used[0]] == -row[used[1]]:
        small, large = used if row[used[0]] > 0 else reversed(used)
        return f"(<= Y_{small} Y_{large})"
    sys.exit("error: a constraint compares other than two outputs, or an output and a number")


def _inside(x: NDArray[np.floating], lower: FloatArray, upper: FloatArray, dtype: np.dtype) -> FloatArray:
    flat = np.asarray(x, np.float64).ravel()
    return np.clip(flat, lower, upper).astype(dtype)
