"""The replay of a counterexample on ONNX Runtime under VNN-COMP's rules of 2026.

Those rules, as the competition's own checker applies them since 30 June 2026: the input is cast to the network's type
and run on the CPU provider; what the tool says of the outputs is ignored. Bounds are cast to the input's type and then
compared, because the competition compares float32 values with Python numbers under numpy 2, which casts the number.
Inputs may leave their bounds by 1e-4 for a lesser verdict; outputs have no tolerance; strict inequalities are strict.
Beyond those rules, a point with an infinite value or one that is not a number is `unsupported` where it would count.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.domain import (
    BoolArray,
    Counterexample,
    FloatArray,
    InputBox,
    OutputPolytope,
    Property,
    PropertyCase,
    WitnessCheck,
    WitnessVerdict,
)
from harness.formats.onnx_file import OnnxSession, open_session, run_flat

INPUT_TOLERANCE = 1e-4
"""How far, absolutely, an input may leave its bounds and still be `correct_up_to_tolerance`."""


class Rules(StrEnum):
    """Whose rules a counterexample is checked under."""

    Y2026 = "2026"
    """Outputs replayed and exact; a counterexample on input tolerance is credited, but proves nothing."""


class Replay(NamedTuple):
    """A replay's verdict, and the counterexample with the outputs that ONNX Runtime gave."""

    check: WitnessCheck
    counterexample: Counterexample | None
    """None where nothing could be run."""


def replay(
    network: OnnxSession | Path, prop: Property, counterexample: Counterexample | None, rules: Rules = Rules.Y2026
) -> WitnessCheck:
    """Returns what a counterexample is worth; `correct` means that it proves the property satisfiable.

    Args:
        network: the network, or its file.
        prop: the property that the counterexample is said to violate.
        counterexample: the claim; None where a tool gave none.
        rules: the competition year.

    Raises:
        UsageError: `network` is a path and cannot be loaded.
    """
    return replay_with_outputs(network, prop, counterexample, rules).check


def replay_with_outputs(
    network: OnnxSession | Path, prop: Property, counterexample: Counterexample | None, rules: Rules = Rules.Y2026
) -> Replay:
    """Returns `replay`'s verdict, and the counterexample as it was run: the input in the network's type, its outputs.

    Raises:
        UsageError: `network` is a path and cannot be loaded.
    """
    del rules  # One year so far; the parameter keeps a second one from changing what callers get.
    session = open_session(network) if isinstance(network, Path) else network
    if counterexample is None:
        return _no(WitnessVerdict.NO_CE, "the tool gave no counterexample")
    refusal = _refusal(session, prop, counterexample)
    if refusal is not None:
        return Replay(refusal, None)
    with np.errstate(over="ignore"):
        x = counterexample.x.astype(session.input.dtype)
    try:
        y = run_flat(session, x)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime has no common error class; whatever it says is the result
        return _no(WitnessVerdict.UNSUPPORTED, f"ONNX Runtime cannot run it: {str(error).splitlines()[0]}")
    check = _check(prop, x, y)
    if check.counts and not (np.isfinite(x).all() and np.isfinite(y).all()):
        # An overflow says nothing of the function that the property is about, and no witness file can hold it.
        check = WitnessCheck(WitnessVerdict.UNSUPPORTED, "an input or a replayed output is infinite or not a number")
    return Replay(check, Counterexample(x, y))


def _no(verdict: WitnessVerdict, message: str) -> Replay:
    return Replay(WitnessCheck(verdict, message), None)


def _refusal(session: OnnxSession, prop: Property, counterexample: Counterexample) -> WitnessCheck | None:
    """Returns why a counterexample cannot be run; None when it can."""
    x = counterexample.x
    if x.dtype.kind != "f" or x.ndim != 1:
        return WitnessCheck(WitnessVerdict.MALFORMED_CE, f"not a flat array of floating-point numbers, but {x.dtype}")
    if x.size != session.input.size:
        message = f"{x.size} values for a network with {session.input.size} inputs"
        return WitnessCheck(WitnessVerdict.WRONG_SHAPE, message)
    if np.isnan(x).any():
        return WitnessCheck(WitnessVerdict.MALFORMED_CE, f"input {int(np.isnan(x).argmax())} is not a number")
    if (session.input.size, session.output.size) != (prop.input_size, prop.output_size):
        message = (
            f"the property is over {prop.input_size} inputs and {prop.output_size} outputs, "
            f"the network has {session.input.size} and {session.output.size}"
        )
        return WitnessCheck(WitnessVerdict.UNSUPPORTED, message)
    return None


def _check(prop: Property, x: FloatArray, y: FloatArray) -> WitnessCheck:
    violated = [case for case in prop.cases if _violates(case, y)]
    if any(_inside(case.box, x, 0.0) for case in violated):
        return WitnessCheck(WitnessVerdict.CORRECT)
    if any(_inside(case.box, x, INPUT_TOLERANCE) for case in violated):
        excess = min(_excess(case.box, x) for case in violated)
        message = f"an input is outside its bounds by {excess:.3g}"
        return WitnessCheck(WitnessVerdict.CORRECT_UP_TO_TOLERANCE, message)
    if violated:
        excess = min(_excess(case.box, x) for case in violated)
        return WitnessCheck(WitnessVerdict.SPEC_NOT_VIOLATED, f"an input is outside its bounds by {excess:.3g}")
    return WitnessCheck(WitnessVerdict.SPEC_NOT_VIOLATED, "the replayed outputs satisfy no violation region")


def _inside(box: InputBox, x: FloatArray, tolerance: float) -> bool:
    # The tolerance is taken off in float64 and the sum is cast: the order of the competition's own comparison.
    with np.errstate(over="ignore"):
        lower, upper = (box.lower - tolerance).astype(x.dtype), (box.upper + tolerance).astype(x.dtype)
    return bool(((x >= lower) & (x <= upper)).all())


def _excess(box: InputBox, x: FloatArray) -> float:
    """Returns how far x lies outside the box at its worst input."""
    with np.errstate(over="ignore", invalid="ignore"):
        wide = x.astype(np.float64)
        lower, upper = (bound.astype(x.dtype).astype(np.float64) for bound in (box.lower, box.upper))
        return float(np.nanmax(np.maximum(lower - wide, wide - upper), initial=0.0))


def _violates(case: PropertyCase, y: FloatArray) -> bool:
    return any(bool(_rows_hold(polytope, y).all()) for polytope in case.polytopes)


def _rows_hold(polytope: OutputPolytope, y: FloatArray) -> BoolArray:
    """Returns which rows of a violation region the outputs satisfy, without tolerance, `(rows,)`.

    The left side is summed in float64, where a difference of two float32 outputs has the right sign and one output is
    itself; the right side is cast to the outputs' type first. That is the comparison of the competition for the forms
    `Y_i <= Y_j` and `Y_i <= c`. Other linear forms it sums in float32, in the order of the text, which a matrix has
    lost: there the float64 value decides.
    """
    coefficients = polytope.coefficients
    with np.errstate(over="ignore", invalid="ignore"):
        terms = np.where(coefficients != 0, coefficients * y.astype(np.float64), 0.0)
        left: NDArray[Any] = terms.sum(axis=1)
        right = polytope.rhs.astype(y.dtype).astype(np.float64)
        held: BoolArray = np.where(polytope.strict, left < right, left <= right)
    return held
