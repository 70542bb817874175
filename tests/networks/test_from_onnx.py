"""Networks from ONNX files: the same function, telling names, grafted activations, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from harness.domain import UsageError
from harness.formats.onnx_file import load_model_bytes, open_session, run_flat
from harness.networks import from_onnx
from harness.networks.export import export_onnx
from harness.networks.from_onnx import input_shape_of, network_from_onnx
from harness.networks.grafted import GraftedReLU, graft_, neuron_shapes, relu_names

SHAPE = (1, 6, 6)


class Residual(nn.Module):
    """A ReLU module that is called twice, a functional ReLU, batch normalisation, dropout, a reshape by `view`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu, self.drop = nn.ReLU(), nn.Dropout()
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.fc1, self.fc2 = nn.Linear(144, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm(self.conv1((x - 0.5) / 0.25)))
        y = self.relu(self.block(y) - y)
        y = self.drop(y).view(y.size(0), -1)
        logits: Tensor = self.fc2(functional.relu(self.fc1(y)))
        return logits


def residual() -> Residual:
    torch.manual_seed(0)
    network = Residual().eval()
    with torch.no_grad():
        network.norm.running_mean.uniform_(-1, 1)
        network.norm.running_var.uniform_(0.5, 2)
    return network


def test_the_network_computes_what_its_source_does_for_any_batch() -> None:
    source = residual()
    network = network_from_onnx(export_onnx(source, SHAPE))
    x = torch.rand(5, *SHAPE)
    torch.testing.assert_close(network(x), source(x), rtol=1e-5, atol=1e-5)
    assert not network.training


def test_every_relu_is_a_module_under_its_name_and_layers_are_called_after_their_weights() -> None:
    network = network_from_onnx(export_onnx(residual(), SHAPE))
    assert neuron_shapes(network, SHAPE) == {
        "relu": (4, 6, 6),
        "block.1": (4, 6, 6),
        "relu#2": (4, 6, 6),
        "Relu": (6,),
    }
    weights = {name for name, _ in network.named_parameters()}
    assert {"block.0.weight", "fc1.weight", "fc1.bias", "fc2.weight"} <= weights


def test_a_graft_survives_the_file_and_the_file_is_the_same_again() -> None:
    network = network_from_onnx(export_onnx(residual(), SHAPE))
    masks = {"relu#2": torch.rand(4, 6, 6) < 0.5, "Relu": torch.tensor([True, False, True, False, False, True])}
    graft_(network, masks, slope=0.25, intercept=-0.5)
    with torch.no_grad():
        network.get_submodule("relu#2").slope.uniform_(-1, 1)
    exported = export_onnx(network, SHAPE)
    again = network_from_onnx(exported)
    for name, mask in masks.items():
        activation, before = again.get_submodule(name), network.get_submodule(name)
        assert isinstance(activation, GraftedReLU)
        assert torch.equal(activation.mask, mask)
        assert torch.equal(activation.slope[mask], before.slope[mask])
        assert torch.equal(activation.intercept[mask], before.intercept[mask])
    assert isinstance(again.get_submodule("block.1"), nn.ReLU)
    twice = export_onnx(again, SHAPE)
    assert export_onnx(network_from_onnx(twice), SHAPE) == twice
    x = torch.rand(4, *SHAPE)
    torch.testing.assert_close(again(x), network(x))


