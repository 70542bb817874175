"""The published overlaps of masks, the provided mask, and the shares of unstable neurons, from the published scores."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.domain import BoolArray
from harness.grafting.npz import read_npz
from harness.grafting.ranking import Ranking, rank
from harness.grafting.recipe import MaskRecipe
from harness.grafting.scores import Scores, read_scores
from harness.grafting.selection import DEFAULT_GAMMAS
from harness.grafting.significance import Heuristic

GAMMAS = {"decay": DEFAULT_GAMMAS, "1": (1.0,), "0.2": (0.2,)}
SHORT = {"GAP": Heuristic.GRADIENT, "SAP": Heuristic.MAGNITUDE, "VAP": Heuristic.VARIANCE}
TIED = {("gamma", "min"): 912, ("gamma", "norank"): 760}
"""Rows whose counts depend on the order of ties: so many neurons of one mask are tied at the cut."""


@pytest.fixture(scope="module")
def pretrained(shared_dir: Path) -> Scores:
    return read_scores(shared_dir / "golden/cnn_b/scores_pretrained.npz")


@pytest.fixture(scope="module")
def overlaps(shared_dir: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((shared_dir / "golden/overlaps.json").read_text())
    return read


def recipe(what_varies: str, fixed: str, name: str) -> MaskRecipe:
    if what_varies == "heuristic":
        return MaskRecipe(SHORT[name], Ranking(fixed))
    if what_varies == "ranking":
        return MaskRecipe(SHORT[fixed], Ranking(name))
    return MaskRecipe(Heuristic.GRADIENT, Ranking(fixed), gammas=GAMMAS[name])


def regions(masks: Sequence[BoolArray]) -> dict[str, int]:
    """Returns the number of neurons in each combination of three masks: `110` is in the first two only."""
    code = sum(mask.astype(int) * 10 ** (2 - k) for k, mask in enumerate(masks))
    return {f"{key:03}": int((code == key).sum()) for key in (100, 10, 1, 110, 101, 11, 111)}


def mean_distance(masks: Sequence[BoolArray]) -> float:
    return float(np.mean([1 - (a & b).sum() / (a | b).sum() for a, b in itertools.combinations(masks, 2)]))


ROWS = [(v, f) for v in ("heuristic", "gamma") for f in ("norank", "min", "dense")] + [
    ("ranking", fixed) for fixed in SHORT
]


@pytest.mark.parametrize(("what_varies", "fixed"), ROWS)
def test_the_nine_overlaps(pretrained: Scores, overlaps: dict[str, Any], what_varies: str, fixed: str) -> None:
    row = overlaps["cnn_b_pretrained"][what_varies][fixed]
    masks = [recipe(what_varies, fixed, name).apply(pretrained).mask for name in row["sets"]]
    # Four stages round down four times; one stage rounds up once.
    assert [int(mask.sum()) for mask in masks] == ([8316, 8317, 8317] if what_varies == "gamma" else [8316] * 3)
    found, expected = regions(masks), row["venn"]
    if (what_varies, fixed) not in TIED:
        assert found == expected
        assert mean_distance(masks) == pytest.approx(row["dJ"], abs=5e-6)
        return
    # Only neurons that are tied at the cut can move, each out of one region and into another.
    assert all(abs(found[key] - expected[key]) <= TIED[what_varies, fixed] for key in expected)
    assert mean_distance(masks) == pytest.approx(row["dJ"], abs=0.05)


@pytest.mark.parametrize(("fixed", "gamma", "tied"), [("min", 1.0, 912), ("norank", 0.2, 760)])
def test_the_rows_that_depend_on_ties_are_tied_at_the_cut(
    pretrained: Scores, fixed: str, gamma: float, tied: int
) -> None:
    r_s, r_u = (rank(pretrained.array(name), Ranking(fixed)) for name in ("gradient", "instability"))
    benefit = np.float32(gamma) * r_u - r_s
    picked = MaskRecipe(Heuristic.GRADIENT, Ranking(fixed), gammas=(gamma,)).apply(pretrained)
    cut = np.sort(benefit)[::-1][picked.count - 1]
    taken = int((picked.mask & (benefit == cut)).sum())
    assert (benefit == cut).sum() > taken > 0
    assert min(taken, int((benefit == cut).sum()) - taken) <= tied


def test_the_distinct_values_of_the_scores(pretrained: Scores, overlaps: dict[str, Any]) -> None:
    distinct = overlaps["cnn_b_pretrained"]["distinct"]
    found = {short: len(np.unique(pretrained.array(name))) for short, name in SHORT.items()}
    assert {**found, "INST": len(np.unique(pretrained.array("instability")))} == distinct


def jaccard(a: BoolArray, b: BoolArray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize(
    ("made_by", "expected"),
    [
        (MaskRecipe(Heuristic.MAGNITUDE, Ranking.MIN, Ranking.NORANK), 0.609697),
        (MaskRecipe(Heuristic.PRODUCT, Ranking.MIN), 0.6558),
        (MaskRecipe(Heuristic.PRODUCT, Ranking.MIN, Ranking.NORANK, gammas=(2.0,)), 0.6500),
    ],
)
def test_recipes_against_the_provided_mask(
    shared_dir: Path, pretrained: Scores, made_by: MaskRecipe, expected: float
) -> None:
    """The best of the thesis' recipes, and those with the product of the means, which come nearer."""
    provided = read_npz(shared_dir / "golden/cnn_b/mask_provided_fat.npz")["fat"].astype(bool)
    assert jaccard(made_by.apply(pretrained).mask, provided) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("ranking", Ranking)
