"""Grafting what is not of the zoo, grafting again, in part and without training; figures that are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_network import images, toy

from harness.cli.main import main
from harness.formats.onnx_file import load_model_bytes
from harness.grafting.npz import write_npz
from harness.networks import zoo
from harness.networks.export import export_onnx
from harness.networks.grafted import GraftedReLU

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act, self.fc1, self.fc2 = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Linear(64, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(self.act(self.conv(x)).flatten(1))))
"""
RELU1 = np.arange(64) % 3 == 0
RELU2 = np.arange(6) % 2 == 0


def mask_file(path: str, *layers: tuple[str, tuple[int, ...], Any], **provenance: str) -> str:
    write_npz(
        Path(path),
        {
            "mask": np.concatenate([values for _, _, values in layers]).astype(np.uint8),
            "layer_sizes": np.array([values.size for _, _, values in layers]),
            "names": np.array(json.dumps([name for name, _, _ in layers])),
            "shapes": np.array(json.dumps([shape for _, shape, _ in layers])),
            "provenance": np.array(json.dumps(provenance)),
        },
    )
    return path


def graft(source: str, mask: str, name: str, *more: str, epochs: int = 0) -> int:
    return main(["graft", source, "--mask", mask, "--out", f"models/toy/{name}", "--epochs", str(epochs), *more])


