"""Real arithmetic: an affine network's minimum as a fraction, and right-hand sides within a few units of it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from nets import Array, Net, decide_all, property_of, region

from harness.domain import Limits, Verdict


def affine_chain(seed: int, scale: float) -> tuple[bytes, Fraction]:
    """Returns two affine layers of one size of weights, and their exact minimum over [-1, 1]^2."""
    random = np.random.default_rng(seed)
    W1, b1 = random.normal(0, scale, (4, 2)), random.normal(0, scale, 4)
    W2, b2 = random.normal(0, scale, (1, 4)), random.normal(0, scale, 1)
    net = Net((2,), dtype=np.float64)
    v = net.op("Gemm", "x", net.constant(W1), net.constant(b1), transB=1)
    model = net.model(net.op("Gemm", v, net.constant(W2), net.constant(b2), transB=1))
    return model, _constant(W2[0], b1, b2[0]) - sum(abs(_constant(W2[0], W1[:, i], 0.0)) for i in range(2))


def _constant(weight: Array, bias: Array, offset: float) -> Fraction:
    return Fraction(offset) + sum(Fraction(w) * Fraction(b) for w, b in zip(weight, bias, strict=True))


def above(value: Fraction, steps: int) -> float:
    """Returns the float64 that is the given number of units above the first one not below a value."""
    found = float(value)
    while Fraction(found) < value:
        found = float(np.nextafter(found, np.inf))
    for _ in range(steps):
        found = float(np.nextafter(found, np.inf))
    return found


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e5, 1e7])
def test_a_violation_of_the_last_digits_is_never_proved_away(scale: float) -> None:
    wrong = []
    for seed in range(20):
        model, minimum = affine_chain(seed, scale)
        properties = {
            str(k): property_of([-1, -1], [1, 1], region([[1.0]], above(minimum, k))) for k in (0, 1, 2, 3, 4)
        }
        answers = decide_all(model, properties, Limits(30, "work", 20))
        wrong += [(seed, key) for key, answer in answers.items() if answer.verdict is Verdict.UNSAT]
    assert not wrong
