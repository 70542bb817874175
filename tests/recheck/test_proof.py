"""The second verifier against known answers: nothing that has a violation is ever proved."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.domain import Limits, Verdict
from harness.formats.engine_protocol import EngineRequest, decode_answer, encode_request
from harness.recheck import service
from harness.recheck.service import recheck, serve
from harness.recheck.split_inputs import split_inputs
from harness.recheck.split_neurons import Domains, _Tensors, split_neurons
from harness.tools import toy_networks as toy
from harness.tools.conformance import cases
from harness.verifier.fold import FoldedNetwork
from harness.verifier.onnx_reader import read_graph
from harness.verifier.problem import boxes_of, problems_of
from harness.verifier.root import bound_root

WHOLE = toy.box([(-1.0, 1.0)] * 2)


def never() -> bool:
    return False


def written(folder: Path, network: bytes, text: str) -> tuple[Path, Path]:
    (folder / "n.onnx").write_bytes(network)
    (folder / "p.vnnlib").write_text(text)
    return folder / "n.onnx", folder / "p.vnnlib"


@pytest.mark.parametrize("case", [c for c in cases() if c.name != "timeout"], ids=lambda case: case.name)
def test_the_toy_networks(case: object, tmp_path: Path) -> None:
    files = written(tmp_path, case.network, case.prop)  # type: ignore[attr-defined]
    assert recheck(*files, 30.0).verdict is case.expected  # type: ignore[attr-defined]


def random_network(seed: int, inputs: int) -> tuple[bytes, str]:
    """A network with rectifiers on which bounds are loose, and a property template over [-1, 1]^inputs."""
    random = np.random.default_rng(seed)
    layers = [
        (random.normal(0, 1.2, (6, inputs)), random.normal(0, 0.3, 6)),
        (random.normal(0, 0.9, (5, 6)), random.normal(0, 0.3, 5)),
        (random.normal(0, 0.9, (2, 5)), np.zeros(2)),
    ]
    template = toy.prop(inputs, 2, [(toy.box([(-1.0, 1.0)] * inputs), "(>= Y_0 LEVEL)")])
    return toy._dense([1, inputs], layers), template


def highest(network: bytes, inputs: int) -> float:
    """The greatest first output found on a fine grid and by climbing from its best points: a lower bound of the
    maximum."""
    graph = read_graph(network, "n")
    x = torch.rand(20_000, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x = x[graph(x)[:, 0].topk(100).indices].requires_grad_(True)
    for step in range(200):
        (gradient,) = torch.autograd.grad(graph(x)[:, 0].sum(), x)
        x = (x + 0.1 * 0.97**step * gradient.sign()).clamp(-1, 1).detach().requires_grad_(True)
    return float(graph(x.detach())[:, 0].max())


@pytest.mark.parametrize("split", ["inputs", "neurons"])
@pytest.mark.parametrize("seed", range(3))
def test_the_maximum_is_the_border_of_what_is_proved(
    seed: int, split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A little above the greatest value everything is proved; at what is reached, nothing is."""
    monkeypatch.setattr("harness.recheck.proof.FEW_INPUTS", 16 if split == "inputs" else 0)
    monkeypatch.setattr("harness.recheck.proof.sampled", lambda *_: None)
    network, template = random_network(seed, 3)
    top = highest(network, 3)
    files = written(tmp_path, network, template.replace("LEVEL", repr(top + 0.05)))
    proved = recheck(*files, 600.0)
    assert proved.verdict is Verdict.UNSAT
    files = written(tmp_path, network, template.replace("LEVEL", repr(top - 1e-6)))
    assert recheck(*files, 3.0).verdict in (Verdict.UNKNOWN, Verdict.TIMEOUT)


def folded(seed: int, level: float) -> tuple[FoldedNetwork, object]:
    network, template = random_network(seed, 3)
    (path,) = (template.replace("LEVEL", repr(level)),)
    from harness.formats.vnnlib import parse_property

    graph = read_graph(network, "n")
    (problem,) = problems_of(parse_property(path, "p"), graph, "p")
    root = bound_root(graph, None, boxes_of([problem], graph))
    region = problem.regions[0]
    return root.fold(region.C, region.rhs), graph


@pytest.mark.parametrize("seed", range(3))
def test_bounds_of_domains_hold_at_every_point_that_obeys_the_splits(seed: int) -> None:
    """Sampled points, their neurons' signs as splits, and random multipliers."""
    network, _ = folded(seed, 0.5)
    tensors, random = _Tensors(network), torch.Generator().manual_seed(seed)
    t = torch.rand(200, 3, dtype=torch.float64, generator=random) * 2 - 1
    z, h = (
        torch.zeros(200, network.neurons, dtype=torch.float64),
        torch.zeros(200, network.neurons, dtype=torch.float64),
    )
    for own, matrix, _ in tensors.layers:
        z[:, own] = tensors.E[own] + (matrix @ torch.cat([t, h], 1).T).T
        h[:, own] = z[:, own].clamp(min=0)
    margin = tensors.e + torch.cat([t, h], 1) @ tensors.C
    split = torch.rand(200, network.neurons, generator=random) < 0.5
    phase = torch.where(split, torch.sign(z), torch.zeros_like(z)).to(torch.int8)
    multiplier = torch.rand(200, network.neurons, dtype=torch.float64, generator=random)
    domains = Domains(torch.zeros(200, dtype=torch.int64), phase.T, multiplier.T)
    assert bool((tensors.bounded(domains).bound <= margin[:, 0]).all())
    assert network.neurons > 4


def test_a_sound_bound_is_not_improved_beyond_the_truth() -> None:
    network, _ = folded(0, highest(random_network(0, 3)[0], 3) - 1e-6)
    assert split_neurons(network, never)[0] is False


def test_giving_up_proves_nothing() -> None:
    network, _ = folded(0, 0.5)
    assert split_neurons(network, lambda: True)[0] is False
    data, template = random_network(0, 3)
    from harness.formats.vnnlib import parse_property

    graph = read_graph(data, "n")
    (problem,) = problems_of(parse_property(template.replace("LEVEL", "99"), "p"), graph, "p")
    assert split_inputs(graph, boxes_of([problem], graph), problem.regions, lambda: True)[0] is False


def test_a_network_that_is_read_otherwise_than_onnx_runtime_does_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = written(tmp_path, toy.absolute_sum(), toy.prop(2, 2, [(WHOLE, toy.at_least(9.0))]))
    assert recheck(*files, 9.0).verdict is Verdict.UNSAT
    other = read_graph(random_network(0, 2)[0], "other")
    monkeypatch.setattr(service, "read_graph", lambda *_: other)
    said = recheck(*files, 9.0)
    assert said.verdict is Verdict.ERROR
    assert "differs from ONNX Runtime's" in said.message


def test_requests_are_answered_in_the_engines_protocol(tmp_path: Path) -> None:
    network, prop = written(tmp_path, toy.absolute_sum(), toy.prop(2, 2, [(WHOLE, toy.at_least(1.5))]))
    request = EngineRequest(network, {"a": prop, "b": tmp_path / "no.vnnlib"}, Limits(9.0, "wall"))
    events = io.StringIO()
    serve(io.StringIO(encode_request(request)), events)
    *answers, done = map(json.loads, events.getvalue().splitlines())
    assert done == {"event": "done"}
    said = dict(decode_answer(event) for event in answers)
    assert said["a"].verdict is Verdict.SAT
    assert said["b"].verdict is Verdict.ERROR
