"""The plain part that nearly every property begins with: inputs and outputs in order, then a box, in the usual words.

An image's property has thousands of such lines and a dozen others. One pattern over the text tells whether they are all
as usual; what is not is left to the reader of single statements, and so are the errors.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.domain import BoolArray
from harness.formats.vnnlib_formula import InputBounds

NUMBER = r"[+-]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+"
"""Pattern of a number."""

LONGEST_INDEX = 18
"""Digits of a variable's index: an int64 holds them all, and no text declares so many variables."""

_GAP = r"(?:\s++|;[^\n]*+)*+"
_INDEX = rf"(?:0|[1-9][0-9]{{0,{LONGEST_INDEX - 1}}}+)"
_DECLARE = rf"((?:\(declare-const X_{_INDEX} Real\){_GAP})++)((?:\(declare-const Y_{_INDEX} Real\){_GAP})++)"
_ONLY_GAP, _DECLARED = re.compile(_GAP), re.compile(_DECLARE)
_DIGITS = re.compile(r"[0-9.eE)+\- ]*+")
_PLAIN = re.compile(
    rf"{_GAP}{_DECLARE}"
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
    return _usual(text) or _matched(text)


def _usual(text: str) -> PlainPart | None:
    """Returns the plain part of a text in which each input has its two bounds in turn, without comments between them.

    Most texts are like that, and a benchmark's share their declarations: this is twice as fast as one pattern.
    """
    start = text.find("(declare-const X_0 ")
    asserts = text.find("(assert", max(start, 0))
    if start < 0 or asserts < 0 or not _ONLY_GAP.fullmatch(text, 0, start):
        return None
    inputs, outputs = _declarations(text[start:asserts])
    last = f" X_{inputs - 1} "
    end = text.find("))", text.find(last, text.find(last, asserts) + 1)) + 2
    words = text[asserts:end].split()
    lower_first = words[1:2] == ["(>="]
    signs = ["(>=", "(<="] if lower_first else ["(<=", "(>="]
    if not inputs or not outputs or len(words) != 8 * inputs or words[2::4] != _twice(inputs):
        return None
    if words[::4] != ["(assert"] * (2 * inputs) or words[1::4] != signs * inputs:
        return None
    numbers = " ".join(words[3::4]) + " "
    if numbers.count(")) ") != 2 * inputs or not _DIGITS.fullmatch(numbers):
        return None
    try:
        value = np.array(numbers.replace(")) ", " ").split(), np.float64)
    except ValueError:
        return None
    if len(value) != 2 * inputs or not np.isfinite(value).all():
        return None
    bounds = InputBounds(np.arange(2 * inputs) // 2, value, np.resize([not lower_first, lower_first], 2 * inputs))
    behind = _ONLY_GAP.match(text, end)
    return PlainPart(inputs, outputs, bounds, end if behind is None else behind.end())


@lru_cache(maxsize=4)
def _declarations(block: str) -> tuple[int, int]:
    """Returns how many inputs and outputs are declared, in order and nothing else; zeros for any other text."""
    found = _DECLARED.fullmatch(block)
    return (0, 0) if found is None else (_declared(found[1], "X"), _declared(found[2], "Y"))


@lru_cache(maxsize=4)
def _twice(count: int) -> list[str]:
    return [f"X_{i // 2}" for i in range(2 * count)]


def _matched(text: str) -> PlainPart | None:
    """Returns the plain part as one pattern finds it."""
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
    return len(numbers) if numbers == _numerals(len(numbers)) else 0


def _bounds(block: str) -> InputBounds:
    words = _plain(block).replace("(assert (", " ").replace("= X_", " ").replace("))", " ").split()
    return InputBounds(_variables(words[1::3]), np.array(list(map(float, words[2::3]))), _upper(words[::3]))


def _variables(words: list[str]) -> NDArray[np.int64]:
    # Nearly always each input has its two bounds one after the other: comparing strings is faster than reading them.
    usual = _numerals((len(words) + 1) // 2)
    if words[::2] == usual and words[1::2] == usual[: len(words) // 2]:
        return np.arange(len(words)) // 2
    return np.array(list(map(int, words)), np.int64)


def _upper(signs: list[str]) -> BoolArray:
    first = signs[:2] * (len(signs) // 2 + 1)
    if signs == first[: len(signs)]:
        return np.resize(np.array([sign == "<" for sign in signs[:2]]), len(signs))
    return np.array([sign == "<" for sign in signs])


@lru_cache(maxsize=8)
def _numerals(count: int) -> list[str]:
    return list(map(str, range(count)))


def _plain(block: str) -> str:
    return _COMMENT.sub("", block) if ";" in block else block
