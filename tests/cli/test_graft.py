"""The commands from scores to a measured, grafted network, on a tiny network and a tiny data set."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.cli import training_common
from harness.cli.graft import parse_gammas, run_instability
from harness.cli.main import main
from harness.data.images import ImageSet
from harness.domain import EngineRecord, Instance, InstanceResult, Job, Limits, UsageError, Verdict
from harness.files import sha256_file
from harness.grafting.npz import read_npz, write_npz
from harness.grafting.scores import read_scores
from harness.networks import zoo
from harness.report.source import JOBS_META
from harness.run.store import Store

LAYERS = {"relu1": (4, 4, 4), "relu2": (6,)}


def toy() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 4, 3),
            relu1=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(64, 6),
            relu2=nn.ReLU(),
            fc2=nn.Linear(6, 3),
        )
    )


def images(n: int, seed: int) -> ImageSet:
    random = np.random.default_rng(seed)
    return ImageSet(random.integers(0, 256, (n, 1, 6, 6), dtype=np.uint8), random.integers(0, 3, n))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Operations this small lose more than they gain by a second thread, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def zoo_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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


def test_the_contract_for_scripts(tmp_path: Path, shared_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = shared_dir / "golden/cnn_b/scores_selftrained.npz"
    out = tmp_path / "mask.npz"
    command = ["mask", "--scores", str(scores), "--heuristic", "gradient", "--ranking", "dense", "--out", str(out)]
    assert main([*command, "--gammas", "2,1.5,1,0", "--ratio", "0.5", "--json"]) == 0
    assert [layer["grafted"] for layer in json.loads(capsys.readouterr().out)["layers"]] == [3337, 4856, 123]
    arrays = read_npz(out)
    assert arrays["mask"].dtype == np.uint8
    assert arrays["layer_sizes"].tolist() == [8192, 8192, 250]
    assert arrays["stage_picks"].shape == (4, 2079)
    assert (arrays["mask"] == read_npz(shared_dir / "golden/cnn_b/masks_selftrained.npz")["grad_dense"]).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"--heuristic": "entropy"}, "unknown heuristic"),
        ({"--ranking": "best"}, "--ranking"),
        ({"--ratio": "1.5"}, "[0, 1]"),
        ({"--ratio": "nan"}, "[0, 1]"),
        ({"--gammas": "2,x"}, "not a list of numbers"),
        ({"--gammas": "-1"}, ">= 0"),
        ({"--scores": "nowhere.npz"}, "no such file"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, shared_dir: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], said: str
) -> None:
    out = tmp_path / "mask.npz"
    options = {
        "--scores": str(shared_dir / "golden/cnn_b/scores_selftrained.npz"),
        "--heuristic": "gap",
        "--ranking": "min",
        "--out": str(out),
        **changes,
    }
    assert main(["mask", *(part for pair in options.items() for part in pair)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert said in message
    assert not out.exists()


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
        (["score", "models/toy/baseline", "--out", "s.npz", "--data", ".", "--run", "nowhere"], "no results"),
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


def test_gammas() -> None:
    assert parse_gammas("2, 1.5,inf") == (2.0, 1.5, float("inf"))
    with pytest.raises(UsageError):
        parse_gammas("")


@pytest.mark.parametrize("planned", [True, False])
def test_an_input_counts_once_after_a_resume_with_other_limits(zoo_folder: Path, tmp_path: Path, planned: bool) -> None:
    manifest = zoo.read_manifest(zoo_folder / "baseline.json")
    with Store.open(tmp_path / "run/results.db", create=True) as store:
        for second, key in enumerate(("short limit", "long limit")):
            limits = Limits(5.0 * (second + 1))
            instance = Instance(Path("n.onnx"), Path("p.vnnlib"), limits.timeout_s)
            job = Job(key, instance, "baseline", 0, limits, manifest.onnx.sha256, "0" * 64)
            unstable = {"relu1": np.arange(64) < 10 * (second + 1), "relu2": np.zeros(6, np.bool_)}
            record = EngineRecord(unstable=unstable, entered_bab=True, neurons=70)
            done = InstanceResult(job, Verdict.UNKNOWN, Verdict.UNKNOWN, None, 1.0, 1.0, record=record)
            store.add(done, tool="builtin", finished_at=datetime(2000, 1, 1, 0, 0, second, tzinfo=UTC))
        if planned:
            store.meta[JOBS_META] = [("short limit", "baseline", 0)]
    found = run_instability(tmp_path / "run", "baseline", manifest)
    assert (found.inputs, found.unr) == (1, pytest.approx(100 * (10 if planned else 20) / 70))


def test_instability_comes_from_the_runs_results_of_that_network(zoo_folder: Path, tmp_path: Path) -> None:
    manifest = zoo.read_manifest(zoo_folder / "baseline.json")
    random = np.random.default_rng(0)
    masks = [{"relu1": random.random(64) < 0.3, "relu2": random.random(6) < 0.3} for _ in range(3)]
    with Store.open(tmp_path / "run/results.db", create=True) as store:
        for index, (mask, entered, network) in enumerate(
            zip(masks, (True, False, True), (manifest.onnx.sha256, manifest.onnx.sha256, "0" * 64), strict=True)
        ):
            limits = Limits(5.0, max_domains=0)
            instance = Instance(Path("n.onnx"), Path(f"p{index}.vnnlib"), 5.0)
            job = Job(f"{index:064}", instance, "baseline", index, limits, network, f"{index:064}")
            record = EngineRecord(unstable=mask if entered else None, entered_bab=entered, neurons=70)
            store.add(
                InstanceResult(job, Verdict.UNKNOWN, Verdict.UNKNOWN, None, 1.0, 1.0, record=record), tool="builtin"
            )
    out = zoo_folder / "with.npz"
    command = ["score", str(zoo_folder / "baseline"), "--out", str(out), "--data", ".", "--images", "30"]
    assert main([*command, "--run", str(tmp_path / "run")]) == 0
    scores = read_scores(out)
    expected = np.concatenate([masks[0]["relu1"], masks[0]["relu2"]])
    assert (scores.array("instability") == expected).all(), "the only open input of this very network"
    assert scores.provenance["instability_inputs"] == "1"
    assert main([*command, "--run", str(tmp_path / "run"), "--variant", "grafted"]) == 2
