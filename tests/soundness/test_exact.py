"""The engine's verdicts against the exact minimum, right at the boundary between sat and unsat."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from exact import Layer, Minimum, exact_minimum
from nets import INPUTS, NEURONS, Array, Net, decide_all, property_of, region, run_onnx

from harness.domain import Limits, ToolAnswer, Verdict
from harness.verifier.config import EngineConfig

STEPS = (1e-1, 1e-3, 1e-6)
FLOAT32 = 2e-6
"""How far ONNX Runtime's evaluation of these networks may be off, for values of about 1."""
DECIDED = 0.7
"""Share of the instances not closer than 1e-3 that must be decided. What is missing are leaves whose neurons are all
split and whose beta does not rise far enough in `leaf_iterations` steps: they are `unknown`, never wrong."""
SHAPES = {"one layer": (8,), "two layers": (4, 4), "three layers": (3, 3, 2)}


def random_layers(seed: int, hidden: tuple[int, ...], grafted: bool) -> list[Layer]:
    random = np.random.default_rng(seed)
    layers, sizes = [], (2, *hidden, 2)
    for k, (before, after) in enumerate(pairwise(sizes)):
        weight = random.normal(0, 1.5 / np.sqrt(before), (after, before)).astype(np.float32).astype(float)
        bias = random.normal(0, 0.4, after).astype(np.float32).astype(float)
        if grafted and k < len(hidden):
            slope, intercept = (random.normal(0, s, after).astype(np.float32).astype(float) for s in (0.8, 0.3))
            layers.append(Layer(weight, bias, random.random(after) < 0.4, slope, intercept))
        else:
            layers.append(Layer(weight, bias))
    return layers


def onnx_of(layers: list[Layer], dtype: type = np.float32) -> bytes:
    net, v = Net((2,), dtype=dtype), "x"
    for layer in layers[:-1]:
        v = net.op("Gemm", v, net.constant(layer.weight), net.constant(layer.bias), transB=1)
        if layer.linear is None or layer.slope is None or layer.intercept is None:
            v = net.relu(v)
        else:
            v = net.grafted(v, layer.linear, layer.slope, layer.intercept)
    last = layers[-1]
    return net.model(net.op("Gemm", v, net.constant(last.weight), net.constant(last.bias), transB=1))


def evaluated(layers: list[Layer], x: Array) -> Array:
    for layer in layers[:-1]:
        z = layer.weight @ x + layer.bias
        x = np.maximum(z, 0)
        if layer.linear is not None and layer.slope is not None and layer.intercept is not None:
            x = np.where(layer.linear, layer.slope * z + layer.intercept, x)
    return layers[-1].weight @ x + layers[-1].bias


def boxes_of(seed: int, count: int) -> list[tuple[Array, Array]]:
    """Returns boxes whose ends float32 holds, of widths from a point to far beyond where all neurons are stable."""
    random = np.random.default_rng(seed)
    radii = (0.0, 0.01, 0.3, 1.0, 5.0)
    found = []
    for k in range(count):
        centre, radius = random.normal(0, 0.7, 2), radii[k % len(radii)] * np.array([1.0, random.random()])
        found.append(tuple((centre + s * radius).astype(np.float32).astype(float) for s in (-1, 1)))
    return found  # type: ignore[return-value]


def assert_true(answer: ToolAnswer, minimum: Minimum, rhs: float, model: bytes, row: Array, ends: Array) -> None:
    """Fails on an answer that is wrong; `unknown` is never wrong."""
    if answer.verdict is Verdict.UNSAT:
        assert minimum.value > rhs, f"wrong unsat: the minimum {minimum} is not above {rhs}"
    elif answer.verdict is Verdict.SAT:
        assert minimum.value <= rhs + FLOAT32, f"wrong sat: the minimum {minimum} is above {rhs}"
        assert answer.counterexample is not None
        x = answer.counterexample.x
        assert (ends[0] <= x).all()
        assert (x <= ends[1]).all()
        assert row @ run_onnx(model, x[None].astype(np.float32))[0].astype(float) <= rhs
    else:
        assert answer.verdict is Verdict.UNKNOWN


EXACT = [replace(config, arithmetic="real") for config in (NEURONS, INPUTS)]


