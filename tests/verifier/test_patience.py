"""Long computations end in time, wherever they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import member
from nets import box_around, decide_all, graph_of, property_of, region

from harness.domain import Limits, Verdict
from harness.verifier import engine as engine_module
from harness.verifier.attack import Target, attack
from harness.verifier.config import AttackConfig
from harness.verifier.graph import Graph
from harness.verifier.interval import Box
from harness.verifier.patience import OutOfTimeError, tick, until
from harness.verifier.problem import problems_of
from harness.verifier.root import Root, bound_root
from harness.verifier.sparse import SparseNetwork, sparse_network


def test_without_a_limit_nothing_happens() -> None:
    tick()


def test_the_innermost_limit_counts_and_ends_with_its_block() -> None:
    with until(lambda: True):
        with until(lambda: False):
            tick()
        with pytest.raises(OutOfTimeError):
            tick()
    tick()


def root(sparse: bool) -> Root:
    graph = graph_of(member("convolution", 30))
    return bound_root(graph, sparse_network(graph) if sparse else None, box_around(graph, 1, 0.5))


@pytest.mark.parametrize("sparse", [False, True])
def test_root_bounds_and_what_follows_end_in_time(sparse: bool) -> None:
    if sparse:
        pytest.importorskip("numba")
    with until(lambda: True), pytest.raises(OutOfTimeError):
        root(sparse)
    found = root(sparse)
    C = torch.tensor([[1.0, -1, 0]], dtype=torch.float64)
    with until(lambda: True), pytest.raises(OutOfTimeError):
        found.fold(C, torch.zeros(1, dtype=torch.float64))
    if sparse:
        with until(lambda: True), pytest.raises(OutOfTimeError):
            found.refined(C)


def test_an_attack_ends_in_time() -> None:
    graph = graph_of(member("convolution", 30))
    size = int(np.prod(graph.input_shape))
    never = property_of(np.zeros(size), np.ones(size), region([[1.0, -1, 0]], [-1e9]))
    (problem,) = problems_of(never, graph, "never")
    looks = 0

    def third() -> bool:
        nonlocal looks
        looks += 1
        return looks == 3

    with until(third), pytest.raises(OutOfTimeError):
        attack(graph.to(torch.float32), [problem], [Target(0, problem.regions)], AttackConfig(1, 10), 8, 0)
    assert looks == 3


def test_an_input_whose_bounds_take_too_long_times_out_and_the_others_are_decided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = member("convolution", 30)
    size = int(np.prod(graph_of(model).input_shape))
    rows = np.array([[1.0, -1, 0]])
    properties = {
        key: property_of(np.full(size, at - 0.01), np.full(size, at + 0.01), region(rows, [-50.0]))
        for key, at in (("slow", 0.4), ("quick", 0.5))
    }
    genuine = engine_module.bound_root

    def bound(graph: Graph, sparse: SparseNetwork | None, box: Box, unit: float) -> Root:
        while float(box.centre.mean()) < 0.45:
            tick()
        return genuine(graph, sparse, box, unit)

    monkeypatch.setattr(engine_module, "bound_root", bound)
    answers = decide_all(model, properties, Limits(1.5, "work"))
    assert answers["slow"].verdict is Verdict.TIMEOUT
    assert answers["slow"].work_s >= 1.5
    assert answers["quick"].verdict is Verdict.UNSAT
