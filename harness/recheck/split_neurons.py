"""Proof by splitting unstable neurons of the folded network: alpha and beta by gradient ascent, all in float64.

Written apart from `harness.verifier.bab` and its kernels, so that a mistake there is not repeated here. The bound is
that of Wang et al. 2021 on the network of `verifier.fold`; its allowance for rounding is the same (design note 003).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.verifier.fold import FoldedNetwork

PARENTS = 32
"""Domains that are split in one round."""
CANDIDATES = 3
"""Neurons of a domain whose two halves are bounded before one is chosen."""
ROOT_STEPS, STEPS, LEAF_STEPS = 40, 8, 200
"""Steps on the multipliers: at the root, after a split, and where every neuron is split."""
MOST_OPEN = 50_000


class Domains(NamedTuple):
    """Domains of one folded network; columns are domains."""

    margin: Tensor
    """`(k,)`: which margin each bounds."""
    phase: Tensor
    """`(n, k)` int8: 0 free, 1 split active (z >= 0), -1 split inactive (z <= 0)."""
    multiplier: Tensor
    """`(n, k)` float64: alpha in [0, 1] of a free neuron, beta >= 0 of a split one."""

    def at(self, index: Tensor) -> Domains:
        """Returns some of the domains."""
        return Domains(self.margin[index], self.phase[:, index], self.multiplier[:, index])


class Bounded(NamedTuple):
    """What was found of domains."""

    bound: Tensor
    """`(k,)`: proved lower bounds of the margins."""
    coefficient: Tensor
    """`(n, k)`: what each neuron's output is multiplied by there."""


def split_neurons(network: FoldedNetwork, is_over: Callable[[], bool]) -> tuple[bool, int]:
    """Returns whether every margin is above 0 on the whole box, shown by a tree of domains, and how many there were.

    False says nothing: the time, or the number of open domains, came to its end.
    """
    n, margins = network.neurons, len(network.e)
    tensors = _Tensors(network)
    start = (tensors.upper > -tensors.lower).double()[:, None].repeat(1, margins)
    open_ = Domains(torch.arange(margins), torch.zeros(n, margins, dtype=torch.int8), start)
    open_, found = _improved(tensors, open_, ROOT_STEPS)
    count, waiting = margins, [_left(open_, found)]
    while waiting:
        domains = waiting.pop()
        if not len(domains.margin):
            continue
        if is_over() or sum(len(one.margin) for one in waiting) > MOST_OPEN:
            return False, count
        if len(domains.margin) > PARENTS:
            waiting.append(domains.at(torch.arange(PARENTS, len(domains.margin))))
            domains = domains.at(torch.arange(PARENTS))
        is_leaf = (domains.phase != 0).all(0)
        if bool(is_leaf.any()):
            leaves = domains.at(is_leaf.nonzero().flatten())
            if len(_left(*_improved(tensors, leaves, LEAF_STEPS)).margin):
                return False, count
            domains = domains.at((~is_leaf).nonzero().flatten())
            if not len(domains.margin):
                continue
        children = _halves(domains, _choice(tensors, domains))
        children, found = _improved(tensors, children, STEPS)
        count += len(children.margin)
        waiting.append(_left(children, found))
    return True, count


def _left(domains: Domains, found: Bounded) -> Domains:
    """Returns the domains that are not proved, the most promising first; a bound that is no number proves nothing."""
    proved = (found.bound > 0) & torch.isfinite(found.bound)
    index = (~proved).nonzero().flatten()
    return domains.at(index[found.bound[index].argsort(descending=True)])


class _Product(torch.autograd.Function):
    """A constant sparse matrix times a matrix; torch has no gradient for that."""

    @staticmethod
    def forward(context: Any, matrix: Tensor, transposed: Tensor, values: Tensor) -> Tensor:
        context.transposed = transposed
        return matrix @ values

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, context.transposed @ gradients[0]


