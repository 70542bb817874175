"""The plain part that nearly every property begins with: inputs and outputs in order, then a box, in the usual words.

An image's property has thousands of such lines and a dozen others. One pattern over the text tells whether they are all
as usual; what is not is left to the reader of single statements, and so are the errors.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from harness.formats.vnnlib_formula import InputBounds

NUMBER = r"[+-]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+"
"""Pattern of a number."""

_GAP = r"(?:\s++|;[^\n]*+)*+"
_INDEX = r"(?:0|[1-9][0-9]*+)"
_PLAIN = re.compile(
    rf"{_GAP}((?:\(declare-const X_{_INDEX} Real\){_GAP})++)((?:\(declare-const Y_{_INDEX} Real\){_GAP})++)"
    rf"((?:\(assert \([<>]= X_{_INDEX} {NUMBER}\)\){_GAP})++)"
)
_COMMENT = re.compile(r";[^\n]*")


class PlainPart(NamedTuple):
    """What the beginning of a text says, and where it ends."""

    inputs: int
    """X_0 up to this are declared."""
    outputs: int
    """Y_0 up to this are declared."""
    bounds: InputBounds
    """Finite ones from both sides for each input."""
    end: int
    """Offset of the first character behind it: the start of a statement, or the text's end."""


def plain_part(text: str) -> PlainPart | None:
    """Returns the plain part of a VNN-LIB 1.0 text; None where the text does not begin with a complete one.

    Reading the rest with these declarations and bounds gives what reading all statements one by one gives.
    """
    found = _PLAIN.match(text)
    if found is None:
        return None
    inputs, outputs = _declared(found[1], "X"), _declared(found[2], "Y")
    bounds = _bounds(found[3])
    if not inputs or not outputs or not np.isfinite(bounds.value).all():
        return None
    for side in (bounds.upper, ~bounds.upper):
        bounded = np.zeros(inputs, np.bool_)
        known = bounds.variable[side]
        if known.size == 0 or known.max() >= inputs:
            return None
        bounded[known] = True
        if not bounded.all():
            return None
    return PlainPart(inputs, outputs, bounds, found.end())


def _declared(block: str, letter: str) -> int:
    """Returns how many variables are declared; 0 if it is not each one once, in order from 0 on."""
    numbers = _plain(block).replace(f"(declare-const {letter}_", " ").replace(" Real)", " ").split()
    return len(numbers) if numbers == list(map(str, range(len(numbers)))) else 0


def _bounds(block: str) -> InputBounds:
    block = _plain(block).replace("(assert (<= X_", " <= ").replace("(assert (>= X_", " >= ").replace("))", " ")
    words = block.split()
    return InputBounds(
        np.array(list(map(int, words[1::3])), np.int64),
        np.array(list(map(float, words[2::3]))),
        np.array([word == "<=" for word in words[::3]]),
    )


def _plain(block: str) -> str:
    return _COMMENT.sub("", block) if ";" in block else block
