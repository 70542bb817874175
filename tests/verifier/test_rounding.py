"""The slack of an operation covers float32 evaluations of it, in whichever order they sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import FAMILIES, MORE_FAMILIES, member
from nets import Array, Net, box_around, graph_of, samples
from numpy.typing import NDArray
from test_sparse import sparse_of

from harness.domain import ARITHMETICS
from harness.verifier.config import EngineConfig
from harness.verifier.crown import root_bounds
from harness.verifier.graph import Add, Conv, Graph, Linear, Relu, Scale
from harness.verifier.interval import Bounds, Box
from harness.verifier.rounding import FLOAT32_UNIT, UNITS, rounding_slack, widened
from harness.verifier.sparse import SparseNetwork
from harness.verifier.sparse_bounds import bound_box

Float32 = NDArray[np.float32]


def summed(terms: Float32, random: np.random.Generator) -> np.float32:
    """Returns the float32 sum of terms in a random order: one by one, or in random groups that are added up after."""
    terms = random.permutation(terms)
    parts = np.array_split(terms, random.integers(1, len(terms) + 1)) if len(terms) else []
    total = np.float32(0)
    for part in parts:
        inner = np.float32(0)
        for term in part:
            inner = np.float32(inner + term)
        total = np.float32(total + inner)
    return total


def in_float32(net: SparseNetwork, x: Array, random: np.random.Generator) -> tuple[Float32, Float32]:
    """Returns pre-activations and columns of one point, everything rounded to float32, sums in random orders."""
    columns = np.concatenate([x.ravel().astype(np.float32), np.zeros(net.rows, np.float32)])
    z = np.zeros(net.rows, np.float32)
    weight, bias = net.value.astype(np.float32), net.bias.astype(np.float32)
    for j in range(net.rows):
        part = slice(net.start[j], net.start[j + 1])
        z[j] = summed(np.append(weight[part] * columns[net.column[part]], bias[j]), random)
        h = max(z[j], np.float32(0))
        if net.linear[j]:
            h = np.float32(net.slope[j]) * z[j] + np.float32(net.intercept[j])
        columns[net.inputs + j] = h
    return z, columns


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES])
def test_bounds_of_one_point_contain_what_float32_computes_there(family: str, seed: int) -> None:
    """A box of one point leaves nothing but the slack; without it, float32 leaves the bounds."""
    graph = graph_of(member(family, 70 + seed))
    net, random = sparse_of(graph), np.random.default_rng(seed)
    x = random.normal(0, 1, graph.input_shape).astype(np.float32).astype(np.float64)
    covering, exact = (bound_box(net, x.ravel(), x.ravel(), unit) for unit in (FLOAT32_UNIT, 0.0))
    C = np.concatenate([np.eye(3), -np.eye(3)])
    outside = 0
    for _ in range(4):
        z, columns = in_float32(net, x, random)
        outside += int(((z < exact.lb - 1e-12) | (z > exact.ub + 1e-12)).sum())
        assert (covering.lb <= z).all()
        assert (z <= covering.ub).all()
        assert (covering.margins(C) <= C @ columns[net.output].astype(np.float64)).all()
    assert outside > 0


@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES])
def test_torch_s_bounds_of_one_point_contain_it_too(family: str) -> None:
    graph = graph_of(member(family, 73))
    net, random = sparse_of(graph), np.random.default_rng(1)
    x = random.normal(0, 1, graph.input_shape).astype(np.float32).astype(np.float64)
    point = torch.from_numpy(x)[None]
    found = root_bounds(graph, Box(point, point))
    for _ in range(3):
        z, _ = in_float32(net, x, random)
        for k, (lb, ub) in found.activations.items():
            segment = next(s for s in net.segments if s.activation == k)
            computed = z[segment.first : segment.last]
            assert (lb.flatten().numpy() <= computed).all()
            assert (computed <= ub.flatten().numpy()).all()


@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES])
def test_samples_of_a_box_computed_in_float32_lie_within_its_bounds(family: str) -> None:
    graph = graph_of(member(family, 74))
    net, random = sparse_of(graph), np.random.default_rng(2)
    box = box_around(graph, 1, 0.2, seed=1)
    lower, upper = (end.numpy().ravel().astype(np.float32) for end in (box.lower, box.upper))
    found = bound_box(net, lower.astype(np.float64), upper.astype(np.float64), FLOAT32_UNIT)
    for x in samples(box, 4).flatten(1).numpy():
        z, _ = in_float32(net, np.clip(x.astype(np.float32), lower, upper), random)
        assert (found.lb <= z).all()
        assert (z <= found.ub).all()


def checked(op: Conv | Linear | Scale | Add | Relu, operands: list[torch.Tensor]) -> tuple[float, float]:
    """Returns how far torch's float32 evaluation of an operation is off, as a share of its slack: most, and mean."""
    in_single = Graph.to(_as_graph(op, operands), torch.float32).nodes[-1].op
    computed = in_single.forward(*(o.float() for o in operands)).double()
    slack = rounding_slack(op, [Bounds(o, o) for o in operands], FLOAT32_UNIT)
    assert slack is not None
    share = (computed - op.forward(*operands)).abs() / slack
    return float(share.max()), float(share.mean())


