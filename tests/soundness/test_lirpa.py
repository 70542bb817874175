"""Interval and CROWN bounds against auto_LiRPA's, which reads the same ONNX network by another reader."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from families import FAMILIES, SMOOTH_FAMILIES, member
from lirpa import Pair, Reference, load
from nets import box_around, decide_all, graph_of, property_of, region, run_onnx, samples
from onnx_torch import OnnxModule
from torch import Tensor

from harness.domain import Limits, Verdict
from harness.verifier.crown import RootBounds, margins, root_bounds
from harness.verifier.graph import Graph
from harness.verifier.interval import Box, interval_bounds

DOUBLE = torch.float64
EXACT = 1e-9
"""Relative: what the order of float64 sums may cost where both compute the same formula."""
RADII = (0.03, 0.15, 0.6)
CASES = [(family, seed) for family in FAMILIES for seed in range(2)]
SMOOTH_CASES = [(family, seed) for family in SMOOTH_FAMILIES for seed in range(1)]

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")


def test_the_reference_leaves_the_limit_on_recursion_alone() -> None:
    load()
    assert sys.getrecursionlimit() < 100_000  # what 8 MB of stack hold


def allowed(values: Tensor, share: float = EXACT) -> Tensor:
    return share * (1 + values.abs())


def rows_of(seed: int) -> Tensor:
    """Returns the outputs, their negatives and a few mixtures, `(rows, 3)`."""
    random = torch.Generator().manual_seed(seed)
    eye = torch.eye(3, dtype=DOUBLE)
    return torch.cat([eye, -eye, torch.randn(4, 3, generator=random, dtype=DOUBLE)])


def ours(graph: Graph, C: Tensor, found: RootBounds) -> Tensor:
    return margins(graph, C, torch.zeros(len(C), dtype=torch.int64), found)


def matched(graph: Graph, found: RootBounds, reference: Reference) -> dict[int, str]:
    """Returns the reference's name of each activation's input; the two know each other by their values at a point."""
    x = samples(found.box, 1, seed=5)
    values, theirs = graph.values(x), reference.activations(x)
    names = {}
    for k in found.activations:
        mine = values[graph.nodes[k].inputs[0]]
        close = [n for n, v in theirs.items() if v.shape == mine.shape and bool(((v - mine).abs() < 1e-9).all())]
        assert close, f"no activation of the reference has the values of {graph.activation(k).name}"
        names[k] = close[0]
    return names


@pytest.mark.parametrize("family", FAMILIES | SMOOTH_FAMILIES)
def test_the_references_reader_computes_the_network(family: str) -> None:
    model = member(family, 3)
    x = torch.rand(20, *graph_of(model).input_shape, dtype=DOUBLE) * 4 - 2
    expected = run_onnx(model, x.float().numpy())
    assert OnnxModule(model)(x.float().double()).numpy() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("family", "seed"), CASES + SMOOTH_CASES)
def test_intervals_are_not_looser_and_both_hold(family: str, seed: int) -> None:
    model = member(family, 300 + seed)
    graph = graph_of(model)
    for radius in RADII:
        box = box_around(graph, 1, radius, seed)
        low, high = Reference(model, box.lower, box.upper).output("IBP")
        mine = interval_bounds(graph, box)[len(graph.nodes) - 1]
        assert bool((mine.lb.flatten() >= low - allowed(low)).all())
        assert bool((mine.ub.flatten() <= high + allowed(high)).all())
        y = graph(samples(box, 200, seed))
        for lower, upper in ((low, high), (mine.lb.flatten(), mine.ub.flatten())):
            assert bool((lower <= y.min(0).values + allowed(lower)).all())
            assert bool((upper >= y.max(0).values - allowed(upper)).all())


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_from_the_same_hidden_bounds_the_margins_are_the_same(family: str, seed: int) -> None:
    """Equal, not only as tight: a margin above the reference's would be as suspicious as one below it."""
    model, C = member(family, 300 + seed), rows_of(seed)
    graph = graph_of(model)
    for radius in RADII:
        box = box_around(graph, 1, radius, seed)
        found, reference = root_bounds(graph, box, 0.0), Reference(model, box.lower, box.upper)
        hidden = {name: known(found, k) for k, name in matched(graph, found, reference).items()}
        low, high = reference.output("CROWN", C, hidden)
        assert ours(graph, C, found).numpy() == pytest.approx(low.numpy(), rel=EXACT, abs=EXACT)
        assert ours(graph, -C, found).numpy() == pytest.approx(-high.numpy(), rel=EXACT, abs=EXACT)


