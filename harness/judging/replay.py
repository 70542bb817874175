"""The replay of a counterexample on ONNX Runtime under the rules of a year of VNN-COMP.

The rules of 2026, as the competition's own checker applies them since 30 June 2026: the input is cast to the network's
type and run on the CPU provider; what the tool says of the outputs is ignored. Bounds are cast to the input's type and
then compared, as the competition compares float32 values with Python numbers under numpy 2, which casts the number.
Inputs may leave their bounds by 1e-4 for a lesser verdict; outputs have no tolerance; strict inequalities are strict.

Earlier years took the outputs that the tool states, as long as the replay comes close to them, and compared everything
in float64: see `Rules`. Beyond all rules, a point with an infinite value or one that is not a number is `unsupported`
where it would count.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    Y2025_SMALL = "2025-small"
    """Stated outputs within 1e-3 (relative, maximum norm) of the replay, inputs and outputs with a tolerance of 1e-4;
    it proves something within 1e-6 and 1e-7. One of the two tables that were published."""
    Y2025_ZERO = "2025-zero"
    """The same; it proves something only where replay and statement are equal and nothing needs a tolerance."""
    Y2022 = "2022"
    """Stated outputs within 1e-4 (absolute) of the replay, inputs and outputs with a tolerance of 1e-4; one class."""


@dataclass(frozen=True, slots=True)
class _Stated:
    """What a year that takes stated outputs asks of them."""

    match: float
    """Largest difference between stated and replayed outputs, in the maximum norm."""
    relative: bool
    """Whether differences are divided by the norm of the stated outputs."""
    strict_match: float
    """The same for a proof."""
    strict_tolerance: float
    """Tolerance of inputs and outputs for a proof."""


_TOLERANCE = 1e-4
"""Of inputs and outputs, where outputs are stated."""
_NO_NORM = 1e-6
"""Stated outputs of a smaller norm are taken to match: the competition divides by no smaller number."""
_STATED = {
    Rules.Y2025_SMALL: _Stated(1e-3, True, 1e-6, 1e-7),
    Rules.Y2025_ZERO: _Stated(1e-3, True, 0.0, 0.0),
    Rules.Y2022: _Stated(1e-4, False, 1e-4, _TOLERANCE),
}


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
        return _no(WitnessVerdict.UNSUPPORTED, next(iter(str(error).splitlines()), type(error).__name__))
    stated = _STATED.get(rules)
    check = _check(prop, x, y) if stated is None else _check_stated(prop, counterexample, y, stated)
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


def _check_stated(prop: Property, counterexample: Counterexample, y: FloatArray, rules: _Stated) -> WitnessCheck:
    """Returns the verdict of a year that takes the outputs that the tool states; all numbers in float64."""
    if counterexample.y is None or counterexample.y.shape != y.shape:
        return WitnessCheck(WitnessVerdict.EXEC_DOESNT_MATCH, f"it does not state the network's {y.size} outputs")
    x, stated = counterexample.x.astype(np.float64), counterexample.y.astype(np.float64)
    difference = _difference(stated, y.astype(np.float64), relative=rules.relative)
    if difference > rules.match:
        message = f"the replayed outputs differ from the stated ones by {difference:.3g}"
        return WitnessCheck(WitnessVerdict.EXEC_DOESNT_MATCH, message)
    if not _satisfied(prop, x, stated, _TOLERANCE):
        return WitnessCheck(WitnessVerdict.SPEC_NOT_VIOLATED, "no violation region holds, tolerance included")
    if difference <= rules.strict_match and _satisfied(prop, x, stated, rules.strict_tolerance):
        return WitnessCheck(WitnessVerdict.CORRECT)
    message = f"it needs a tolerance, or the outputs differ too much for a proof ({difference:.3g})"
    return WitnessCheck(WitnessVerdict.CORRECT_UP_TO_TOLERANCE, message)


def _difference(stated: FloatArray, replayed: FloatArray, *, relative: bool) -> float:
    """Returns how far replayed outputs are from stated ones in the maximum norm."""
    with np.errstate(over="ignore", invalid="ignore"):
        difference, norm = np.abs(replayed - stated).max(initial=0.0), np.abs(stated).max(initial=0.0)
    if relative:
        return 0.0 if norm < _NO_NORM else float(difference / norm)
    return float(difference)


def _satisfied(prop: Property, x: FloatArray, y: FloatArray, tolerance: float) -> bool:
    return any(_inside(case.box, x, tolerance) and _violates(case, y, tolerance) for case in prop.cases)


def _inside(box: InputBox, x: FloatArray, tolerance: float) -> bool:
    if not tolerance:
        lower, upper = box.ends(x.dtype)
        return bool(((x >= lower) & (x <= upper)).all())
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


def _violates(case: PropertyCase, y: FloatArray, tolerance: float = 0.0) -> bool:
    return any(bool(_rows_hold(polytope, y, tolerance).all()) for polytope in case.polytopes)


def _rows_hold(polytope: OutputPolytope, y: FloatArray, tolerance: float) -> BoolArray:
    """Returns which rows of a violation region the outputs satisfy, `(rows,)`.

    The left side is summed in float64, where a difference of two float32 outputs has the right sign and one output is
    itself; the right side is cast to the outputs' type first. That is the comparison of the competition for the forms
    `Y_i <= Y_j` and `Y_i <= c`. Other linear forms it sums in float32, in the order of the text, which a matrix has
    lost: there the float64 value decides.
    """
    coefficients = polytope.coefficients
    with np.errstate(over="ignore", invalid="ignore"):
        terms = np.where(coefficients != 0, coefficients * y.astype(np.float64), 0.0)
        left: NDArray[Any] = terms.sum(axis=1)
        right = polytope.rhs.astype(y.dtype).astype(np.float64) + tolerance
        held: BoolArray = np.where(polytope.strict, left < right, left <= right)
    return held
