"""A user's own code and weights as a network."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.domain import UsageError
from harness.networks.grafted import relu_names
from harness.networks.user_model import build_user_network, graftable, is_factory, load_weights_, unnamed_relus

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x):
        return self.fc2(torch.relu(self.norm(self.fc1(self.act(x))) ))

def broken():
    raise ValueError("no file\\nand more")

def number():
    return 3
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_code_for_test.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_code_for_test:Net"


def test_what_names_a_factory() -> None:
    assert is_factory("package.module:make")
    assert not is_factory("models/cifar10_cnnb/baseline")
    assert not is_factory("C:/net.onnx")


def test_a_functional_relu_becomes_a_module_and_named_ones_keep_their_names(factory: str) -> None:
    own = build_user_network(factory)
    data, network = graftable(own, (4,), factory)
    assert relu_names(network) == ("act", "Relu")
    assert unnamed_relus(own, relu_names(network)) == ("Relu",)
    assert data
    x = torch.rand(6, 4)
    torch.testing.assert_close(network(x), own(x))
    assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm1d)], "merged: its statistics cannot move"


@pytest.mark.parametrize("wrapped", [lambda s: s, lambda s: {"epoch": 3, "state_dict": s}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_of_a_state_dict(factory: str, tmp_path: Path, wrapped: Callable[..., object], prefix: str) -> None:
    trained = build_user_network(factory)
    torch.save(wrapped({prefix + k: v for k, v in trained.state_dict().items()}), tmp_path / "w.pt")
    network = build_user_network(factory, tmp_path / "w.pt")
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), trained.state_dict().values(), strict=True)
    )


@pytest.mark.skipif(importlib.util.find_spec("safetensors") is not None, reason="safetensors is installed")
def test_safetensors_where_the_package_is_missing(factory: str, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"x")
    with pytest.raises(UsageError, match="pip install safetensors"):
        build_user_network(factory, tmp_path / "w.safetensors")


class Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


def test_no_code_of_a_weight_file_is_run(factory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UsageError, match="not a readable state dict"):
        build_user_network(factory, tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("fc1.weight"), "missing: fc1.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "unknown: extra"),
        (lambda s: s.update({"fc2.bias": torch.zeros(7)}), r"fc2.bias \(7,\), not \(3,\)"),
    ],
)
def test_weights_of_another_network(factory: str, tmp_path: Path, change: Callable[..., object], said: str) -> None:
    network = build_user_network(factory)
    state = dict(network.state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=said):
        load_weights_(network, tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module_here:make", "No module named"),
        ("own_code_for_test:make", "no attribute 'make'"),
        ("own_code_for_test:broken", "no file"),
        ("own_code_for_test:number", "returns a int"),
    ],
)
def test_factories_that_make_no_network(factory: str, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        build_user_network(name)
    assert "\n" not in str(caught.value)


def test_another_input_shape(factory: str) -> None:
    with pytest.raises(UsageError, match="--input-shape"):
        graftable(build_user_network(factory), (7,), factory)
