"""`unsat` shall cover what ONNX Runtime computes in float32, not only real arithmetic.

Every case holds in real arithmetic, and has a point of its box at which ONNX Runtime was seen to compute a violation
(`float32.Trap`). Whoever calls it unsat is refuted by running the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from families import FAMILIES
from float32 import MADE_BY_HAND, Trap, corner_trap, ends_around, evaluated, flat_trap, float32_points, with_flat_head
from nets import INPUTS, NEURONS, Net, decide, decide_all, graph_of, property_of, region

from harness.domain import Limits, Verdict
from harness.verifier.config import EngineConfig

SHORT = Limits(60.0, "work", 50)
CONFIGS = (NEURONS, INPUTS)


def wrong(traps: Iterable[Trap], configs: Iterable[EngineConfig] = CONFIGS) -> list[str]:
    """Returns a line for each trap that the engine calls unsat; fails if an answer `sat` is not the witness it says."""
    refuted = []
    for trap, config in product(traps, configs):
        answer = decide(trap.model, trap.prop, SHORT, config)
        if answer.verdict is Verdict.UNSAT:
            refuted.append(f"unsat, but {trap.computed!r} is computed; the real minimum is {trap.real!r}")
        elif answer.verdict is Verdict.SAT:
            assert answer.counterexample is not None
            assert violates(trap, answer.counterexample.x)
        else:
            assert answer.verdict in (Verdict.UNKNOWN, Verdict.TIMEOUT), answer.message
    return refuted


def violates(trap: Trap, x: np.ndarray) -> bool:
    case = trap.prop.cases[0]
    point = x.astype(np.float32).reshape(graph_of(trap.model).input_shape)
    y = float(evaluated(trap.model, point[None])[0, 0])
    rhs, strict = float(case.polytopes[0].rhs[0]), bool(case.polytopes[0].strict[0])
    inside = bool((case.box.lower <= x).all() and (x <= case.box.upper).all())
    return inside and (y < rhs if strict else y <= rhs)


def found(make: Callable[[int], Trap | None], seeds: Iterable[int], at_least: int) -> list[Trap]:
    traps = [trap for seed in seeds if (trap := make(seed)) is not None]
    assert len(traps) >= at_least
    return traps


def test_the_traps_are_what_they_say() -> None:
    makers = (lambda s: flat_trap("residual", s), lambda s: corner_trap("grafted", s), *MADE_BY_HAND.values())
    for make in makers:
        for trap in found(make, range(6), 1):
            assert violates(trap, trap.witness)
            assert trap.computed < trap.real
            at_witness = torch.from_numpy(trap.witness.astype(np.float64)).view(1, *graph_of(trap.model).input_shape)
            in_float64 = float(graph_of(trap.model)(at_witness)[0, 0])
            assert in_float64 >= trap.real - 1e-9 * (1 + abs(trap.real)), "the real minimum is none"


@pytest.mark.parametrize(("inputs", "config"), [(64, NEURONS), (5, INPUTS)], ids=["neurons", "inputs"])
def test_of_exact_values_alone_more_can_be_proved(inputs: int, config: EngineConfig) -> None:
    """A sum that stays above a number by less than float32 may round: `--arithmetic real` reaches the bounds."""
    net = Net((inputs,), 3)
    weight = net.random.normal(size=(1, inputs)).astype(np.float32)
    model = net.model(net.op("Gemm", "x", net.constant(weight), net.constant([0.0]), transB=1))
    size = float(np.abs(weight.astype(np.float64)).sum())
    prop = property_of(np.full(inputs, -1.0), np.full(inputs, 1.0), region([1.0], -size * (1 + 1e-8 * inputs)))
    assert decide(model, prop, SHORT, config).verdict is Verdict.UNKNOWN
    assert decide(model, prop, SHORT, replace(config, arithmetic="real")).verdict is Verdict.UNSAT


@pytest.mark.parametrize("family", FAMILIES)
def test_a_flat_network_that_rounds_below_is_never_unsat(family: str) -> None:
    assert not wrong(found(lambda seed: flat_trap(family, seed), range(3), 2))


def test_a_corner_that_rounds_below_is_never_unsat() -> None:
    cases = product(FAMILIES, range(3))
    traps = [trap for family, seed in cases if (trap := corner_trap(family, seed)) is not None]
    assert len(traps) >= 3
    assert not wrong(traps)


def test_a_small_number_lost_in_a_large_one_is_never_unsat() -> None:
    assert not wrong(found(MADE_BY_HAND["absorbed"], range(10), 4))


@pytest.mark.parametrize("kind", ["long sum", "deep chain"])
def test_long_and_deep_networks_that_round_below_are_never_unsat(kind: str) -> None:
    assert not wrong(found(MADE_BY_HAND[kind], range(8), 2))


def test_outputs_that_round_to_the_same_number_violate_a_non_strict_row() -> None:
    """y0 = x + 1e-9 and y1 = x: y0 <= y1 wherever float32 holds no number between them; y0 < y1 is never computed."""
    net = Net((1,))
    model = net.model(net.op("Gemm", "x", net.constant([[1.0], [1.0]]), net.constant([1e-9, 0.0]), transB=1))
    difference = [[1.0, -1.0]]
    weak = property_of([1], [2], region(difference, 0.0))
    strong = property_of([1], [2], region(difference, -1e-3, strict=True))
    for config in CONFIGS:
        assert decide(model, weak, SHORT, config).verdict is not Verdict.UNSAT
        assert decide(model, strong, SHORT, config).verdict is Verdict.UNSAT


@pytest.mark.parametrize("family", FAMILIES)
def test_comfortable_margins_stay_unsat(family: str) -> None:
    """A hundredth of the largest value inside is five orders of magnitude above float32's unit."""
    for seed in range(3):
        model, c = with_flat_head(family, seed, 10.0)
        random = np.random.default_rng(seed)
        ends = ends_around(random.uniform(0, 1, graph_of(model).input_shape), 0.1)
        size = largest_value(model, float32_points(*ends, 20, random))
        properties = {
            "non-strict": property_of(*ends, region([1.0], c - 1e-2 * size)),
            "strict": property_of(*ends, region([1.0], c - 1e-2 * size, strict=True)),
        }
        for config in CONFIGS:
            answers = decide_all(model, properties, SHORT, config)
            assert {a.verdict for a in answers.values()} == {Verdict.UNSAT}


def largest_value(model: bytes, points: np.ndarray) -> float:
    """Returns the largest magnitude of any value inside the network at the points."""
    values = graph_of(model).values(torch.from_numpy(points.astype(np.float64)))
    return max(float(v.abs().max()) for v in values)


@pytest.mark.nightly
@pytest.mark.parametrize("family", FAMILIES)
def test_many_flat_and_corner_traps(family: str) -> None:
    flat = found(lambda seed: flat_trap(family, seed, 10_000), range(1000, 1060), 40)
    corner = found(lambda seed: corner_trap(family, seed, 10_000), range(1000, 1060), 5)
    assert not wrong([*flat, *corner])


@pytest.mark.nightly
def test_many_made_by_hand() -> None:
    assert not wrong(t for make in MADE_BY_HAND.values() for t in found(make, range(1000, 1100), 20))
