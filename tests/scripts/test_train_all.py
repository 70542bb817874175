"""The unattended pipeline: complete, resumable, and redoing exactly what a change concerns."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from toy_network import images, toy

from harness.cli import pipeline, training_common
from harness.cli.main import main
from harness.cli.training_common import TrainingData
from harness.domain import EngineRecord, Job, LgBenchError, ToolAnswer, Verdict
from harness.files import sha256_file
from harness.formats.vnnlib import read_property
from harness.grafting.scores import read_scores
from harness.judging.clean import clean_labels
from harness.networks import zoo
from harness.tools.contract import Answered
from harness.workflow.root_bounds import Ball, root_records

ROOT = Path(__file__).resolve().parents[2]
SPEC = """
name: toy
title: Toy
dataset: mnist
architecture: toy_net
input_shape: [1, 6, 6]
classes: 3
eps: 0.05
baseline: baseline
protocols: {full: {inputs: 5, timeout_s: 1}, cpu: {inputs: 5, timeout_s: 1}}
variants:
  - {name: baseline, title: B, network: models/toy/baseline.onnx.gz}
  - name: grafted_min
    title: M
    network: models/toy/grafted_min.onnx.gz
    parent: baseline
    graft: {heuristic: GAP, ranking: min, retrain: true}
  - name: grafted_norank
    title: N
    network: models/toy/grafted_norank.onnx.gz
    parent: baseline
    graft: {heuristic: SAP, ranking: norank, retrain: false}
training:
  eps: 0.05
  alpha: 0.06
  batch_size: 16
  augment: false
  full: {epochs: 9, schedule: multistep}
  short: {epochs: 2, schedule: piecewise, knots: [[0, 1], [2, 0]]}
grafting:
  ratio: 0.5
  score_images: 20
  instability_inputs: 18
  full: {epochs: 9, schedule: cosine}
  short: {epochs: 1, schedule: cosine}
