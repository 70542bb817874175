"""`lgbench score` on a tiny network: significance, instability by either way, learned scores, bad input."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from torch import nn

from harness.cli.main import main
from harness.cli.score_steps import run_instability
from harness.data.images import ImageSet
from harness.domain import EngineRecord, Instance, InstanceResult, Job, Limits, ToolAnswer, Verdict
from harness.formats.vnnlib import read_property
from harness.grafting.hydra import HydraTraining
from harness.grafting.scores import read_scores
from harness.grafting.significance import MEANS, random_significance
from harness.networks import zoo
from harness.networks.export import export_onnx
from harness.report.source import JOBS_META
from harness.run.store import Store
from harness.tools.contract import Answered


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
    found = run_instability(tmp_path / "run", "baseline", manifest.onnx.sha256)
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


class FakeEngine:
    """Leaves every input open where all are asked for, else every other one; the same masks every time."""

    name = "fake"
    batched = True
    calls: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, _folder: Path, **options: Any) -> None:
        self.options = options

    def identity(self) -> str:
        return "fake"

    def decide(self, jobs: Sequence[Job]) -> Iterator[Answered]:
        every_input = len(read_property(jobs[0].instance.property).cases[0].polytopes) == 1
        FakeEngine.calls.append({**self.options, "every_input": every_input, "inputs": len(jobs)})
        for number, job in enumerate(jobs):
            random = np.random.default_rng(job.index)
            masks = {"relu2": random.random(6) < 0.5, "relu1": random.random(64) < 0.5}
            open_ = every_input or number % 2 == 0
            record = EngineRecord(unstable=masks if open_ else None, entered_bab=open_, neurons=70)
            yield Answered(job, ToolAnswer(Verdict.UNKNOWN, 0.1, 0.1, record=record))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[FakeEngine]:
    monkeypatch.setattr("harness.cli.score_steps.BuiltinTool", FakeEngine)
    monkeypatch.setattr(FakeEngine, "calls", [])
    return FakeEngine


def score(folder: Path, *more: str) -> int:
    command = ["score", str(folder / "baseline"), "--out", str(folder / "s.npz"), "--data", ".", "--images", "30"]
    return main([*command, "--device", "cpu", *more])


def test_means_are_the_default(zoo_folder: Path) -> None:
    assert score(zoo_folder) == 0
    found = read_scores(zoo_folder / "s.npz")
    assert list(found.arrays) == ["gradient", "magnitude", "variance", "product"]
    assert found.names == ("relu1", "relu2")


def test_every_heuristic_of_a_seed(zoo_folder: Path) -> None:
    wanted = ("--heuristics", "random, hydra,GAP", "--hydra-epochs", "1", "--hydra-images", "20", "--seed")
    assert score(zoo_folder, *wanted, "4") == 0
    first = read_scores(zoo_folder / "s.npz")
    assert set(first.arrays) == {"gradient", "hydra", "random"}
    assert first.layer_sizes == (64, 6)
    assert (first.array("random") == random_significance(70, 4)).all()
    settings = json.loads(first.provenance["hydra"])
    assert (settings["epochs"], settings["images"], settings["seed"]) == (1, 20, 4)
    before = (zoo_folder / "s.npz").read_bytes()
    assert score(zoo_folder, *wanted, "4") == 0
    assert (zoo_folder / "s.npz").read_bytes() == before
    assert not list(Path("checkpoints").glob("hydra-*")), "what is finished leaves no checkpoint"
    assert score(zoo_folder, *wanted, "5") == 0
    other = read_scores(zoo_folder / "s.npz")
    assert (other.array("random") != first.array("random")).any()
    assert json.loads(other.provenance["hydra"])["seed"] == 5


def test_an_interrupted_hydra_writes_nothing_and_goes_on(
    zoo_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ("--heuristics", "hydra", "--hydra-epochs", "30")
    batch = HydraTraining._batch

    def interrupted(training: HydraTraining, index: Any) -> float:
        if training.step == 12:
            os.kill(os.getpid(), signal.SIGINT)
        return batch(training, index)

    with monkeypatch.context() as patch:
        patch.setattr(HydraTraining, "_batch", interrupted)
        assert score(zoo_folder, *wanted) == 1
    assert "goes on" in capsys.readouterr().out
    assert not (zoo_folder / "s.npz").exists()
    (checkpoint,) = Path("checkpoints").glob("hydra-*.ckpt")
    steps: list[int] = []

    def counted(training: HydraTraining, index: Any) -> float:
        steps.append(training.step)
        return batch(training, index)

    monkeypatch.setattr(HydraTraining, "_batch", counted)
    assert score(zoo_folder, *wanted) == 0
    assert steps[0] == 13
    assert not checkpoint.exists()
    resumed = read_scores(zoo_folder / "s.npz").array("hydra")
    assert score(zoo_folder, *wanted) == 0
    assert (read_scores(zoo_folder / "s.npz").array("hydra") == resumed).all()


@pytest.mark.parametrize("source", ["bab", "crown"])
def test_instability_of_test_inputs(zoo_folder: Path, engine: type[FakeEngine], source: str) -> None:
    assert score(zoo_folder, "--instability", source, "--inputs", "12", "--seed", "9") == 0
    (call,) = engine.calls
    assert (call["every_input"], call["seed"], call["device"]) == (source == "crown", 9, "cpu")
    assert 0 < call["inputs"] <= 12
    found = read_scores(zoo_folder / "s.npz")
    counted = call["inputs"] if source == "crown" else -(-call["inputs"] // 2)
    assert found.provenance["instability"] == source
    assert found.provenance["instability_inputs"] == str(counted)
    assert found.provenance["test_inputs"] == "12"
    assert not {"instability_bab", "instability_crown"} & set(found.arrays)
    assert 0 < found.array("instability").max() <= counted


def test_both_ways_are_kept_and_compared(
    zoo_folder: Path, engine: type[FakeEngine], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert score(zoo_folder, "--compare", "--inputs", "20", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    found = read_scores(zoo_folder / "s.npz")
    assert [call["every_input"] for call in engine.calls] == [False, True]
    assert said["instability"] == "bab"
    assert (found.array("instability") <= found.array("instability_crown")).all(), "some inputs, and all of them"
    assert set(said["counts"]) == {"bab", "crown"}
    assert said["counts"]["crown"]["inputs"] == int(found.provenance["instability_crown_inputs"])
    share = found.array("instability_crown").sum() / (70 * said["counts"]["crown"]["inputs"])
    assert said["counts"]["crown"]["UNR"] == pytest.approx(100 * share)
    assert -1 <= said["comparison"]["spearman"] <= 1
    assert {mask["heuristic"] for mask in said["comparison"]["masks"]} == {str(h) for h in MEANS}
    assert score(zoo_folder, "--compare", "--instability", "crown", "--inputs", "20") == 0
    other = read_scores(zoo_folder / "s.npz")
    assert (other.array("instability") == found.array("instability_crown")).all()
    assert (other.array("instability_bab") == found.array("instability")).all()
    assert "masks go by this" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--heuristics", "gap,entropy"), "unknown heuristic 'entropy'"),
        (("--run", "nowhere"), "no results"),
        (("--instability", "crown", "--inputs", "21"), "there are 20 test inputs"),
        (("--hydra-keep", "1"), "--hydra-keep"),
        (("--images", "1"), "--images"),
    ],
)
def test_bad_input_is_one_line_before_anything_long_begins(
    zoo_folder: Path, engine: type[FakeEngine], capsys: pytest.CaptureFixture[str], more: tuple[str, ...], said: str
) -> None:
    capsys.readouterr()
    assert score(zoo_folder, *more) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert said in message
    assert not (zoo_folder / "s.npz").exists()
    assert not engine.calls


def test_a_failing_engine_leaves_earlier_scores(
    zoo_folder: Path, engine: type[FakeEngine], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(zoo_folder) == 0
    before = (zoo_folder / "s.npz").read_bytes()

    def broken(_self: FakeEngine, jobs: Sequence[Job]) -> Iterator[Answered]:
        yield Answered(jobs[0], ToolAnswer(Verdict.ERROR, 0.1, 0.1, message="out of memory"))

    monkeypatch.setattr(FakeEngine, "decide", broken)
    assert score(zoo_folder, "--instability", "bab", "--inputs", "5") == 1
    assert "out of memory" in capsys.readouterr().err
    assert (zoo_folder / "s.npz").read_bytes() == before


def test_an_onnx_file_is_scored_by_the_names_of_its_masks(
    zoo_folder: Path, engine: type[FakeEngine], capsys: pytest.CaptureFixture[str]
) -> None:
    (zoo_folder / "baseline.onnx.gz").rename("own.onnx.gz")
    images = ImageSet(np.random.default_rng(0).integers(0, 256, (40, 1, 6, 6), dtype=np.uint8), np.arange(40) % 3)
    np.savez("own.npz", images=images.images, labels=images.labels)
    command = ["score", "own.onnx.gz", "--out", "s.npz", "--data-set", "own.npz", "--inputs", "4", "--device", "cpu"]
    capsys.readouterr()
    assert main([*command, "--instability", "crown"]) == 2
    assert "--eps" in capsys.readouterr().err
    assert main([*command, "--instability", "crown", "--eps", "0.02"]) == 0
    found = read_scores(Path("s.npz"))
    assert found.names == ("relu1", "relu2")
    assert found.array("instability").any()
    assert engine.calls[0]["every_input"]


def test_a_network_without_relu(zoo_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    Path("flat.onnx").write_bytes(export_onnx(network, (1, 6, 6)))
    np.savez("own.npz", images=np.zeros((20, 1, 6, 6), np.uint8), labels=np.arange(20) % 3)
    capsys.readouterr()
    assert main(["score", "flat.onnx", "--out", "s.npz", "--data-set", "own.npz"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "no ReLU" in message
    assert not Path("s.npz").exists()
