"""`--arithmetic real`: nothing is proved that exact arithmetic refutes, by however little."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from exact_questions import NO_ATTACK, Case, boxes, drawn, examine, lowest, value
from families import ALL_FAMILIES, member
from nets import INPUTS, NEURONS, Array, Net, decide, graph_of, property_of, region, run_onnx
from rational import outputs

from harness.domain import Limits, Verdict
from harness.verifier import crown, engine, rounding, sparse_bounds
from harness.verifier.interval import Box
from harness.verifier.root import bound_root
from harness.verifier.rounding import REAL_UNIT
from harness.verifier.sparse import sparse_network

SAMPLE = range(16)
NIGHTLY = 4_000
SHORT = Limits(20, "work", 50)
QUIET = {
    f"{name}, {form}": replace(
        config, sparse_entries=entries, first_attack=NO_ATTACK, second_attack=NO_ATTACK, last_attack=NO_ATTACK
    )
    for name, config in (("neurons", NEURONS), ("inputs", INPUTS))
    for form, entries in (("sparse", 30_000_000), ("graph", 0))
}


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_the_reference_is_what_the_network_computes(family: str) -> None:
    model, random = member(family, 3), np.random.default_rng(0)
    graph = graph_of(model)
    points = random.random((4, *graph.input_shape))
    exact = np.array([[float(v) for v in outputs(graph, x)] for x in points])
    np.testing.assert_allclose(exact, graph(torch.from_numpy(points)).numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(exact, run_onnx(model, points.astype(np.float32)), rtol=1e-3, atol=1e-4)


def test_the_reference_rounds_nothing() -> None:
    net = Net((2,))
    model = net.model(net.op("Gemm", "x", net.constant([[1e30, 1e-30]]), net.constant([1.0]), transB=1))
    one, other = Fraction(float(np.float32(1e30))), Fraction(float(np.float32(1e-30)))
    assert outputs(graph_of(model), np.array([1.0, 1.0])) == [one + other + 1]


def _copied_often(kind: str) -> tuple[bytes, Array]:
    """Sums up to 0 in float64 what is -2^-60 + 2^-62."""
    net = Net((2,))
    v = {"Relu": net.relu, "Gemm": lambda x: net.op("Gemm", x, net.constant(np.eye(2)))}.get(kind, str)("x")
    v = net.op("Gather", v, net.constant([0, 0, 0, 1], np.int64), axis=1)
    return net.model(v), np.array([1, -(2.0**-60), -1, 2.0**-62])


def _many_copies(kind: str) -> tuple[bytes, Array]:
    """Takes 4,000 times from 1 what leaves 1 in float64."""
    net, small = Net((2,)), 2.0**-54 * 0.99
    v = net.relu("x") if kind == "Relu" else "x"
    v = net.op("Gather", v, net.constant([0] * 4001 + [1], np.int64), axis=1)
    row = np.full(4002, -small)
    row[0], row[-1] = 1, -(1 - 4000 * small + 2.0**-50)
    return net.model(v), row


COPIES = {
    "few": lambda: _copied_often("Identity"),
    "few, relu": lambda: _copied_often("Relu"),
    "few, layer": lambda: _copied_often("Gemm"),
    "many": lambda: _many_copies("Identity"),
    "many, relu": lambda: _many_copies("Relu"),
}


@pytest.mark.parametrize("arithmetic", ["real", "float32"])
@pytest.mark.parametrize("config", QUIET)
@pytest.mark.parametrize("form", COPIES)
def test_what_is_lost_in_summing_up_a_margin_is_not_proved(form: str, config: str, arithmetic: str) -> None:
    """Outputs that are copies of one value: its coefficient is a sum of the constraint's."""
    model, row = COPIES[form]()
    x = np.ones(2)
    graph = graph_of(model)
    assert value(row, outputs(graph, x)) < 0
    settings = replace(QUIET[config], arithmetic=arithmetic)
    assert decide(model, property_of(x, x, region(row, 0.0)), SHORT, settings).verdict is not Verdict.UNSAT
    row[0] += 1e-3
    assert decide(model, property_of(x, x, region(row, 0.0)), SHORT, settings).verdict is Verdict.UNSAT


def _bounds(case: Case, lower: Array, upper: Array, rows: Array, unit: float) -> Array:
    """Returns margins by both forms of bounds, as far as there are both, one behind the other."""
    ends = (torch.from_numpy(e).view(1, *case.graph.input_shape) for e in (lower, upper))
    box, C, zero = Box(*ends), torch.from_numpy(rows), torch.zeros(len(rows), dtype=torch.float64)
    sparse = sparse_network(case.graph)
    forms = (None,) if sparse is None else (None, sparse)
    return np.concatenate([bound_root(case.graph, form, box, unit).margins(C, zero) for form in forms])


def _spent(seed: int) -> float:
    """Returns the largest share that float64 has spent of what bounds of one network are granted; fails above 1."""
    case, most = drawn(seed), 0.0
    if case is None:
        return most
    draw = np.random.default_rng(seed)
    count = int(np.prod(case.graph.output_shape))
    rows = np.concatenate([np.eye(count)[:4], -np.eye(count)[:4], draw.normal(0, 1, (2, count))])
    lower, upper = next(boxes(case, draw))
    y = outputs(case.plain, lowest(case.graph, rows[-1], lower, upper, draw))
    without, real = (_bounds(case, lower, upper, rows, unit) for unit in (0.0, REAL_UNIT))
    for k in np.flatnonzero(np.isfinite(without) & np.isfinite(real)):
        least = value(rows[k % len(rows)], y)
        assert Fraction(float(real[k])) <= least, (seed, case.family)
        over = float(Fraction(float(without[k])) - least)
        most = max(most, over / (without[k] - real[k]) if over > 0 else 0.0)
    return most


def test_bounds_of_exact_values_hold_with_much_to_spare() -> None:
    """Without any allowance bounds are wrong by what float64 rounds; they are granted a hundred times as much."""
    assert 0 < max(_spent(seed) for seed in range(40)) < 0.01


def _asked(seeds: range) -> tuple[Counter[str], Counter[str], list[str]]:
    violated, held, wrong = Counter[str](), Counter[str](), []
    for seed in seeds:
        found = examine(seed)
        violated += found.violated
        held += found.held
        wrong += found.wrong
    return violated, held, wrong


def test_what_is_violated_by_a_last_digit_is_never_proved() -> None:
    violated, held, wrong = _asked(SAMPLE)
    assert not wrong
    assert violated.total() > len(SAMPLE)
    assert held["unsat"] > held.total() / 2, "hardly any question could have found an error"


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(20))
def test_what_is_violated_by_a_last_digit_is_never_proved_of_many(part: int) -> None:
    each = NIGHTLY // 20
    assert not _asked(range(1000 + part * each, 1000 + (part + 1) * each))[2]


def test_a_missing_allowance_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample finds wrong answers where nothing is granted to rounding."""
    monkeypatch.setattr(engine, "UNITS", {"real": 1e-18})
    monkeypatch.setattr(rounding, "INPUT_SLACK", 0.0)
    monkeypatch.setattr(sparse_bounds, "INPUT_SLACK", 0.0)
    for user in (crown, sparse_bounds):
        monkeypatch.setattr(user, "sum_share", lambda _outputs: 0.0)
    assert _asked(SAMPLE)[2]
