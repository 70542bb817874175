"""Marabou as a verifier of VNN-COMP's interface: `solve.py CATEGORY ONNX VNNLIB RESULT SECONDS`.

Each box with each of its violation regions is one query. Strict inequalities are asked as weak ones, so that `unsat`
holds for them all the more; what Marabou calls `sat` counts after a replay on ONNX Runtime, because it solves with
tolerances.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from maraboupy import Marabou

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from adapters.common import Task, read_task  # noqa: E402 - found by the line above
from harness.domain import InputBox, OutputPolytope  # noqa: E402


def solve(task: Task) -> str:
    """Returns the verdict that is still to be written; empty where a counterexample was."""
    open_queries = 0
    for case in task.prop.cases:
        if case.box.is_empty:
            continue
        for polytope in case.polytopes:
            if task.left() <= 1:
                return "timeout"
            word, point = query(task, case.box, polytope)
            if point is not None and task.confirmed(point):
                return ""
            if word == "TIMEOUT":
                return "timeout"
            open_queries += word != "unsat"
    return "unknown" if open_queries else "unsat"


def query(task: Task, box: InputBox, polytope: OutputPolytope) -> tuple[str, Any]:
    """Returns Marabou's word on one box and region, and the input that it found."""
    network = Marabou.read_onnx(str(task.network))
    inputs = np.concatenate([variables.ravel() for variables in network.inputVars])
    outputs = np.concatenate([variables.ravel() for variables in network.outputVars])
    for variable, lower, upper in zip(inputs, box.lower, box.upper, strict=True):
        network.setLowerBound(int(variable), float(lower))
        network.setUpperBound(int(variable), float(upper))
    for row, bound in zip(polytope.coefficients, polytope.rhs, strict=True):
        used = np.flatnonzero(row)
        if used.size:
            network.addInequality([int(outputs[i]) for i in used], [float(row[i]) for i in used], float(bound))
        elif bound < 0:
            return "unsat", None
    # Whole seconds: 0 would mean no limit.
    options = Marabou.createOptions(
        timeoutInSeconds=max(int(task.left()), 1), verbosity=0, numWorkers=len(os.sched_getaffinity(0)), snc=True
    )
    word, values, _ = network.solve(verbose=False, options=options)
    return str(word), np.array([values[int(i)] for i in inputs]) if word == "sat" else None


def main() -> int:
    """Decides the instance; returns the exit status."""
    task = read_task(sys.argv[1:])
    word = solve(task)
    if word:
        task.say(word)
    return 0


if __name__ == "__main__":
    sys.exit(main())
