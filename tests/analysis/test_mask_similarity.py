"""Similarity of masks: by hand, by properties, and against the published masks and overlaps."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from harness.analysis.masks import average_distance, compare_with, jaccard, overlap
from harness.domain import UsageError
from harness.grafting.ranking import Ranking, rank
from harness.grafting.scores import Scores, read_scores
from harness.grafting.selection import select
from harness.grafting.significance import Heuristic

DECAY = (2.0, 1.5, 1.0, 0.0)
GAMMAS = {"decay": DECAY, "1": (1.0,), "0.2": (0.2,)}
NETWORKS = ("pretrained", "selftrained")
ROWS = [
    (axis, fixed)
    for axis, held in (("heuristic", ("norank", "min", "dense")), ("ranking", ("GAP", "SAP", "VAP")))
    for fixed in held
] + [("gamma", ranking) for ranking in ("norank", "min", "dense")]

mask_lists = st.integers(1, 40).flatmap(lambda n: st.lists(npst.arrays(np.bool_, n), min_size=1, max_size=5))


def as_sets(masks: Sequence[NDArray[np.bool_]]) -> list[set[int]]:
    return [set(np.flatnonzero(mask).tolist()) for mask in masks]


def golden(shared_dir: Path) -> dict[str, object]:
    raw: dict[str, object] = json.loads((shared_dir / "golden/overlaps.json").read_text())
    return raw


def pick(
    scores: Scores,
    heuristic: str,
    ranking: str,
    instability_ranking: str | None = None,
    gammas: Sequence[float] = DECAY,
) -> tuple[NDArray[np.bool_], int]:
    """Returns a recipe's mask and how many of its neurons another order among ties could exchange."""
    significance, instability = scores.array(Heuristic.parse(heuristic)), scores.array("instability")
    rankings = {"ranking": Ranking(ranking), "instability_ranking": Ranking(instability_ranking or ranking)}
    chosen = select(significance, instability, gammas=gammas, **rankings)
    backwards = select(significance[::-1], instability[::-1], gammas=gammas, **rankings).mask[::-1]
    if (chosen.mask == backwards).all():
        return chosen.mask, 0
    r_s, r_u = rank(significance, rankings["ranking"]), rank(instability, rankings["instability_ranking"])
    slack, left = 0, np.ones(r_s.size, np.bool_)
    for gamma, picks in zip(gammas, chosen.stage_picks, strict=True):
        score = (np.float32(gamma) * r_u - r_s).astype(np.float32)
        cut = score[picks].min()
        tied, taken = int((score[left] == cut).sum()), int((score[picks] == cut).sum())
        # An exchange in one stage can move at most one neuron of the union in each later stage.
        slack += min(taken, tied - taken)
        left[picks] = False
    return chosen.mask, slack


@given(mask_lists)
def test_regions_are_those_of_python_sets(masks: list[NDArray[np.bool_]]) -> None:
    found = overlap({str(i): mask for i, mask in enumerate(masks)})
    sets = as_sets(masks)
    for key, count in found.regions.items():
        inside = [s for s, digit in zip(sets, key, strict=True) if digit == "1"]
        outside = [s for s, digit in zip(sets, key, strict=True) if digit == "0"]
        assert count == len(set.intersection(*inside) - set().union(*outside)), key
    assert len(found.regions) == 2 ** len(masks) - 1
    assert sum(found.regions.values()) == len(set().union(*sets))
    assert found.sizes == tuple(map(len, sets))


@given(mask_lists)
def test_distance_is_the_mean_over_pairs(masks: list[NDArray[np.bool_]]) -> None:
    if len(masks) < 2:
        with pytest.raises(UsageError, match="pairs"):
            average_distance(masks)
        assert overlap({"a": masks[0]}).distance is None
        return
    expected = [1 - len(a & b) / len(a | b) if a | b else 0.0 for a, b in itertools.combinations(as_sets(masks), 2)]
    assert average_distance(masks) == pytest.approx(np.mean(expected))


def test_jaccard_by_hand() -> None:
    assert jaccard([1, 1, 0, 0], [0, 1, 1, 0]) == pytest.approx(1 / 3)
    assert jaccard([0, 0], [0, 0]) == 1.0
    assert jaccard([1, 0], [0, 1]) == 0.0