def loaded(name: str) -> Any:
    return zoo.load_network(Path("models/toy"), name)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Path:
    """A folder with a user's ONNX file, code, weights and images; no network of the zoo."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LGBENCH_DATA", raising=False)
    torch.manual_seed(0)
    Path("own.onnx").write_bytes(export_onnx(toy(), (1, 6, 6)))
    Path("own_code_for_graft.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    part = images(60, 3)
    np.savez("own.npz", images=part.images.transpose(0, 2, 3, 1), labels=part.labels)
    mask_file("m.npz", ("relu1", (4, 4, 4), RELU1), ("relu2", (6,), RELU2))
    return tmp_path


@pytest.fixture
def both(zoo_folder: Path) -> str:
    return mask_file("m.npz", ("relu1", (4, 4, 4), RELU1), ("relu2", (6,), RELU2))


def test_an_onnx_file_is_grafted_tuned_and_can_be_grafted_again(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data-set", "own.npz", "--eps", "0.02"]
    assert graft("own.onnx", "m.npz", "first", *options, epochs=1) == 0
    manifest = zoo.read_manifest(Path("models/toy/first.json"))
    assert (manifest.architecture, manifest.benchmark, manifest.rounding) == ("onnx", "toy", "none")
    assert manifest.data["dataset"] == "own.npz"
    assert manifest.metrics["SA"]["n"] == 6, "the last tenth is the test set"
    assert (manifest.training.config["eps"], manifest.training.config["alpha"]) == (0.02, 0.025)
    assert manifest.grafted_neurons == int(RELU1.sum() + RELU2.sum())
    first = loaded("first")
    assert (first.relu1.mask.numpy().ravel() == RELU1).all()
    mask_file("more.npz", ("relu2", (6,), ~RELU2))
    assert graft("models/toy/first", "more.npz", "second", "--data-set", "own.npz") == 0
    second = loaded("second")
    assert second.relu2.mask.all()
    assert torch.equal(second.relu2.slope[first.relu2.mask], first.relu2.slope[first.relu2.mask]), "learned, kept"
    assert zoo.read_manifest(Path("models/toy/second.json")).parent == zoo.ParentNetwork("first", manifest.onnx.sha256)
    capsys.readouterr()
    assert main(["evaluate", "models/toy/second", "--data-set", "own.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["SA"]["n"] == 60, "a file without test images is measured whole"


def test_code_of_the_users_with_a_functional_relu(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from own_code_for_graft import Net  # type: ignore[import-not-found]

    trained = Net()
    torch.save(trained.state_dict(), "w.pt")
    mask_file("code.npz", ("act", (4, 4, 4), RELU1), ("Relu", (6,), RELU2))
    options = ["--weights", "w.pt", "--data-set", "own.npz", "--eps", "0.02"]
    assert graft("own_code_for_graft:Net", "code.npz", "code", *options) == 0
    assert "no child modules of own_code_for_graft:Net got names: Relu" in capsys.readouterr().err
    network = loaded("code")
    assert torch.equal(network.conv.weight, trained.conv.weight)
    assert isinstance(network.get_submodule("Relu"), GraftedReLU)
    x = torch.rand(4, 1, 6, 6)
    z = trained.conv(x)
    first = torch.where(torch.from_numpy(RELU1.reshape(4, 4, 4)), 0.4 * z, z.relu())
    z = trained.fc1(first.flatten(1))
    torch.testing.assert_close(network(x), trained.fc2(torch.where(torch.from_numpy(RELU2), 0.4 * z, z.relu())))


def test_a_network_is_adopted_and_scored(own: Path) -> None:
    command = ["adopt", "own.onnx", "--out", "models/toy/mine", "--data-set", "own.npz", "--eps", "0.02"]
    assert main(command) == 0
    manifest = zoo.read_manifest(Path("models/toy/mine.json"))
    assert (manifest.training.epochs_run, manifest.training.best_epoch) == (0, -1)
    assert manifest.parent is not None
    assert manifest.parent.variant == "own"
    score = ["score", "models/toy/mine", "--out", "s.npz", "--data-set", "own.npz", "--images", "20"]
    assert main(score) == 0


def test_without_epochs_nothing_is_trained(both: str) -> None:
    assert graft("models/toy/baseline", both, "plain", "--data", ".") == 0
    plain, baseline = loaded("plain"), loaded("baseline")
    assert all(torch.equal(p, plain.get_parameter(name)) for name, p in baseline.named_parameters())
    assert (plain.relu2.slope[plain.relu2.mask] == torch.tensor(0.4).half().float()).all(), "rounded as the baseline is"
    manifest = zoo.read_manifest(Path("models/toy/plain.json"))
    assert manifest.training.note == "grafted without fine-tuning"
    assert not Path("checkpoints/toy/plain.ckpt").exists()


def test_only_some_layers(both: str) -> None:
    assert graft("models/toy/baseline", both, "part", "--data", ".", "--only", "relu2") == 0
    manifest = zoo.read_manifest(Path("models/toy/part.json"))
    assert [activation.grafted for activation in manifest.activations] == [0, 3]
    assert manifest.data["graft_only"] == "relu2"
    assert graft("models/toy/baseline", both, "x", "--data", ".", "--only", "relu9") == 2


@pytest.mark.parametrize(("existing", "linear"), [("keep", [True] * 6), ("replace", list(~RELU2))])
def test_grafting_again(both: str, existing: str, linear: list[bool]) -> None:
    assert graft("models/toy/baseline", both, "once", "--data", ".", "--slope", "0.25") == 0
    mask_file("more.npz", ("relu2", (6,), ~RELU2))
    assert graft("models/toy/once", "more.npz", "twice", "--data", ".", "--existing", existing, "--slope", "0.5") == 0
    twice = loaded("twice")
    assert twice.relu2.mask.tolist() == linear
    old = torch.tensor(linear) & torch.from_numpy(RELU2)
    assert (twice.relu2.slope[old] == 0.25).all()
    assert (twice.relu2.slope[torch.from_numpy(~RELU2)] == 0.5).all()
    assert (twice.relu1.mask.numpy().ravel() == RELU1).all(), "what the mask does not name stays"


def test_pruned_neurons_stay_at_zero_while_weights_are_trained(both: str) -> None:
    options = ["--data", ".", "--slope", "0", "--intercept", "0"]
    assert graft("models/toy/baseline", both, "pruned", *options, epochs=1) == 0
    pruned, baseline = loaded("pruned"), loaded("baseline")
    for layer in (pruned.relu1, pruned.relu2):
        assert not layer.slope[layer.mask].any()
        assert not layer.intercept[layer.mask].any()
    assert not torch.equal(pruned.conv1.weight, baseline.conv1.weight)
    assert graft("models/toy/baseline", both, "moving", *options, "--train-graft", epochs=1) == 0
    assert loaded("moving").relu1.slope.any()


def test_a_frozen_graft_without_retraining_has_nothing_to_train(both: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert graft("models/toy/baseline", both, "x", "--data", ".", "--freeze-graft", "--no-retrain", epochs=1) == 2
    assert "no parameter would move" in capsys.readouterr().err
    assert not Path("models/toy/x.json").exists()


def test_a_mask_without_names_fits_by_its_sizes(zoo_folder: Path) -> None:
    write_npz(Path("m.npz"), {"mask": np.ones(70, np.uint8), "layer_sizes": np.array([64, 6])})
    assert graft("models/toy/baseline", "m.npz", "all", "--data", ".") == 0
    assert zoo.read_manifest(Path("models/toy/all.json")).grafted_neurons == 70


def test_a_mask_of_another_network_is_told_with_names_and_shapes(
    zoo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask_file("m.npz", ("act", (4, 4, 4), RELU1))
    assert graft("models/toy/baseline", "m.npz", "x", "--data", ".") == 2
    assert "'act' (4x4x4), but the network has: relu1 4x4x4, relu2 6" in capsys.readouterr().err
    mask_file("m.npz", ("relu1", (2, 32), RELU1))
    assert graft("models/toy/baseline", "m.npz", "x", "--data", ".") == 2
    assert "2x32, but the network's are 4x4x4" in capsys.readouterr().err


def test_a_mask_that_fits_but_was_made_from_another_is_noted(both: str, capsys: pytest.CaptureFixture[str]) -> None:
    mask_file("m.npz", ("relu2", (6,), RELU2), network="cousin", network_sha256="ab" * 32)
    assert graft("models/toy/baseline", "m.npz", "x", "--data", ".") == 0
    assert "made from cousin (abababababab), not from baseline" in capsys.readouterr().err


def test_figures_are_written_only_on_request(zoo_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = zoo_folder / "baseline.json"
    before = file.read_text()
    command = ["evaluate", "models/toy/baseline", "--data", ".", "--steps", "3", "--restarts", "2", "--seed", "5"]
    assert main(command) == 0
    assert file.read_text() == before
    assert main([*command, "--write", "--batch-size", "7"]) == 0
    stated = zoo.read_manifest(file).metrics["RA"]
    assert (stated["n"], stated["attack"], stated["restarts"], stated["seed"]) == (20, "pgd-3", 2, 5)
    loaded("baseline")
    assert main([*command, "--write", "--inputs", "5"]) == 2
    assert "leave out --inputs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["graft", "own.onnx", "--mask", "m.npz", "--data-set", "own.npz"], "--eps"),
        (["graft", "own.onnx", "--mask", "m.npz", "--eps", "0.1"], "--data-set"),
        (["graft", "own.onnx", "--mask", "m.npz", "--eps", "0.1", "--data-set", "no.npz"], "no such file"),
        (["graft", "own.onnx", "--mask", "m.npz", "--eps", "0.1", "--data-set", "svhn", "--data", "."], "svhn"),
        (["graft", "own.onnx", "--mask", "m.npz", "--weights", "w.pt"], "belongs to MODULE:FACTORY"),
        (["graft", "own.onnx", "--mask", "m.npz", "--input-shape", "3,6,6"], "leave it out"),
        (["graft", "own_code_for_graft:Net", "--mask", "m.npz"], "--input-shape"),
        (["graft", "own_code_for_graft:Net", "--mask", "m.npz", "--input-shape", "a,b"], "not a list of sizes"),
        (["graft", "own_code_for_graft:Nets", "--mask", "m.npz", "--input-shape", "1,6,6"], "cannot be called"),
        (["graft", "linear.onnx", "--mask", "m.npz"], "has no ReLU"),
        (["graft", "m.npz.onnx", "--mask", "m.npz"], "no such manifest"),
        (["evaluate", "own.onnx", "--data-set", "own.npz"], "--eps"),
        (["evaluate", "own.onnx", "--data-set", "own.npz", "--eps", "0.1", "--write"], "lgbench adopt"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    own: Path, capsys: pytest.CaptureFixture[str], command: list[str], said: str
) -> None:
    Path("linear.onnx").write_bytes(export_onnx(torch.nn.Linear(4, 3), (4,)))
    before = sorted(own.rglob("*"))
    out = ["--out", "models/toy/x"] if command[0] == "graft" else []
    assert main([*command, *out]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1, message
    assert said in message
    assert sorted(path for path in own.rglob("*") if "__pycache__" not in path.parts) == before


def test_the_written_file_is_a_plain_onnx_model(own: Path) -> None:
    assert graft("own.onnx", "m.npz", "plain", "--data-set", "own.npz", "--eps", "0.02") == 0
    data = load_model_bytes(Path("models/toy/plain.onnx.gz"))
    assert graft("models/toy/plain.onnx.gz", "m.npz", "again", "--data-set", "own.npz") == 0
    Path("models/toy/plain.json").unlink()
    assert graft("models/toy/plain.onnx.gz", "m.npz", "bare", "--data-set", "own.npz", "--eps", "0.02") == 0
    assert (
        load_model_bytes(Path("models/toy/bare.onnx.gz")) == load_model_bytes(Path("models/toy/again.onnx.gz")) == data
    )
