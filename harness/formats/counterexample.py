"""Counterexamples as VNN-COMP 1.0 writes them: `((X_0 0.25)` ... `(Y_1 3.5))`, inputs first, indices in order.

The reader is as strict as the competition's: what it refuses, the competition refuses.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from harness.domain import Counterexample, FloatArray

SIGNIFICANT_DIGITS = {np.dtype(np.float16): 5, np.dtype(np.float32): 9, np.dtype(np.float64): 17}
"""Decimal digits after which every value of the type reads back as itself."""

_PAIR = re.compile(r"\(\s*([XY])_(0|[1-9][0-9]*)\s+([^\s()]+)\s*\)\s*")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class CounterexampleError(ValueError):
    """A text is not a usable counterexample."""


class MissingCounterexampleError(CounterexampleError):
    """There is no text at all (the competition's `no_ce`)."""


class MalformedCounterexampleError(CounterexampleError):
    """The text does not follow the format (`malformed_ce`)."""


class WrongShapeError(CounterexampleError):
    """The text is well-formed but has another number of values than the network (`wrong_shape`)."""


def format_counterexample(counterexample: Counterexample) -> str:
    """Returns the text of a counterexample; every value reads back bit-equal in its own type.

    Args:
        counterexample: inputs, and outputs if they are known; float32 gets 9 significant digits, float64 17.

    Raises:
        ValueError: a value is infinite or not a number, or of a type that is not floating.
    """
    lines = _pairs("X", counterexample.x)
    if counterexample.y is not None:
        lines += _pairs("Y", counterexample.y)
    return "(" + "\n".join(lines) + ")\n"


def parse_counterexample(text: str, input_size: int, output_size: int, dtype: DTypeLike = np.float32) -> Counterexample:
    """Returns the counterexample that `text` writes down.

    Outputs may be missing altogether, as the 2026 rules ignore them, but a part of them is refused.

    Args:
        text: the witness without the verdict's line.
        input_size: number of the network's inputs.
        output_size: number of the network's outputs.
        dtype: the network's floating type; numbers are rounded to it.

    Raises:
        MissingCounterexampleError: the text is empty.
        MalformedCounterexampleError: brackets, names, order or numbers are wrong.
        WrongShapeError: the number of inputs or outputs is wrong.
    """
    text = text.strip()
    if len(text) < 2:
        raise MissingCounterexampleError("there is no counterexample text")
    if text[0] != "(" or text[-1] != ")":
        raise MalformedCounterexampleError("the text does not start with '(' and end with ')'")
    values: dict[str, list[float]] = {"X": [], "Y": []}
    position, end = 1, len(text) - 1
    # A pair ends with the white space behind it. No rest of the text is copied: a witness may have 10^5 pairs.
    while position < end and text[position].isspace():
        position += 1
    while position < end:
        position = _read_pair(text, position, end, values)
    for name, size in (("X", input_size), ("Y", output_size)):
        if len(values[name]) != size and not (name == "Y" and not values["Y"]):
            raise WrongShapeError(f"{len(values[name])} values {name}_i, but the network has {size}")
    with np.errstate(over="ignore"):
        x, y = (np.array(values[name], np.dtype(dtype)) for name in "XY")
    if not np.isfinite(x).all():
        raise MalformedCounterexampleError(f"an input is beyond the range of {np.dtype(dtype)}")
    return Counterexample(x, y if y.size else None)


def without_verdict(text: str) -> str:
    """Returns the witness of a result file: the text without a first line that is only `sat` or `violated`."""
    first, _, rest = text.lstrip().partition("\n")
    return rest if first.strip().lower() in ("sat", "violated") else text


def _pairs(name: str, values: FloatArray) -> list[str]:
    digits = SIGNIFICANT_DIGITS.get(values.dtype.newbyteorder("="))
    if digits is None:
        raise ValueError(f"a counterexample has floating-point values, not {values.dtype}")
    if not np.isfinite(values).all():
        raise ValueError(f"a counterexample has a value {name}_i that is not finite")
    flat: NDArray[Any] = values.ravel()
    return [f"({name}_{i} {value:.{digits}g})" for i, value in enumerate(flat.tolist())]


def _read_pair(text: str, position: int, end: int, values: dict[str, list[float]]) -> int:
    """Appends the pair at `position` to `values`; returns the position after it and its white space."""
    pair = _PAIR.match(text, position, end)
    if pair is None:
        raise MalformedCounterexampleError(f"expected '(X_i number)' at '{text[position : position + 30]}'")
    name, index, number = pair.groups()
    if int(index) != len(values[name]):
        raise MalformedCounterexampleError(f"{name}_{index} stands where {name}_{len(values[name])} should")
    if _NUMBER.fullmatch(number) is None or not np.isfinite(float(number)):
        raise MalformedCounterexampleError(f"'{number}', the value of {name}_{index}, is not a finite number")
    values[name].append(float(number))
    return pair.end()
