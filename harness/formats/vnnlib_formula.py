"""What both versions of VNN-LIB are read into: linear constraints over numbered variables, joined by and and or."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.domain import BoolArray, FloatArray, UsageError

MAX_DEPTH = 64
"""Brackets nested deeper are refused."""
MAX_FACTORS = 64
"""Longer products are refused: each factor is a pass over all terms."""


class Places(Protocol):
    """Knows where things stand in a text; what a place's number counts is its own matter."""

    def error(self, place: int, message: str) -> UsageError:
        """Returns the error `source:line:column: message` for a place; the caller raises it."""
        ...

    def input_name(self, index: int) -> str:
        """Returns what the text calls the input of that number."""
        ...


class Atom(NamedTuple):
    """`sum(terms[v] * v) <= rhs`, or `<` where it is strict; inputs have the keys 0, 1, ..., outputs -1, -2, ..."""

    terms: Mapping[int, float]
    rhs: float
    strict: bool
    place: int
    """The place where it stands, for errors."""


class AllOf(NamedTuple):
    """Holds where every part holds."""

    parts: tuple[Formula, ...]


class AnyOf(NamedTuple):
    """Holds where at least one part holds."""

    parts: tuple[Formula, ...]


Formula: TypeAlias = Atom | AllOf | AnyOf


class InputBounds(NamedTuple):
    """Plain bounds `X_i <= c` and `X_i >= c`; all of them hold."""

    variable: NDArray[np.int64]
    """i of each, `(bounds,)`."""
    value: FloatArray
    """c of each, `(bounds,)`, finite."""
    upper: BoolArray
    """Whether it is `<=`, `(bounds,)`."""


class Statements(NamedTuple):
    """Everything that a property text says."""

    places: Places
    inputs: tuple[int, ...]
    """The place where each input is declared."""
    outputs: int
    """Number of outputs."""
    formulas: tuple[Formula, ...]
    """One for each assert that is not among `bounds`: all of them hold on a violation."""
    bounds: tuple[InputBounds, ...] = ()
    """The asserts that were read in blocks: they hold as well."""


class Linear(NamedTuple):
    """`sum(terms[v] * v) + constant`."""

    terms: Mapping[int, float]
    constant: float


def scaled(linear: Linear, factor: float) -> Linear:
    """Returns `factor * linear`."""
    return Linear({key: factor * value for key, value in linear.terms.items()}, factor * linear.constant)


class RunningSum:
    """A sum that grows term by term in time proportional to what is added."""

    def __init__(self, first: Linear) -> None:
        """Begins with `first`."""
        self._terms, self._constant = dict(first.terms), first.constant

    def add(self, other: Linear, sign: float) -> None:
        """Adds `sign * other`."""
        for key, factor in other.terms.items():
            self._terms[key] = self._terms.get(key, 0.0) + sign * factor
        self._constant += sign * other.constant

    def linear(self) -> Linear:
        """Returns the sum."""
        return Linear(self._terms, self._constant)


def added(left: Linear, right: Linear, sign: float) -> Linear:
    """Returns `left + sign * right`."""
    total = RunningSum(left)
    total.add(right, sign)
    return total.linear()


def compared(operator: str, left: Linear, right: Linear, places: Places, place: int) -> Formula:
    """Returns the formula of `left operator right`.

    Args:
        operator: `<=`, `>=`, `<`, `>`, `=`, `==` or `!=`.
        left: left side.
        right: right side.
        places: of the text.
        place: the place where the comparison stands.

    Raises:
        UsageError: a coefficient or constant is not finite.
    """
    if operator in ("=", "=="):
        return AllOf(tuple(compared(one, left, right, places, place) for one in ("<=", ">=")))
    if operator == "!=":
        return AnyOf(tuple(compared(one, left, right, places, place) for one in ("<", ">")))
    if operator in (">=", ">"):
        left, right = right, left
    terms, rhs = added(left, right, -1.0).terms, right.constant - left.constant
    if not (math.isfinite(rhs) and all(map(math.isfinite, terms.values()))):
        raise places.error(place, "the constraint's numbers overflow; use smaller ones")
    return Atom({key: factor for key, factor in terms.items() if factor}, rhs, operator in ("<", ">"), place)
