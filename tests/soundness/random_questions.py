"""Random properties of one network, with points of their boxes at which ONNX Runtime was seen to violate them, if any.

Thresholds lie at values that the network attains, or one step of float32 or of a double beside them. What counts as a
violation is written out here once more, from the competition's rules, independent of the reader and of the judge.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from random_networks import OUTPUTS, Drawn, finite

Array = NDArray[Any]
SAMPLES = 48
ENUMERATED = 100
"""Points of a box up to which all of them are tried."""


class Row(NamedTuple):
    """`coefficients y OP rhs`."""

    coefficients: tuple[float, ...]
    operator: str
    """<=, <, >= or >."""
    rhs: float


class Box(NamedTuple):
    """Bounds as the text has them; `open` are the inputs whose upper bound is strict."""

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    open: frozenset[int] = frozenset()


class Case(NamedTuple):
    box: Box
    regions: tuple[tuple[Row, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A property, and what is known of it."""

    cases: tuple[Case, ...]
    text: str
    witness: Array | None
    """A violating point, flat; None: none is known."""
    complete: bool
    """Whether every point was tried."""


class Runner:
    """Runs a network on ONNX Runtime, one input at a time, as a witness is replayed."""

    def __init__(self, drawn: Drawn) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(drawn.model, options, providers=["CPUExecutionProvider"])
        self.shape, self.dtype = drawn.shape, drawn.dtype

    def __call__(self, points: Array) -> Array:
        """Returns the outputs at points `(n, inputs)` of the network's type."""
        shaped = points.reshape(len(points), 1, *self.shape)
        return np.stack([self.session.run(None, {"x": x})[0].ravel() for x in shaped])


def holds(row: Row, y: Array, slop: float = 0.0) -> bool:
    """Whether outputs satisfy a row: exactly, but for the right-hand side, which is cast to the outputs' type.

    Args:
        row: the row.
        y: the outputs.
        slop: how far, as a share of its terms, the left side of a row may be off.
    """
    terms = [Fraction(c) * Fraction(float(v)) for c, v in zip(row.coefficients, y, strict=True) if c]
    with np.errstate(over="ignore"):
        cast = float(y.dtype.type(row.rhs))
    if not np.isfinite(cast):
        return (cast > 0) == (row.operator[0] == "<")
    left, right, off = sum(terms, Fraction(0)), Fraction(cast), Fraction(slop) * sum(map(abs, terms), Fraction(0))
    if len(terms) > 2 or (len(terms) == 2 and row.rhs != 0):  # else the sign of a sum in doubles is right
        left += off if row.operator[0] == ">" else -off
    return bool({"<=": left <= right, "<": left < right, ">=": left >= right, ">": left > right}[row.operator])


def inside(box: Box, x: Array) -> bool:
    lower, upper = np.asarray(box.lower).astype(x.dtype), np.asarray(box.upper).astype(x.dtype)
    strict = np.isin(np.arange(len(x)), list(box.open))
    return bool((x >= lower).all() and np.where(strict, x < upper, x <= upper).all())


def violates(cases: Sequence[Case], x: Array, y: Array, slop: float = 0.0) -> bool:
    """Whether a point of the network's type and the outputs there satisfy the property; `slop` as of `holds`."""
    if not finite(y) or not finite(x):
        return False
    return any(
        inside(case.box, x) and any(all(holds(row, y, slop) for row in region) for region in case.regions)
        for case in cases
    )


def text_of(cases: Sequence[Case], inputs: int) -> str:
    """Returns the property as VNN-LIB 1.0."""
    lines = [f"(declare-const X_{i} Real)" for i in range(inputs)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(OUTPUTS)]
    if len(cases) == 1:
        lines += [f"(assert {bound})" for bound in _bounds(cases[0].box)]
        lines.append(f"(assert (or {' '.join(_both(r) for r in cases[0].regions)}))")
    else:
        parts = [(case.box, region) for case in cases for region in case.regions]
        lines.append("(assert (or " + "\n".join(_both(region, _bounds(box)) for box, region in parts) + "))")
    return "\n".join(lines) + "\n"


def _bounds(box: Box) -> list[str]:
    ends = zip(box.lower, box.upper, strict=True)
    return [
        part
        for i, (low, high) in enumerate(ends)
        for part in (f"(>= X_{i} {low!r})", f"({'<' if i in box.open else '<='} X_{i} {high!r})")
    ]


