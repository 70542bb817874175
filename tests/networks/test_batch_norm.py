"""Batch normalisation merged into layers: the same function, exactly where it can be done, and nowhere else."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from harness.domain import UnsupportedNetworkError
from harness.networks import batch_norm as module
from harness.networks import zoo
from harness.networks.batch_norm import (
    MergedBatchNorm,
    batch_norm_names,
    batch_norm_state,
    fold_batch_norm,
    merge_batch_norm_,
)
from harness.networks.export import check_parity, export_onnx, round_weights_
from harness.networks.grafted import graft_, relu_names

SHAPE = (2, 8, 8)


def stirred(network: nn.Module) -> nn.Module:
    """Gives every normalisation statistics and weights that are not the initial ones."""
    generator = torch.Generator().manual_seed(7)
    for norm in map(network.get_submodule, batch_norm_names(network)):
        norm.running_mean.uniform_(-1, 1, generator=generator)
        norm.running_var.uniform_(0.1, 2, generator=generator)
        for parameter in norm.parameters():
            nn.init.uniform_(parameter, -2, 2, generator=generator)
    return network


class Mixed(nn.Module):
    """Normalisations that can be merged, and one of each kind that cannot."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(4, eps=0.3)
        self.relu1 = nn.ReLU()
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.grouped_bn = nn.BatchNorm2d(4, affine=False)
        self.shared = nn.Conv2d(4, 4, 1)
        self.shared_bn = nn.BatchNorm2d(4)
        self.sum_bn = nn.BatchNorm2d(4)
        self.read_twice = nn.Conv2d(4, 4, 1)
        self.read_twice_bn = nn.BatchNorm2d(4)
        self.sequence = nn.Linear(8, 4)
        self.sequence_bn = nn.BatchNorm1d(4)
        self.head = nn.Sequential(OrderedDict(fc=nn.Linear(128, 5), bn=nn.BatchNorm1d(5), relu=nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.stem_bn(self.stem(x)))
        x = self.shared_bn(self.shared(self.shared(x))) + self.grouped_bn(self.grouped(x))
        x = self.sum_bn(x + 1)
        y = self.read_twice(x)
        x = self.read_twice_bn(y) + y
        # (batch, 4, 64): a fully connected layer along the last axis, a normalisation along the other.
        x = torch.relu(self.sequence_bn(self.sequence(x.reshape(-1, 4, 8, 8).mean(2)))).flatten(1)
        out: Tensor = self.head(torch.cat([x] * 8, dim=1))
        return out


@pytest.fixture
def mixed() -> nn.Module:
    return stirred(Mixed())


def outputs(network: nn.Module, shape: tuple[int, ...], n: int = 16) -> Tensor:
    network = copy.deepcopy(network).double().eval()
    with torch.no_grad():
        return network(torch.rand(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3 - 1)


def test_in_float64_nothing_but_rounding_changes(mixed: nn.Module) -> None:
    before = outputs(mixed, SHAPE)
    folded = mixed.double()
    assert set(merge_batch_norm_(folded, SHAPE)) == {"stem_bn", "grouped_bn", "head.bn"}
    assert float((outputs(folded, SHAPE) - before).abs().max()) < 1e-13 * float(before.abs().max())


def test_what_follows_no_layer_of_its_own_stays(mixed: nn.Module) -> None:
    folded = fold_batch_norm(mixed, SHAPE)
    assert set(batch_norm_names(folded)) == {"shared_bn", "sum_bn", "read_twice_bn", "sequence_bn"}
    assert batch_norm_state(folded) == batch_norm_state(mixed) == "kept"
    assert isinstance(folded.get_submodule("head.bn"), MergedBatchNorm)
    for name in ("shared", "read_twice", "sequence"):
        assert torch.equal(folded.get_submodule(name).weight, mixed.get_submodule(name).weight)


def test_folding_leaves_the_network_alone(mixed: nn.Module) -> None:
    mixed.train()
    state = {name: value.clone() for name, value in mixed.state_dict().items()}
    folded = fold_batch_norm(mixed, SHAPE)
    assert mixed.training
    assert not folded.training
    assert all(torch.equal(value, state[name]) for name, value in mixed.state_dict().items())
    assert not {id(p) for p in mixed.parameters()} & {id(p) for p in folded.parameters()}


def test_weights_are_worked_out_in_float64_and_rounded_once() -> None:
    network = nn.Sequential(OrderedDict(fc=nn.Linear(1, 1), bn=nn.BatchNorm1d(1)))
    with torch.no_grad():
        network.fc.weight.fill_(1.1)
        network.fc.bias.fill_(1e4)
        network.bn.running_mean.fill_(1e4 + 0.25)
        network.bn.running_var.fill_(0.37)
        network.bn.weight.fill_(1.3)
    fc, bn = network.fc, network.bn
    scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
    weight = (fc.weight.double() * scale).float()
    bias = ((fc.bias.double() - bn.running_mean.double()) * scale + bn.bias.double()).float()
    merge_batch_norm_(network, (1,))
    assert torch.equal(fc.weight, weight)
    assert torch.equal(fc.bias, bias)
    assert fc.bias.dtype == torch.float32


def test_a_folded_network_can_be_trained_further(mixed: nn.Module) -> None:
    folded = graft_(fold_batch_norm(mixed, SHAPE), {"relu1": torch.rand(4, 8, 8) < 0.5}).train()
    folded(torch.rand(4, *SHAPE)).square().sum().backward()
    for name in ("stem.weight", "stem.bias", "head.fc.weight", "head.fc.bias", "relu1.slope"):
        gradient = folded.get_parameter(name).grad
        assert gradient is not None
        assert bool(gradient.any()), name


def test_shared_weights_are_not_touched() -> None:
    network = nn.Sequential(OrderedDict(a=nn.Linear(3, 3), bn=nn.BatchNorm1d(3), b=nn.Linear(3, 3)))
    network.b.weight = network.a.weight
    assert not merge_batch_norm_(stirred(network), (3,))


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(3, 3), nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.fc(x if float(x.sum()) > 0 else -x))


@pytest.mark.parametrize(
    "network",
    [
        Untraceable(),
        nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3)),
        nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False)),
        nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.BatchNorm1d(3)),
    ],
)
def test_where_nothing_can_be_merged_nothing_is(network: nn.Module) -> None:
    assert merge_batch_norm_(network.eval() if isinstance(network, Untraceable) else network, (3,)) == ()
    assert batch_norm_state(network) == "kept"


