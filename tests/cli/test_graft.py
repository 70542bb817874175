"""The commands from scores to a measured, grafted network, on a tiny network and a tiny data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.cli.main import main
from harness.files import sha256_file
from harness.grafting.npz import read_npz, write_npz
from harness.networks import zoo

LAYERS = {"relu1": (4, 4, 4), "relu2": (6,)}


def mask_command(scores: Path, out: Path, *more: str) -> list[str]:
    return ["mask", "--scores", str(scores), "--heuristic", "gap", "--ranking", "norank", "--out", str(out), *more]


def test_from_scores_to_a_grafted_network(scores: Path, zoo_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = zoo_folder / "mask.npz"
    capsys.readouterr()
    assert main(mask_command(scores, mask, "--json")) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["grafted"] == 36
    assert [layer["name"] for layer in said["layers"]] == ["relu1", "relu2"]
    assert sum(layer["grafted"] for layer in said["layers"]) == 36
    command = ["graft", str(zoo_folder / "baseline.onnx.gz"), "--mask", str(mask), "--data", ".", "--epochs", "2"]
    assert main([*command, "--out", str(zoo_folder / "kept"), "--no-retrain"]) == 0
    assert main([*command, "--out", str(zoo_folder / "retrained"), "--graft-lr", "0.01"]) == 0
    baseline, kept, retrained = (zoo.load_network(zoo_folder, name) for name in ("baseline", "kept", "retrained"))
    assert torch.equal(kept.conv1.weight, baseline.conv1.weight)
    assert not torch.equal(retrained.conv1.weight, baseline.conv1.weight)
    flat = np.concatenate([kept.get_submodule(name).mask.numpy().ravel() for name in LAYERS])
    assert (flat == read_npz(mask)["mask"]).all()
    manifest = zoo.read_manifest(zoo_folder / "kept.json")
    assert manifest.parent == zoo.ParentNetwork("baseline", zoo.read_manifest(zoo_folder / "baseline.json").onnx.sha256)
    assert manifest.mask == zoo.FileHash("mask.npz", sha256_file(mask))
    assert (manifest.training.config["lr"], manifest.training.config["graft_lr"]) == (0.0, 0.1)
    assert "2 epochs" in manifest.training.note
    assert manifest.grafted_neurons == 36


def test_evaluate_prints_what_the_manifest_states(zoo_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(zoo_folder / "baseline"), "--data", ".", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    stated = zoo.read_manifest(zoo_folder / "baseline.json").metrics
    assert said["SA"] == stated["SA"]
    assert said["RA"] == stated["RA"]


def test_a_stopped_training_goes_on(zoo_folder: Path) -> None:
    command = ["train", "toy_net", "--out", "models/toy/again", "--data", ".", "--epochs", "2", "--device", "cpu"]
    assert main([*command, "--max-seconds", "1e-9"]) == 1
    assert Path("checkpoints/toy/again.ckpt").exists()
    assert not (zoo_folder / "again.json").exists()
    assert main(command) == 0
    again, baseline = (zoo.read_manifest(zoo_folder / f"{name}.json") for name in ("again", "baseline"))
    assert again.onnx.sha256 == baseline.onnx.sha256


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["graft", "models/toy/baseline", "--mask", "m.npz", "--out", "models/toy/x", "--data", "."], "no such file"),
        (
            ["graft", "models/toy/nothing", "--mask", "m.npz", "--out", "models/toy/x", "--data", "."],
            "no such manifest",
        ),
        (["train", "toy_nets", "--out", "models/toy/x", "--data", "."], "no benchmark 'toy_nets'"),
        (["train", "toy_net", "--out", "models/toy/x"], "--data"),
        (["evaluate", "/", "--data", "."], "names no network"),
    ],
)
def test_bad_input_of_the_others(
    zoo_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    said: str,
) -> None:
    monkeypatch.delenv("LGBENCH_DATA", raising=False)
    before = sorted(zoo_folder.iterdir())
    capsys.readouterr()
    assert main(command) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert said in message
    assert sorted(zoo_folder.iterdir()) == before


def test_a_mask_for_another_network(zoo_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays: dict[str, Any] = {"mask": np.ones(6, np.uint8), "layer_sizes": np.array([6])}
    write_npz(Path("m.npz"), arrays)
    command = ["graft", str(zoo_folder / "baseline"), "--mask", "m.npz", "--out", "models/toy/x", "--data", "."]
    assert main(command) == 2
    assert "--layers" in capsys.readouterr().err
    assert main([*command, "--layers", "relu1"]) == 2
    assert "does not fit" in capsys.readouterr().err
    assert main([*command, "--layers", "relu7"]) == 2
    assert "relu1, relu2" in capsys.readouterr().err
    assert main([*command, "--layers", "relu2", "--epochs", "1"]) == 0
    assert zoo.read_manifest(zoo_folder / "x.json").grafted_neurons == 6
