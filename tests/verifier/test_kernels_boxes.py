"""Bounds of small boxes hold for every evaluation within the rounding that they grant, and clipping loses no point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from families import member
from nets import fully_connected, graph_of
from numpy.typing import NDArray

from harness.verifier.kernels.boxes import bound_hidden, bound_margins
from harness.verifier.kernels.boxes_climb import climb_room, heights, run_climb, start_climb, take_best
from harness.verifier.kernels.boxes_clip import (
    MIXED,
    Functions,
    clip,
    clip_all,
    functions_room,
    keep_margins,
    keep_planes,
    mix,
)
from harness.verifier.kernels.boxes_lanes import WIDEST
from harness.verifier.kernels.boxes_network import BoxNetwork, BoxWork, box_network, box_work
from harness.verifier.kernels.boxes_search import violates
from harness.verifier.sparse import sparse_network

Array = NDArray[Any]
FAMILIES = ("fully connected", "grafted", "convolution", "grafted convolution", "residual", "odd")


def boxed(family: str, seed: int, margins: int = 5) -> BoxNetwork:
    """Returns a network of a family with random margins, one region each."""
    sparse = sparse_network(graph_of(member(family, seed)))
    assert sparse is not None
    random = np.random.default_rng(seed)
    outputs = len(sparse.output)
    return box_network(sparse, random.normal(size=(margins, outputs)), random.normal(size=margins), [1] * margins)


def rows_at(net: BoxNetwork, x: Array, error: Array | None = None) -> tuple[Array, Array]:
    """Returns the rows before and the columns after their activation, every row off by `error`."""
    h = np.concatenate([x, np.zeros(len(net.bias))])
    z = np.zeros(len(net.bias))
    for i in range(len(net.bias)):
        part = slice(net.start[i], net.start[i + 1])
        z[i] = net.bias[i] + net.value[part] @ h[net.column[part]] + (0 if error is None else error[i])
        h[net.inputs + i] = net.slope[i] * z[i] + net.intercept[i] if net.line[i] else max(z[i], 0.0)
    return z, h


def margins_at(net: BoxNetwork, h: Array) -> Array:
    result: Array = net.C @ h[net.output] - net.rhs
    return result


def bounded(net: BoxNetwork, lower: Array, upper: Array, work: BoxWork | None = None) -> tuple[BoxWork, Array, int]:
    """Returns what bounding a box leaves, its margins' bounds and the lanes used."""
    work = work or box_work(net)
    work.low[:], work.high[:] = -np.inf, np.inf
    bounds = np.zeros(WIDEST)
    assert bound_hidden(net, work, lower, upper)
    lanes = bound_margins(net, work, lower, upper, np.arange(WIDEST), len(net.rhs), bounds)
    return work, bounds[: len(net.rhs)], lanes


def random_box(random: np.random.Generator, inputs: int, radius: float) -> tuple[Array, Array]:
    centre = random.normal(size=inputs)
    return centre - radius, centre + radius * random.integers(0, 2, inputs)


def crowded(random: np.random.Generator, lower: Array, upper: Array, count: int) -> Array:
    """Returns points of a box, many of their coordinates at its ends."""
    share = np.clip(random.uniform(-0.5, 1.5, (count, len(lower))), 0, 1)
    return lower + (upper - lower) * share