def _both(rows: Sequence[Row], more: Sequence[str] = ()) -> str:
    return f"(and {' '.join([*more, *map(_written, rows)])})"


def _written(row: Row) -> str:
    used = [(k, c) for k, c in enumerate(row.coefficients) if c]
    if len(used) == 2 and sorted(c for _, c in used) == [-1.0, 1.0] and row.rhs == 0:
        left, right = (next(k for k, c in used if c == sign) for sign in (1.0, -1.0))
        return f"({row.operator} Y_{left} Y_{right})"
    terms = [f"Y_{k}" if c == 1 else f"(* {c!r} Y_{k})" for k, c in used]
    left_side = terms[0] if len(terms) == 1 else f"(+ {' '.join(terms)})"
    return f"({row.operator} {left_side} {row.rhs!r})"


class Asker:
    """Makes questions about one network.

    Args:
        drawn: the network.
        seed: of everything random.
    """

    def __init__(self, drawn: Drawn, seed: int) -> None:
        self.drawn, self.random, self.run = drawn, np.random.default_rng(seed), Runner(drawn)
        self.inputs = int(np.prod(drawn.shape))

    def questions(self, count: int) -> Iterator[Question]:
        """Yields up to `count` questions, several of each box."""
        for _ in range(count):
            boxes = [self.box() for _ in range(1 if self.random.random() < 0.75 else int(self.random.integers(2, 5)))]
            tried = [self.points(box) for box in boxes]
            if any(len(points) == 0 for points, _ in tried):
                continue
            values = [self.run(points) for points, _ in tried]
            if not all(np.isfinite(v).all(1).any() for v in values):
                continue
            cases = tuple(
                Case(box, self.regions(v[np.isfinite(v).all(1)])) for box, v in zip(boxes, values, strict=True)
            )
            yield self.asked(cases, tried, values)

    def asked(self, cases: tuple[Case, ...], tried: Sequence[tuple[Array, bool]], values: Sequence[Array]) -> Question:
        pairs = ((x, y) for (points, _), ys in zip(tried, values, strict=True) for x, y in zip(points, ys, strict=True))
        found = next((x for x, y in pairs if violates(cases, x, y)), None)
        complete = all(all_tried for _, all_tried in tried) and all(finite(v) for v in values)
        return Question(cases, text_of(cases, self.inputs), found, complete)

    # Boxes.

    def box(self) -> Box:
        draw, d = self.random, self.inputs
        centre = draw.normal(0, 1, d) if draw.random() < 0.8 else draw.choice([0.0, 1.0, -1.0, 1e-40, 1e-20, 1e8], d)
        if draw.random() < 0.2:
            centre = np.round(centre)
        radius = np.abs(draw.normal(0, 1, d)) * draw.choice([1e-6, 1e-3, 0.05, 0.5, 3.0])
        if draw.random() < 0.4:
            radius *= draw.random(d) < draw.choice([0.0, 0.3, 0.7])
        lower, upper = centre - radius, centre + radius
        if draw.random() < 0.6:
            lower, upper = (np.asarray(end.astype(self.drawn.dtype), np.float64) for end in (lower, upper))
        if draw.random() < 0.15:
            lower, upper = self.narrow(centre)
        strict = frozenset(np.flatnonzero(draw.random(d) < 0.3).tolist()) if draw.random() < 0.15 else frozenset()
        return Box(tuple(lower.tolist()), tuple(upper.tolist()), strict)

    def narrow(self, centre: Array) -> tuple[Array, Array]:
        """Returns ends a few numbers of the network's type apart, in a few inputs."""
        low = centre.astype(self.drawn.dtype)
        high = low.copy()
        for _ in range(int(self.random.integers(1, 4))):
            chosen = self.random.random(len(low)) < max(0.3, 1.5 / len(low))
            high = np.where(chosen, np.nextafter(high, self.drawn.dtype(np.inf)), high)
        return low.astype(np.float64), high.astype(np.float64)

    def ends(self, box: Box) -> tuple[Array, Array]:
        kind = self.drawn.dtype
        low, high = np.asarray(box.lower).astype(kind), np.asarray(box.upper).astype(kind)
        strict = np.isin(np.arange(self.inputs), list(box.open))
        return low, np.where(strict, np.nextafter(high, kind(-np.inf)), high)

    def points(self, box: Box) -> tuple[Array, bool]:
        """Returns points of a box, and whether they are all that there are."""
        low, high = self.ends(box)
        if (low > high).any():
            return np.zeros((0, self.inputs), low.dtype), False
        every = self.every_point(low, high)
        if every is not None:
            return every, True
        share = self.random.random((SAMPLES, self.inputs))
        corners = self.random.random(SAMPLES) < 0.5
        share[corners] = np.round(share[corners])
        share[0] = 0.5
        points = (low + (high - low) * share).astype(low.dtype)
        points = np.where(share == 1, high, np.where(share == 0, low, points))
        return np.clip(points, low, high).astype(low.dtype), False

    def every_point(self, low: Array, high: Array) -> Array | None:
        choices, total = [], 1
        for a, b in zip(low, high, strict=True):
            values = [a]
            while values[-1] < b and len(values) <= ENUMERATED:
                values.append(np.nextafter(values[-1], b))
            choices.append(values)
            total *= len(values)
            if total > ENUMERATED:
                return None
        return np.array(list(itertools.product(*choices)), low.dtype)

    # Violation regions.

    def regions(self, y: Array) -> tuple[tuple[Row, ...], ...]:
        return tuple(self.region(y) for _ in range(int(self.random.choice([1, 1, 2, 3]))))

    def region(self, y: Array) -> tuple[Row, ...]:
        draw = self.random
        kind = draw.random()
        if kind < 0.15:  # an equality, at a point or next to it
            k, at = int(draw.integers(OUTPUTS)), y[int(draw.integers(len(y)))]
            rhs = self.beside(float(at[k]))
            unit = tuple(float(i == k) for i in range(OUTPUTS))
            return (Row(unit, "<=", rhs), Row(unit, ">=", rhs))
        if kind < 0.35:  # several rows that hold together at one point
            at = y[int(draw.integers(len(y)))]
            return tuple(self.row(y, at) for _ in range(int(draw.integers(2, 4))))
        return (self.row(y),)

    def row(self, y: Array, at: Array | None = None) -> Row:
        """Returns a row that holds at `at`, or at the lowest of the samples, or just does not."""
        draw = self.random
        kind, i, j = draw.random(), *draw.permutation(OUTPUTS)[:2]
        unit = np.eye(OUTPUTS)
        c = unit[i]
        if kind < 0.3:
            c = unit[i] - unit[j]
        elif kind < 0.45:
            c = np.round(draw.normal(0, 2, OUTPUTS), 2)
            c = c if c.any() else unit[i]
        with np.errstate(over="ignore", invalid="ignore"):
            values = y.astype(np.float64) @ c
        lowest = float(values.min()) if at is None else float(at.astype(np.float64) @ c)
        if not np.isfinite(lowest):
            return Row(tuple(unit[i].tolist()), "<=", float(y[0, i]))
        strict = "" if draw.random() < 0.8 else "="
        rhs = 0.0 if kind < 0.1 else self.beside(lowest)
        if draw.random() < 0.3:
            return Row(tuple((-c).tolist()), ">" if strict else ">=", -rhs)
        return Row(tuple(c.tolist()), "<" if strict else "<=", rhs)

    def beside(self, value: float) -> float:
        """Returns a number at or near a value, more often below it: where nothing violates, there is a proof to get."""
        draw, kind = self.random, self.drawn.dtype
        with np.errstate(over="ignore", invalid="ignore"):
            near = (
                value,
                float(np.nextafter(kind(value), kind(-np.inf))),
                float(np.nextafter(kind(value), kind(np.inf))),
                float(np.nextafter(value, -np.inf)),
                float(np.nextafter(value, np.inf)),
                value - abs(value) * float(draw.choice([1e-9, 1e-7, 3e-7, 1e-6, 1e-5, 1e-3, 0.1])),
                value - float(draw.choice([1e-45, 1e-38, 1e-12, 1e-6, 1e-3, 0.1, 1.0])),
            )
        chosen = near[int(draw.choice(len(near), p=[0.2, 0.08, 0.05, 0.08, 0.05, 0.34, 0.2]))]
        return chosen if np.isfinite(chosen) else value