def test_our_picks_stand_at_the_recorded_cuts(shared_dir: Path, ranking: Ranking) -> None:
    """Per stage: the cut, how many are strictly above it, and how many of those tied at it are taken."""
    scores = read_npz(shared_dir / "golden/cnn_b/scores_selftrained.npz")
    recorded = json.loads((shared_dir / "golden/mask_reproduction.json").read_text())[f"cnn_b/grad_{ranking}"]["stages"]
    ours = MaskRecipe(Heuristic.GRADIENT, ranking).apply(
        read_scores(shared_dir / "golden/cnn_b/scores_selftrained.npz")
    )
    r_s, r_u = rank(scores["gradient"], ranking), rank(scores["instability"], ranking)
    free: NDArray[np.bool_] = np.ones(r_s.size, bool)
    for stage, picks in zip(recorded, ours.stage_picks, strict=True):
        benefit = np.where(free, np.float32(stage["gamma"]) * r_u - r_s, -np.inf)
        cut = benefit[picks].min()
        above = np.flatnonzero(benefit > cut)
        assert np.isin(above, picks).all()
        assert (cut, len(above)) == (pytest.approx(stage["cut"], rel=1e-6, abs=1e-9), stage["above"])
        assert len(picks) - len(above) == stage["taken_of_tied"]
        free[picks] = False


def test_unr_of_the_456_images(shared_dir: Path) -> None:
    listed = json.loads((shared_dir / "golden/cnn_b/unr_pretrained_baseline_456.json").read_text())
    per_image = list(listed["unr_percent_rounded_0.1_by_image"].values())
    assert len(per_image) == 456
    assert np.mean(per_image) == pytest.approx(listed["mean_reported"], abs=5e-3)


def test_counts_of_455_images_are_those_of_456_less_one(shared_dir: Path, pretrained: Scores) -> None:
    listed = json.loads((shared_dir / "golden/cnn_b/unr_pretrained_baseline_456.json").read_text())
    more = np.array(listed["fc_layer_instability_counts_456_images"]) - pretrained.array("instability")[-250:]
    assert set(more.tolist()) == {0, 1}
    assert int(more.sum()) == 133
