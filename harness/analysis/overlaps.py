"""Which inputs networks have in one result set: the regions of Venn and UpSet diagrams (thesis, section 4.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.masks import Overlap, overlap
from harness.analysis.sets import SET_ORDER
from harness.analysis.table import ResultRow, by_variant
from harness.domain import ResultSet


@dataclass(frozen=True, slots=True)
class SetOverlap:
    """One result set under several networks."""

    which: ResultSet
    overlap: Overlap
    """Regions over all inputs that are in the set under at least one network; `110`: under the first two only."""
    members: dict[str, tuple[int, ...]]
    """Region to its inputs, ascending; empty regions are left out."""
    unrecorded: dict[str, tuple[int, ...]]
    """Region to those of its inputs that lack a result under some network: with it they may lie in another region."""

    def to_json(self) -> dict[str, Any]:
        """Returns the overlap as JSON values: `set`, the keys of `Overlap.to_json`, `members` and `unrecorded`."""
        return {
            "set": self.which.value,
            **self.overlap.to_json(),
            "members": {region: list(inputs) for region, inputs in self.members.items()},
            "unrecorded": {region: list(inputs) for region, inputs in self.unrecorded.items()},
        }


def set_overlap(rows: Iterable[ResultRow], which: ResultSet, variants: Sequence[str]) -> SetOverlap:
    """Returns the overlap of one result set under the named networks; a network without rows has an empty set.

    Args:
        rows: at most one row for each variant and input.
        which: the set.
        variants: the networks, in the order of the regions' digits; at least one.
    """
    table = by_variant(rows)
    results = [table.get(name, {}) for name in variants]
    inputs = sorted({index for rows_of in results for index in rows_of})
    masks = {
        name: [index in rows_of and rows_of[index].result_set is which for index in inputs]
        for name, rows_of in zip(variants, results, strict=True)
    }
    members: dict[str, list[int]] = {}
    for index, bits in zip(inputs, zip(*masks.values(), strict=True), strict=True):
        if any(bits):
            members.setdefault("".join("1" if bit else "0" for bit in bits), []).append(index)
    lacking = {
        region: tuple(index for index in own if any(index not in rows_of for rows_of in results))
        for region, own in members.items()
    }
    found = overlap(masks)
    order = [region for region in found.regions if region in members]
    return SetOverlap(
        which,
        found,
        {region: tuple(members[region]) for region in order},
        {region: lacking[region] for region in order if lacking[region]},
    )


def set_overlaps(rows: Sequence[ResultRow], variants: Sequence[str]) -> tuple[SetOverlap, ...]:
    """Returns the overlap of each result set, in `SET_ORDER`; see `set_overlap`."""
    return tuple(set_overlap(rows, which, variants) for which in SET_ORDER)
