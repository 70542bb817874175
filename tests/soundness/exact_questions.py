"""Questions about exact values that are violated by less than a float64 can tell, for `EngineConfig.arithmetic` "real".

A network gets one output more, which is always 1, so that a right-hand side v becomes the coefficient -v: nothing but
the engine's allowance for its own rounding is then between a bound and v.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from families import ALL_FAMILIES, member
from nets import Array, Net, decide_all, property_of, region
from onnx import TensorProto, helper, numpy_helper
from random_networks import draw_network
from rational import outputs

from harness.domain import LgBenchError, Limits, Property, Verdict
from harness.formats.onnx_file import open_session
from harness.verifier.config import AttackConfig, EngineConfig
from harness.verifier.graph import Graph
from harness.verifier.onnx_context import Context
from harness.verifier.onnx_reader import _read, read_graph

NO_ATTACK = AttackConfig(restarts=0, steps=0)
QUESTIONS = 3
SEEDED_POINTS, CORNERS_UP_TO, BEST, STEPS = 64, 6, 8, 40


class Case(NamedTuple):
    """A network of one output more than it was drawn with, that is 1."""

    model: bytes
    family: str
    graph: Graph
    """As the engine reads it."""
    plain: Graph
    """As the file has it, nothing taken together."""


class Question(NamedTuple):
    """A box, and what some point of it violates."""

    violated: Property
    """By a point of the box in exact arithmetic, by a last digit."""
    held: Property
    """What is asked beside it: farther away, so that there is often a proof."""


@dataclass
class Tally:
    """What was answered."""

    violated: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class ScaledNet(Net):
    """A network of weights from 1e-6 to 1e6, that grows block by block behind `v` of `n` values."""

    def __init__(self, seed: int) -> None:
        super().__init__((int(np.random.default_rng(seed).choice([1, 2, 3, 5, 8, 20, 60])),), seed)
        self.v, self.n = "x", self.input_shape[0]

    def powers(self, low: int, high: int, *shape: int) -> Array:
        return np.asarray(10.0 ** self.random.integers(low, high, shape))

    def layer(self, outputs: int) -> None:
        weight = self.random.normal(0, 1 / np.sqrt(self.n), (outputs, self.n))
        kind = str(self.random.choice(["plain", "mixed", "rows", "whole"]))
        if kind == "mixed":
            weight = weight * self.powers(-6, 7, *weight.shape)
        elif kind == "rows":
            weight = weight * self.powers(-6, 7, outputs, 1)
        elif kind == "whole":
            weight = np.round(3 * weight)
        bias = self.random.normal(0, 1, outputs) * self.powers(-6, 7, outputs)
        self.v = self.op("Gemm", self.v, self.constant(weight), self.constant(bias), transB=1)
        self.n = outputs

    def activation(self) -> None:
        draw, n = self.random, self.n
        kind = str(draw.choice(["relu", "graft", "leaky"]))
        if kind == "relu":
            self.v = self.relu(self.v)
        elif kind == "leaky":
            self.v = self.op("LeakyRelu", self.v, alpha=float(draw.choice([-0.5, 0.01, 1.0000001, 1.5])))
        else:
            mask = draw.random(n) < draw.choice([0.3, 0.9, 1.0])
            slope, intercept = (draw.normal(0, 1, n) * self.powers(-4, 5, n) for _ in range(2))
            self.v = self.grafted(self.v, mask, slope, intercept)

    # Networks.

    def deep(self) -> None:
        for _ in range(int(self.random.integers(5, 25))):
            self.layer(int(self.random.integers(1, 6)))
            if self.random.random() < 0.7:
                self.activation()

    def wide(self) -> None:
        self.layer(int(self.random.choice([500, 4000])))
        self.activation()

    def cancelling(self) -> None:
        """Large constants that are added and taken away again."""
        self.layer(int(self.random.choice([4, 50])))
        large = self.random.normal(0, 1, self.n) * self.powers(0, 7)
        for sign in (1, -1):
            self.v = self.op("Add", self.v, self.constant(sign * large))
        self.activation()

    def residual(self) -> None:
        for _ in range(int(self.random.integers(2, 6))):
            before = self.v
            self.layer(self.n)
            self.activation()
            self.v = self.op(str(self.random.choice(["Add", "Sub"])), self.v, before)

    def smooth(self) -> None:
        for _ in range(3):
            self.layer(int(self.random.integers(2, 8)))
            self.v = self.op(str(self.random.choice(["Sigmoid", "Tanh", "Relu"])), self.v)

    def copying(self) -> None:
        if self.random.random() < 0.6:
            self.v = self.relu(self.v)
        chosen = self.random.integers(0, self.n, int(self.random.choice([3, 40, 400])))
        self.v, self.n = self.op("Gather", self.v, self.constant(chosen, np.int64), axis=1), len(chosen)

    def scales(self) -> None:
        for _ in range(int(self.random.integers(2, 12))):
            values = self.random.normal(0, 1, self.n) * self.powers(-4, 5, self.n)
            self.v = self.op(str(self.random.choice(["Mul", "Div", "Add", "Sub"])), self.v, self.constant(values))
        self.activation()


KINDS = ("deep", "wide", "cancelling", "residual", "smooth", "copying", "scales")


def scaled(seed: int, kind: str) -> bytes:
    """Returns a random network of a kind; those that copy have no layer behind."""
    net = ScaledNet(seed)
    getattr(net, kind)()
    if kind != "copying":
        net.layer(3)
    return net.model(net.v)


def drawn(seed: int) -> Case | None:
    """Returns a random network; None where it cannot be read or run, or nothing of it is proved."""
    draw = np.random.default_rng(seed + 77)
    kind = draw.random()
    if kind < 0.5:
        family = str(draw.choice(KINDS))
        model = scaled(seed, family)
    elif kind < 0.75:
        family = str(draw.choice(list(ALL_FAMILIES)))
        model = member(family, seed)
    else:
        found = draw_network(seed)
        family, model = found.family.split(",")[0], found.model
    try:
        return case_of(model, family)
    except LgBenchError:
        return None


def case_of(model: bytes, family: str) -> Case | None:
    """Returns the network with an output more; None where nothing of it is proved."""
    model = _with_one(model)
    # ONNX Runtime has no convolution of doubles.
    open_session(model)
    graph, plain = read_graph(model, "net.onnx"), _read(Context(onnx.load_model_from_string(model), "net.onnx"))
    return None if graph.extreme else Case(model, family, graph, plain)


def _with_one(model: bytes) -> bytes:
    proto = onnx.load_model_from_string(model)
    graph, kind = proto.graph, proto.graph.input[0].type.tensor_type.elem_type
    one = np.ones((1, 1), np.float32 if kind == TensorProto.FLOAT else np.float64)
    graph.initializer.append(numpy_helper.from_array(one, "always_one"))
    graph.node.append(helper.make_node("Flatten", [graph.output[0].name], ["flat_output"], axis=1))
    graph.node.append(helper.make_node("Concat", ["flat_output", "always_one"], ["both"], axis=1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("both", kind, None))
    return bytes(proto.SerializeToString())


def boxes(case: Case, draw: np.random.Generator) -> Iterator[tuple[Array, Array]]:
    """Yields boxes from a point to half of its coordinates wide, their ends float32 numbers."""
    d = int(np.prod(case.graph.input_shape))
    centre = draw.random(d) if draw.random() < 0.6 else draw.normal(0, 1, d) * 10.0 ** int(draw.integers(-6, 7))
    while True:
        radius = float(draw.choice([0, 1e-9, 1e-6, 1e-3, 0.05, 0.5])) * (np.abs(centre) + float(draw.choice([0, 1e-3])))
        lower, upper = (np.asarray(e.astype(np.float32), np.float64) for e in (centre - radius, centre + radius))
        yield lower, np.maximum(lower, upper)


def value(row: Array, y: list[Fraction]) -> Fraction:
    """Returns `row y`, exactly."""
    return sum((Fraction(float(c)) * v for c, v in zip(row, y, strict=True) if c), Fraction(0))


def _above(exact: Fraction) -> float:
    """Returns the least float64 that is not below a number."""
    near = float(exact)
    return near if Fraction(near) >= exact else float(np.nextafter(near, np.inf))


def lowest(graph: Graph, row: Array, lower: Array, upper: Array, draw: np.random.Generator) -> Array:
    """Returns the point of a box with the lowest `row y` among many, climbed to in float64."""
    d = len(lower)
    share = draw.random((SEEDED_POINTS, d))
    share[::2] = np.round(share[::2])
    if d <= CORNERS_UP_TO:
        share = np.concatenate([share, np.array(list(product([0.0, 1.0], repeat=d)))])
    points = np.clip(np.where(share == 1, upper, lower + (upper - lower) * share), lower, upper)

    def values(x: Array) -> Any:
        return (graph(torch.from_numpy(x).view(len(x), *graph.input_shape)) @ torch.from_numpy(row)).numpy()

    points = points[np.argsort(values(points))[:BEST]]
    each = np.arange(len(points))
    for _ in range(STEPS):
        moved, i = points.copy(), draw.integers(0, d, len(points))
        inside = lower[i] + (upper[i] - lower[i]) * draw.random(len(points))
        kind = draw.integers(0, 3, len(points))
        moved[each, i] = np.where(kind == 0, lower[i], np.where(kind == 1, upper[i], inside))
        better = values(moved) < values(points)
        points[better] = moved[better]
    found: Array = points[int(values(points).argmin())]
    return found


def questions(case: Case, seed: int) -> Iterator[Question]:
    """Yields questions about a network."""
    draw = np.random.default_rng(seed + 5)
    count = int(np.prod(case.graph.output_shape))
    for (lower, upper), _ in zip(boxes(case, draw), range(QUESTIONS), strict=False):
        row = np.zeros(count)
        if draw.random() < 0.5:
            row[int(draw.integers(count - 1))] = float(draw.choice([1, -1]))
        else:
            row[:-1] = draw.normal(0, 1, count - 1) * 10.0 ** (draw.integers(-6, 7, count - 1) * draw.integers(0, 2))
        x = lowest(case.graph, row, lower, upper, draw)
        y = outputs(case.plain, x)
        least = _above(value(row, y))
        size = float(sum(abs(Fraction(float(c)) * v) for c, v in zip(row, y, strict=True))) + abs(least)
        if not np.isfinite(size):
            continue
        row[-1] = -least
        assert value(row, y) <= 0, "the point violates"
        held = row.copy()
        held[-1] = -(least - 1e-5 * size - 1e-12)
        yield Question(*(property_of(lower, upper, region(r, 0.0)) for r in (row, held)))


def settings(seed: int) -> tuple[EngineConfig, Limits]:
    """Returns settings that send the same question through another part of the engine."""
    draw = np.random.default_rng(seed + 9)
    config = EngineConfig(
        arithmetic="real",
        split_inputs_up_to=int(draw.choice([0, 16])),
        sparse_entries=int(draw.choice([0, 30_000_000], p=[0.25, 0.75])),
        first_attack=NO_ATTACK,
        second_attack=NO_ATTACK,
        last_attack=NO_ATTACK,
        short_search=int(draw.choice([0, 2000])),
        tiny_slices=1,
    )
    return config, Limits(20.0, "work" if draw.random() < 0.8 else "wall", int(draw.choice([0, 60, 400])))


def examine(seed: int) -> Tally:
    """Returns what came of the questions of one seed; an answer `unsat` to what is violated is wrong."""
    tally, case = Tally(), drawn(seed)
    if case is None:
        return tally
    asked = list(questions(case, seed))
    config, limits = settings(seed)
    properties = {f"{kind}{k}": prop for k, q in enumerate(asked) for kind, prop in q._asdict().items()}
    for key, answer in decide_all(case.model, properties, limits, config).items():
        is_violated = key.startswith("violated")
        (tally.violated if is_violated else tally.held)[answer.verdict.value] += 1
        if is_violated and answer.verdict is Verdict.UNSAT:
            tally.wrong.append(f"seed {seed}, {key} ({case.family}), {config}")
    return tally
