"""Refined bounds hold, are never looser, and do not depend on what the search brings, on threads or on the clock."""

from __future__ import annotations

import importlib
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from families import FAMILIES, member
from nets import Array, Net, box_around, graph_of, samples

from harness.verifier.interval import Box
from harness.verifier.kernels import alpha
from harness.verifier.refine import NO_SPLITS, Effort, Splits, needs, refine
from harness.verifier.sparse import SparseNetwork, sparse_network
from harness.verifier.sparse_bounds import SparseBounds, bound_box

UNIT = 2.0**-24


def bounded(model: bytes, radius: float, seed: int = 0) -> tuple[SparseBounds, Box] | None:
    """Returns plain bounds over a box; None if the network has no sparse form."""
    graph = graph_of(model)
    net = sparse_network(graph)
    if net is None:
        return None
    box = box_around(graph, 1, radius, seed)
    return bound_box(net, box.lower.numpy().ravel(), box.upper.numpy().ravel(), UNIT), box


def deep(seed: int = 0, width: int = 40, depth: int = 5) -> bytes:
    """A fully connected network in which plain CROWN leaves most neurons unstable."""
    net = Net((6,), seed)
    v = net.relu(net.linear("x", width, 6))
    for _ in range(depth - 1):
        v = net.relu(net.linear(v, width, width))
    return net.model(net.linear(v, 3, width))


def some(model: bytes, radius: float, seed: int = 0) -> tuple[SparseBounds, Box]:
    found = bounded(model, radius, seed)
    assert found is not None
    return found


def evaluated(net: SparseNetwork, points: Array) -> Array:
    """Returns the pre-activations of all rows, `(rows, points)`, row by row."""
    h = np.zeros((net.inputs + net.rows, len(points)))
    z = np.zeros((net.rows, len(points)))
    h[: net.inputs] = points.T
    for j in range(net.rows):
        part = slice(net.start[j], net.start[j + 1])
        z[j] = net.bias[j] + net.value[part] @ h[net.column[part]]
        h[net.inputs + j] = net.slope[j] * z[j] + net.intercept[j] if net.linear[j] else np.maximum(z[j], 0)
    return z


def points_of(box: Box, number: int, seed: int = 0) -> Array:
    points: Array = samples(box, number, seed).flatten(1).numpy()
    return points


def assert_holds(found: SparseBounds, z: Array) -> None:
    assert (found.lb[:, None] <= z).all()
    assert (z <= found.ub[:, None]).all()


def widths(found: SparseBounds) -> Array:
    rows = [np.arange(s.first, s.last) for s in found.network.segments if s.activation is not None]
    every = np.concatenate(rows)
    return found.ub[every] - found.lb[every]


@pytest.mark.parametrize("radius", [0.02, 0.2, 0.8])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_point_of_the_box_leaves_refined_bounds(family: str, radius: float) -> None:
    start = bounded(member(family, 300), radius)
    if start is None:
        pytest.skip("no sparse form")
    found, box = start
    better = refine(found, UNIT, Effort(iterations=12))
    assert_holds(better, evaluated(found.network, points_of(box, 400)))
    assert (better.lb >= found.lb).all()
    assert (better.ub <= found.ub).all()
    margins = better.margins(np.eye(3))
    outputs = np.stack([graph_of(member(family, 300))(samples(box, 50))[k].numpy() for k in range(50)])
    assert (margins <= outputs.min(0) + 1e-9).all()


@pytest.mark.parametrize("seed", range(6))
def test_deep_networks_gain_and_stay_sound(seed: int) -> None:
    found, box = some(deep(seed), 0.15, seed)
    better = refine(found, UNIT)
    assert_holds(better, evaluated(found.network, points_of(box, 2000, seed)))
    assert widths(better).mean() < 0.9 * widths(found).mean()
    assert (better.margins(np.eye(3)) > found.margins(np.eye(3))).all()
    assert set(better.unstable()) < set(found.unstable())


