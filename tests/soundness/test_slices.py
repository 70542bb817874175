"""Verdicts on networks of every family against exact minima, right at the boundary between sat and unsat.

Conjunctions of rows, disjunctions of regions, unions of boxes, strict and non-strict rows, drawn together.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from families import FAMILIES, member
from nets import INPUTS, NEURONS, Array, decide_all, run_onnx
from onnx_torch import OnnxModule
from slices import Slice, a_slice, least_violation, pieces

from harness.domain import InputBox, Limits, OutputPolytope, Property, PropertyCase, ToolAnswer, Verdict
from harness.verifier.config import EngineConfig

STEPS = (1e-1, 1e-2, 1e-5)
FLOAT32 = 1e-5
"""Relative to the outputs: how far ONNX Runtime's evaluation of these networks may be off."""


def random_regions(random: np.random.Generator) -> list[OutputPolytope]:
    """Returns one to three regions of one to three rows each over 3 outputs."""
    regions = []
    for _ in range(random.integers(1, 4)):
        rows = int(random.integers(1, 4))
        strict = np.full(rows, random.random() < 0.5)
        regions.append(OutputPolytope(random.normal(0, 1, (rows, 3)), random.normal(0, 0.3, rows), strict))
    return regions


def moved(regions: list[OutputPolytope], by: float) -> tuple[OutputPolytope, ...]:
    return tuple(OutputPolytope(r.coefficients, r.rhs + by, r.strict) for r in regions)


def cases_of(
    seed: int, shape: tuple[int, ...], model: bytes, count: int = 1
) -> tuple[dict[str, Property], dict[str, float], float]:
    """Returns properties, the least violation of each, and the size of the outputs.

    A property is a union of boxes with regions each, all moved so that its least violation is a step above or below 0.
    """
    random = np.random.default_rng(seed)
    properties, least, size = {}, {}, 1.0
    for number in range(count):
        slices = [a_slice(shape, float(random.choice([0.02, 0.1, 0.2])), random) for _ in range(random.integers(1, 4))]
        regions = [random_regions(random) for _ in slices]
        found = [pieces(model, s) for s in slices]
        size = max(size, *(float(np.abs(p.frame).max()) for f in found for p in f))
        exact = min(least_violation(f, r) for f, r in zip(found, regions, strict=True))
        for step in (s * sign for s in STEPS for sign in (1, -1)):
            key = f"{number} {step:+}"
            cases = zip(slices, regions, strict=True)
            properties[key] = Property(
                tuple(PropertyCase(box_of(s), moved(r, exact + step)) for s, r in cases), int(np.prod(shape)), 3
            )
            least[key] = -step
    return properties, least, size


def box_of(part: Slice) -> InputBox:
    return InputBox(part.lower.ravel(), part.upper.ravel())


def assert_true(answer: ToolAnswer, least: float, size: float) -> None:
    """Fails on a wrong answer; where only float32 can tell, `sat` is right too."""
    if answer.verdict is Verdict.UNSAT:
        assert least > 0, f"wrong unsat: violated by {-least}"
    elif answer.verdict is Verdict.SAT:
        assert least <= FLOAT32 * size, f"wrong sat: the least violation is {least}"
    else:
        assert answer.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_covers_the_slice_and_is_the_network(family: str) -> None:
    shape, model = FAMILIES[family][0], member(family, 400)
    random = np.random.default_rng(0)
    part = a_slice(shape, 0.15, random)
    found = pieces(model, part)
    assert sum(_area(p.polygon) for p in found) == pytest.approx(1.0, abs=1e-9)
    at = random.random((300, 2))
    base, first, second = part.frame.numpy()
    points = base + np.multiply.outer(at[:, 0], first - base) + np.multiply.outer(at[:, 1], second - base)
    with torch.no_grad():
        y = OnnxModule(model)(torch.from_numpy(points)).numpy()
    regions = random_regions(random)
    violation = np.min([(y @ r.coefficients.T - r.rhs).max(1) for r in regions], 0)
    exact = least_violation(found, regions)
    assert violation.min() >= exact - 1e-9
    assert violation.min() <= exact + 0.2 * (violation.max() - exact) + 1e-9
    for piece in found[:20]:
        centre = piece.polygon.mean(0)
        x = base + centre[0] * (first - base) + centre[1] * (second - base)
        inside = piece.at_vertices(piece.frame).mean(0)
        assert run_onnx(model, x[None].astype(np.float32))[0] == pytest.approx(inside, rel=1e-4, abs=1e-4)


def _area(polygon: Array) -> float:
    x, y = polygon.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


EXACT = [replace(config, arithmetic="real") for config in (NEURONS, INPUTS)]


@pytest.mark.parametrize("config", [NEURONS, *EXACT], ids=["neurons", "neurons, real", "inputs, real"])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_verdict_is_wrong_on_a_slice(family: str, config: EngineConfig) -> None:
    shape, decided = FAMILIES[family][0], []
    for seed in range(2):
        model = member(family, 400 + seed)
        properties, least, size = cases_of(seed, shape, model)
        for key, answer in decide_all(model, properties, Limits(60, "work", 150), config).items():
            assert_true(answer, least[key], size)
            if abs(least[key]) >= 1e-2:
                decided.append(answer.verdict is not Verdict.UNKNOWN)
    assert np.mean(decided) >= 0.6


@pytest.mark.nightly
@pytest.mark.parametrize(
    "config", [NEURONS, INPUTS, *EXACT], ids=["neurons", "inputs", "neurons, real", "inputs, real"]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_verdict_is_wrong_on_many_slices(family: str, config: EngineConfig) -> None:
    shape = FAMILIES[family][0]
    for seed in range(1000, 1060):
        model = member(family, seed)
        properties, least, size = cases_of(seed, shape, model, 3)
        for key, answer in decide_all(model, properties, Limits(60, "work", 2000), config).items():
            assert_true(answer, least[key], size)
