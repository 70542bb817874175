"""Marabou as a verifier of VNN-COMP's interface: `solve.py CATEGORY ONNX VNNLIB RESULT SECONDS`.

Each box with each of its violation regions is one query. Strict inequalities are asked as weak ones, so that `unsat`
holds for them all the more; what Marabou calls `sat` counts after a replay on ONNX Runtime, because it solves with
tolerances.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

MARGINS = (0.0, 1e-6, 1e-4)
"""By how much each constraint is to hold; more is asked where a point does not violate on ONNX Runtime."""

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
            words = []
            for margin in MARGINS:
                if task.left() <= 1:
                    return "timeout"
                word, point = query(task, case.box, polytope, margin)
                words.append(word)
                if point is None:
                    break
                if task.confirmed(point):
                    return ""
            if "TIMEOUT" in words:
                return "timeout"
            # Only the query without a margin proves anything.
            open_queries += words[0] != "unsat"
    return "unknown" if open_queries else "unsat"


def query(task: Task, box: InputBox, polytope: OutputPolytope, margin: float) -> tuple[str, Any]:
    """Returns Marabou's word on one box and region, and the input that it found."""
    from maraboupy import Marabou

    network = Marabou.read_onnx(str(task.network))
    inputs = np.concatenate([variables.ravel() for variables in network.inputVars])
    outputs = np.concatenate([variables.ravel() for variables in network.outputVars])
    for variable, lower, upper in zip(inputs, box.lower, box.upper, strict=True):
        network.setLowerBound(int(variable), float(lower))
        network.setUpperBound(int(variable), float(upper))
    for row, bound in zip(polytope.coefficients, polytope.rhs, strict=True):
        used = np.flatnonzero(row)
        if used.size:
            network.addInequality([int(outputs[i]) for i in used], [float(row[i]) for i in used], float(bound) - margin)
        elif bound < 0:
            return "unsat", None
    # Whole seconds: 0 would mean no limit.
    options = Marabou.createOptions(timeoutInSeconds=max(int(task.left()), 1), verbosity=0)
    word, values, _ = network.solve(verbose=False, options=options)
    return str(word), np.array([values[int(i)] for i in inputs]) if word == "sat" else None


def teach_products() -> None:
    """Makes Marabou multiply by a constant for each neuron, as grafted networks do; its reader takes one for all."""
    from maraboupy import MarabouUtils
    from maraboupy.parsers.ONNXParser import ONNXParser

    def multiply(parser: Any, node: Any, make: bool) -> None:
        (name,) = node.output
        inputs = sorted(node.input, key=lambda one: one in parser.constantMap)
        parser.shapeMap[name] = parser.shapeMap[inputs[0]]
        if not make:
            return
        factors = np.broadcast_to(parser.constantMap[inputs[1]], parser.shapeMap[name]).ravel()
        for factor, x, y in zip(
            factors, parser.varMap[inputs[0]].ravel(), parser.makeNewVariables(name).ravel(), strict=True
        ):
            equation = MarabouUtils.Equation()
            equation.addAddend(float(factor), int(x))
            equation.addAddend(-1.0, int(y))
            equation.setScalar(0.0)
            parser.query.addEquation(equation)

    ONNXParser.mulEquations = multiply


def main() -> int:
    """Decides the instance; returns the exit status."""
    # Its solver keeps the limit to seconds, and lets nothing else in this process act meanwhile.
    task = read_task(sys.argv[1:], spare_s=3.0)
    teach_products()
    word = solve(task)
    if word:
        task.say(word)
    return 0


if __name__ == "__main__":
    sys.exit(main())