def test_more_iterations_give_tighter_bounds() -> None:
    found, _ = some(deep(), 0.15)
    means = [widths(refine(found, UNIT, Effort(iterations=k, tolerance=0.0))).mean() for k in (0, 1, 4, 16)]
    assert means == sorted(means, reverse=True)
    assert means[3] < means[1] < means[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_without_iterations_nothing_changes(family: str) -> None:
    start = bounded(member(family, 301), 0.3)
    if start is None:
        pytest.skip("no sparse form")
    found, _ = start
    same = refine(found, UNIT, Effort(iterations=0))
    np.testing.assert_allclose(same.lb, found.lb, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(same.ub, found.ub, rtol=1e-13, atol=1e-15)
    np.testing.assert_array_equal(same.state.kind, found.state.kind)
    np.testing.assert_allclose(same.margins(np.eye(3)), found.margins(np.eye(3)), rtol=1e-12, atol=1e-14)


def test_what_was_found_is_not_changed() -> None:
    found, _ = some(deep(), 0.15)
    arrays = [found.lb, found.ub, *found.state, *found.matrix]
    before = [a.copy() for a in arrays]
    refine(found, UNIT, splits=Splits(found.unstable()[:3], np.array([1, -1, 1], np.int8)))
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rubbish", [np.nan, np.inf, -np.inf, -3.0, 7.0, 1e30])
@pytest.mark.parametrize("splits", [False, True])
def test_a_search_that_brings_rubbish_cannot_make_a_bound_wrong(
    rubbish: float, splits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(*args: Any) -> int:
        args[8][:] = rubbish
        return 0

    monkeypatch.setattr(alpha, "search", search)
    found, box = some(deep(), 0.15)
    z = evaluated(found.network, points_of(box, 1000))
    chosen = fixed_at(found, z[:, 0], 3) if splits else NO_SPLITS
    better = refine(found, UNIT, splits=chosen)
    assert_holds(better, obeying(z, chosen))
    assert (better.lb >= found.lb).all()
    assert (better.ub <= found.ub).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pass_that_overflows_proves_nothing(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflowing(*args: Any) -> None:
        args[-1][:] = value

    monkeypatch.setattr(alpha, "bounded_rows", overflowing)
    found, _ = some(deep(), 0.15)
    same = refine(found, UNIT)
    np.testing.assert_array_equal(same.lb, found.lb)
    np.testing.assert_array_equal(same.ub, found.ub)


def test_random_slopes_are_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)

    def search(*args: Any) -> int:
        args[8][:] = random.random(args[8].shape) * random.choice([1.0, 0.1, 3.0])
        return 0

    monkeypatch.setattr(alpha, "search", search)
    found, box = some(deep(3), 0.2, 3)
    z = evaluated(found.network, points_of(box, 1000))
    for size in (0, 2, 6):
        splits = fixed_at(found, z[:, 1], size)
        for _ in range(5):
            assert_holds(refine(found, UNIT, splits=splits), obeying(z, splits))


def test_threads_do_not_change_the_result() -> None:
    found, _ = some(deep(1, width=100, depth=4), 0.1)
    alone, shared = (refine(found, UNIT, Effort(iterations=6, workers=n)) for n in (1, 3))
    np.testing.assert_array_equal(alone.lb, shared.lb)
    np.testing.assert_array_equal(alone.ub, shared.ub)


def test_when_the_time_is_over_the_rest_keeps_its_bounds() -> None:
    found, box = some(deep(1, width=100, depth=4), 0.1)
    z = evaluated(found.network, points_of(box, 500))
    full = refine(found, UNIT, Effort(iterations=6))
    nothing = refine(found, UNIT, Effort(iterations=6, seconds=-1.0), clock=lambda: 0.0)
    np.testing.assert_array_equal(nothing.lb, found.lb)
    ticks = count()
    partial = refine(found, UNIT, Effort(iterations=6, seconds=12.0), clock=lambda: float(next(ticks)))
    assert_holds(partial, z)
    assert widths(full).sum() < widths(partial).sum() < widths(found).sum()


def test_rows_without_need_are_left_out() -> None:
    found, _ = some(deep(), 0.15)
    need = np.zeros(found.network.rows)
    last = found.network.segments[-2]
    chosen = found.unstable()[found.unstable() >= last.first][:5]
    need[chosen] = 1.0
    better = refine(found, UNIT, need=need)
    changed = np.flatnonzero(better.lb > found.lb + 1e-9)
    assert len(changed)
    assert set(changed) <= set(chosen) | set(range(last.last, found.network.rows))


def test_needs_are_what_the_upper_lines_cost() -> None:
    net = Net((2,), dtype=np.float64)
    weight, out = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.array([[-2.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    v = net.relu(net.op("Gemm", "x", net.constant(weight), net.constant(np.zeros(3)), transB=1))
    graph = graph_of(net.model(net.op("Gemm", v, net.constant(out), net.constant(np.zeros(2)), transB=1)))
    sparse = sparse_network(graph)
    assert sparse is not None
    found = bound_box(sparse, -np.ones(2), np.ones(2), 0.0)
    np.testing.assert_allclose(needs(found, np.eye(2))[:3], [2 * 0.5, 0.5, 0.0])


def fixed_at(found: SparseBounds, z: Array, number: int) -> Splits:
    """Returns splits of unstable rows, spread over the layers, that one point obeys."""
    unstable = found.unstable()
    rows = unstable[np.linspace(0, len(unstable) - 1, number).astype(int)] if number else unstable[:0]
    return Splits(rows, np.where(z[rows] >= 0, 1, -1).astype(np.int8))


def obeying(z: Array, splits: Splits) -> Array:
    """Returns the columns that obey all splits."""
    kept = (z[splits.row] * splits.phase[:, None] >= 0).all(0)
    assert kept.any()
    return z[:, kept]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("number", [1, 2, 4])
def test_bounds_under_splits_hold_where_the_splits_are_obeyed(family: str, number: int) -> None:
    start = bounded(member(family, 302), 0.5)
    if start is None or not len(start[0].unstable()):
        pytest.skip("nothing to split")
    found, box = start
    z = evaluated(found.network, points_of(box, 3000, 1))
    for at in range(4):
        splits = fixed_at(found, z[:, at], number)
        better = refine(found, UNIT, Effort(iterations=12), splits=splits)
        assert_holds(better, obeying(z, splits))
        assert (better.lb >= found.lb).all()
        assert (better.ub <= found.ub).all()
        assert not np.isin(splits.row, better.unstable()).any()


def test_multipliers_of_splits_tighten_the_rows_above(monkeypatch: pytest.MonkeyPatch) -> None:
    found, box = some(deep(2), 0.15, 2)
    z = evaluated(found.network, points_of(box, 4000, 1))
    splits = fixed_at(found, z[:, 0], 4)
    with_them = refine(found, UNIT, splits=splits)
    assert_holds(with_them, obeying(z, splits))
    plain = refine(found, UNIT)
    assert widths(with_them).mean() < widths(plain).mean()
    proven: Any = alpha.bounded_rows

    def without(*args: Any) -> None:
        proven(*args[:5], np.zeros_like(args[5]), *args[6:])

    monkeypatch.setattr(alpha, "bounded_rows", without)
    clipped_only = refine(found, UNIT, splits=splits)
    above = found.unstable()[found.unstable() > splits.row[1]]
    gain = (clipped_only.ub - clipped_only.lb)[above].sum() - (with_them.ub - with_them.lb)[above].sum()
    assert gain > 0


def test_splits_that_no_point_obeys_are_seen() -> None:
    net = Net((1,), dtype=np.float64)
    v = net.relu(net.op("Gemm", "x", net.constant([[1.0], [-1.0]]), net.constant([0.0, -0.5]), transB=1))
    v = net.relu(net.op("Gemm", v, net.constant([[1.0, -1.0]]), net.constant([-0.5]), transB=1))
    graph = graph_of(net.model(net.op("Gemm", v, net.constant([[1.0]]), net.constant([0.0]), transB=1)))
    sparse = sparse_network(graph)
    assert sparse is not None
    found = bound_box(sparse, -np.ones(1), np.ones(1), UNIT)
    assert found.unstable().tolist() == [0, 1, 2]
    empty = refine(found, UNIT, splits=Splits(np.array([0, 2]), np.array([-1, 1], np.int8)))
    assert (empty.lb > empty.ub).any()
    fine = refine(found, UNIT, splits=Splits(np.array([0, 2]), np.array([1, 1], np.int8)))
    assert (fine.lb <= fine.ub).all()


def test_a_hidden_row_against_its_exact_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "soundness"))
    exact = importlib.import_module("exact")
    random = np.random.default_rng(7)
    shapes = [(10, 2), (8, 10), (6, 8), (3, 6)]
    layers = [exact.Layer(random.normal(0, 1.2 / np.sqrt(n), (m, n)), random.normal(0, 0.3, m)) for m, n in shapes]
    net = Net((2,), dtype=np.float64)
    v = "x"
    for k, layer in enumerate(layers):
        v = net.relu(v) if k else v
        v = net.op("Gemm", v, net.constant(layer.weight), net.constant(layer.bias), transB=1)
    found, box = some(net.model(v), 0.6, 2)
    better = refine(found, UNIT)
    lower, upper = box.lower.numpy().ravel(), box.upper.numpy().ravel()
    gained = 0.0
    for depth, segment in ((2, found.network.segments[1]), (3, found.network.segments[2])):
        for j in range(segment.first, segment.last):
            row = np.eye(segment.last - segment.first)[j - segment.first]
            least = exact.exact_minimum(layers[:depth], row, lower, upper).value
            most = -exact.exact_minimum(layers[:depth], -row, lower, upper).value
            assert better.lb[j] <= least
            assert most <= better.ub[j]
            gained += (found.ub[j] - found.lb[j]) - (better.ub[j] - better.lb[j])
    assert gained > 0
