"""Networks of the zoo: the ONNX file gives the PyTorch network back, bit by bit; manifests survive their file."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.domain import UsageError
from harness.formats.compressed import write_gz
from harness.networks import zoo
from harness.networks.export import export_onnx, round_weights_
from harness.networks.grafted import GraftedReLU, graft_

INPUT_SHAPE = (2, 6, 6)


class Residual(nn.Module):
    """A nested network with a skip connection, so that names are qualified and A, B, C stand in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.block = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 3, 3, padding=1), relu=nn.ReLU()))
        self.flatten = nn.Flatten()
        self.fc1, self.relu2, self.fc2 = nn.Linear(108, 5), nn.ReLU(), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.conv1(x))
        return self.fc2(self.relu2(self.fc1(self.flatten(x + self.block(x)))))


@pytest.fixture
def grafted() -> nn.Module:
    torch.manual_seed(0)
    masks = {"block.relu": torch.rand(3, 6, 6) < 0.5, "relu2": torch.tensor([True, True, False, True, False])}
    network = graft_(Residual(), masks)
    with torch.no_grad():
        for name, mask in masks.items():
            # As training leaves them: neurons that are not grafted keep their start values.
            module = network.get_submodule(name)
            module.slope.copy_(torch.where(mask, torch.randn(mask.shape), module.slope))
            module.intercept.copy_(torch.where(mask, torch.randn(mask.shape), module.intercept))
        # A slope and an intercept of exactly zero, and slope one: the neuron is grafted all the same.
        network.relu2.slope[:2] = torch.tensor([0.0, 1.0])
        network.relu2.intercept[0] = 0
    return network


def test_the_onnx_file_gives_the_network_back(grafted: nn.Module) -> None:
    found = zoo.restore(Residual(), export_onnx(grafted, INPUT_SHAPE), INPUT_SHAPE)
    assert not found.training
    for (name, expected), (_, value) in zip(grafted.named_parameters(), found.named_parameters(), strict=True):
        if "slope" in name or "intercept" in name:
            mask = grafted.get_submodule(name.rpartition(".")[0]).mask
            assert torch.equal(value[mask], expected[mask]), name
            assert torch.equal(value[~mask], torch.full_like(value[~mask], 0.4 if "slope" in name else 0.0)), name
        else:
            assert torch.equal(value, expected), name
    for name in ("block.relu", "relu2"):
        assert torch.equal(found.get_submodule(name).mask, grafted.get_submodule(name).mask)
    assert isinstance(found.relu1, nn.ReLU)
    x = torch.rand(20, *INPUT_SHAPE)
    with torch.no_grad():
        assert torch.equal(found(x), grafted.eval()(x))


def test_exporting_what_was_restored_gives_the_same_bytes(grafted: nn.Module) -> None:
    data = export_onnx(grafted, INPUT_SHAPE)
    assert export_onnx(zoo.restore(Residual(), data, INPUT_SHAPE), INPUT_SHAPE) == data


def test_wholly_grafted_and_wholly_ungrafted_layers() -> None:
    network = graft_(Residual(), {"relu1": torch.ones(3, 6, 6).bool(), "relu2": torch.zeros(5).bool()})
    found = zoo.restore(Residual(), export_onnx(network, INPUT_SHAPE), INPUT_SHAPE)
    assert found.relu1.mask.all()
    assert not isinstance(found.relu2, GraftedReLU) or not found.relu2.mask.any()


def test_a_file_of_another_architecture_is_refused(grafted: nn.Module) -> None:
    data = export_onnx(grafted, INPUT_SHAPE)
    other = Residual()
    other.fc2 = nn.Linear(5, 3)
    with pytest.raises(UsageError, match=r"fc2\.weight.*another architecture"):
        zoo.restore(other, data, INPUT_SHAPE)


def test_parameters_that_matter_are_counted() -> None:
    plain = zoo.parameter_count(Residual())
    mask = torch.tensor([True, True, False, True, False])
    assert zoo.parameter_count(graft_(Residual(), {"relu2": mask})) == plain + 2 * 3


