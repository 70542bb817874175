"""Two ways of counting instability compared: how alike the counts are, and the masks that they lead to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.grafting.instability import Instability, InstabilitySource
from harness.grafting.ranking import Ranking
from harness.grafting.recipe import MaskRecipe
from harness.grafting.scores import INSTABILITY, Scores
from harness.grafting.significance import MEANS, Heuristic


@dataclass(frozen=True, slots=True)
class MaskAgreement:
    """One recipe, applied to the same significance with either instability."""

    heuristic: str
    ranking: str
    common: int
    """Neurons in both masks."""
    jaccard: float
    """Neurons in both over neurons in either; 1 for equal masks."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What two ways of counting instability have in common."""

    spearman: float | None
    """Rank correlation of the counts over all neurons, ties with their mean rank; None where one is constant."""
    inputs: Mapping[str, int]
    """Way of counting to the number of inputs counted."""
    unr: Mapping[str, float]
    """Way of counting to the mean share of unstable neurons, in percent."""
    masks: tuple[MaskAgreement, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the figures as JSON values."""
        return {**asdict(self), "masks": [asdict(mask) for mask in self.masks]}


def compare_instability(
    scores: Scores, counts: Mapping[InstabilitySource, Instability], recipes: Iterable[MaskRecipe] | None = None
) -> Agreement:
    """Returns how far the two ways agree.

    Args:
        scores: significance, and the names of the activations in the order of its arrays.
        counts: both ways of counting, of one network.
        recipes: of the masks that are compared; None: each mean over images that the scores have, ranked `min` and
            `norank`, with the default gammas and ratio.

    Raises:
        UsageError: the scores lack what a recipe needs.
    """
    flat = {source: np.concatenate([c.counts[name] for name in scores.names]) for source, c in counts.items()}
    bab, crown = flat[InstabilitySource.BAB], flat[InstabilitySource.CROWN]
    made = default_recipes(scores) if recipes is None else recipes
    return Agreement(
        spearman(bab, crown),
        {str(source): c.inputs for source, c in counts.items()},
        {str(source): c.unr for source, c in counts.items()},
        tuple(_mask_agreement(recipe, scores, bab, crown) for recipe in made),
    )


def default_recipes(scores: Scores) -> list[MaskRecipe]:
    """Returns the recipes that are compared where none are named."""
    known = [Heuristic(name) for name in MEANS if name in scores.arrays]
    return [MaskRecipe(heuristic, ranking) for heuristic in known for ranking in (Ranking.MIN, Ranking.NORANK)]


def spearman(a: ArrayLike, b: ArrayLike) -> float | None:
    """Returns the rank correlation of two lists of one length, ties with their mean rank; None if one is constant."""
    ranks_a, ranks_b = (_mean_ranks(np.asarray(values).ravel()) for values in (a, b))
    spread = float(np.linalg.norm(ranks_a) * np.linalg.norm(ranks_b))
    return float(ranks_a @ ranks_b) / spread if spread > 0 else None


def _mean_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the ranks minus their mean."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[group]
    centred: NDArray[np.float64] = ranks - ranks.mean()
    return centred


def _mask_agreement(recipe: MaskRecipe, scores: Scores, first: NDArray[Any], second: NDArray[Any]) -> MaskAgreement:
    masks = []
    for counts in (first, second):
        arrays = {**scores.arrays, INSTABILITY: counts.astype(np.float32)}
        masks.append(recipe.apply(replace(scores, arrays=arrays)).mask)
    common, either = int((masks[0] & masks[1]).sum()), int((masks[0] | masks[1]).sum())
    jaccard = common / either if either else 1.0
    return MaskAgreement(recipe.heuristic.value, recipe.ranking.value, common, jaccard)
