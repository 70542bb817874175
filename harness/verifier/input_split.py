"""Branch and bound that splits the input box: for networks with few inputs, where it beats splitting neurons.

Sub-boxes are bounded many at a time by CROWN, each with hidden bounds of its own, in float64. A sub-box is closed when
every violation region is excluded on it; of a region that is a conjunction, one excluded row is enough, and it may be
another row in every sub-box. So conjunctions are decided completely here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.domain import Counterexample
from harness.verifier.bab import Outcome, SearchResult
from harness.verifier.backward import concretize, to_input
from harness.verifier.crown import margin_radius, root_bounds
from harness.verifier.graph import Graph
from harness.verifier.interval import Box
from harness.verifier.problem import Region
from harness.verifier.rows import Rows

BATCH = 512
"""Sub-boxes that are bounded together."""


class InputSearch:
    """Branch and bound over sub-boxes of one box.

    Args:
        graph: the network in float64.
        box: one box, a batch of 1.
        regions: violation regions, each with at least one row.
        max_domains: bound on the sub-boxes, None for none; 0 keeps to the box itself.
        max_open: open sub-boxes above which the search gives up.
        should_stop: asked before every round, with the number of sub-boxes so far.
        confirm: tries points, `(points, *input_shape)`; returns a counterexample if one of them is.
    """

    def __init__(
        self,
        graph: Graph,
        box: Box,
        regions: list[Region],
        max_domains: int | None,
        max_open: int,
        should_stop: Callable[[int], bool],
        confirm: Callable[[Tensor], Counterexample | None],
    ) -> None:
        self.graph, self.box = graph, box
        self.max_domains, self.max_open, self.should_stop, self.confirm = max_domains, max_open, should_stop, confirm
        self.C = torch.cat([region.C for region in regions]).to(graph.device)
        self.rhs = torch.cat([region.rhs for region in regions]).to(graph.device)
        self.sizes = [len(region.rhs) for region in regions]
        self.open = box
        self.domains = 0

    def run(self) -> SearchResult:
        """Bounds the box, then splits until everything is closed or a limit is reached."""
        rounds = 0
        while len(self.open):
            count = self._next_batch(rounds)
            if count == 0 or len(self.open) > self.max_open or self.should_stop(self.domains):
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
        if self.max_domains is None or rounds == 0:
            return count
        return max(0, min(count, self.max_domains - self.domains))

    def _reason(self, count: int) -> Outcome:
        if count == 0:
            return Outcome.DOMAINS
        return Outcome.MEMORY if len(self.open) > self.max_open else Outcome.STOPPED

    def _round(self, batch: Box) -> Counterexample | None:
        """Bounds sub-boxes, keeps the halves of those that stay open; returns a counterexample if a point is one."""
        margin, reach = self._margins(batch)
        best = torch.stack([part.amax(1) for part in torch.split(margin, self.sizes, dim=1)], dim=1)
        left = ~(best > 0).all(1)
        if not bool(left.any()):
            return None
        open_ = batch[left]
        found = self.confirm(open_.centre)
        if found is None:
            # The row that is furthest from excluding its region decides where the box is cut.
            hardest = best[left].argmin(1)
            first = torch.tensor([0, *self.sizes[:-1]], device=hardest.device).cumsum(0)[hardest]
            self._push_halves(open_, reach[left][torch.arange(len(hardest), device=hardest.device), first])
        return found

    def _margins(self, batch: Box) -> tuple[Tensor, Tensor]:
        """Returns proved margins `(batch, rows)`, and what each input costs each bound, `(batch, rows, d)`."""
        boxes, rows = len(batch), len(self.C)
        found = root_bounds(self.graph, batch)
        owner = torch.arange(boxes, device=self.C.device).repeat_interleave(rows)
        A = self.C.repeat(boxes, 1).reshape(-1, *self.graph.output_shape)
        passed = to_input(self.graph, len(self.graph.nodes) - 1, Rows(A, owner), found.rule())
        reach = (passed.rows.A.abs() * passed.rows.gather(batch.radius)).reshape(boxes, rows, -1)
        proved = concretize(passed, batch).view(boxes, rows) - self.rhs - margin_radius(self.C, self.rhs, found)
        return proved, reach

    def _push_halves(self, boxes: Box, reach: Tensor) -> None:
        """Cuts each box in the dimension that contributes most to its bound's slack; ties go to the widest."""
        count = len(boxes)
        width = (boxes.upper - boxes.lower).reshape(count, -1)
        whole = (self.box.upper - self.box.lower).reshape(1, -1).clamp(min=torch.finfo(width.dtype).tiny)
        cut = torch.where(reach.amax(1) > 0, reach.argmax(1), (width / whole).argmax(1))
        each = torch.arange(count, device=cut.device)
        middle = boxes.centre.reshape(count, -1)[each, cut]
        upper, lower = boxes.upper.reshape(count, -1).clone(), boxes.lower.reshape(count, -1).clone()
        upper[each, cut], lower[each, cut] = middle, middle
        shape = boxes.lower.shape
        low = torch.cat([self.open.lower, boxes.lower, lower.view(shape)])
        high = torch.cat([self.open.upper, upper.view(shape), boxes.upper])
        self.open = Box(low, high)
