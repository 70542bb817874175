"""Search for counterexamples by projected gradient descent, batched over problems, restarts and regions.

Nothing found here is believed: every candidate is run through ONNX Runtime before it counts (`witness`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from harness.verifier.config import AttackConfig
from harness.verifier.graph import Graph
from harness.verifier.patience import tick
from harness.verifier.problem import Problem, Region


class Target(NamedTuple):
    """What one search aims at: some regions of one problem."""

    problem: int
    """Index of the problem."""
    regions: tuple[Region, ...]
    """The search lowers the smallest distance to any of them."""


class Candidate(NamedTuple):
    """An input that violates its problem by the engine's own float32 evaluation."""

    problem: int
    x: Tensor
    """`(*input_shape)` float32, inside the box."""


@dataclass(frozen=True, slots=True, eq=False)
class _Objective:
    """Regions of a batch of targets, padded to common size: value <= 0 exactly where a region contains the output."""

    C: Tensor
    """`(batch, regions, rows, outputs)`."""
    rhs: Tensor
    """`(batch, regions, rows)`."""
    row_used: Tensor
    """Which rows are no padding, `(batch, regions, rows)`."""
    region_used: Tensor

    def __call__(self, y: Tensor) -> Tensor:
        value = torch.einsum("bgro,bo->bgr", self.C, y) - self.rhs
        value = torch.where(self.row_used, value, torch.full_like(value, -torch.inf)).amax(2)
        return torch.where(self.region_used, value, torch.full_like(value, torch.inf)).amin(1)

    def part(self, kept: Tensor) -> _Objective:
        """Returns the objective of some targets, `kept` being `(batch,)` bool."""
        return _Objective(self.C[kept], self.rhs[kept], self.row_used[kept], self.region_used[kept])


def _objective(targets: Sequence[Target], graph: Graph) -> _Objective:
    regions = max(len(t.regions) for t in targets)
    rows = max((1, *(len(r.rhs) for t in targets for r in t.regions)))
    outputs = targets[0].regions[0].C.shape[1]
    C = torch.zeros(len(targets), regions, rows, outputs)
    rhs = torch.zeros(len(targets), regions, rows)
    row_used = torch.zeros(len(targets), regions, rows, dtype=torch.bool)
    region_used = torch.zeros(len(targets), regions, dtype=torch.bool)
    for b, target in enumerate(targets):
        for g, region in enumerate(target.regions):
            n = len(region.rhs)
            C[b, g, :n], rhs[b, g, :n] = region.C.float(), region.rhs.float()
            row_used[b, g, : max(n, 1)] = True
            region_used[b, g] = True
    return _Objective(*(a.to(graph.device) for a in (C, rhs, row_used, region_used)))


def attack(
    graph: Graph,
    problems: Sequence[Problem],
    targets: Sequence[Target],
    config: AttackConfig,
    batch: int,
    seed: int,
) -> list[Candidate]:
    """Returns at most one candidate for each problem that some search violates.

    The starts of a search depend on its problem, the restart and `seed` alone.

    Args:
        graph: the network in float32.
        problems: what the targets refer to.
        targets: the searches, each run from `config.restarts` starts.
        config: steps and step sizes.
        batch: points that are searched together.
        seed: base of the random starts.
    """
    found: dict[int, Candidate] = {}
    searches = [(t, k) for k in range(config.restarts) for t in targets if t.regions]
    for start in range(0, len(searches), batch):
        part = [(t, k) for t, k in searches[start : start + batch] if t.problem not in found]
        for candidate in _search(graph, problems, part, config, seed):
            found.setdefault(candidate.problem, candidate)
    return list(found.values())


def _search(
    graph: Graph,
    problems: Sequence[Problem],
    searches: Sequence[tuple[Target, int]],
    config: AttackConfig,
    seed: int,
) -> Iterator[Candidate]:
    """Runs the searches together; a search leaves the batch as soon as it or another one of its problem succeeds."""
    if not searches:
        return
    objective = _objective([t for t, _ in searches], graph)
    lower = _stack(graph, [problems[t.problem].box.lower for t, _ in searches])
    upper = _stack(graph, [problems[t.problem].box.upper for t, _ in searches])
    x = lower + (upper - lower) * torch.stack([_start(problems[t.problem], k, graph, seed) for t, k in searches])
    x = x.clamp(lower, upper)
    step = config.step_size * (upper - lower) / 2
    owner = torch.tensor([t.problem for t, _ in searches])
    for _ in range(config.steps + 1):
        tick()
        x.requires_grad_(True)
        value = objective(graph(x))
        (gradient,) = torch.autograd.grad(value.sum(), x)
        x = x.detach()
        hits = torch.nonzero(value.cpu() <= 0).flatten().tolist()
        # The first of a problem's hits, in the order of the searches.
        found = {int(owner[b]): b for b in reversed(hits)}
        for problem in sorted(found):
            yield Candidate(problem, x[found[problem]].clone())
        x = (x - step * gradient.sign()).clamp(lower, upper)
        step = step * config.decay
        if found:
            kept = ~torch.isin(owner, torch.tensor(list(found)))
            if not kept.any():
                return
            owner, kept = owner[kept], kept.to(x.device)
            x, lower, upper, step, objective = x[kept], lower[kept], upper[kept], step[kept], objective.part(kept)


def _stack(graph: Graph, flat: Sequence[object]) -> Tensor:
    rows = torch.stack([torch.tensor(f, dtype=torch.float32) for f in flat])
    return rows.view(len(flat), *graph.input_shape).to(graph.device)


def _start(problem: Problem, restart: int, graph: Graph, seed: int) -> Tensor:
    """Returns where a search starts, in [0, 1] across the box: the centre first, then uniform points."""
    if restart == 0:
        return torch.full(graph.input_shape, 0.5, device=graph.device)
    generator = torch.Generator().manual_seed((problem.seed(seed) + restart) % 2**63)
    return torch.rand(graph.input_shape, generator=generator).to(graph.device)
