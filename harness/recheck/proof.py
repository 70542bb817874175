"""One instance: samples first, then float64 bounds of each box, then splitting of inputs or of neurons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.domain import Counterexample, FloatArray, Verdict
from harness.formats.onnx_file import OnnxSession, run_flat
from harness.recheck.split_inputs import split_inputs
from harness.recheck.split_neurons import split_neurons
from harness.verifier.graph import Graph, size
from harness.verifier.problem import Problem, Region, boxes_of
from harness.verifier.root import bound_root
from harness.verifier.rounding import FLOAT32_UNIT

FEW_INPUTS = 16
"""Networks with at most so many inputs are split by input."""
STARTS, STEPS = 16, 12
"""Points of each box from which a violation is sought, and steps of that."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of an instance."""

    verdict: Verdict
    message: str = ""
    counterexample: Counterexample | None = None
    domains: int = 0
    """Sub-boxes or domains bounded beyond the root."""


def decide(
    graph: Graph,
    session: OnnxSession,
    problems: Sequence[Problem],
    seed: int,
    is_over: Callable[[], bool],
    unit: float = FLOAT32_UNIT,
) -> Finding:
    """Returns unsat where every problem's regions are out of reach, sat with a point that ONNX Runtime puts into one.

    Args:
        graph: the network in float64.
        session: the same network.
        problems: the property's boxes that have a point, with their regions.
        seed: of the samples.
        is_over: whether the time is over.
        unit: unit roundoff of the evaluations that unsat speaks of.
    """
    domains = 0
    for problem in problems:
        violation = sampled(graph, session, problem, seed)
        if violation is not None:
            return Finding(Verdict.SAT, counterexample=violation)
    for problem in problems:
        found = _problem(graph, problem, is_over, unit)
        domains += found.domains
        if found.verdict is not Verdict.UNSAT:
            return Finding(found.verdict, found.message, domains=domains)
    return Finding(Verdict.UNSAT, domains=domains)


def sampled(graph: Graph, session: OnnxSession, problem: Problem, seed: int) -> Counterexample | None:
    """Returns a point of the box that ONNX Runtime puts into a region, if one is found by a short descent.

    From the middle and from random corners, by the sign of the gradient of the worst constraint of the nearest region.
    """
    lower, upper = problem.box.ends(session.input.dtype)
    if (lower > upper).any():
        return None
    random = np.random.default_rng(problem.seed(seed) % 2**32)
    low, high = (torch.from_numpy(end.astype(np.float64)) for end in (lower, upper))
    corners = torch.from_numpy(random.random((STARTS, lower.size)) < 0.5)
    points = torch.where(corners, low, high)
    points[0] = (low + high) / 2
    for step in range(STEPS + 1):
        for x in points[: 1 if step else None]:
            found = _confirmed(session, problem, x.numpy().clip(lower, upper).astype(session.input.dtype))
            if found is not None:
                return found
        points = _descended(graph, problem.regions, points, low, high, 0.5 ** (step // 3))
    return None


def _confirmed(session: OnnxSession, problem: Problem, x: FloatArray) -> Counterexample | None:
    y = run_flat(session, x)
    hit = np.isfinite(y).all() and bool(problem.violated_by(torch.from_numpy(y)[None])[0])
    return Counterexample(x, y) if hit else None


def _descended(
    graph: Graph, regions: Sequence[Region], points: Tensor, low: Tensor, high: Tensor, share: float
) -> Tensor:
    """Returns the points after a step of some share of the box, the one that was nearest to a region first."""
    x = points.clone().requires_grad_(True)
    y = graph(x.view(-1, *graph.input_shape))
    excesses = [(y @ region.C.T - region.rhs).amax(1) for region in regions if len(region.rhs)]
    if not excesses:
        return points
    excess = torch.stack(excesses).amin(0)
    (gradient,) = torch.autograd.grad(excess.sum(), x)
    moved = (points - share * (high - low) * gradient.sign()).clamp(low, high)
    return moved[excess.argsort()]


def _problem(graph: Graph, problem: Problem, is_over: Callable[[], bool], unit: float) -> Finding:
    box = boxes_of([problem], graph)
    root = bound_root(graph, None, box, unit)
    if not root.covers_float32():
        return Finding(Verdict.UNKNOWN, "a float32 evaluation may overflow within the box")
    open_rows: list[tuple[Tensor, Tensor]] = []
    left: list[Region] = []
    for region in problem.regions:
        if not len(region.rhs):
            return Finding(Verdict.UNKNOWN, "a violation region without constraints holds every output")
        bounds = root.margins(region.C, region.rhs)
        best = int(bounds.argmax())
        if not bounds[best] > 0:
            left.append(region)
            open_rows.append((region.C[best], region.rhs[best]))
    if not left:
        return Finding(Verdict.UNSAT)
    if size(graph.input_shape) <= FEW_INPUTS:
        result, domains = split_inputs(graph, box, left, is_over, unit)
    elif graph.has_smooth:
        return Finding(Verdict.UNKNOWN, "root bounds do not decide it, and sigmoid and tanh are not split")
    else:
        C, rhs = (torch.stack([pair[k] for pair in open_rows]) for k in (0, 1))
        result, domains = split_neurons(root.fold(C, rhs), is_over)
    return Finding(Verdict.UNSAT if result else Verdict.TIMEOUT if is_over() else Verdict.UNKNOWN, domains=domains)