def _as_graph(op: Conv | Linear | Scale | Add | Relu, operands: list[torch.Tensor]) -> Graph:
    from harness.verifier.graph import Input, Node

    first = Node(Input(), (), tuple(operands[0].shape[1:]))
    shape = tuple(op.forward(*operands).shape[1:])
    return Graph((first, Node(op, (0,) * len(operands), shape)))


def operations(random: torch.Generator) -> dict[str, tuple[Conv | Linear | Scale | Add | Relu, list[torch.Tensor]]]:
    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float32).double()

    image, vector = draw(50, 3, 6, 6), draw(50, 40)
    graft = Relu("g", torch.ones(40, dtype=torch.bool), draw(40), draw(40))
    return {
        "linear": (Linear(draw(30, 40), draw(30)), [vector]),
        "conv": (Conv(draw(4, 3, 3, 3), draw(4)), [image]),
        "scale": (Scale(draw(40), draw(40)), [vector]),
        "add": (Add((1, -1)), [vector, draw(50, 40)]),
        "graft": (graft, [vector]),
    }


@pytest.mark.parametrize("kind", ["linear", "conv", "scale", "add", "graft"])
def test_one_operation_in_float32_stays_within_its_slack(kind: str) -> None:
    op, operands = operations(torch.Generator().manual_seed(3))[kind]
    most, mean = checked(op, operands)
    assert mean > 0
    assert most <= 1


def test_a_sum_in_the_worst_order_stays_within_its_slack() -> None:
    """A large number first, then thousands that each vanish in it: the error grows with the number of terms."""
    n = 4000
    weight = np.concatenate([[1.0], np.full(n, 2.0**-25)])
    op = Linear(torch.from_numpy(weight)[None], torch.zeros(1, dtype=torch.float64))
    one = torch.ones(1, n + 1, dtype=torch.float64)
    total = np.float32(0)
    for term in weight.astype(np.float32):
        total = np.float32(total + term)
    slack = rounding_slack(op, [Bounds(one, one)], FLOAT32_UNIT)
    assert slack is not None
    error = abs(float(total) - weight.sum())
    assert error > 1e-4
    assert error <= float(slack[0, 0])
    net = Net((n + 1,))
    found = sparse_of(
        graph_of(net.model(net.op("Gemm", "x", net.constant(weight[None]), net.constant([0.0]), transB=1)))
    )
    bounds = bound_box(found, np.ones(n + 1), np.ones(n + 1), FLOAT32_UNIT)
    assert bounds.lb[0] <= float(total) <= bounds.ub[0]


def test_what_only_moves_values_is_exact() -> None:
    relu = Relu("r")
    zero = torch.zeros(1, 3, dtype=torch.float64)
    assert rounding_slack(relu, [Bounds(zero, zero)], FLOAT32_UNIT) is None
    bounds = Bounds(zero - 1, zero + 1)
    assert widened(bounds, None) is bounds
    assert widened(bounds, zero + 0.5).lb.tolist() == [[-1.5] * 3]


def test_every_arithmetic_that_can_be_asked_for_has_its_unit() -> None:
    assert tuple(UNITS) == ARITHMETICS
    assert EngineConfig().arithmetic == ARITHMETICS[0]
