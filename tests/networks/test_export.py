from __future__ import annotations

import gzip
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from harness.domain import LgBenchError, UnsupportedNetworkError
from harness.formats.compressed import write_gz
from harness.networks.architectures import cifar10_cnn_b
from harness.networks.batch_norm import fold_batch_norm
from harness.networks.export import ROUNDINGS, check_parity, export_onnx, round_weights_
from harness.networks.grafted import GraftedReLU, graft_, neuron_shapes

SHAPE = (2, 8, 8)


class Residual(nn.Module):
    """Everything that export has to cope with: nested names, a shared activation, a functional one, batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)))
        self.relu = nn.ReLU()
        self.fc = nn.Linear(64, 6, bias=False)
        self.bn1 = nn.BatchNorm1d(6)
        self.head = nn.Sequential(OrderedDict(relu=nn.ReLU(), fc=nn.Linear(6, 3)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.stem(x)))
        x = torch.relu(self.relu(x + self.blocks(x)) - 0.1)
        out: Tensor = self.head(self.bn1(self.fc(x.flatten(1))))
        return out


@pytest.fixture
def network() -> Residual:
    torch.manual_seed(3)
    network = Residual()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.1, 2)
    shapes = neuron_shapes(network, SHAPE)
    graft_(network, {"blocks.0.0": torch.rand(shapes["blocks.0.0"]) < 0.5}, slope=-0.3, intercept=0.7)
    return network


@pytest.mark.parametrize("opset", [13, 17])
def test_the_export_computes_what_the_network_does(network: Residual, opset: int) -> None:
    network.train()
    data = export_onnx(network, SHAPE, opset)
    assert network.training
    report = check_parity(network, data, SHAPE, seed=5)
    assert network.training
    assert report.agrees
    assert report.inputs == 96
    assert 0 < report.max_abs_diff < 1e-4
    assert report.label_flips == 0


def test_only_standard_operators_static_shapes_and_no_batch_norm(network: Residual) -> None:
    model = onnx.load_model_from_string(export_onnx(network, SHAPE))
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 13)]
    operators = {node.op_type for node in model.graph.node}
    assert operators <= {"Conv", "Relu", "Mul", "Add", "Sub", "Flatten", "Gemm"}
    (given,), (result,) = model.graph.input, model.graph.output
    assert (given.name, result.name) == ("input", "output")
    assert [d.dim_value for d in given.type.tensor_type.shape.dim] == [1, *SHAPE]
    assert [d.dim_value for d in result.type.tensor_type.shape.dim] == [1, 3]
    read = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= read


def test_merged_layers_keep_their_names(network: Residual) -> None:
    folded = fold_batch_norm(network, SHAPE)
    constants = {t.name: t for t in onnx.load_model_from_string(export_onnx(network, SHAPE)).graph.initializer}
    for layer in ("stem", "blocks.0.1", "fc"):
        for part in ("weight", "bias"):
            value = folded.get_submodule(layer).get_parameter(part).detach().numpy()
            np.testing.assert_array_equal(numpy_helper.to_array(constants[f"{layer}.{part}"]), value)


def test_relu_nodes_carry_the_names_of_their_activations(network: Residual) -> None:
    model = onnx.load_model_from_string(export_onnx(network, SHAPE))
    names = [node.name for node in model.graph.node if node.op_type == "Relu"]
    assert set(names) >= {"relu", "relu#2", "blocks.0.0", "head.relu"}
    assert len(names) == 5
    everything = [node.name for node in model.graph.node]
    assert len(set(everything)) == len(everything)


def test_a_grafted_activation_is_three_constants() -> None:
    mask = torch.tensor([True, False, True])
    network = nn.Sequential(OrderedDict(fc=nn.Linear(2, 3), relu=GraftedReLU(mask, 0.25, -1.0), out=nn.Linear(3, 2)))
    model = onnx.load_model_from_string(export_onnx(network, (2,)))
    assert [n.op_type for n in model.graph.node] == ["Gemm", "Mul", "Add", "Relu", "Mul", "Add", "Gemm"]
    constants = {t.name: numpy_helper.to_array(t).tolist() for t in model.graph.initializer if "relu" in t.name}
    assert sorted(constants.values()) == [[-1, 0, -1], [0, 1, 0], [0.25, 0, 0.25]]


def test_the_same_network_gives_the_same_bytes(network: Residual) -> None:
    first, second = export_onnx(network, SHAPE), export_onnx(network, SHAPE)
    assert first == second
    model = onnx.load_model_from_string(first)
    assert (model.producer_name, model.producer_version, model.doc_string) == ("lg-bench", "", "")
    assert not any(node.doc_string for node in model.graph.node)


def test_cnn_b_is_written_zipped_and_small_after_rounding(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = round_weights_(cifar10_cnn_b(), "float16")
    exported, path = export_onnx(network, (3, 32, 32)), tmp_path / "a.onnx.gz"
    assert check_parity(network, exported, (3, 32, 32)).agrees
    write_gz(path, exported)
    assert path.stat().st_size < 5_000_000
    model = onnx.load_model_from_string(gzip.decompress(path.read_bytes()))
    names = [node.name for node in model.graph.node if node.op_type == "Relu"]
    assert names == ["relu1", "relu2", "relu3"]
    assert [node.op_type for node in model.graph.node][:4] == ["Sub", "Div", "Pad", "Conv"]


def test_a_difference_is_found(network: Residual) -> None:
    model = onnx.load_model_from_string(export_onnx(network, SHAPE))
    (bias,) = (t for t in model.graph.initializer if t.name == "head.fc.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(1e-2), bias.name))
    wrong = model.SerializeToString()
    report = check_parity(network, wrong, SHAPE)
    assert not report.agrees
    assert report.max_abs_diff == pytest.approx(1e-2, rel=1e-2)


def test_outputs_that_are_not_numbers_do_not_agree() -> None:
    network = nn.Linear(2, 2)
    nn.init.constant_(network.bias, float("nan"))
    assert not check_parity(network, export_onnx(network, (2,)), (2,)).agrees


class Cumulative(nn.Module):
    """An operator with data-dependent control, which no fixed graph can hold."""

    def forward(self, x: Tensor) -> Tensor:
        q: Tensor = torch.linalg.qr(x)[0]
        return q


def test_what_cannot_be_exported_is_refused() -> None:
    with pytest.raises(UnsupportedNetworkError, match="cannot be exported"):
        export_onnx(nn.Sequential(nn.Linear(4, 4), Cumulative()), (3, 4))
    with pytest.raises(ValueError, match="opset 12"):
        export_onnx(nn.Linear(2, 2), (2,), 12)


@pytest.mark.parametrize(("kind", "beyond"), [("float16", 1e5), ("bfloat16", 3.4e38)])
def test_rounding_keeps_types_buffers_and_refuses_overflow(kind: str, beyond: float) -> None:
    network = cifar10_cnn_b()
    mean = network.get_buffer("normalize.mean").clone()
    assert round_weights_(network, kind) is network
    for parameter in network.parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, parameter.to(ROUNDINGS[kind]).float())
    assert torch.equal(network.get_buffer("normalize.mean"), mean)
    with torch.no_grad():
        network.get_parameter("fc2.bias")[3] = beyond
        network.get_parameter("fc1.bias")[0] = 0.1
    with pytest.raises(LgBenchError, match=r"fc2\.bias"):
        round_weights_(network, kind)
    assert network.get_parameter("fc1.bias")[0] == torch.tensor(0.1)
