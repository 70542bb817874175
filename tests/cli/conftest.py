"""A tiny trained network in a folder of its own, for the commands that train, score and graft."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toy_network import images, toy

from harness.cli import training_common
from harness.cli.main import main
from harness.data.images import ImageSet
from harness.grafting.npz import read_npz, write_npz
from harness.networks import zoo


@pytest.fixture
def zoo_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Path:
    """A trained baseline of a toy architecture; commands find toy images in place of a data set."""
    everything, test = images(60, 0), images(20, 1)

    def load(_dataset: str, split: str, _root: Path | None = None, count: int | None = None) -> ImageSet:
        return (everything if split == "train" else test)[:count]

    monkeypatch.setattr(training_common, "load_images", load)
    monkeypatch.setattr("harness.cli.graft.load_images", load)
    monkeypatch.setattr(training_common, "train_validation", lambda _name, x: (x[:40], x[40:]))
    monkeypatch.setattr(training_common, "ARCHITECTURES", {"toy_net": toy})
    monkeypatch.setattr(zoo, "ARCHITECTURES", {"toy_net": toy})
    monkeypatch.chdir(tmp_path)
    command = ["train", "toy_net", "--out", "models/toy/baseline", "--data", ".", "--epochs", "2", "--device", "cpu"]
    assert main(command) == 0
    return tmp_path / "models/toy"


@pytest.fixture
def scores(zoo_folder: Path) -> Path:
    """Scores of the baseline, with an instability as a run would have counted it."""
    path = zoo_folder / "scores.npz"
    assert main(["score", str(zoo_folder / "baseline"), "--out", str(path), "--data", ".", "--images", "30"]) == 0
    arrays = read_npz(path)
    write_npz(path, {**arrays, "instability": np.random.default_rng(0).integers(0, 9, 70).astype(np.float32)})
    return path
