"""Mask files and recipes: round trip, masks for other networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.domain import GraftMask, UsageError
from harness.grafting.masks import check_mask, mask_tensors, read_mask, write_mask
from harness.grafting.npz import read_npz, write_npz
from harness.grafting.ranking import Ranking
from harness.grafting.recipe import MaskRecipe, make_mask
from harness.grafting.selection import select
from harness.grafting.significance import Heuristic

LAYERS = {"block.relu": (2, 2, 2), "relu2": (3,)}


def test_round_trip(tmp_path: Path) -> None:
    selection = select(np.arange(11.0), np.arange(11.0)[::-1])
    path = tmp_path / "mask.npz"
    write_mask(path, selection.mask, (8, 3), selection.stage_picks, LAYERS, {"ranking": "min"})
    found = read_mask(path)
    assert {name: layer.shape for name, layer in found.layers.items()} == LAYERS
    assert found.provenance == {"ranking": "min"}
    assert found.count == selection.count
    assert (np.concatenate([layer.ravel() for layer in found.layers.values()]) == selection.mask).all()
    assert all((tensor.numpy() == found.layers[name]).all() for name, tensor in mask_tensors(found).items())
    arrays = read_npz(path)
    assert arrays["mask"].dtype == np.uint8
    assert (arrays["stage_picks"] == np.stack(selection.stage_picks)).all()


def test_a_mask_without_names_needs_them(tmp_path: Path) -> None:
    path = tmp_path / "mask.npz"
    write_mask(path, np.ones(11, np.bool_), (8, 3))
    with pytest.raises(UsageError, match="--layers"):
        read_mask(path)
    assert read_mask(path, LAYERS).count == 11
    with pytest.raises(UsageError, match="does not fit"):
        read_mask(path, {"relu2": (3,), "block.relu": (2, 2, 2)})


def test_stages_of_different_length(tmp_path: Path) -> None:
    selection = select(np.arange(6.0), np.zeros(6), ratio=1.0)
    path = tmp_path / "mask.npz"
    write_mask(path, selection.mask, (6,), selection.stage_picks)
    assert read_npz(path)["stage_picks"].tolist()[-1] == [-1, -1]


@pytest.mark.parametrize(
    "arrays",
    [
        {"layer_sizes": np.array([3])},
        {"layer_sizes": np.array([3]), "mask": np.array([0, 1, 2], np.uint8)},
        {"layer_sizes": np.array([3]), "mask": np.zeros((3, 1), np.uint8)},
        {"layer_sizes": np.array([3]), "mask": np.zeros(3)},
        {"layer_sizes": np.array([4]), "mask": np.zeros(3, np.uint8)},
    ],
)
def test_what_is_no_mask_file(tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = tmp_path / "mask.npz"
    write_npz(path, arrays)
    with pytest.raises(UsageError, match=r"mask\.npz: "):
        read_mask(path, LAYERS)


def test_masks_for_another_network() -> None:
    mask = GraftMask({"relu2": np.ones(3, np.bool_)})
    check_mask(mask, LAYERS)
    with pytest.raises(UsageError, match="has: relu9"):
        check_mask(mask, {"relu9": (3,)})
    with pytest.raises(UsageError, match="neurons 3, but the network's are 2x2"):
        check_mask(mask, {"relu2": (2, 2)})


def test_a_recipe_writes_what_the_mask_was_made_from(tmp_path: Path, shared_dir: Path) -> None:
    scores = shared_dir / "golden/cnn_b/scores_selftrained.npz"
    made = make_mask(MaskRecipe(Heuristic.GRADIENT, Ranking.DENSE), scores, tmp_path / "mask.npz")
    assert made.layer_counts == (3337, 4856, 123)
    golden = read_npz(shared_dir / "golden/cnn_b/masks_selftrained.npz")["grad_dense"]
    assert (read_npz(tmp_path / "mask.npz")["mask"] == golden).all()
    layers = {"relu1": (32, 16, 16), "relu2": (128, 8, 8), "relu3": (250,)}
    provenance = read_mask(tmp_path / "mask.npz", layers).provenance
    assert provenance["heuristic"] == "gradient"
    assert provenance["gammas"] == "2,1.5,1,0"
    assert len(provenance["scores_sha256"]) == 64
