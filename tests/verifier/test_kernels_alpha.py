"""The search for a block's slopes climbs; the pass that concludes is sound whatever the search brings."""

from __future__ import annotations

import numpy as np
import pytest
from families import member
from nets import Array, box_around, graph_of

from harness.verifier.kernels import alpha, passes
from harness.verifier.kernels.alpha import PASSED, Below
from harness.verifier.kernels.contract import LANES
from harness.verifier.sparse import sparse_network
from harness.verifier.sparse_bounds import SparseBounds, bound_box, scratch

FLOATS = [np.float32, np.float64]


def single(phase: int, dtype: type) -> Below:
    """One neuron, z = t over [-1, 1]."""
    one: Array = np.ones(1, dtype)
    zero: Array = np.zeros(1, dtype)
    start = np.array([0, 1])
    by_row = start, np.zeros(1, np.int32), one
    by_column = np.array([0, 1, 1]), np.zeros(1, np.int32), one
    return Below(1, *by_row, *by_column, zero, -one, one / 2, one / 2, np.array([phase], np.int8))


def improved(below: Below, top: Array, start: float, iterations: int, tolerance: float = 0.0) -> tuple[Array, Array]:
    """Returns the best bounds of `top [t; h]` and the slopes that give them, all lanes alike."""
    dtype = below.E.dtype
    tops = np.repeat(np.asarray(top, dtype)[:, None], LANES, axis=1)
    p, best = np.full((len(below.E), LANES), start, dtype), np.empty(LANES, dtype)
    alpha.search(below, tops, np.zeros(LANES, dtype), LANES, iterations, 1.0, 0.9, tolerance, p, best)
    return best, p


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("phase", "top", "start", "before", "after"),
    [
        (0, [0, 1], 1.0, -1.0, 0.0),  # min relu(t): slope 0 is best
        (0, [-1, 2], 0.0, -1.0, 0.0),  # min 2 relu(t) - t: -abs(2 p - 1), best at 1/2
        (0, [0, -1], 0.3, -1.0, -1.0),  # no slope can help an upper line
        (1, [0, 1], 0.0, -1.0, 0.0),  # z >= 0
        (-1, [-1, 0.5], 0.0, -1.0, 0.0),  # -t where t <= 0
        (PASSED, [0, 1], 0.0, -1.0, -1.0),
    ],
)
def test_the_search_climbs_to_the_known_optimum(
    phase: int, top: list[float], start: float, before: float, after: float, dtype: type
) -> None:
    below = single(phase, dtype)
    assert improved(below, np.array(top), start, 0)[0] == pytest.approx(before)
    best, p = improved(below, np.array(top), start, 60)
    assert (best >= before).all()
    assert best == pytest.approx(after, abs=0.02)
    assert (p >= 0).all()
    assert phase != 0 or (p <= 1).all()


def network(family: str, seed: int, radius: float) -> tuple[SparseBounds, int]:
    graph = graph_of(member(family, seed))
    net = sparse_network(graph)
    assert net is not None
    box = box_around(graph, 1, radius, seed)
    return bound_box(net, box.lower.numpy().ravel(), box.upper.numpy().ravel(), 2.0**-24), net.inputs


@pytest.mark.parametrize("family", ["fully connected", "grafted convolution", "residual", "odd"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_with_the_state_s_slopes_the_pass_is_plain_crown(family: str, sign: float) -> None:
    found, inputs = network(family, 3, 0.3)
    rows = found.unstable()[-LANES:]
    assert len(rows)
    plain, own = np.empty(len(rows)), np.empty(len(rows))
    work = scratch(found.network)
    passes.lower_bounds(rows, sign, found.matrix, found.state, inputs, work, plain)
    place, phase = np.full(found.network.rows, -1, np.int64), np.zeros(found.network.rows, np.int8)
    p = np.zeros((1, LANES))
    alpha.bounded_rows(rows, sign, found.matrix, found.state, inputs, phase, place, p, work, own)
    np.testing.assert_allclose(own, plain, rtol=1e-13, atol=1e-15)
    place[found.unstable()] = np.arange(len(found.unstable()))
    p = np.repeat(found.state.lower_slope[found.unstable(), None], LANES, axis=1)
    alpha.bounded_rows(rows, sign, found.matrix, found.state, inputs, phase, place, p, work, own)
    np.testing.assert_allclose(own, plain, rtol=1e-13, atol=1e-15)
    assert not work.sums.any()
    assert not work.touched.any()


@pytest.mark.parametrize("family", ["fully connected", "residual"])
def test_a_lane_does_not_depend_on_its_neighbours(family: str) -> None:
    found, inputs = network(family, 4, 0.4)
    rows, unstable = found.unstable()[-7:], found.unstable()
    place, phase = np.full(found.network.rows, -1, np.int64), np.zeros(found.network.rows, np.int8)
    place[unstable] = np.arange(len(unstable))
    p = np.random.default_rng(0).random((len(unstable), LANES))
    together, work = np.empty(len(rows)), scratch(found.network)
    alpha.bounded_rows(rows, 1.0, found.matrix, found.state, inputs, phase, place, p, work, together)
    for k in range(len(rows)):
        alone, own = np.empty(1), p.copy()
        own[:, 0] = p[:, k]
        alpha.bounded_rows(rows[k : k + 1], 1.0, found.matrix, found.state, inputs, phase, place, own, work, alone)
        assert alone[0] == together[k]
