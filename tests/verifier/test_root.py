"""Both ways to bound a box keep the same promises, and count the same unstable neurons."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import FAMILIES, MORE_FAMILIES, member
from nets import Array, Net, box_around, graph_of, samples
from test_fold import evaluated
from test_sparse import sparse_of

from harness.verifier.graph import Graph, size
from harness.verifier.interval import Box
from harness.verifier.root import Root, bound_root

PIECEWISE_LINEAR = [*FAMILIES, *MORE_FAMILIES]
RELU_OF_RELU = ("odd", "groups and axes")
"""The sparse form copies a ReLU's output that another ReLU takes, grants the copy slack, and finds it unstable."""
KINDS = ("sparse", "torch")
C = torch.tensor([[1.0, -1.0, 0.0], [-0.5, 0.0, 1.0]], dtype=torch.float64)
RHS = torch.tensor([0.25, -1.0], dtype=torch.float64)


def bound(kind: str, graph: Graph, box: Box) -> Root:
    return bound_root(graph, sparse_of(graph) if kind == "sparse" else None, box)


def lowest(graph: Graph, box: Box) -> Array:
    points = samples(box, 200, seed=5)
    values: Array = (graph(points) @ C.T - RHS).min(0).values.numpy()
    return values


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", PIECEWISE_LINEAR)
def test_margins_and_folded_margins_hold(family: str, kind: str) -> None:
    graph = graph_of(member(family, 80))
    box = box_around(graph, 1, 0.2, seed=2)
    root = bound(kind, graph, box)
    reached = lowest(graph, box)
    assert (root.margins(C, RHS) <= reached).all()
    folded = root.fold(C, RHS)
    random = np.random.default_rng(1)
    for _ in range(5):
        t = random.uniform(-1, 1, size(graph.input_shape))
        x = box.centre + box.radius * torch.from_numpy(t).view(box.centre.shape)
        z, margins = evaluated(folded, t)
        exact = (C @ graph(x)[0] - RHS).numpy()
        assert (margins <= exact).all(), "what rounding may cost is taken off"
        np.testing.assert_allclose(margins, exact, atol=1e-3 * (1 + np.abs(exact).max()))
        assert (folded.lb <= z).all()
        assert (z <= folded.ub).all()


@pytest.mark.parametrize("family", [f for f in PIECEWISE_LINEAR if f not in RELU_OF_RELU])
def test_both_kinds_see_the_same_neurons_unstable(family: str) -> None:
    graph = graph_of(member(family, 81))
    box = box_around(graph, 1, 0.1, seed=3)
    sparse, by_torch = (bound(kind, graph, box).unstable() for kind in KINDS)
    assert list(sparse.masks) == list(by_torch.masks)
    for name, mask in sparse.masks.items():
        different = int((mask != by_torch.masks[name]).sum())
        assert different <= 0.1 * len(mask), name
    assert abs(sparse.nonlinear - by_torch.nonlinear) <= 0.1 * (1 + by_torch.nonlinear)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slope", [0.0, -0.5])
def test_a_grafted_neuron_counts_by_its_own_input_s_bounds(slope: float, kind: str) -> None:
    """Whatever is made of it: one that is grafted to nothing at all straddles zero like any other."""
    net = Net((2,))
    first = net.relu(net.op("Gemm", "x", net.constant(np.eye(2)), net.constant([5.0, 5.0]), transB=1))
    weight, bias = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.array([-5.0, -3.0, -10.0])
    v = net.op("Gemm", first, net.constant(weight), net.constant(bias), transB=1)
    v = net.grafted(v, [True, True, False], [slope] * 3, [0.0] * 3, name="g")
    graph = graph_of(net.model(net.linear(v, 3, 3)))
    box = Box(-torch.ones(1, 2).double(), torch.ones(1, 2).double())
    found = bound(kind, graph, box).unstable()
    masks = {name: mask.tolist() for name, mask in found.masks.items()}
    assert list(masks.values()) == [[False, False], [True, False, True]]
    assert found.nonlinear == 1


def test_refined_bounds_are_tighter_where_there_are_any() -> None:
    graph = graph_of(member("residual", 82))
    box = box_around(graph, 1, 0.1, seed=4)
    plain = bound("sparse", graph, box)
    refined = plain.refined(C)
    assert refined is not None
    assert (refined.margins(C, RHS) > plain.margins(C, RHS)).any()
    assert (refined.margins(C, RHS) >= plain.margins(C, RHS)).all()
    assert (refined.margins(C, RHS) <= lowest(graph, box)).all()
    assert bound("torch", graph, box).refined(C) is None