def test_the_same_seed_builds_the_same_network() -> None:
    state = torch.random.get_rng_state()
    first, second, third = (zoo.build("cifar10_cnn_b", seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.conv1.weight, second.conv1.weight)
    assert not torch.equal(first.conv1.weight, third.conv1.weight)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(UsageError, match=r"known: .*, cifar10_cnn_b, "):
        zoo.build("cifar10_cnn_z")


def manifest(**values: Any) -> zoo.NetworkManifest:
    training = zoo.TrainingRecord({"epochs": 2, "knots": [[0.0, 1.0]]}, "d" * 64, 2, 1, 70.5, 60.25, "short")
    base = zoo.NetworkManifest(
        benchmark="toy",
        variant="grafted",
        architecture="toy",
        input_shape=INPUT_SHAPE,
        onnx=zoo.FileHash("grafted.onnx.gz", "a" * 64),
        parameters=123,
        activations=(zoo.Activation("relu1", (3, 6, 6), 4), zoo.Activation("relu2", (5,))),
        training=training,
        metrics={"SA": {"value": 70.0, "n": 10}, "RA": {"value": 60.0, "n": 10, "attack": "pgd-100"}},
        versions={"torch": "2"},
        parity=zoo.Parity(1e-6, 96),
        parent=zoo.ParentNetwork("baseline", "b" * 64),
        mask=zoo.FileHash("mask.npz", "c" * 64),
    )
    return replace(base, **values)


@pytest.mark.parametrize("values", [{}, {"parent": None, "mask": None, "parity": None}])
def test_manifests_survive_their_file(tmp_path: Path, values: dict[str, Any]) -> None:
    path = tmp_path / "grafted.json"
    zoo.write_manifest(path, manifest(**values))
    assert zoo.read_manifest(path) == manifest(**values)
    assert json.loads(path.read_text())["grafted_neurons"] == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw.update(schema=99), "schema 99"),
        (lambda raw: raw.pop("onnx"), "not a network manifest"),
        (lambda raw: raw.update(colour="red"), "colour"),
        (lambda raw: raw.update(onnx=[]), "not a network manifest"),
    ],
)
def test_what_is_no_manifest(tmp_path: Path, change: Callable[[dict[str, Any]], Any], said: str) -> None:
    path = tmp_path / "grafted.json"
    zoo.write_manifest(path, manifest())
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(UsageError, match=said):
        zoo.read_manifest(path)


@pytest.mark.parametrize("text", ["", "[1]", "{", "null"])
def test_what_is_not_even_json_of_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UsageError, match="not a network manifest"):
        zoo.read_manifest(tmp_path / "a.json")


def test_a_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such manifest"):
        zoo.read_manifest(tmp_path / "a.json")


@pytest.fixture
def committed(tmp_path: Path, grafted: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(zoo, "ARCHITECTURES", {"toy": Residual})
    round_weights_(grafted, "float16")
    data = export_onnx(grafted, INPUT_SHAPE)
    write_gz(zoo.network_path(tmp_path, "grafted"), data)
    found = manifest(
        onnx=zoo.FileHash("grafted.onnx.gz", zoo.sha256_bytes(data)), activations=zoo.activations(grafted, INPUT_SHAPE)
    )
    zoo.write_manifest(zoo.manifest_path(tmp_path, "grafted"), found)
    return tmp_path


def test_a_committed_network_is_loaded(committed: Path, grafted: nn.Module) -> None:
    network = zoo.load_network(committed, "grafted")
    x = torch.rand(5, *INPUT_SHAPE)
    with torch.no_grad():
        assert torch.equal(network(x), grafted.eval()(x))


def test_a_network_that_is_not_its_manifests_is_refused(committed: Path) -> None:
    write_gz(zoo.network_path(committed, "grafted"), export_onnx(Residual(), INPUT_SHAPE))
    with pytest.raises(UsageError, match="SHA-256 differs"):
        zoo.load_network(committed, "grafted")


def test_activations_that_are_not_the_manifests_are_refused(committed: Path) -> None:
    path = zoo.manifest_path(committed, "grafted")
    stated = zoo.read_manifest(path)
    zoo.write_manifest(path, replace(stated, activations=stated.activations[1:]))
    with pytest.raises(UsageError, match="activations"):
        zoo.load_network(committed, "grafted")
