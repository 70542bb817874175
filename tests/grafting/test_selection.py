"""Selection: the published masks, tie-tolerantly, and the rules that they do not show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.domain import UsageError
from harness.grafting.npz import read_npz
from harness.grafting.ranking import Ranking, rank
from harness.grafting.selection import DEFAULT_GAMMAS, _largest, select

Arrays = Mapping[str, NDArray[Any]]
QUOTA = 2079


@pytest.fixture(scope="module")
def scores(shared_dir: Path) -> Arrays:
    return read_npz(shared_dir / "golden/cnn_b/scores_selftrained.npz")


@pytest.fixture(scope="module")
def published(shared_dir: Path) -> Arrays:
    return read_npz(shared_dir / "golden/cnn_b/masks_selftrained.npz")


def grad(scores: Arrays, ranking: Ranking, **options: Any) -> NDArray[np.bool_]:
    return select(scores["gradient"], scores["instability"], ranking=ranking, **options).mask


def test_dense_mask_is_the_published_one(scores: Arrays, published: Arrays) -> None:
    assert (grad(scores, Ranking.DENSE) == published["grad_dense"].astype(bool)).all()


@pytest.mark.parametrize("ranking", Ranking)
def test_published_masks_up_to_the_order_of_ties(scores: Arrays, published: Arrays, ranking: Ranking) -> None:
    """Given the published earlier picks, each stage must pick all that is above its cut and the same number at it."""
    r_s, r_u = rank(scores["gradient"], ranking), rank(scores["instability"], ranking)
    picks = published[f"grad_{ranking}__stage_picks"]
    free = np.ones(r_s.size, bool)
    for gamma, stage in zip(DEFAULT_GAMMAS, picks, strict=True):
        benefit = np.where(free, np.float32(gamma) * r_u - r_s, -np.inf)
        cut = np.sort(benefit)[::-1][QUOTA - 1]
        assert free[stage].all()
        assert set(np.flatnonzero(benefit > cut)) <= set(stage.tolist())
        assert (benefit[stage] >= cut).all()
        assert len(stage) == QUOTA
        free[stage] = False


@pytest.mark.parametrize("ranking", Ranking)
def test_our_stages_differ_from_the_published_only_within_ties(
    scores: Arrays, published: Arrays, ranking: Ranking
) -> None:
    """The first stages, where nothing is tied at the cut, are equal as sets; later ones differ as the record says."""
    ours = select(scores["gradient"], scores["instability"], ranking=ranking)
    theirs = published[f"grad_{ranking}__stage_picks"]
    for stage in (0, 1):
        assert set(ours.stage_picks[stage].tolist()) == set(theirs[stage].tolist())
    assert [len(picks) for picks in ours.stage_picks] == [QUOTA] * 4
    assert ours.count == int(published[f"grad_{ranking}"].sum()) == 8316


@pytest.mark.parametrize(
    ("ranking", "variant", "options"),
    [
        *((ranking, "stable argsort of -score", {}) for ranking in Ranking),
        *((ranking, "local (per layer ratio, global scores)", {"local": True}) for ranking in Ranking),
        *((Ranking.DENSE, name, {"gammas": g}) for name, g in [("linear decay 2,4/3,2/3,0", (2, 4 / 3, 2 / 3, 0))]),
    ],
)
def test_variants_differ_from_the_published_masks_by_the_recorded_number_of_neurons(
    shared_dir: Path, scores: Arrays, published: Arrays, ranking: Ranking, variant: str, options: dict[str, Any]
) -> None:
    recorded = json.loads((shared_dir / "golden/mask_reproduction.json").read_text())[f"cnn_b/grad_{ranking}"][variant]
    if options.pop("local", False):
        options = {**options, "layer_sizes": scores["layer_sizes"].tolist()}
    mask = grad(scores, ranking, **options)
    assert int((mask != published[f"grad_{ranking}"].astype(bool)).sum()) == recorded


@given(
    neurons=st.integers(1, 60),
    ratio=st.floats(0, 1),
    gammas=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, float("inf")]), min_size=1, max_size=5),
    seed=st.integers(0, 100),
)
def test_each_stage_takes_its_share_and_no_neuron_twice(
    neurons: int, ratio: float, gammas: list[float], seed: int
) -> None:
    random = np.random.default_rng(seed)
    significance, instability = random.integers(0, 5, neurons), random.integers(0, 5, neurons)
    selection = select(significance, instability, gammas=gammas, ratio=ratio)
    picked = np.concatenate(selection.stage_picks)
    quota = round(ratio / len(gammas) * neurons)
    assert len(np.unique(picked)) == len(picked) == selection.count == min(quota * len(gammas), neurons)
    assert selection.mask[picked].all()


@given(
    values=st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.0, -1.5, float("inf"), float("-inf")]), min_size=1, max_size=30),
    share=st.floats(0, 1),
)
def test_the_largest_are_the_head_of_a_stable_sort(values: list[float], share: float) -> None:
    array = np.array(values, np.float32)
    count = round(share * array.size)
    assert _largest(array, count).tolist() == np.argsort(-array, kind="stable")[:count].tolist()


def test_infinite_gamma_follows_instability_alone() -> None:
    selection = select([5.0, 0.0, 1.0, 2.0], [9, 1, 3, 0], gammas=[float("inf")], ratio=0.5)
    assert selection.stage_picks[0].tolist() == [0, 2]


def test_ties_go_to_the_first_neuron() -> None:
    assert select([1, 1, 1, 1], [0, 0, 0, 0], gammas=[1], ratio=0.5).stage_picks[0].tolist() == [0, 1]


def test_halves_round_to_even() -> None:
    assert select(np.arange(5.0), np.zeros(5), gammas=[1], ratio=0.5).count == 2
    assert select(np.arange(7.0), np.zeros(7), gammas=[1], ratio=0.5).count == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ratio": 1.5}, r"\[0, 1\]"),
        ({"ratio": float("nan")}, r"\[0, 1\]"),
        ({"gammas": []}, "gammas"),
        ({"gammas": [1, -1]}, ">= 0"),
        ({"gammas": [float("nan")]}, ">= 0"),
        ({"layer_sizes": [2, 1]}, "add up"),
    ],
)
def test_an_impossible_plan_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        select([1.0, 2, 3, 4], [1, 2, 3, 4], **options)


def test_scores_of_two_networks_are_refused() -> None:
    with pytest.raises(UsageError, match="2 significance scores but 3"):
        select([1.0, 2.0], [1.0, 2.0, 3.0])
