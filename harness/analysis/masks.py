"""How alike graft masks are: Jaccard similarity, average distance, overlap regions (thesis, sections 4.1 and 4.2).

A mask is here a bool array over all neurons of one network, `(neurons,)`. Everything is a pure function of such arrays;
where they come from is for the caller to say.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from harness.domain import BoolArray, UsageError

FILLED_SETS = 10
"""Up to so many masks every region is listed, empty ones too; of more (2^n - 1 regions) only those with neurons."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Which neurons several masks have in common."""

    names: tuple[str, ...]
    """The masks, in the order of the keys' digits."""
    sizes: tuple[int, ...]
    """Neurons of each mask."""
    regions: Mapping[str, int]
    """Region to its neurons: `110` are those in the first two masks and in no other; regions are disjoint."""
    distance: float | None
    """Average pairwise Jaccard distance dJ; None of fewer than two masks."""

    def to_json(self) -> dict[str, Any]:
        """Returns `sets`, `venn` and `dJ`, as the published overlaps are stated, and `sizes`."""
        return {
            "sets": list(self.names),
            "sizes": list(self.sizes),
            "venn": dict(self.regions),
            "dJ": self.distance,
        }


@dataclass(frozen=True, slots=True)
class MaskMatch:
    """One mask beside a given one."""

    name: str
    size: int
    """Neurons of the mask."""
    common: int
    """Neurons in both."""
    union: int
    """Neurons in at least one."""
    given: int
    """Neurons of the given mask."""

    @property
    def jaccard(self) -> float:
        """Common neurons over those in at least one."""
        return self.common / self.union if self.union else 1.0

    @property
    def recovered(self) -> float | None:
        """Percent of the given mask's neurons that are in this one; None where the given mask is empty."""
        return 100.0 * self.common / self.given if self.given else None


def as_mask(values: ArrayLike, name: str = "the mask") -> BoolArray:
    """Returns a flat bool array of zeros and ones.

    Args:
        values: anything of zeros and ones; it is flattened in C order.
        name: what errors call it.

    Raises:
        UsageError: an entry is neither zero nor one.
    """
    array = np.asarray(values).ravel()
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise UsageError(f"{name}: a mask has zeros and ones only; use a mask file, not scores")
    return array.astype(np.bool_)


def jaccard(first: ArrayLike, second: ArrayLike) -> float:
    """Returns |A and B| / |A or B| of two masks of one network, in [0, 1]; 1 of two empty masks (thesis, 4.1).

    Raises:
        UsageError: the masks are of different lengths, so of different networks.
    """
    a, b = _same_length({"the first mask": first, "the second mask": second}).values()
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def average_distance(masks: Sequence[ArrayLike]) -> float:
    """Returns dJ: the mean over all pairs of 1 - Jaccard, in [0, 1] (thesis, 4.2).

    Raises:
        UsageError: fewer than two masks, or masks of different lengths.
    """
    if len(masks) < 2:
        raise UsageError(f"an average distance is over pairs of masks; {len(masks)} has none, name at least two")
    pairs = [1.0 - jaccard(a, b) for a, b in itertools.combinations(masks, 2)]
    return sum(pairs) / len(pairs)


def overlap(masks: Mapping[str, ArrayLike]) -> Overlap:
    """Returns the overlap of any number of masks; its regions are disjoint and add up to the union.

    Args:
        masks: name to mask, all of one network; the order is that of the keys' digits.

    Raises:
        UsageError: there is no mask, or they are of different lengths.
    """
    arrays = _same_length(masks)
    if not arrays:
        raise UsageError("there is no mask to compare; name at least one")
    table = np.stack(list(arrays.values()), axis=1)
    rows, counts = np.unique(table[table.any(axis=1)], axis=0, return_counts=True)
    found = {"".join("1" if bit else "0" for bit in row): int(n) for row, n in zip(rows, counts, strict=True)}
    keys = _all_regions(len(arrays)) if len(arrays) <= FILLED_SETS else sorted(found, key=_region_order)
    distance = average_distance(list(arrays.values())) if len(arrays) > 1 else None
    sizes = tuple(int(mask.sum()) for mask in arrays.values())
    return Overlap(tuple(arrays), sizes, {key: found.get(key, 0) for key in keys}, distance)


def compare_with(given: ArrayLike, masks: Mapping[str, ArrayLike]) -> list[MaskMatch]:
    """Returns each mask beside the given one, the most alike first; equally good ones stay in their order.

    Raises:
        UsageError: a mask is of another length than the given one.
    """
    target = as_mask(given, "the given mask")
    matches = []
    for name, values in masks.items():
        mask = _same_length({"the given mask": target, name: values})[name]
        common, union = int((mask & target).sum()), int((mask | target).sum())
        matches.append(MaskMatch(name, int(mask.sum()), common, union, int(target.sum())))
    return sorted(matches, key=lambda match: -match.jaccard)


def _same_length(masks: Mapping[str, ArrayLike]) -> dict[str, BoolArray]:
    arrays = {name: as_mask(values, name) for name, values in masks.items()}
    sizes = {name: array.size for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        (first, n), (other, m) = next(
            pair for pair in itertools.combinations(sizes.items(), 2) if pair[0][1] != pair[1][1]
        )
        raise UsageError(f"{first} is of {n} neurons, {other} of {m}; compare masks of one network")
    return arrays


def _all_regions(sets: int) -> list[str]:
    return sorted((f"{number:0{sets}b}" for number in range(1, 2**sets)), key=_region_order)


def _region_order(key: str) -> tuple[int, str]:
    """Fewer masks first, then the earlier mask first: 100, 010, 001, 110, 101, 011, 111."""
    return key.count("1"), key.translate(str.maketrans("01", "10"))
