"""Learning-rate schedules at the places where they bend."""

from __future__ import annotations

import math

import pytest

from harness.training.schedule import Schedule, factor


def test_multistep_drops_after_half_and_three_quarters() -> None:
    values = [factor(Schedule.MULTISTEP, epoch, 200, 0, 1) for epoch in (0, 99, 100, 149, 150, 199)]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_is_stepped_each_epoch() -> None:
    assert factor(Schedule.COSINE, 0, 100, 5, 10) == 1
    assert factor(Schedule.COSINE, 50, 100, 0, 10) == pytest.approx(0.5)
    assert factor(Schedule.COSINE, 99, 100, 9, 10) == pytest.approx(0.5 * (1 + math.cos(0.99 * math.pi)))


def test_onecycle_rises_then_falls() -> None:
    values = [factor(Schedule.ONECYCLE, epoch, 10, step, 100) for epoch in range(10) for step in range(100)]
    peak = values.index(max(values))
    assert 298 <= peak <= 301
    assert values[0] < 0.01
    assert values[-1] < 0.01
    assert values[:peak] == sorted(values[:peak])
    assert values[peak:] == sorted(values[peak:], reverse=True)


def test_piecewise_interpolates_and_jumps() -> None:
    knots = ((0.0, 0.0), (2.0, 1.0), (2.0, 0.5), (4.0, 0.0))
    values = [factor(Schedule.PIECEWISE, epoch, 4, 0, 1, knots) for epoch in range(4)]
    assert values == pytest.approx([0.25, 0.75, 0.375, 0.125])
    assert factor(Schedule.PIECEWISE, 9, 4, 0, 1, knots) == 0