def test_a_network_without_normalisation_is_copied() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    folded = fold_batch_norm(network, (3,))
    assert batch_norm_state(folded) == "none"
    assert torch.equal(folded[0].weight, network[0].weight)


@pytest.mark.parametrize("broken", [float("nan"), 1e30])
def test_a_fold_that_changes_the_outputs_is_refused(monkeypatch: pytest.MonkeyPatch, broken: float) -> None:
    merge = module._merge_

    def wrong(layer: nn.Linear, norm: nn.Module) -> None:
        merge(layer, norm)
        with torch.no_grad():
            layer.bias[0] = broken

    monkeypatch.setattr(module, "_merge_", wrong)
    network = stirred(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    with pytest.raises(UnsupportedNetworkError, match="changes the outputs"):
        fold_batch_norm(network, (3,))


@pytest.mark.parametrize(
    ("architecture", "twin", "shape", "parameters"),
    [
        ("mnist_8_200_bn", "mnist_8_200", (1, 28, 28), 400_210),
        ("mnist_conv_big_bn", "mnist_conv_big", (1, 28, 28), 1_974_762),
        ("cifar10_cnn_17m", "cifar10_cnn_17m_nobn", (3, 32, 32), 17_190_602),
    ],
)
def test_folded_architectures_have_the_parameters_of_their_plain_twins(
    architecture: str, twin: str, shape: tuple[int, ...], parameters: int
) -> None:
    network = stirred(zoo.build(architecture, 3))
    assert len(merge_batch_norm_(network, shape)) == len(relu_names(network))
    assert batch_norm_state(network) == "folded"
    assert zoo.parameter_count(network) == parameters
    assert {n: p.shape for n, p in network.state_dict().items()} == {
        n: p.shape for n, p in zoo.build(twin).state_dict().items()
    }


def test_a_folded_network_comes_back_from_its_file() -> None:
    shape = (1, 28, 28)
    network = stirred(zoo.build("mnist_8_200_bn", 3))
    folded = fold_batch_norm(network, shape)
    before, after = outputs(network, shape, 4), outputs(folded, shape, 4)
    assert float((after - before).abs().max()) < 1e-5 * float(before.abs().max())
    data = export_onnx(round_weights_(folded, "float16"), shape)
    assert check_parity(folded, data, shape).agrees
    restored = zoo.restore(zoo.build("mnist_8_200_bn"), data, shape)
    assert batch_norm_state(restored) == "folded"
    for (name, expected), (_, value) in zip(folded.named_parameters(), restored.named_parameters(), strict=True):
        assert torch.equal(value, expected), name
    assert export_onnx(restored, shape) == data


def test_statistics_that_stay_come_back_from_the_file() -> None:
    def blank() -> nn.Module:
        layers = {"conv": nn.Conv2d(2, 4, 3), "relu": nn.ReLU(), "bn": nn.BatchNorm2d(4), "flatten": nn.Flatten()}
        return nn.Sequential(OrderedDict(layers, fc=nn.Linear(144, 3)))

    network = stirred(blank())
    restored = zoo.restore(blank(), export_onnx(network, SHAPE), SHAPE)
    assert batch_norm_state(restored) == "kept"
    assert torch.equal(restored.bn.running_mean, network.bn.running_mean)
    assert torch.equal(outputs(restored, SHAPE), outputs(network, SHAPE))
