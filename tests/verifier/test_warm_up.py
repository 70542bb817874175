"""Warming up leaves nothing to compile."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.verifier import warm_up

ROOT = Path(__file__).resolve().parents[2]


class FakeEngine:
    """As much of an engine as `preparations` reads."""

    device, splits_neurons = torch.device("cpu"), True
    sparse: Any = "a network"

    def __init__(self, splits_inputs: bool) -> None:
        self.splits_inputs = splits_inputs


PROGRAM = """
import importlib, json, pkgutil, sys

sys.path.insert(0, "tests/verifier")
import numpy as np
import torch

from families import member
from harness.domain import Limits
from harness.verifier import kernels
from harness.verifier.api import warm_up
from nets import INPUTS, NEURONS, decide_all, graph_of, property_of, region


def signatures():
    names = (module.name for module in pkgutil.iter_modules(kernels.__path__))
    modules = [importlib.import_module(f"{kernels.__name__}.{name}") for name in names]
    return {
        f"{value.py_func.__module__}.{name}{signature}"
        for module in modules
        for name, value in vars(module).items()
        if hasattr(value, "py_func")
        for signature in value.signatures
    }


warm_up()
before = signatures()
stages = set()
for family in ("fully connected", "grafted convolution", "residual"):
    model = member(family, 0)
    graph = graph_of(model)
    centre = np.random.default_rng(1).random(graph.input_shape).ravel()
    for radius in (0.05, 0.5):
        box = torch.from_numpy(centre - radius + 2 * radius * np.random.default_rng(2).random((500, len(centre))))
        lowest = graph.to(torch.float64)(box.view(-1, *graph.input_shape)).min(0).values
        # nearly true, and nearly false: both need a search
        regions = [region([[1, 0, 0]], float(lowest[0]) - share * radius) for share in (0.02, 0.4)]
        both = region(np.eye(3)[:2], [float(lowest[0]), float(lowest[1]) - 0.1 * radius])
        lower, upper = centre - radius, centre + radius
        properties = {str(k): property_of(lower, upper, *r) for k, r in enumerate([regions[:1], regions[1:], [both]])}
        for config in (NEURONS, INPUTS):
            answers = decide_all(model, properties, Limits(60.0, "work", 500), config)
            stages |= {a.stage and a.stage.value for a in answers.values()}
print(json.dumps({"before": len(before), "new": sorted(signatures() - before), "stages": sorted(map(str, stages))}))
"""


def test_after_warming_up_the_engine_compiles_nothing() -> None:
    pytest.importorskip("numba")
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["new"] == []
    assert found["before"] > 20
    assert "bab" in found["stages"]


@pytest.mark.parametrize("splits_inputs", [False, True])
def test_what_has_to_be_compiled_comes_before_any_instance(
    splits_inputs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    asked: set[str] = set()
    monkeypatch.setattr(warm_up, "prepare_bounds", lambda _: done.append("bounds"))
    monkeypatch.setattr(warm_up, "prepare_neuron_search", lambda _: done.append("search"))
    monkeypatch.setattr(warm_up, "prepare_input_search", lambda _: done.append("search"))
    for compiled, before, beside in ((True, ["bounds"], ["search"]), (False, ["bounds", "search"], [])):
        monkeypatch.setattr(warm_up, "was_compiled", lambda what, known=compiled: asked.add(what) or known)
        first, more = warm_up.preparations(FakeEngine(splits_inputs))
        done.clear()
        first()
        assert done == before
        done.clear()
        more()
        assert done == beside
    assert asked == {"inputs" if splits_inputs else "neurons"}
