"""Publishing: what is written is what was measured, and nothing is written when something is wrong."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from small import small_images, small_network
from torch import nn

from harness.domain import LgBenchError, UsageError
from harness.files import sha256_bytes
from harness.formats.onnx_file import load_model_bytes
from harness.networks import zoo
from harness.networks.export import ParityReport
from harness.networks.grafted import graft_
from harness.training import publish as module
from harness.training.evaluate import PgdConfig, evaluate
from harness.training.loop import EpochRecord, Trainer, TrainingConfig
from harness.training.publish import Origin, images_sha256, publish

CONFIG = TrainingConfig(eps=0.05, alpha=0.0625, epochs=3)
HISTORY = tuple(EpochRecord(epoch, 1.0, 50.0 + epoch, ra, 1.0) for epoch, ra in enumerate((10.0, 30.0, 30.0)))
ATTACK = PgdConfig(0.05, 3, 0.02)
TEST = small_images(40)


def test_the_written_network_is_the_measured_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "ARCHITECTURES", {"toy": small_network})
    network = small_network(5)
    manifest = publish(network, tmp_path, Origin("toy", "baseline", "toy", "short"), CONFIG, HISTORY, TEST, ATTACK)
    loaded = zoo.load_network(tmp_path, "baseline")
    assert all(torch.equal(p, p.half().float()) for p in loaded.parameters()), "rounded to float16 numbers"
    accuracy = evaluate(loaded, TEST, ATTACK)
    assert manifest.metrics["SA"] == {"value": accuracy.sa, "n": 40}
    assert manifest.metrics["RA"]["value"] == accuracy.ra
    assert manifest.metrics["RA"]["attack"] == "pgd-3"
    assert manifest.training.best_epoch == 1, "the first of equals"
    assert manifest.training.epochs_run == 3
    assert TrainingConfig.from_record(manifest.training.config) == CONFIG
    assert manifest.training.digest == CONFIG.digest()
    assert manifest.onnx.sha256 == sha256_bytes(load_model_bytes(tmp_path / "baseline.onnx.gz"))
    assert manifest.batch_norm == "none"
    assert manifest.data["test_sha256"] == images_sha256(TEST)
    assert zoo.read_manifest(tmp_path / "baseline.json") == manifest


def normalised_network() -> nn.Sequential:
    network = small_network(5)
    layers = OrderedDict(network.named_children())
    layers = OrderedDict(
        conv1=layers["conv1"],
        bn1=nn.BatchNorm2d(3),
        **{name: layers[name] for name in ("relu1", "flatten", "fc1")},
        bn2=nn.BatchNorm1d(6),
        relu2=layers["relu2"],
        fc2=layers["fc2"],
    )
    return nn.Sequential(layers)


def test_batch_normalisation_is_folded_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "ARCHITECTURES", {"toy_bn": normalised_network})
    network = normalised_network()
    with torch.no_grad():
        for _ in range(20):
            network.train()(torch.from_numpy(TEST.images).float() / 255 * 3)
        network.fc1.weight.mul_(1.0003)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    manifest = publish(network, tmp_path, Origin("toy", "baseline", "toy_bn"), CONFIG, HISTORY, TEST, ATTACK)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items()), "it is not changed"
    assert manifest.batch_norm == "folded"
    assert zoo.read_manifest(tmp_path / "baseline.json") == manifest
    assert manifest.parameters == sum(p.numel() for p in small_network().parameters())
    loaded = zoo.load_network(tmp_path, "baseline")
    assert all(torch.equal(p, p.half().float()) for p in loaded.parameters()), "rounded after folding"
    accuracy = evaluate(loaded, TEST, ATTACK)
    assert (manifest.metrics["SA"]["value"], manifest.metrics["RA"]["value"]) == (accuracy.sa, accuracy.ra)
    with torch.no_grad():
        x = torch.from_numpy(TEST.images).float() / 255
        torch.testing.assert_close(loaded(x), network.eval()(x), atol=0.02, rtol=0.01)


def test_a_folded_network_is_grafted_trained_and_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "ARCHITECTURES", {"toy_bn": normalised_network})
    publish(normalised_network(), tmp_path, Origin("toy", "baseline", "toy_bn"), CONFIG, HISTORY, TEST, ATTACK)
    grafted = graft_(zoo.load_network(tmp_path, "baseline"), {"relu2": torch.arange(6) < 4})
    before = {name: p.detach().clone() for name, p in grafted.named_parameters()}
    config = TrainingConfig(epochs=1, batch_size=8, augment=False, lr=0.01)
    trainer = Trainer(grafted, config, TEST, TEST, tmp_path / "grafted.ckpt")
    assert trainer.run()
    moved = {name for name, p in grafted.named_parameters() if not torch.equal(p, before[name])}
    assert moved >= {"conv1.weight", "conv1.bias", "fc1.weight", "fc1.bias", "relu2.slope"}
    history = tuple(trainer.state.history)
    origin = Origin("toy", "grafted", "toy_bn")
    manifest = publish(grafted, tmp_path, origin, config, history, TEST, ATTACK)
    assert manifest.batch_norm == "folded"
    assert manifest.grafted_neurons == 4
    assert zoo.load_network(tmp_path, "grafted").get_submodule("relu2").mask.sum() == 4


def test_publishing_again_gives_the_same_files(tmp_path: Path) -> None:
    origin = Origin("toy", "baseline", "toy")
    for folder in ("a", "b"):
        publish(small_network(5), tmp_path / folder, origin, CONFIG, HISTORY, TEST, ATTACK)
    for name in ("baseline.onnx.gz", "baseline.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_nothing_is_written_when_the_export_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "check_parity", lambda *_: ParityReport(96, 1.0, 0.5, 3))
    with pytest.raises(LgBenchError, match="not written"):
        publish(small_network(), tmp_path, Origin("toy", "baseline", "toy"), CONFIG, HISTORY, TEST, ATTACK)
    assert not list(tmp_path.iterdir())


def test_a_weight_beyond_float16_is_refused(tmp_path: Path) -> None:
    network = small_network()
    with torch.no_grad():
        network.fc1.bias[0] = 1e6
    with pytest.raises(LgBenchError, match="float16"):
        publish(network, tmp_path, Origin("toy", "baseline", "toy"), CONFIG, HISTORY, TEST, ATTACK)
    assert not list(tmp_path.iterdir())


def test_a_training_without_an_epoch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no epoch"):
        publish(small_network(), tmp_path, Origin("toy", "baseline", "toy"), CONFIG, (), TEST, ATTACK)


def test_image_hashes_are_of_the_pixels_in_file_order() -> None:
    pixels = TEST.images.transpose(0, 2, 3, 1).tobytes()
    assert images_sha256(TEST) == sha256_bytes(pixels)