def known(found: RootBounds, activation: int) -> Pair:
    lb, ub = found.activations[activation]
    return lb, ub


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_hidden_bounds_of_relaxed_neurons_are_not_looser(family: str, seed: int) -> None:
    """Layer by layer: the reference bounds one layer from our bounds of the others."""
    model = member(family, 300 + seed)
    graph = graph_of(model)
    for radius in RADII:
        box = box_around(graph, 1, radius, seed)
        found, reference = root_bounds(graph, box, 0.0), Reference(model, box.lower, box.upper)
        names = matched(graph, found, reference)
        for k, name in names.items():
            others = {n: known(found, i) for i, n in names.items() if n != name}
            low, high = reference.hidden(name, "CROWN", others)
            lb, ub = found.activations[k]
            op = graph.activation(k)
            relaxed = (lb < 0) & (ub > 0)
            if op.linear is not None:
                relaxed &= ~op.linear
            assert bool((lb >= low - allowed(low))[relaxed].all()), f"{op.name}: lower"
            assert bool((ub <= high + allowed(high))[relaxed].all()), f"{op.name}: upper"


def gains(family: str, seed: int, radius: float) -> Tensor:
    """Returns how much tighter our margins are, each with hidden bounds of its own, as shares of the reference's slack.

    The slack is measured to the lowest sample; fails if a sample undercuts either.
    """
    model, C = member(family, 300 + seed), rows_of(seed)
    graph = graph_of(model)
    box = box_around(graph, 1, radius, seed)
    low, _ = Reference(model, box.lower, box.upper).output("CROWN", C)
    mine = ours(graph, C, root_bounds(graph, box, 0.0))
    reached = (graph(samples(box, 200, seed)) @ C.T).min(0).values
    assert bool((low <= reached + allowed(low)).all())
    assert bool((mine <= reached + allowed(mine)).all())
    return (mine - low) / (reached - low).clamp(min=1e-6)


def test_each_with_its_own_hidden_bounds_ours_are_rarely_looser() -> None:
    """Tighter hidden bounds may choose another lower slope, so single margins can be looser, but few and by little."""
    share = torch.cat([gains(family, seed, 0.15) for family, seed in CASES])
    assert float((share >= -1e-5).double().mean()) >= 0.9
    assert float(share.min()) >= -0.1
    assert float(share.mean()) >= 0


def test_smooth_activations_are_about_as_tight() -> None:
    """Their lines touch the curve at points of each implementation's own choice."""
    share = torch.cat([gains(family, seed, 0.15) for family, seed in SMOOTH_CASES])
    assert float(share.min()) >= -0.05
    assert float(share.mean()) >= -0.005


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_the_engine_proves_what_the_references_crown_proves(family: str, seed: int) -> None:
    model, C = member(family, 300 + seed), rows_of(seed)
    graph = graph_of(model)
    box = float32_box(box_around(graph, 1, 0.15, seed))
    low, _ = Reference(model, box.lower, box.upper).output("CROWN", C)
    rhs = low - 1e-4 * (1 + low.abs())
    properties = {
        str(k): property_of(box.lower.numpy(), box.upper.numpy(), region(row.numpy(), float(rhs[k])))
        for k, row in enumerate(C)
    }
    verdicts = {key: a.verdict for key, a in decide_all(model, properties, Limits(60, "work", 200)).items()}
    assert verdicts == dict.fromkeys(properties, Verdict.UNSAT)


def float32_box(box: Box) -> Box:
    """Returns the box with ends that float32 holds, as the engine widens others to such ends."""
    lower, upper = (torch.from_numpy(end.numpy().astype(np.float32).astype(float)) for end in (box.lower, box.upper))
    return Box(lower, upper)
