"""Branch and bound that splits the input box: for networks with few inputs, where it beats splitting neurons.

Sub-boxes are bounded by CROWN, each with hidden bounds of its own, in float64. A sub-box is closed when every violation
region is excluded on it; of a region that is a conjunction, one excluded row is enough, and it may be another row in
every sub-box. So conjunctions are decided completely here.

Two searches do this: `BoxSearch` in compiled code (`kernels/boxes_search.py`), whose verdict also covers a float32
evaluation of the network, and `InputSearch` in torch, for where Numba is missing, for a GPU, and for networks without a
sparse form. `input_search` chooses.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harness.domain import Counterexample
from harness.verifier.bab import Outcome, SearchResult
from harness.verifier.backward import concretize, to_input
from harness.verifier.crown import root_bounds
from harness.verifier.fold import RHS_ROUNDING
from harness.verifier.graph import Graph
from harness.verifier.interval import Box
from harness.verifier.kernels.cache import note_compiled
from harness.verifier.problem import Region
from harness.verifier.rounding import FLOAT32_UNIT, sum_share
from harness.verifier.rows import Rows
from harness.verifier.sparse import SparseNetwork

BATCH = 512
"""Sub-boxes that the torch search bounds together."""
SLICE_S = 0.05
"""About how long compiled code runs before it returns to look at the clock."""
FIRST_SLICE = 32
FIRST_CLIMB = 256
CLIMB_EVERY = 4096
"""Sub-boxes between two climbs for counterexamples."""
CLIMB_SEED = 1
CANDIDATES = 16
"""Points that the compiled search collects before it returns to have them confirmed."""

ShouldStop = Callable[[int], bool]
Confirm = Callable[[Tensor], Counterexample | None]


INPUTS = "inputs"
"""Name of compiled branch and bound over sub-boxes."""


class BoxSplitting(Protocol):
    """Branch and bound over sub-boxes of one box."""

    @property
    def domains(self) -> int:
        """Sub-boxes bounded so far."""

    @property
    def open(self) -> Box:
        """Sub-boxes that are not closed; with the closed ones they cover the box."""

    def run(self) -> SearchResult:
        """Bounds the box, then splits until everything is closed or a limit is reached."""


@dataclass(frozen=True, slots=True, eq=False)
class BoxQuestion:
    """Whether no output of one box lies in any region, and what may be spent on it."""

    box: Box
    """A batch of 1."""
    regions: list[Region]
    """Violation regions, each with at least one row."""
    max_domains: int | None
    """Bound on the sub-boxes, None for none; 0 keeps to the box itself."""
    max_open: int
    """Open sub-boxes above which the search gives up."""
    should_stop: ShouldStop
    """Asked now and then, with the number of sub-boxes so far."""
    confirm: Confirm
    """Tries points, `(points, *input_shape)`; returns a counterexample if one of them is."""
    unit: float = FLOAT32_UNIT
    """Unit roundoff of the evaluations that are spoken of."""


def input_search(graph: Graph, sparse: SparseNetwork | None, question: BoxQuestion) -> BoxSplitting:
    """Returns the fastest search that this machine can run on this network.

    Args:
        graph: the network in float64.
        sparse: its sparse form; None: it has none, or is not on the CPU.
        question: what to decide.
    """
    if sparse is None or graph.device.type != "cpu" or importlib.util.find_spec("numba") is None:
        return InputSearch(graph, question)
    return BoxSearch(sparse, question)


def prepare_input_search(sparse: SparseNetwork | None) -> None:
    """Compiles what `input_search` needs, or loads it from Numba's cache, so that no instance's time pays for it."""
    if sparse is not None and importlib.util.find_spec("numba") is not None:
        # imported late: the engine also runs where Numba is not installed
        from harness.verifier.kernels.boxes_climb import prepare_climb
        from harness.verifier.kernels.boxes_search import prepare

        prepare()
        prepare_climb()
        note_compiled(INPUTS)


class InputSearch:
    """Branch and bound over sub-boxes of one box, in torch.

    Args:
        graph: the network in float64.
        question: what to decide.
    """

    def __init__(self, graph: Graph, question: BoxQuestion) -> None:
        self.graph, self.question, self.domains, self.open = graph, question, 0, question.box
        regions = question.regions
        self.C = torch.cat([region.C for region in regions]).to(graph.device)
        self.rhs = torch.cat([region.rhs for region in regions]).to(graph.device)
        self.sizes = [len(region.rhs) for region in regions]

    def run(self) -> SearchResult:
        """Bounds the box, then splits until everything is closed or a limit is reached."""
        rounds = 0
        while len(self.open):
            count = self._next_batch(rounds)
            if count == 0 or len(self.open) > self.question.max_open or self.question.should_stop(self.domains):
                return SearchResult(self._reason(count), self.domains, rounds > 0)
            batch, self.open = self.open[-count:], self.open[:-count]
            self.domains += count
            rounds += 1
            found = self._round(batch)
            if found is not None:
                return SearchResult(Outcome.FALSIFIED, self.domains, rounds > 1, found)
        return SearchResult(Outcome.PROVED, self.domains, rounds > 1)

    def _next_batch(self, rounds: int) -> int:
        count = min(len(self.open), BATCH)
        if self.question.max_domains is None or rounds == 0:
            return count
        return max(0, min(count, self.question.max_domains - self.domains))

    def _reason(self, count: int) -> Outcome:
        if count == 0:
            return Outcome.DOMAINS
        return Outcome.MEMORY if len(self.open) > self.question.max_open else Outcome.STOPPED

    def _round(self, batch: Box) -> Counterexample | None:
        """Bounds sub-boxes, keeps the halves of those that stay open; returns a counterexample if a point is one."""
        margin, reach = self._margins(batch)
        best = torch.stack([part.amax(1) for part in torch.split(margin, self.sizes, dim=1)], dim=1)
        left = ~(best > 0).all(1)
        if not bool(left.any()):
            return None
        open_ = batch[left]
        found = self.question.confirm(open_.centre)
        if found is None:
            # The row that is furthest from excluding its region decides where the box is cut.
            hardest = best[left].argmin(1)
            first = torch.tensor([0, *self.sizes[:-1]], device=hardest.device).cumsum(0)[hardest]
            self._push_halves(open_, reach[left][torch.arange(len(hardest), device=hardest.device), first])
        return found

    def _margins(self, batch: Box) -> tuple[Tensor, Tensor]:
        """Returns proved margins `(batch, rows)`, and what each input costs each bound, `(batch, rows, d)`."""
        boxes, rows = len(batch), len(self.C)
        found = root_bounds(self.graph, batch, self.question.unit)
        owner = torch.arange(boxes, device=self.C.device).repeat_interleave(rows)
        A = self.C.repeat(boxes, 1).reshape(-1, *self.graph.output_shape)
        passed = to_input(self.graph, len(self.graph.nodes) - 1, Rows(A, owner), found.rule())
        reach = (passed.rows.A.abs() * passed.rows.gather(batch.radius)).reshape(boxes, rows, -1)
        proved = concretize(passed, batch).view(boxes, rows) - self.rhs - RHS_ROUNDING * self.rhs.abs()
        return proved, reach

    def _push_halves(self, boxes: Box, reach: Tensor) -> None:
        """Cuts each box in the dimension that contributes most to its bound's slack; ties go to the widest."""
        count = len(boxes)
        width = (boxes.upper - boxes.lower).reshape(count, -1)
        box = self.question.box
        whole = (box.upper - box.lower).reshape(1, -1).clamp(min=torch.finfo(width.dtype).tiny)
        cut = torch.where(reach.amax(1) > 0, reach.argmax(1), (width / whole).argmax(1))
        each = torch.arange(count, device=cut.device)
        middle = boxes.centre.reshape(count, -1)[each, cut]
        upper, lower = boxes.upper.reshape(count, -1).clone(), boxes.lower.reshape(count, -1).clone()
        upper[each, cut], lower[each, cut] = middle, middle
        shape = boxes.lower.shape
        low = torch.cat([self.open.lower, boxes.lower, lower.view(shape)])
        high = torch.cat([self.open.upper, upper.view(shape), boxes.upper])
        self.open = Box(low, high)


