"""The search for counterexamples stays in its boxes, is repeatable, and keeps problems apart."""

from __future__ import annotations

import numpy as np
import torch
from families import member
from nets import graph_of, property_of, region

from harness.domain import Property
from harness.verifier.attack import Candidate, Target, attack
from harness.verifier.config import AttackConfig
from harness.verifier.graph import Graph
from harness.verifier.problem import Problem, problems_of

CONFIG = AttackConfig(restarts=3, steps=15)


def setting(family: str = "convolution", count: int = 4, rhs: float = 0.0) -> tuple[Graph, list[Problem]]:
    graph = graph_of(member(family, 1))
    size = int(np.prod(graph.input_shape))
    random = np.random.default_rng(2)
    problems = []
    for _ in range(count):
        centre = random.random(size)
        prop = property_of(centre - 0.3, centre + 0.3, region([[1, -1, 0]], rhs), region([[0, 1, -1]], rhs))
        problems.append(problems_of(prop, graph, "p")[0])
    return graph.to(torch.float32), problems


def targets_of(problems: list[Problem]) -> list[Target]:
    return [Target(k, problem.regions) for k, problem in enumerate(problems)]


def found_by(graph: Graph, problems: list[Problem], batch: int = 64, seed: int = 7) -> list[Candidate]:
    return attack(graph, problems, targets_of(problems), CONFIG, batch, seed)


def test_candidates_lie_in_their_boxes_and_violate() -> None:
    graph, problems = setting()
    candidates = found_by(graph, problems)
    assert len(candidates) >= 2
    for problem, x in candidates:
        flat = x.double().numpy().ravel()
        box = problems[problem].box
        assert (flat >= box.lower.astype(np.float32)).all()
        assert (flat <= box.upper.astype(np.float32)).all()
        assert bool(problems[problem].violated_by(graph(x[None]))[0])


def test_the_same_seed_finds_the_same() -> None:
    graph, problems = setting(rhs=-0.3)
    first, second = found_by(graph, problems), found_by(graph, problems)
    assert [c.problem for c in first] == [c.problem for c in second]
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.x, b.x)


def test_a_problem_s_finds_do_not_depend_on_its_neighbours() -> None:
    graph, problems = setting(count=5)
    together = {c.problem: c.x for c in found_by(graph, problems, batch=4)}
    for k, problem in enumerate(problems):
        alone = found_by(graph, [problem])
        assert bool(alone) == (k in together)
        if alone:
            torch.testing.assert_close(alone[0].x, together[k], rtol=1e-4, atol=1e-5)


def test_at_most_one_candidate_a_problem() -> None:
    graph, problems = setting(rhs=100.0)
    candidates = attack(graph, problems, targets_of(problems) * 3, CONFIG, 2, 0)
    assert sorted(c.problem for c in candidates) == [0, 1, 2, 3]


def test_what_cannot_be_violated_has_no_candidate() -> None:
    graph, problems = setting(rhs=-1e6)
    assert found_by(graph, problems) == []


def test_regions_of_different_sizes_are_searched_together() -> None:
    graph, _ = setting("fully connected")
    lower, upper = np.zeros(5), np.ones(5)
    impossible = region(np.eye(3), [-1e6] * 3)
    possible = region([[1, 0, 0]], 1e6)
    cases = [property_of(lower, upper, impossible), property_of(lower, upper, impossible, possible)]
    problems = [problems_of(p, graph, "p")[0] for p in cases]
    assert [c.problem for c in found_by(graph, problems)] == [1]


def test_all_rows_of_a_region_must_hold() -> None:
    graph, _ = setting("fully connected")
    contradiction = region([[1, 0, 0], [-1, 0, 0]], [1e6, -2e6])
    prop: Property = property_of(np.zeros(5), np.ones(5), contradiction)
    assert found_by(graph, list(problems_of(prop, graph, "p"))) == []


def test_a_region_without_rows_is_hit_at_once_and_no_regions_never() -> None:
    graph, _ = setting("fully connected")
    everything = property_of(np.zeros(5), np.ones(5), region(np.zeros((0, 3)), np.zeros(0)))
    nothing = property_of(np.zeros(5), np.ones(5), outputs=3)
    problems = [problems_of(p, graph, "p")[0] for p in (nothing, everything)]
    assert [c.problem for c in found_by(graph, problems)] == [1]


def test_a_box_of_no_width_has_one_candidate() -> None:
    graph, _ = setting("fully connected")
    point = np.full(5, 0.3)
    problems = list(problems_of(property_of(point, point, region([[1, 0, 0]], 1e6)), graph, "p"))
    (candidate,) = found_by(graph, problems)
    np.testing.assert_array_equal(candidate.x.numpy(), point.astype(np.float32))
