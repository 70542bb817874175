"""The comparison of two ways of counting instability, on figures that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from harness.domain import UsageError
from harness.grafting.agreement import compare_instability, spearman
from harness.grafting.instability import Instability, InstabilitySource
from harness.grafting.ranking import Ranking
from harness.grafting.recipe import MaskRecipe
from harness.grafting.scores import Scores
from harness.grafting.significance import Heuristic

SCORES = Scores(
    (3, 1),
    {"gradient": np.array([1, 2, 3, 4], np.float32), "variance": np.ones(4, np.float32)},
    ("relu1", "relu2"),
    ((3,), (1,)),
)


def counts(first: list[int], second: int, inputs: int) -> Instability:
    return Instability({"relu2": np.array([second]), "relu1": np.array(first)}, inputs)


def test_rank_correlation_by_hand() -> None:
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: covariance 4.5, variances 4.5 and 5.
    assert spearman([1, 2, 2, 9], [0, 10, 20, 30]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert spearman([1, 2, 3], [9, 5, 1]) == pytest.approx(-1)
    assert spearman([1, 1, 1], [1, 2, 3]) is None


def test_both_shares_and_the_masks_that_they_give() -> None:
    sources = {
        InstabilitySource.BAB: counts([2, 0, 0], 1, inputs=2),
        InstabilitySource.CROWN: counts([3, 0, 0], 4, inputs=5),
    }
    recipe = MaskRecipe(Heuristic.GRADIENT, Ranking.MIN, gammas=(float("inf"),), ratio=0.25)
    found = compare_instability(SCORES, sources, [recipe, MaskRecipe(Heuristic.GRADIENT, Ranking.MIN, ratio=1.0)])
    assert found.inputs == {"bab": 2, "crown": 5}
    assert found.unr == {"bab": pytest.approx(100 * 3 / 8), "crown": pytest.approx(100 * 7 / 20)}
    first, all_neurons = found.masks
    assert (first.common, first.jaccard) == (0, 0.0), "the most unstable neuron is the first, and the last"
    assert (all_neurons.common, all_neurons.jaccard) == (4, 1.0)
    assert found.to_json()["masks"][0] == {"heuristic": "gradient", "ranking": "min", "common": 0, "jaccard": 0.0}


def test_equal_counts_agree_wholly() -> None:
    same = counts([2, 0, 1], 1, inputs=2)
    found = compare_instability(SCORES, dict.fromkeys(InstabilitySource, same))
    assert found.spearman == pytest.approx(1)
    assert {(mask.heuristic, mask.ranking) for mask in found.masks} == {
        (heuristic, ranking) for heuristic in ("gradient", "variance") for ranking in ("min", "norank")
    }
    assert all(mask.jaccard == 1 for mask in found.masks)


def test_a_recipe_that_the_scores_do_not_allow() -> None:
    same = counts([2, 0, 1], 1, inputs=2)
    with pytest.raises(UsageError, match="no 'hydra' scores"):
        compare_instability(SCORES, dict.fromkeys(InstabilitySource, same), [MaskRecipe(Heuristic.HYDRA, Ranking.MIN)])
