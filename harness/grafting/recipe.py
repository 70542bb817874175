"""A mask from scores: the recipe, its application, and the file with its provenance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.domain import UsageError
from harness.files import sha256_file
from harness.grafting.masks import write_mask
from harness.grafting.ranking import Ranking
from harness.grafting.scores import INSTABILITY, Scores, read_scores
from harness.grafting.selection import DEFAULT_GAMMAS, DEFAULT_RATIO, Selection, check_plan, select
from harness.grafting.significance import Heuristic, random_significance

PRODUCT_OF_MEANS = "gradient * magnitude"
"""What a product of scores is made of where the product of each image is not known."""


@dataclass(frozen=True, slots=True)
class MaskRecipe:
    """How neurons are chosen; see `select`.

    Raises:
        UsageError: the ratio is outside [0, 1], or the gammas are negative or missing.
    """

    heuristic: Heuristic
    ranking: Ranking
    instability_ranking: Ranking | None = None
    """None: as `ranking`."""
    gammas: tuple[float, ...] = DEFAULT_GAMMAS
    ratio: float = DEFAULT_RATIO
    local: bool = False
    """The same share in every layer, instead of in the whole network."""
    seed: int = 0
    """Of random significance, where the score file has none."""

    def __post_init__(self) -> None:
        check_plan(self.gammas, self.ratio)

    def apply(self, scores: Scores) -> Selection:
        """Returns the chosen neurons.

        Raises:
            UsageError: the scores lack the heuristic or the instability, or the recipe is impossible.
        """
        return select(
            self.significance(scores),
            scores.array(INSTABILITY),
            ranking=self.ranking,
            instability_ranking=self.instability_ranking,
            gammas=self.gammas,
            ratio=self.ratio,
            layer_sizes=scores.layer_sizes if self.local else None,
        )

    def significance(self, scores: Scores) -> NDArray[np.float32]:
        """Returns the significance that the recipe goes by, `(neurons,)`.

        It is the scores' own array where they have it. Without one, `product` is the product of the mean gradient and
        the mean magnitude, and `random` is drawn.

        Raises:
            UsageError: the scores lack what is needed.
        """
        origin = self.derived(scores)
        if origin == PRODUCT_OF_MEANS:
            product: NDArray[np.float32] = scores.array(Heuristic.GRADIENT) * scores.array(Heuristic.MAGNITUDE)
            return product
        return scores.array(self.heuristic) if origin is None else random_significance(scores.neurons, self.seed)

    def derived(self, scores: Scores) -> str | None:
        """Returns what the significance is derived from; None where the scores have it as it is."""
        if self.heuristic in scores.arrays:
            return None
        if self.heuristic is Heuristic.RANDOM:
            return f"seed {self.seed}"
        means = {Heuristic.GRADIENT, Heuristic.MAGNITUDE}
        return PRODUCT_OF_MEANS if self.heuristic is Heuristic.PRODUCT and means <= set(scores.arrays) else None

    def provenance(self) -> dict[str, str]:
        """Returns the recipe as a mask file states it."""
        return {
            "heuristic": self.heuristic.value,
            "ranking": self.ranking.value,
            "instability_ranking": (self.instability_ranking or self.ranking).value,
            "gammas": ",".join(f"{gamma:g}" for gamma in self.gammas),
            "ratio": f"{self.ratio:g}",
            "scope": "layer" if self.local else "network",
        }


@dataclass(frozen=True, slots=True, eq=False)
class MadeMask:
    """A mask that was written, and the scores it comes from."""

    scores: Scores
    selection: Selection

    @property
    def layer_counts(self) -> tuple[int, ...]:
        """Grafted neurons of each activation."""
        counts, start = [], 0
        for size in self.scores.layer_sizes:
            counts.append(int(self.selection.mask[start : start + size].sum()))
            start += size
        return tuple(counts)


def make_mask(recipe: MaskRecipe, scores_file: Path, out: Path) -> MadeMask:
    """Writes the mask that the recipe makes of a score file; equal scores and recipes give equal bytes.

    Raises:
        UsageError: the scores cannot be read or do not suffice, or the recipe is impossible; nothing is written then.
    """
    scores = read_scores(scores_file)
    try:
        selection = recipe.apply(scores)
    except UsageError as error:
        raise UsageError(f"{scores_file}: {error}") from error
    source = {key: value for key, value in scores.provenance.items() if key.startswith("network")}
    origin = recipe.derived(scores)
    # Only where there is something to say: masks of before keep their bytes, and networks made by them their hashes.
    if origin is not None:
        source["significance"] = origin
    write_mask(
        out,
        selection.mask,
        scores.layer_sizes,
        selection.stage_picks,
        dict(zip(scores.names, scores.shapes, strict=True)) if scores.names else None,
        {**source, "scores_sha256": sha256_file(scores_file), **recipe.provenance()},
    )
    return MadeMask(scores, selection)