"""


class FakeEngine:
    """Leaves every other input open, with random masks; counts its calls."""

    name = "fake"
    batched = True
    calls = 0
    broken = False

    def __init__(self, *_args: Any, **_options: Any) -> None:
        pass

    def identity(self) -> str:
        return "fake"

    def decide(self, jobs: Sequence[Job]) -> Iterator[Answered]:
        FakeEngine.calls += 1
        random = np.random.default_rng(0)
        for number, job in enumerate(jobs):
            assert job.limits.max_domains == 0
            assert read_property(job.instance.property, 36, 3).cases
            masks = {"relu1": random.random(64) < 0.3, "relu2": random.random(6) < 0.3}
            record = EngineRecord(unstable=masks, entered_bab=number % 2 == 0, neurons=70)
            verdict = Verdict.ERROR if FakeEngine.broken else Verdict.UNKNOWN
            yield Answered(job, ToolAnswer(verdict, 0.1, 0.1, message="as told", record=record))


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_all", ROOT / "scripts/train_all.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "train_all", module)
    spec.loader.exec_module(module)
    everything = images(80, 0)
    monkeypatch.setattr(
        pipeline, "training_data", lambda *_: TrainingData(everything, everything[:60], everything[60:])
    )
    monkeypatch.setattr(pipeline, "test_data", lambda *_: images(30, 1))
    monkeypatch.setattr(pipeline, "BuiltinTool", FakeEngine)
    monkeypatch.setattr(FakeEngine, "calls", 0)
    monkeypatch.setattr(zoo, "ARCHITECTURES", {"toy_net": toy})
    monkeypatch.setattr(training_common, "ARCHITECTURES", {"toy_net": toy})
    monkeypatch.chdir(tmp_path)
    write_spec(SPEC)
    return module


def write_spec(text: str) -> None:
    path = Path("specs/toy/benchmark.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def run(script: ModuleType, *more: str) -> int:
    return main(["toy", "--device", "cpu", "--length", "short", *more], script.train_all, "train_all")


def state() -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(Path("models/toy").iterdir())}


@pytest.fixture
def done(script: ModuleType) -> ModuleType:
    assert run(script) == 0
    return script


def test_everything_is_made(done: ModuleType) -> None:
    networks = ["baseline", "grafted_min", "grafted_norank"]
    files = {f"{name}{suffix}" for name in networks for suffix in (".json", ".onnx.gz")}
    assert set(state()) == files | {"scores.npz", "mask_gap_min.npz", "mask_sap_norank.npz"}
    manifests = {name: zoo.read_manifest(Path("models/toy", f"{name}.json")) for name in networks}
    for name, manifest in manifests.items():
        zoo.load_network(Path("models/toy"), name)
        assert "short schedule" in manifest.training.note
        assert manifest.metrics["RA"]["attack"] == "pgd-100"
        assert manifest.metrics["RA"]["n"] == 30
    for name, mask in (("grafted_min", "mask_gap_min.npz"), ("grafted_norank", "mask_sap_norank.npz")):
        assert manifests[name].parent == zoo.ParentNetwork("baseline", manifests["baseline"].onnx.sha256)
        assert manifests[name].mask == zoo.FileHash(mask, sha256_file(Path("models/toy", mask)))
        assert manifests[name].grafted_neurons == 36
    assert manifests["grafted_norank"].training.config["lr"] == 0
    scores = read_scores(Path("models/toy/scores.npz"))
    assert scores.names == ("relu1", "relu2")
    assert scores.array("instability").max() <= int(scores.provenance["inputs_in_branch_and_bound"])


def test_a_second_run_does_nothing(done: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before, calls = state(), FakeEngine.calls
    monkeypatch.setattr(pipeline, "Trainer", None)
    assert run(done) == 0
    assert state() == before
    assert FakeEngine.calls == calls


def test_slices_end_where_one_run_does(done: ModuleType, tmp_path: Path) -> None:
    whole = state()
    for path in Path("models/toy").iterdir():
        path.unlink()
    for path in Path("checkpoints").iterdir():
        path.unlink()
    codes = []
    while not codes or codes[-1]:
        codes.append(run(done, "--max-seconds", "0.05"))
        assert len(codes) < 60
    assert codes[0] == 1
    assert state() == whole


def test_another_ratio_redoes_masks_and_grafts_only(done: ModuleType) -> None:
    before, calls = state(), FakeEngine.calls
    write_spec(SPEC.replace("ratio: 0.5", "ratio: 0.4"))
    assert run(done) == 0
    changed = {name for name, digest in state().items() if before[name] != digest}
    grafts = {f"grafted_{name}{suffix}" for name in ("min", "norank") for suffix in (".json", ".onnx.gz")}
    assert changed == grafts | {"mask_gap_min.npz", "mask_sap_norank.npz"}
    assert FakeEngine.calls == calls


def test_another_recipe_redoes_its_graft_only(done: ModuleType) -> None:
    before = state()
    write_spec(SPEC.replace("ranking: norank, retrain: false", "ranking: norank, retrain: true"))
    assert run(done) == 0
    changed = {name for name, digest in state().items() if before[name] != digest}
    assert changed == {"grafted_norank.json", "grafted_norank.onnx.gz"}


def test_another_baseline_redoes_everything(done: ModuleType) -> None:
    before = state()
    write_spec(SPEC.replace("augment: false", "augment: false\n  seed: 2"))
    Path("checkpoints/baseline.ckpt").unlink()
    assert run(done) == 0
    assert {name for name, digest in state().items() if before[name] == digest} == set()


def test_a_failing_engine_leaves_no_scores(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeEngine, "broken", True)
    assert run(script) == 1
    assert not Path("models/toy/scores.npz").exists()
    monkeypatch.setattr(FakeEngine, "broken", False)
    assert run(script) == 0


def test_only_rightly_classified_inputs_are_bounded(done: ModuleType, tmp_path: Path) -> None:
    network, ball = zoo.network_path(Path("models/toy"), "baseline"), Ball(0.05, 3)
    data = images(30, 1)
    wrong = replace(data, labels=(clean_labels(network, data.images.reshape(30, -1) / np.float32(255)) + 1) % 3)
    assert root_records(network, data, ball, FakeEngine(), tmp_path)
    assert root_records(network, wrong, ball, FakeEngine(), tmp_path) == []


def test_an_answer_without_a_record_is_an_error(done: ModuleType, tmp_path: Path) -> None:
    class Silent(FakeEngine):
        def decide(self, jobs: Sequence[Job]) -> Iterator[Answered]:
            for job in jobs:
                yield Answered(job, ToolAnswer(Verdict.TIMEOUT, 1.0, 1.0))

    network = zoo.network_path(Path("models/toy"), "baseline")
    with pytest.raises(LgBenchError, match="answered timeout"):
        root_records(network, images(30, 1), Ball(0.05, 3), Silent(), tmp_path)


def test_a_shorter_baseline_keeps_the_shape_of_its_schedule(script: ModuleType) -> None:
    config = training_common.training_config(script.find_spec("toy"), "short")
    assert pipeline.shortened(config, 1).knots == ((0.0, 1.0), (1.0, 0.0))