def test_regions_come_in_the_published_order() -> None:
    found = overlap({"a": [1, 1, 0], "b": [1, 0, 0], "c": [1, 0, 1]})
    assert list(found.regions.items()) == list(
        {"100": 1, "010": 0, "001": 1, "110": 0, "101": 0, "011": 0, "111": 1}.items()
    )


def test_of_many_masks_only_regions_with_neurons_are_listed() -> None:
    masks = {f"m{i}": np.arange(70) == i for i in range(70)} | {"all": np.ones(70, np.bool_)}
    found = overlap(masks)
    assert len(found.regions) == 70
    assert set(found.regions.values()) == {1}
    assert all(len(key) == 71 for key in found.regions)


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({"a": [1, 0], "b": [1, 0, 1]}, "a is of 2 neurons, b of 3"),
        ({}, "no mask"),
        ({"a": [0.5, 1]}, "a: a mask has zeros and ones only"),
    ],
)
def test_what_cannot_be_compared(masks: dict[str, list[float]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        overlap(masks)


def test_matches_are_sorted_and_counted() -> None:
    found = compare_with([1, 1, 0, 0], {"far": [0, 0, 1, 1], "near": [1, 0, 0, 0], "same": [1, 1, 0, 0]})
    assert [(m.name, m.common, m.union, m.size) for m in found] == [
        ("same", 2, 2, 2), ("near", 1, 2, 1), ("far", 0, 4, 2)
    ]  # fmt: skip
    assert found[1].recovered == 50.0
    with pytest.raises(UsageError, match="of one network"):
        compare_with([1, 0], {"other": [1, 0, 0]})


@pytest.mark.parametrize(("axis", "fixed"), ROWS)
@pytest.mark.parametrize("network", NETWORKS)
def test_published_overlaps(network: str, axis: str, fixed: str, shared_dir: Path) -> None:
    """Rows whose cut splits no tie class exactly; the others within what an exchange among ties can move."""
    scores = read_scores(shared_dir / f"golden/cnn_b/scores_{network}.npz")
    row = golden(shared_dir)[f"cnn_b_{network}"][axis][fixed]  # type: ignore[index]
    made = {}
    for name in row["sets"]:
        if axis == "heuristic":
            made[name] = pick(scores, name, fixed)
        elif axis == "ranking":
            made[name] = pick(scores, fixed, name)
        else:
            made[name] = pick(scores, "GAP", fixed, gammas=GAMMAS[name])
    found = overlap({name: mask for name, (mask, _) in made.items()})
    slack = sum(slack for _, slack in made.values())
    assert list(found.regions) == list(row["venn"])
    differences = [abs(found.regions[key] - count) for key, count in row["venn"].items()]
    assert max(differences) <= slack
    assert slack or found.distance == pytest.approx(row["dJ"], abs=5e-7)
    if network == "pretrained":
        assert (slack == 0) == ((axis, fixed) not in {("gamma", "min"), ("gamma", "norank")})


def test_recipes_beside_the_provided_mask(shared_dir: Path) -> None:
    """27 recipes; the best is the thesis' 0.609697, with 6,300 of the 8,317 neurons in common."""
    scores = read_scores(shared_dir / "golden/cnn_b/scores_pretrained.npz")
    provided = np.load(shared_dir / "golden/cnn_b/mask_provided_fat.npz")["fat"]
    table = golden(shared_dir)["fat_mask_recreation_inst|sig|heuristic"]
    assert isinstance(table, dict)
    made = {key: pick(scores, key.split("|")[2], key.split("|")[1], key.split("|")[0]) for key in table}
    found = compare_with(provided, {key: mask for key, (mask, _) in made.items()})
    assert len(found) == 27
    exact = 0
    for match in found:
        assert abs(match.common - table[match.name]["inter"]) <= made[match.name][1]
        if made[match.name][1] == 0:
            exact += 1
            assert match.jaccard == pytest.approx(table[match.name]["jaccard"], abs=5e-7)
    assert exact >= 20
    assert found[0].jaccard == pytest.approx(0.609697, abs=5e-7)
    assert found[0].recovered == pytest.approx(75.75, abs=0.005)