class _Tensors:
    """A folded network as torch values in float64."""

    def __init__(self, network: FoldedNetwork) -> None:
        self.inputs, width = network.inputs, network.inputs + network.neurons
        values = (network.E, network.slack, network.e, network.C, network.lb, network.ub)
        self.E, self.slack, self.e, self.C, self.lower, self.upper = (torch.from_numpy(np.array(v)) for v in values)
        self.slope = self.upper / (self.upper - self.lower)
        self.layers: list[tuple[slice, Tensor, Tensor]] = []
        rows = network.by_row
        for first, last in zip(network.layer_start[:-1], network.layer_start[1:], strict=True):
            part = slice(int(rows.start[first]), int(rows.start[last]))
            index = np.repeat(np.arange(last - first), np.diff(rows.start[first : last + 1]))
            place = torch.from_numpy(np.stack([index, rows.column[part].astype(np.int64)]))
            content = torch.from_numpy(np.array(rows.value[part], np.float64))
            with warnings.catch_warnings():
                # torch says of each sparse form, once, that it is new.
                warnings.simplefilter("ignore", UserWarning)
                matrix = torch.sparse_coo_tensor(place, content, (int(last - first), width)).coalesce()
                sparse = matrix.to_sparse_csr(), matrix.t().coalesce().to_sparse_csr()
            self.layers.append((slice(int(first), int(last)), *sparse))

    def bounded(self, domains: Domains) -> Bounded:
        """Returns lower bounds of the margins for every t in [-1, 1]^d that obeys the domain's splits.

        From the margins back: a neuron's output is replaced by a line below it (above it, where its coefficient is
        negative); a split one by what its phase says, with beta times its constraint.
        """
        reached, bound = self.C[:, domains.margin], self.e[domains.margin]
        coefficients = []
        for own, matrix, transposed in reversed(self.layers):
            a = reached[self.inputs + own.start : self.inputs + own.stop]
            phase, m = domains.phase[own], domains.multiplier[own]
            slope = self.slope[own, None]
            free = torch.where(a >= 0, m * a, slope * a)
            through = torch.where(phase == 0, free, torch.where(phase > 0, a - m, m))
            offset = torch.where((phase == 0) & (a < 0), -a * slope * self.lower[own, None], torch.zeros_like(a))
            bound = bound + (through * self.E[own, None] - through.abs() * self.slack[own, None] + offset).sum(0)
            reached = reached + _Product.apply(transposed, matrix, through)  # type: ignore[no-untyped-call]
            coefficients.append(a.detach())
        inputs = reached[: self.inputs].abs().sum(0)
        found = torch.cat(coefficients[::-1]) if coefficients else self.C.new_zeros(0, len(domains.margin))
        return Bounded(bound - inputs, found)


def _improved(tensors: _Tensors, domains: Domains, steps: int) -> tuple[Domains, Bounded]:
    """Returns the domains with the best multipliers found by ascent, and their bounds, never worse than before."""
    multiplier = domains.multiplier.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([multiplier], lr=0.2)
    best, best_multiplier, coefficient = None, domains.multiplier, domains.multiplier
    for step in range(steps + 1):
        found = tensors.bounded(domains._replace(multiplier=multiplier))
        bound = found.bound.detach()
        better = torch.ones_like(bound, dtype=torch.bool) if best is None else bound > best
        best = bound if best is None else torch.where(better, bound, best)
        best_multiplier = torch.where(better, multiplier.detach(), best_multiplier)
        coefficient = torch.where(better, found.coefficient, coefficient)
        if step == steps or bool((best > 0).all()):
            break
        optimizer.zero_grad()
        (-found.bound.clamp(max=1.0).sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            free = domains.phase == 0
            multiplier.copy_(torch.where(free, multiplier.clamp(0, 1), multiplier.clamp(min=0)))
    if best is None:
        raise AssertionError("no step was made")
    return domains._replace(multiplier=best_multiplier), Bounded(best, coefficient)


def _choice(tensors: _Tensors, domains: Domains) -> Tensor:
    """Returns the neuron to split of each domain, `(k,)`: of the costliest few, the one whose halves are best."""
    with torch.no_grad():
        a = tensors.bounded(domains).coefficient
        cost = torch.where(a < 0, a * tensors.slope[:, None] * tensors.lower[:, None], torch.zeros_like(a))
        width = a.abs() * torch.minimum(tensors.upper, -tensors.lower)[:, None]
        score = torch.where(domains.phase == 0, cost + 1e-6 * width, torch.full_like(a, -1.0))
        top = score.topk(min(CANDIDATES, len(a)), dim=0).indices
        gains = []
        for neuron in top:
            bounds = tensors.bounded(_halves(domains, neuron)).bound.view(2, -1)
            gains.append(bounds.clamp(max=0).amin(0) + 1e-3 * bounds.clamp(max=0).sum(0))
        allowed = torch.gather(domains.phase, 0, top) == 0
        ranked = torch.where(allowed, torch.stack(gains), torch.full((1, 1), -torch.inf, dtype=a.dtype))
        return top.gather(0, ranked.argmax(0)[None])[0]


def _halves(domains: Domains, neuron: Tensor) -> Domains:
    """Returns both halves of each domain: first all whose neuron is active, then all where it is inactive."""
    k = torch.arange(len(neuron))
    halves = []
    for phase in (1, -1):
        phases, multipliers = domains.phase.clone(), domains.multiplier.clone()
        phases[neuron, k] = phase
        multipliers[neuron, k] = 0.0
        halves.append(Domains(domains.margin, phases, multipliers))
    return Domains(*(torch.cat(pair, dim=-1) for pair in zip(*halves, strict=True)))
