"""Networks with sigmoid and tanh: decided by attacks, root bounds and input splitting; never by splitting neurons."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import SMOOTH_FAMILIES, member
from nets import INPUTS, NEURONS, Net, decide, graph_of, property_of, region

from harness.domain import Limits, Verdict

SHORT = Limits(60.0, "work", 200)


def lowest(model: bytes, lower: np.ndarray, upper: np.ndarray) -> float:
    """Returns the smallest first output at many points of a box."""
    random = np.random.default_rng(0)
    share = np.concatenate([random.random((20_000, lower.size)), random.integers(0, 2, (20_000, lower.size))])
    points = torch.from_numpy(lower.ravel() + share * (upper - lower).ravel())
    return float(graph_of(model)(points.view(-1, *lower.shape))[:, 0].min())


@pytest.mark.parametrize("family", SMOOTH_FAMILIES)
def test_what_is_far_is_decided_and_what_is_violated_is_never_unsat(family: str) -> None:
    shape = SMOOTH_FAMILIES[family][0]
    for seed in range(3):
        model, centre = member(family, seed), np.random.default_rng(seed).random(shape)
        lower, upper = ((centre + d).astype(np.float32).astype(np.float64) for d in (-0.1, 0.1))
        least = lowest(model, lower, upper)
        for config in (NEURONS, INPUTS):
            for rhs, expected in ((least - 3.0, Verdict.UNSAT), (least + 1e-2, Verdict.SAT)):
                answer = decide(model, property_of(lower, upper, region([1.0, 0, 0], rhs)), SHORT, config)
                assert answer.verdict is expected
            close = decide(model, property_of(lower, upper, region([1.0, 0, 0], least + 1e-5)), SHORT, config)
            assert close.verdict is not Verdict.UNSAT


def test_what_root_bounds_leave_open_is_unknown_with_a_reason_and_input_splitting_decides_it() -> None:
    """tanh(2 x) - tanh(x) is never negative on [0, 1], which lines around the two alone do not show."""
    net = Net((1,))
    v = net.op("Sub", net.op("Tanh", net.op("Mul", "x", net.constant([2.0]))), net.op("Tanh", "x"))
    model, prop = net.model(v), property_of([0.0], [1.0], region([[1.0]], -0.02))
    answer = decide(model, prop, SHORT, NEURONS)
    assert answer.verdict is Verdict.UNKNOWN
    assert "sigmoid and tanh" in answer.message
    assert decide(model, prop, SHORT, INPUTS).verdict is Verdict.UNSAT