@pytest.mark.parametrize("radius", [1e-3, 0.1, 1.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_bounds_hold_for_every_evaluation_within_its_error(family: str, radius: float) -> None:
    """Every row is pushed to an end of the error that it is granted, so a bound without the error's share fails."""
    for seed in range(3):
        net, random = boxed(family, seed), np.random.default_rng(seed)
        net = net._replace(rate=net.rate * 1e4)
        lower, upper = random_box(random, net.inputs, radius)
        work, bounds, lanes = bounded(net, lower, upper)
        linear = work.A[: net.inputs * lanes].reshape(net.inputs, lanes)[:, : len(bounds)]
        for x in crowded(random, lower, upper, 60):
            error = 0.999 * work.error * random.choice([-1.0, 1.0], len(net.bias))  # less what this test rounds
            error[work.phase == 0] = 0  # dead rows were not evaluated, and need no error
            z, h = rows_at(net, x, error)
            live = work.phase != 0
            assert bool((z[live] >= work.low[live]).all() and (z <= work.high).all())
            margin = margins_at(net, h)
            assert bool((margin >= bounds).all())
            assert bool((margin >= x @ linear + work.constant[: len(bounds)] - 1e-12).all())


@pytest.mark.parametrize("family", FAMILIES)
def test_bounds_of_a_point_are_the_evaluation(family: str) -> None:
    net, x = boxed(family, 1), np.random.default_rng(1).normal(size=boxed(family, 1).inputs)
    _, bounds, _ = bounded(net, x, x)
    np.testing.assert_allclose(bounds, margins_at(net, rows_at(net, x)[1]), atol=1e-3)


def test_what_holds_already_is_never_loosened() -> None:
    net, random = boxed("fully connected", 2), np.random.default_rng(2)
    lower, upper = random_box(random, net.inputs, 1.0)
    whole, _, _ = bounded(net, lower, upper)
    low, high = whole.low.copy(), whole.high.copy()
    part = lower + 0.5 * (upper - lower)
    work = box_work(net)
    work.low[:], work.high[:] = low, high
    assert bound_hidden(net, work, lower, part)
    assert bool((work.low >= low).all() and (work.high <= high).all())
    assert bool((work.low > low).any())


def test_wide_and_narrow_passes_agree() -> None:
    """The same margin among 1, 9, 20 and 32 others, in passes of three widths."""
    base = boxed("fully connected", 3, 1)
    lower, upper = random_box(np.random.default_rng(3), base.inputs, 0.3)
    seen = []
    for count in (1, 9, 20, 32):
        C, rhs = np.repeat(base.C, count, axis=0), np.repeat(base.rhs, count)
        net = base._replace(C=C, rhs=rhs, region_start=np.arange(count + 1))
        seen.append(bounded(net, lower, upper)[1])
    for bounds in seen:
        np.testing.assert_allclose(bounds, seen[0][0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("side", [0, 1])
def test_splits_keep_every_point_of_their_half(side: int) -> None:
    """Each unstable neuron in turn is held; points of that half stay within bounds, planes and what planes leave."""
    net, random = boxed("fully connected", 4), np.random.default_rng(4)
    lower, upper = random_box(random, net.inputs, 1.0)
    root, _, _ = bounded(net, lower, upper)
    low, high, unstable = root.low.copy(), root.high.copy(), np.flatnonzero(root.phase == 2)
    assert len(unstable) > 3
    points = crowded(random, lower, upper, 300)
    values = [rows_at(net, x) for x in points]
    tested, shrunk = 0, 0
    for row in unstable:
        work, fun = box_work(net), functions_room(net.inputs)
        work.low[:], work.high[:] = low, high
        work.held[row] = 1 + side
        (work.low if side else work.high)[row] = 0
        mine = [k for k, (z, _) in enumerate(values) if (z[row] >= 0 if side else z[row] <= 0)]
        if not bound_hidden(net, work, lower, upper):
            assert not mine
            continue
        bounds = np.zeros(WIDEST)
        bound_margins(net, work, lower, upper, np.arange(WIDEST), len(net.rhs), bounds)
        keep_planes(work, fun, np.array([2 * row + side]), 1)
        left, right = lower.copy(), upper.copy()
        kept = clip(fun, work.largest, WIDEST, left, right)
        assert kept or not mine
        shrunk += not kept or bool((left > lower).any() or (right < upper).any())
        for k in mine:
            z, h = values[k]
            live = work.phase != 0
            assert bool((z[live] >= work.low[live]).all() and (z <= work.high).all())
            assert bool((margins_at(net, h) >= bounds[: len(net.rhs)]).all())
            assert bool((points[k] >= left).all() and (points[k] <= right).all())
            tested += 1
    assert tested > 50
    assert shrunk > 0


def planes(linear: list[list[float]], constant: list[float]) -> Functions:
    """Returns functions, on boxes of magnitude 1."""
    fun = functions_room(len(linear[0]))
    for k, (a, c) in enumerate(zip(linear, constant, strict=True)):
        fun.linear[k], fun.constant[k] = a, c
        fun.size[k] = np.abs(a).sum() + abs(c)
    return fun


def test_clipping_leaves_exactly_the_smallest_box() -> None:
    fun = planes([[1.0, 2.0]], [1.5])  # x + 2 y <= -1.5 in [-1, 1]^2: y <= -0.25, and x up to 0.5
    lower, upper = -np.ones(2), np.ones(2)
    assert clip(fun, np.ones(2), 0, lower, upper)
    np.testing.assert_allclose(lower, [-1, -1])
    np.testing.assert_allclose(upper, [0.5, -0.25], atol=1e-9)
    assert bool((upper >= [0.5, -0.25]).all())
    assert not clip(planes([[1.0, 2.0]], [3.1]), np.ones(2), 0, -np.ones(2), np.ones(2))


def test_a_sum_excludes_what_no_function_and_no_clipping_does() -> None:
    """x + y <= -0.1 and x + y >= 0.1 leave all of a box's coordinates alone, but nothing satisfies both."""
    fun = planes([[1.0, 1.0], [-1.0, -1.0]], [0.1, 0.1])
    for k in range(2):
        lower, upper = -np.ones(2), np.ones(2)
        assert clip(fun, np.ones(2), k, lower, upper)
    assert not clip_all(fun, np.ones(2), 0, 2, 0, 0, -np.ones(2), np.ones(2))
    touching = planes([[1.0, 1.0], [-1.0, -1.0]], [0.0, 0.0])
    assert clip_all(touching, np.ones(2), 0, 2, 1, 0, -np.ones(2), np.ones(2))


def test_no_sum_excludes_a_point_that_satisfies_all() -> None:
    """Random functions through a common point of the box; and their best sum is a sum of them."""
    random = np.random.default_rng(5)
    excluded = 0
    for _ in range(300):
        d, count = int(random.integers(1, 7)), int(random.integers(2, 12))
        linear, x = random.normal(size=(count, d)), random.uniform(-1, 1, d)
        slack = random.exponential(0.1, count) * random.integers(0, 2)
        fun = planes(linear.tolist(), (-linear @ x - slack).tolist())
        lower, upper = -np.ones(d), np.ones(d)
        assert clip_all(fun, np.ones(d), 0, count, int(random.integers(count)), 0, lower, upper)
        assert bool((x >= lower).all() and (x <= upper).all())
        mix(fun, count, -np.ones(d), np.ones(d))
        assert fun.linear[MIXED] @ x + fun.constant[MIXED] <= 1e-12
        apart = planes(linear.tolist(), (-linear @ x + 0.5).tolist())
        excluded += not clip_all(apart, np.ones(d), 0, count, 0, 0, -np.ones(d), np.ones(d))
    assert excluded > 50


@pytest.mark.parametrize("family", FAMILIES)
def test_heights_are_the_networks(family: str) -> None:
    net, random = boxed(family, 6), np.random.default_rng(6)
    net = net._replace(region_start=np.array([0, 2, 5]))
    climb, value = climb_room(net, 0), np.zeros(net.inputs + len(net.bias))
    climb.trial[:] = random.normal(size=climb.trial.shape)
    heights(net, climb)
    for x, found in zip(climb.trial, climb.found, strict=True):
        margin = margins_at(net, rows_at(net, x)[1])
        assert found == pytest.approx(min(margin[:2].max(), margin[2:].max()), abs=1e-9)
        assert violates(net, x, value, np.ones(2, np.bool_)) == (min(margin[:2].max(), margin[2:].max()) <= 0)


def test_climbers_find_a_small_region_and_stay_in_the_box() -> None:
    """|x - 0.3| + |y + 0.6| <= 1e-3, at the foot of a slope over all of the box."""
    layers = [
        ([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], [-0.3, 0.3, 0.6, -0.6]),
        ([[1.0, 1.0, 1.0, 1.0]], [-1e-3]),
    ]
    sparse = sparse_network(graph_of(fully_connected(layers, np.float64)))
    assert sparse is not None
    net = box_network(sparse, np.ones((1, 1)), np.zeros(1), [1])
    lower, upper = -np.ones(2), np.ones(2)
    climb, candidates = climb_room(net, 1), np.zeros((16, 2))
    start_climb(net, climb, lower, upper, lower[None], upper[None], 1)
    run_climb(net, climb, lower, upper)
    count = take_best(climb, candidates, 0)
    assert count > 0
    found = candidates[:count]
    assert bool((np.abs(found - [0.3, -0.6]).sum(1) <= 1e-3 + 1e-12).all())
    assert bool((np.abs(climb.points) <= 1).all())


def test_margins_need_more_than_their_rounding() -> None:
    """(x + 1e4) - 1e4 - x + 1e-6 > 0 in real arithmetic; in float32 it is not."""
    layers = [([[1.0], [1.0]], [1e4, 1e4]), ([[1.0, -1.0]], [1e-6])]
    sparse = sparse_network(graph_of(fully_connected(layers, np.float64)))
    assert sparse is not None
    net = box_network(sparse, np.ones((1, 1)), np.zeros(1), [1])
    exact = net._replace(rate=np.full_like(net.rate, net.allowance), tiny=net.tiny)
    lower, upper = np.zeros(1), np.full(1, 1e-3)
    assert bounded(exact, lower, upper)[1][0] > 0
    assert bounded(net, lower, upper)[1][0] < 0


def test_functions_of_margins_are_copied_with_their_sizes() -> None:
    net = boxed("fully connected", 7)
    lower, upper = random_box(np.random.default_rng(7), net.inputs, 0.2)
    work, bounds, lanes = bounded(net, lower, upper)
    fun = functions_room(net.inputs)
    keep_margins(work, fun, lanes, len(bounds))
    for k, bound in enumerate(bounds):
        a = fun.linear[k]
        assert fun.constant[k] + np.minimum(a * lower, a * upper).sum() == pytest.approx(bound, abs=1e-9)
        assert fun.size[k] >= abs(fun.constant[k]) + (np.abs(a) * np.maximum(abs(lower), abs(upper))).sum() - 1e-12