class BoxSearch:
    """Branch and bound over sub-boxes of one box, in compiled code.

    `PROVED` holds in real arithmetic and for every evaluation of the network with this unit roundoff whose rows stay
    within the roundings that the sparse form grants (`kernels/boxes.py` has the argument).

    Args:
        network: the network.
        question: what to decide.
    """

    def __init__(self, network: SparseNetwork, question: BoxQuestion) -> None:
        # imported late: the engine also runs where Numba is not installed
        from harness.verifier.kernels import boxes_climb, boxes_clip, boxes_network, boxes_search

        self._compiled, self._climbing = boxes_search, boxes_climb
        self.question, box, regions = question, question.box, question.regions
        self._shape = box.lower.shape
        C = np.concatenate([region.C.numpy() for region in regions])
        rhs = np.concatenate([region.rhs.numpy() for region in regions])
        net = boxes_network.box_network(network, C, rhs, [len(region.rhs) for region in regions], question.unit)
        self._net = net._replace(allowance=net.allowance + sum_share(len(network.output)))
        self._work, self._own = boxes_network.box_work(self._net), boxes_search.scratch(self._net)
        self._fun = boxes_clip.functions_room(self._net.inputs)
        self._lower, self._upper = box.lower.numpy().ravel(), box.upper.numpy().ravel()
        self._stack = boxes_search.box_stack(self._net, min(64, question.max_open + 2))
        self._state = boxes_search.search_state(self._net, CANDIDATES)
        boxes_search.push(self._stack, self._state, self._lower, self._upper)
        self._climb, self._next_climb = boxes_climb.climb_room(self._net, CLIMB_SEED), FIRST_CLIMB
        self._slice = FIRST_SLICE

    @property
    def domains(self) -> int:
        """Sub-boxes bounded so far."""
        return int(self._state.counts[self._compiled.BOUNDED])

    @property
    def open(self) -> Box:
        """Sub-boxes that are not closed."""
        count = int(self._state.counts[self._compiled.OPEN])
        lower, upper = (torch.from_numpy(end[:count].copy()) for end in (self._stack.lower, self._stack.upper))
        return Box(lower.view(count, *self._shape[1:]), upper.view(count, *self._shape[1:]))

    def run(self) -> SearchResult:
        """Bounds the box, then splits until everything is closed or a limit is reached."""
        counts, compiled = self._state.counts, self._compiled
        while counts[compiled.OPEN] > counts[compiled.STUCK]:
            budget = self._budget()
            if budget == 0:
                return self._ended(Outcome.DOMAINS)
            if counts[compiled.OPEN] > self.question.max_open:
                return self._ended(Outcome.MEMORY)
            if self.question.should_stop(self.domains):
                return self._ended(Outcome.STOPPED)
            self._advance(budget)
            self._search_points()
            found = self._confirmed()
            if found is not None:
                return SearchResult(Outcome.FALSIFIED, self.domains, self.domains > 1, found)
        return self._ended(Outcome.EXHAUSTED if counts[compiled.STUCK] else Outcome.PROVED)

    def _ended(self, outcome: Outcome) -> SearchResult:
        return SearchResult(outcome, self.domains, self.domains > 1)

    def _budget(self) -> int:
        """Returns how many sub-boxes to bound next; what ends a slice early depends on counts alone, never on time."""
        budget, most = min(self._slice, self._next_climb - self.domains), self.question.max_domains
        return budget if most is None else min(budget, max(most, 1) - self.domains)

    def _advance(self, budget: int) -> None:
        """Runs compiled code for about a slice of time, on a stack with room for it."""
        compiled, capacity = self._compiled, len(self._stack.lower)
        if self._state.counts[compiled.OPEN] + 2 > capacity:
            self._stack = compiled.grown(self._stack, min(2 * capacity, self.question.max_open + 2))
        before, began = self.domains, time.perf_counter()
        compiled.search_boxes(self._net, self._work, self._own, self._fun, self._stack, self._state, budget)
        done, spent = self.domains - before, time.perf_counter() - began
        if done == budget:
            self._slice = max(1, min(2 * budget, int(done * SLICE_S / max(spent, 1e-9))))

    def _search_points(self) -> None:
        """Climbs for counterexamples, now and then."""
        counts, compiled, climbing = self._state.counts, self._compiled, self._climbing
        if self.domains < self._next_climb or not counts[compiled.OPEN]:
            return
        self._next_climb += CLIMB_EVERY
        net, climb, stack = self._net, self._climb, self._stack
        open_ = int(counts[compiled.OPEN])
        climbing.start_climb(net, climb, self._lower, self._upper, stack.lower, stack.upper, open_)
        climbing.run_climb(net, climb, self._lower, self._upper)
        counts[compiled.CANDIDATES] = climbing.take_best(
            climb, self._state.candidates, int(counts[compiled.CANDIDATES])
        )

    def _confirmed(self) -> Counterexample | None:
        """Returns a counterexample if a point that the compiled code collected is one."""
        counts, place = self._state.counts, self._compiled.CANDIDATES
        if not counts[place]:
            return None
        points = torch.from_numpy(self._state.candidates[: int(counts[place])].copy())
        counts[place] = 0
        return self.question.confirm(points.view(len(points), *self._shape[1:]))
