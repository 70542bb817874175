"""Whatever part of the engine fails, and however often: one answer for each instance, and none that is wrong."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from families import member
from nets import INPUTS, NEURONS, graph_of, property_of, region, run_onnx

from harness.domain import Limits, Property, ToolAnswer, Verdict
from harness.verifier.config import AttackConfig, EngineConfig
from harness.verifier.engine import Engine
from harness.verifier.patience import OutOfTimeError

NO_ATTACK = AttackConfig(restarts=0, steps=0)
BROKEN = "broken on purpose"
ERRORS = (RuntimeError, MemoryError, OutOfTimeError)

IN_WORKERS = (
    "engine:bound_root",
    "engine:neuron_search",
    "engine:input_search",
    "sparse_root:bound_box",
    "sparse_root:fold_sparse",
    "sparse_root:refine",
    "sparse_root:SparseRoot.margins",
    "sparse_root:SparseRoot.covers_float32",
    "sparse_root:SparseRoot.unstable",
    "sparse_bounds:tighten",
    "root:_TorchRoot.margins",
    "compiled_search:CompiledSearch.run",
    "input_split:BoxSearch.run",
)
"""Parts that work on one instance."""
ANYWHERE = ("engine:attack", "engine:boxes_of", "witness:WitnessChecker.confirm", "problem:Problem.violated_by")
"""Parts that also work on a group of instances, in the caller's thread: there an error is the caller's."""


class Breaker:
    """Makes parts raise at random.

    Args:
        monkeypatch: puts everything back.
        share: of the calls that raise.
        seed: decides which.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, share: float, seed: int) -> None:
        self.monkeypatch, self.share, self.random = monkeypatch, share, np.random.default_rng(seed)
        self.lock, self.raised = threading.Lock(), 0

    def break_(self, place: str) -> None:
        module_name, _, path = place.partition(":")
        owner: Any = importlib.import_module(f"harness.verifier.{module_name}")
        *outer, name = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        self.monkeypatch.setattr(owner, name, self.broken(getattr(owner, name)))

    def broken(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            with self.lock:
                fails, kind = self.random.random() < self.share, int(self.random.integers(len(ERRORS)))
                self.raised += fails
            if fails:
                raise ERRORS[kind](BROKEN)
            return function(*args, **options)

        return wrapped


def instances(family: str) -> tuple[bytes, dict[str, Property], set[str]]:
    """Returns a network, properties with provable, violated and hard ones among them, and which are violated."""
    model, random = member(family, 5), np.random.default_rng(1)
    graph, properties, violated = graph_of(model), {}, set()
    for k in range(4):
        centre = random.random(graph.input_shape).astype(np.float32)
        points = centre + random.uniform(-0.2, 0.2, (40, *graph.input_shape)).astype(np.float32)
        lowest = float(run_onnx(model, points)[:, 0].min())
        ends = [np.asarray(end, np.float32) for end in (centre - 0.3, centre + 0.3)]
        for name, rhs in (("sat", lowest), ("hard", lowest - 0.3), ("far", lowest - 50.0)):
            properties[f"{name} {k}"] = property_of(*ends, region([1, 0, 0], rhs))
        violated.add(f"sat {k}")
    return model, properties, violated


def decided(engine: Engine, properties: dict[str, Property], limits: Limits) -> tuple[dict[str, ToolAnswer], bool]:
    """Returns the answers, and whether the engine came to its end; fails where an answer comes twice."""
    answers: dict[str, ToolAnswer] = {}

    def emit(key: str, answer: ToolAnswer) -> None:
        assert key not in answers, f"{key} was answered twice"
        answers[key] = answer

    try:
        engine.decide(properties, limits, emit)
    except (RuntimeError, MemoryError, OutOfTimeError) as error:
        if str(error) != BROKEN:
            raise
        return answers, False
    return answers, True


def assert_none_is_wrong(answers: dict[str, ToolAnswer], violated: set[str]) -> None:
    for key, answer in answers.items():
        assert answer.verdict is not (Verdict.UNSAT if key in violated else None), key
        assert not (key.startswith("far") and answer.verdict is Verdict.SAT), key
        assert (answer.verdict is Verdict.SAT) == (answer.counterexample is not None)


CASES = list(product(["fully connected", "convolution"], [INPUTS, NEURONS], [300, None]))


@pytest.mark.parametrize("place", [*IN_WORKERS, *ANYWHERE])
def test_one_part_that_fails_now_and_then(
    place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "harness")
    seed = (*IN_WORKERS, *ANYWHERE).index(place)
    family, config, domains = CASES[seed % len(CASES)]
    run_one(place, family, config, Limits(2.0, ("work", "wall")[seed % 2], domains), seed, monkeypatch)


@pytest.mark.nightly
@pytest.mark.parametrize("place", [*IN_WORKERS, *ANYWHERE])
def test_one_part_that_fails_in_every_setting(
    place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "harness")
    for seed, ((family, config, domains), clock) in enumerate(product(CASES, ("work", "wall"))):
        with monkeypatch.context() as patch:
            run_one(place, family, config, Limits(2.0, clock, domains), seed, patch)


def run_one(
    place: str, family: str, config: EngineConfig, limits: Limits, seed: int, patch: pytest.MonkeyPatch
) -> None:
    model, properties, violated = instances(family)
    # Without the first attack, what is violated has to come through the workers as well.
    settings = EngineConfig(split_inputs_up_to=config.split_inputs_up_to, first_attack=NO_ATTACK, tiny_slices=1)
    engine = Engine(model, "net.onnx", settings if place in IN_WORKERS else config)
    breaker = Breaker(patch, 0.4, seed)
    breaker.break_(place)
    answers, ended = decided(engine, properties, limits)
    assert_none_is_wrong(answers, violated)
    if ended or place in IN_WORKERS:
        assert ended, "an error of one instance ended them all"
        assert set(answers) == set(properties)


def test_everything_fails_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "harness")
    model, properties, violated = instances("fully connected")
    engine = Engine(model, "net.onnx", EngineConfig(split_inputs_up_to=0, first_attack=NO_ATTACK, tiny_slices=1))
    breaker = Breaker(monkeypatch, 0.05, 3)
    for place in IN_WORKERS:
        breaker.break_(place)
    for _ in range(3):
        answers, ended = decided(engine, properties, Limits(2.0, "work", 300))
        assert ended
        assert set(answers) == set(properties)
        assert_none_is_wrong(answers, violated)
    assert breaker.raised
    monkeypatch.undo()
    answers, _ = decided(engine, properties, Limits(20.0, "work", 300))
    assert all(answers[key].verdict is Verdict.SAT for key in violated), "the engine is as good as new"
    assert all(answers[key].verdict is Verdict.UNSAT for key in properties if key.startswith("far"))


def test_an_emit_that_fails_ends_it_all() -> None:
    """Whoever asked cannot be told: the error is theirs, no thread goes on."""
    model, properties, _ = instances("fully connected")
    before = threading.active_count()

    def emit(key: str, answer: ToolAnswer) -> None:
        raise RuntimeError("nobody listens")

    with pytest.raises(RuntimeError, match="nobody listens"):
        Engine(model, "net.onnx", NEURONS).decide(properties, Limits(5.0, "work", 100), emit)
    assert threading.active_count() == before


@pytest.mark.parametrize("part", ["prepare_bounds", "prepare_search"])
def test_a_failing_preparation_is_told_and_nothing_hangs(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, properties, violated = instances("fully connected")
    monkeypatch.setattr(Engine, part, Breaker(monkeypatch, 1.0, 0).broken(getattr(Engine, part)))
    answers, ended = decided(Engine(model, "net.onnx", NEURONS), properties, Limits(5.0, "work", 100))
    assert not ended
    assert_none_is_wrong(answers, violated)
