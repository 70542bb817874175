"""Counterexamples that no attack finds: the engine may give up on them, but never prove their absence."""

from __future__ import annotations

import numpy as np
import pytest
from nets import Net, decide, fully_connected, property_of, region, run_onnx

from harness.domain import Limits, Property, Verdict

HEIGHT = 1.0


def bump(centre: np.ndarray, width: float) -> bytes:
    """Returns y = HEIGHT/2 - relu(HEIGHT - |x - centre| HEIGHT / width) in the 1-norm: below 0 only near the centre."""
    d = len(centre)
    slope = HEIGHT / width
    first = np.concatenate([np.eye(d), -np.eye(d)])
    offset = np.concatenate([-centre, centre])
    return fully_connected([(first, offset), (np.full((1, 2 * d), -slope), [HEIGHT]), ([[-1.0]], [HEIGHT / 2])])


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("width", [1e-1, 1e-2, 1e-3, 1e-4])
def test_a_tiny_violation_is_never_proved_away(seed: int, width: float) -> None:
    random = np.random.default_rng(seed)
    d = int(random.integers(1, 4))
    centre = random.uniform(-0.9, 0.9, d).astype(np.float32)
    model = bump(centre, width)
    assert run_onnx(model, centre[None])[0, 0] < 0
    answer = decide(model, property_of([-1] * d, [1] * d, region([1.0], 0.0)), Limits(30, "work", 400))
    assert answer.verdict is not Verdict.UNSAT


def test_the_same_network_is_proved_where_the_bump_is_too_low() -> None:
    """Most of them; where a leaf's multipliers do not rise far enough the answer is `unknown`."""
    random, verdicts = np.random.default_rng(0), []
    for _ in range(8):
        prop = property_of([-1, -1], [1, 1], region([1.0], -HEIGHT / 2 - 0.01))
        verdicts.append(decide(bump(random.uniform(-0.9, 0.9, 2).astype(np.float32), 0.01), prop).verdict)
    assert set(verdicts) <= {Verdict.UNSAT, Verdict.UNKNOWN}
    assert verdicts.count(Verdict.UNSAT) >= 4


def test_a_violation_in_the_last_box_of_a_union_is_not_lost() -> None:
    model = bump(np.array([0.5], np.float32), 1e-3)
    boxes = [(-1.0, -0.5), (-0.5, 0.0), (0.0, 0.4), (0.4, 0.6)]
    cases = [property_of([low], [high], region([1.0], 0.0)).cases[0] for low, high in boxes]
    answer = decide(model, Property(tuple(cases), 1, 1), Limits(30, "work", 400))
    assert answer.verdict is not Verdict.UNSAT
    assert decide(model, Property(tuple(cases[:3]), 1, 1), Limits(30, "work", 400)).verdict is Verdict.UNSAT


def test_a_violation_of_the_last_of_many_regions_is_not_lost() -> None:
    """More margins than one block of lanes holds; only the last can be violated, in a spike."""
    spike = bump(np.array([0.3], np.float32), 1e-3)
    net = Net((1,))
    v = net.relu(net.op("Gemm", "x", net.constant([[1.0], [-1.0]]), net.constant([-0.3, 0.3]), transB=1))
    v = net.relu(net.op("Gemm", v, net.constant([[-1000.0, -1000.0]]), net.constant([1.0]), transB=1))
    weight, bias = np.zeros((40, 1)), np.full(40, 1.0)
    weight[:, 0], bias[-1] = -0.9, 0.5
    weight[-1] = -1.0
    model = net.model(net.op("Gemm", v, net.constant(weight), net.constant(bias), transB=1))
    assert run_onnx(spike, np.array([[0.3]], np.float32))[0, 0] < 0
    regions = [region(np.eye(40)[k], 0.0) for k in range(40)]
    assert decide(model, property_of([-1], [1], *regions), Limits(30, "work", 2000)).verdict is not Verdict.UNSAT
    assert decide(model, property_of([-1], [1], *regions[:39]), Limits(30, "work", 2000)).verdict is Verdict.UNSAT