def model(nodes: list[onnx.NodeProto], weights: dict[str, Any], shape: tuple[Any, ...] = (1, 4)) -> bytes:
    """An ONNX model from `x` to `y`."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(proto.SerializeToString())


def weight(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_products_sums_clips_and_identities_of_other_exporters() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "W1"], ["a"], name="model/dense/MatMul"),
        helper.make_node("Add", ["a", "b1"], ["b"], name="model/dense/BiasAdd"),
        helper.make_node("Clip", ["b", "zero"], ["c"], name="model/dense/Relu6"),
        helper.make_node("Identity", ["c"], ["d"]),
        helper.make_node("Shape", ["d"], ["s"]),
        helper.make_node("Reshape", ["d", "s"], ["e"]),
        helper.make_node("MatMul", ["e", "W2"], ["y"]),
    ]
    data = model(
        nodes, {"W1": weight(4, 6), "b1": weight(1, 6), "zero": np.float32(0), "W2": weight(6, 3)}, ("batch", 4)
    )
    network = network_from_onnx(data)
    assert relu_names(network) == ("model.dense.Relu6",)
    assert sum(p.numel() for p in network.parameters()) == 4 * 6 + 6 + 6 * 3, "the bias is trained too"
    x = np.random.default_rng(1).random((3, 4), np.float32)
    expected = np.stack([run_flat(open_session(data), row) for row in x])
    np.testing.assert_allclose(network(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_what_only_looks_like_a_graft_is_left_alone() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "W"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"], name="act"),
        helper.make_node("Mul", ["h", "A"], ["l"]),
        helper.make_node("Add", ["l", "B"], ["m"]),
        helper.make_node("Mul", ["r", "C"], ["k"]),
        helper.make_node("Add", ["m", "k"], ["y"]),
    ]
    halves = {"A": np.full(3, 0.5, np.float32), "B": np.zeros(3, np.float32), "C": np.full(3, 0.5, np.float32)}
    network = network_from_onnx(model(nodes, {"W": weight(4, 3), **halves}))
    assert isinstance(network.get_submodule("act"), nn.ReLU)


@pytest.mark.parametrize(
    ("nodes", "weights", "shape", "said"),
    [
        ([helper.make_node("Gemm", ["x", "W"], ["y"])], {"W": weight(4, 3)}, (1, 4), "has no ReLU"),
        ([helper.make_node("Relu", ["x"], ["y"])], {}, (1, 4), "no weights"),
        ([helper.make_node("Relu", ["x"], ["y"])], {}, (4,), "a batch of one must stand first"),
        (
            [
                helper.make_node("Gemm", ["x", "W"], ["h"]),
                helper.make_node("Relu", ["h"], ["r"]),
                helper.make_node("Reshape", ["r", "s"], ["y"]),
            ],
            {"W": weight(4, 3), "s": np.array([3])},
            (1, 4),
            "batch",
        ),
    ],
)
def test_networks_that_cannot_be_grafted(
    nodes: list[onnx.NodeProto], weights: dict[str, Any], shape: tuple[int, ...], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        network_from_onnx(model(nodes, weights, shape), "mine.onnx")
    assert str(caught.value).startswith("mine.onnx: ")
    assert "\n" not in str(caught.value)


def test_a_conversion_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    package = from_onnx._onnx2pytorch()

    class Wrong:
        @staticmethod
        def ConvertModel(proto: onnx.ModelProto) -> nn.Module:  # noqa: N802 - the package's name
            converted: nn.Module = package.ConvertModel(proto)
            with torch.no_grad():
                next(p for p in converted.parameters() if p.ndim > 1)[0] += 0.5
            return converted

    data = export_onnx(residual(), SHAPE)
    monkeypatch.setattr(from_onnx, "_onnx2pytorch", lambda: Wrong)
    with pytest.raises(UsageError, match="differs from ONNX Runtime"):
        network_from_onnx(data)


@pytest.mark.parametrize(
    ("file", "shapes"),
    [
        ("mnistfc/onnx/mnist-net_256x2.onnx", [(256,)] * 2),
        ("acasxu/onnx/ACASXU_run2a_1_1_batch_2000.onnx", [(50,)] * 6),
        ("oval21/onnx/cifar_base_kw.onnx", [(8, 16, 16), (16, 8, 8), (100,)]),
        ("sdp_cifar_cnn_a/onnx/cifar_cnn_a_adv.onnx", [(16, 16, 16), (32, 8, 8), (100,)]),
    ],
)
def test_networks_of_the_competition(shared_dir: Path, file: str, shapes: list[tuple[int, ...]]) -> None:
    data = load_model_bytes(shared_dir / "vnncomp_cases" / file)
    network = network_from_onnx(data)
    assert list(neuron_shapes(network, input_shape_of(data)).values()) == shapes