def test_the_reference_itself_is_attained_and_not_undercut() -> None:
    for seed in range(20):
        layers = random_layers(seed, (4, 3), grafted=seed % 2 == 0)
        row, random = np.array([1.0, -1.0]), np.random.default_rng(seed)
        minimum = exact_minimum(layers, row, np.array([-1.0, -2.0]), np.array([2.0, 1.0]))
        assert row @ evaluated(layers, minimum.x) == pytest.approx(minimum.value, abs=1e-12)
        points = random.uniform([-1, -2], [2, 1], (2000, 2))
        assert min(row @ evaluated(layers, x) for x in points) >= minimum.value - 1e-12


@pytest.mark.parametrize(
    "config", [NEURONS, INPUTS, *EXACT], ids=["neurons", "inputs", "neurons, real", "inputs, real"]
)
@pytest.mark.parametrize("grafted", [False, True], ids=["plain", "grafted"])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_verdict_is_wrong_at_the_boundary(shape: str, grafted: bool, config: EngineConfig) -> None:
    decided = asked = 0
    for seed in range(6):
        layers = random_layers(seed, SHAPES[shape], grafted)
        model, row = onnx_of(layers), np.array([1.0, -1.0])
        cases = {}
        for k, (lower, upper) in enumerate(boxes_of(seed, 5)):
            minimum = exact_minimum(layers, row, lower, upper)
            for step in (*STEPS, *(-s for s in STEPS)):
                rhs = minimum.value + step
                cases[f"{k} {step}"] = (minimum, rhs, np.stack([lower, upper]), step)
        properties = {key: property_of(*ends, region(row, rhs)) for key, (_, rhs, ends, _) in cases.items()}
        answers = decide_all(model, properties, Limits(60, "work", 4000), config)
        for key, (minimum, rhs, ends, step) in cases.items():
            assert_true(answers[key], minimum, rhs, model, row, ends)
            if abs(step) > 1e-5:
                asked += 1
                decided += answers[key].verdict in (Verdict.SAT, Verdict.UNSAT)
    assert decided / asked >= (DECIDED if config.split_inputs_up_to == NEURONS.split_inputs_up_to else 0.99), (
        f"{decided} of {asked}"
    )


@pytest.mark.parametrize("config", [NEURONS, INPUTS], ids=["neurons", "inputs"])
def test_a_conjunction_is_violated_only_where_all_rows_are(config: EngineConfig) -> None:
    """Regions of two rows, each of which alone can be violated: a grid decides what is surely sat."""
    for seed in range(8):
        layers = random_layers(seed + 50, (5,), grafted=seed % 2 == 0)
        model = onnx_of(layers)
        grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 81)] * 2), -1).reshape(-1, 2)
        y = np.stack([evaluated(layers, x) for x in grid])
        joint = y.max(1).min()
        properties = {
            f"{step}": property_of([-1, -1], [1, 1], region(np.eye(2), [joint + step] * 2))
            for step in (-0.5, -0.1, 1e-3, 0.1, 0.5)
        }
        for step, answer in decide_all(model, properties, Limits(60, "work", 500), config).items():
            if float(step) > 0:
                assert answer.verdict is not Verdict.UNSAT


@pytest.mark.parametrize("exponent", [-6, 6])
def test_verdicts_hold_at_small_and_large_scales(exponent: int) -> None:
    """The same networks with weights of all sizes; the distance to the boundary follows the margin's."""
    for seed in range(4):
        layers = random_layers(seed + 80, (4, 3), grafted=False)
        scale = 10.0**exponent
        layers[-1] = Layer(
            *((a * scale).astype(np.float32).astype(float) for a in (layers[-1].weight, layers[-1].bias))
        )
        model, row = onnx_of(layers, np.float64), np.array([1.0, -1.0])
        for lower, upper in boxes_of(seed, 5):
            minimum = exact_minimum(layers, row, lower, upper)
            steps = (1e-2 * scale, 1e-9 * scale)
            properties = {
                str(step): property_of(lower, upper, region(row, minimum.value + step))
                for step in (*steps, *(-s for s in steps))
            }
            for step, answer in decide_all(model, properties, Limits(60, "work", 500)).items():
                if float(step) > 0:
                    assert answer.verdict is not Verdict.UNSAT, (seed, step, minimum)
                else:
                    assert answer.verdict is not Verdict.SAT, (seed, step, minimum)
