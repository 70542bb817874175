"""The engine as a whole: one answer a key, the same alone or in company, limits kept, oddities survived."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from families import FAMILIES, member
from nets import Net, decide, decide_all, fully_connected, graph_of, property_of, region

from harness.domain import Limits, Property, PropertyCase, Stage, ToolAnswer, UsageError, Verdict
from harness.verifier import engine as engine_module
from harness.verifier import instance_state
from harness.verifier.config import AttackConfig, EngineConfig
from harness.verifier.engine import Engine
from harness.verifier.fold import FoldedNetwork
from harness.verifier.graph import Graph
from harness.verifier.interval import Box
from harness.verifier.root import Root
from harness.verifier.sparse import SparseNetwork

NO_LUCK = AttackConfig(restarts=1, steps=0)
BLIND = EngineConfig(first_attack=NO_LUCK, second_attack=NO_LUCK, split_inputs_up_to=0)
"""Attacks look at the centre only, so that the later stages have something to do."""


ROWS = np.array([[1.0, -1, 0], [0, 1, -1]])


def lowest_seen(model: bytes, rows: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Returns the lowest value of each row over some thousand points of a box, corners among them."""
    graph = graph_of(model)
    share = np.random.default_rng(1).uniform(-0.5, 1.5, (4000, lower.size)).clip(0, 1)
    x = torch.from_numpy(lower + (upper - lower) * share).view(-1, *graph.input_shape)
    low: np.ndarray = (graph(x).numpy() @ rows.T).min(0)
    return low


def properties_of(model: bytes, count: int, radius: float = 0.15) -> dict[str, Property]:
    """Returns properties of mixed difficulty: two margins against right-hand sides around their lowest values."""
    size = int(np.prod(graph_of(model).input_shape))
    random, found = np.random.default_rng(5), {}
    for k in range(count):
        centre = random.random(size)
        lower, upper = centre - radius, centre + radius
        rhs = lowest_seen(model, ROWS, lower, upper) + (-3.0, -0.2, -0.05, 0.02, 0.5)[k % 5]
        regions = (region(ROWS[:1], rhs[:1]), region(ROWS[1:], rhs[1:]))
        found[f"key {k}"] = property_of(lower, upper, *regions)
    return found


def essence(answer: ToolAnswer) -> tuple[object, ...]:
    record = answer.record
    assert record is not None
    margins = None if record.root_margins is None else tuple(np.round(record.root_margins, 7))
    return answer.verdict, answer.stage, record.domains, record.entered_bab, record.unstable_nonlinear, margins


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_answers_what_its_members_answer_alone(family: str) -> None:
    model, limits = member(family, 30), Limits(60, "work", 60)
    properties = properties_of(model, 10)
    together = decide_all(model, properties, limits)
    for key, prop in properties.items():
        alone = decide_all(model, {key: prop}, limits)[key]
        assert essence(alone) == essence(together[key])


def test_all_stages_decide_something() -> None:
    """Else the tests above compare less than they seem to."""
    seen = set()
    for family in ("convolution", "grafted convolution", "fully connected"):
        model = member(family, 30)
        for answer in decide_all(model, properties_of(model, 15), Limits(60, "work", 200)).values():
            seen.add((answer.verdict, answer.stage))
    assert {(Verdict.UNSAT, Stage.INCOMPLETE), (Verdict.UNSAT, Stage.BAB), (Verdict.SAT, Stage.ATTACK)} <= seen


def test_with_a_limit_on_domains_answers_are_the_same_from_run_to_run() -> None:
    model = member("grafted convolution", 31)
    properties = properties_of(model, 12, radius=0.3)
    runs = [decide_all(model, properties, Limits(600, "work", 40)) for _ in range(2)]
    first, second = ({key: essence(a) for key, a in run.items()} for run in runs)
    assert first == second
    for key, answer in runs[0].items():
        assert answer.record is not None
        assert answer.record.domains <= 40, key
        again = runs[1][key].counterexample
        if answer.counterexample is not None:
            assert again is not None
            np.testing.assert_array_equal(answer.counterexample.x, again.x)


def test_groups_do_not_change_answers() -> None:
    model, limits = member("convolution", 30), Limits(60, "work", 40)
    properties = properties_of(model, 11)
    whole = decide_all(model, properties, limits)
    parts = decide_all(model, properties, limits, EngineConfig(group=3, workers=1, split_inputs_up_to=0))
    assert {k: essence(a) for k, a in whole.items()} == {k: essence(a) for k, a in parts.items()}


def test_no_domains_keep_to_the_root_and_say_what_was_left() -> None:
    model = member("fully connected", 30)
    answers = decide_all(model, properties_of(model, 10, 0.5), Limits(60, "work", 0), BLIND)
    unknown = [a for a in answers.values() if a.verdict is Verdict.UNKNOWN]
    assert unknown
    for answer in unknown:
        assert answer.record is not None
        assert answer.record.entered_bab
        assert answer.record.domains <= 2  # one root for each region
        assert answer.record.unstable is not None
        assert sum(int(m.sum()) for m in answer.record.unstable.values()) == answer.record.unstable_nonlinear
        assert "domains" in answer.message


def ways_of_bounding(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns a list that fills with how each root was bounded."""
    ways, bound = [], engine_module.bound_root

    def recorded(graph: Graph, sparse: SparseNetwork | None, box: Box, unit: float) -> Root:
        ways.append("torch" if sparse is None else "compiled")
        return bound(graph, sparse, box, unit)

    monkeypatch.setattr(engine_module, "bound_root", recorded)
    return ways


@pytest.mark.parametrize(("eps", "expected"), [(0.001, ["torch"]), (0.5, ["torch", "compiled"])])
def test_on_the_wall_clock_compiled_bounds_wait_until_they_are_needed(
    monkeypatch: pytest.MonkeyPatch, eps: float, expected: list[str]
) -> None:
    pytest.importorskip("numba")
    ways = ways_of_bounding(monkeypatch)
    model = member("convolution", 30)
    key, prop = next(iter(properties_of(model, 1, eps).items()))
    answer = decide_all(model, {key: prop}, Limits(60, "wall", 0), BLIND)[key]
    assert ways == expected
    assert (answer.verdict is Verdict.UNSAT) == (expected == ["torch"])
    assert answer.record is not None
    assert answer.record.root_margins is not None
    # Each region counts once, whoever bounded it.
    assert len(answer.record.root_margins) == sum(len(case.polytopes) for case in prop.cases)


def test_batches_are_bounded_by_compiled_code_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    ways = ways_of_bounding(monkeypatch)
    model = member("convolution", 30)
    decide_all(model, properties_of(model, 3, 0.001), Limits(60, "work"), BLIND)
    assert ways == ["compiled"] * 3


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Stands in for the engine's clock: every look at it costs a second."""
    now = [0.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            now[0] += 1.0
            return now[0]

    for module in (engine_module, instance_state):
        monkeypatch.setattr(module, "time", Clock)
    return now


@pytest.mark.parametrize("timeout_on", ["work", "wall"])
@pytest.mark.parametrize("timeout", [0.5, 2.5, 4.0, 25.0])
def test_a_limit_that_passes_is_a_timeout_wherever_it_strikes(
    clock: list[float], timeout: float, timeout_on: str
) -> None:
    model = member("convolution", 30)
    properties = properties_of(model, 6, 0.5)
    # One thread: how often others look at the clock in between would be left to chance.
    answers = decide_all(model, properties, Limits(timeout, timeout_on), replace(BLIND, workers=1))
    if timeout < 25:
        assert Verdict.TIMEOUT in {a.verdict for a in answers.values()}
    for answer in answers.values():
        assert answer.verdict is not Verdict.ERROR
        if answer.verdict is Verdict.TIMEOUT:
            spent = answer.work_s if timeout_on == "work" else answer.wall_s
            assert spent >= timeout
            assert answer.counterexample is None


def test_an_error_of_one_property_does_not_hurt_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    model = member("fully connected", 30)
    properties = properties_of(model, 6, 0.4)
    healthy = decide_all(model, properties, Limits(60, "work", 40), BLIND)
    unlucky = properties["key 3"].cases[0].box.lower[0]
    genuine = engine_module.bound_root

    def broken(graph: Graph, sparse: SparseNetwork | None, box: Box, unit: float) -> Root:
        root = genuine(graph, sparse, box, unit)
        if abs(float(box.lower.flatten()[0]) - unlucky) > 1e-6:
            return root
        if when == "bounds":
            raise RuntimeError("out of luck")
        return _WithoutFold(root)

    for when in ("bounds", "fold"):
        with monkeypatch.context() as patched:
            patched.setattr(engine_module, "bound_root", broken)
            answers = decide_all(model, properties, Limits(60, "work", 40), BLIND)
        assert answers["key 3"].verdict is Verdict.ERROR, when
        assert answers["key 3"].message == "RuntimeError: out of luck"
        for key in set(properties) - {"key 3"}:
            assert essence(answers[key]) == essence(healthy[key])


class _WithoutFold:
    """Bounds that cannot be folded."""

    def __init__(self, root: Root) -> None:
        self.margins, self.unstable, self.covers_float32 = root.margins, root.unstable, root.covers_float32

    def fold(self, _C: torch.Tensor, _rhs: torch.Tensor) -> FoldedNetwork:
        raise RuntimeError("out of luck")


IDENTITY = fully_connected([(np.eye(2), np.zeros(2))])
UNIT = ([0.0, 0.0], [1.0, 1.0])


def test_strict_and_plain_rows_differ_at_equality_only() -> None:
    at, above = region([[1, 0]], 0.0), region([[1, 0]], -1e-3)
    assert decide(IDENTITY, property_of(*UNIT, at)).verdict is Verdict.SAT
    assert decide(IDENTITY, property_of(*UNIT, above)).verdict is Verdict.UNSAT
    strict = decide(IDENTITY, property_of(*UNIT, region([[1, 0]], 0.0, strict=True)))
    assert strict.verdict in (Verdict.UNSAT, Verdict.UNKNOWN)
    assert decide(IDENTITY, property_of(*UNIT, region([[1, 0]], 1e-3, strict=True))).verdict is Verdict.SAT


def test_an_empty_box_has_no_counterexample() -> None:
    prop = property_of([0.0, 0.6], [1.0, 0.5], region([[1, 0]], 100.0))
    assert decide(IDENTITY, prop).verdict is Verdict.UNSAT
    assert decide(IDENTITY, Property((), 2, 2)).verdict is Verdict.UNSAT


def test_no_regions_are_safe_and_a_region_without_rows_never_is() -> None:
    assert decide(IDENTITY, property_of(*UNIT, outputs=2)).verdict is Verdict.UNSAT
    everything = region(np.zeros((0, 2)), np.zeros(0))
    assert decide(IDENTITY, property_of(*UNIT, everything)).verdict is Verdict.SAT
    assert decide(IDENTITY, property_of(*UNIT, region([[1, 0]], -1.0), everything)).verdict is Verdict.SAT


def test_a_union_of_boxes_is_as_bad_as_its_worst_box() -> None:
    bad = region([[-1, 0]], -0.9)
    boxes = [([0.0, 0.0], [0.5, 1.0]), ([0.5, 0.0], [0.8, 1.0]), ([0.8, 0.0], [1.0, 1.0])]
    cases = [property_of(*box, bad).cases[0] for box in boxes]
    assert decide(IDENTITY, Property(tuple(cases[:2]), 2, 2)).verdict is Verdict.UNSAT
    for order in (cases, cases[::-1]):
        answer = decide(IDENTITY, Property(tuple(order), 2, 2))
        assert answer.verdict is Verdict.SAT
        assert answer.counterexample is not None
        assert answer.counterexample.x[0] >= np.float32(0.9)


def test_a_case_that_branch_and_bound_proves_does_not_hide_one_before_it() -> None:
    """Neither is decided by root bounds or by the (blind) attack; only the second one holds."""
    model = member("fully connected", 30)
    lower, upper = np.zeros(5), np.ones(5)
    low = float(lowest_seen(model, ROWS[:1], lower, upper)[0])
    holds, fails = (property_of(lower, upper, region(ROWS[:1], low + step)) for step in (-0.05, 0.01))
    proved = decide(model, holds, config=BLIND)
    assert (proved.verdict, proved.stage) == (Verdict.UNSAT, Stage.BAB)
    for cases in ((*fails.cases, *holds.cases), (*holds.cases, *fails.cases), (*holds.cases, *fails.cases * 2)):
        assert decide(model, Property(cases, 5, 3), config=BLIND).verdict is not Verdict.UNSAT


def test_a_conjunction_needs_all_its_rows() -> None:
    both = region([[1, 0], [-1, 0]], [0.2, -0.1])
    assert decide(IDENTITY, property_of(*UNIT, both)).verdict is Verdict.SAT
    apart = region([[1, 0], [-1, 0]], [0.1, -0.2])
    assert decide(IDENTITY, property_of(*UNIT, apart)).verdict is not Verdict.SAT
    one_excluded = region([[1, 0], [0, 1]], [5.0, -0.1])
    assert decide(IDENTITY, property_of(*UNIT, one_excluded)).verdict is Verdict.UNSAT


def test_a_box_of_one_point_is_evaluated() -> None:
    point = [0.25, 0.75]
    assert decide(IDENTITY, property_of(point, point, region([[1, 0]], 0.25))).verdict is Verdict.SAT
    assert decide(IDENTITY, property_of(point, point, region([[1, 0]], 0.2499))).verdict is Verdict.UNSAT
    model = member("residual", 3)
    pixel = np.full(50, 0.5)
    answer = decide(model, property_of(pixel, pixel, region([[1, 0, 0]], -1e3)))
    assert (answer.verdict, answer.stage) == (Verdict.UNSAT, Stage.INCOMPLETE)


def test_some_pixels_may_be_fixed() -> None:
    model = member("convolution", 30)
    centre, radius = np.full(50, 0.5), np.where(np.arange(50) % 3, 0.0, 0.2)
    answer = decide(model, property_of(centre - radius, centre + radius, region([[1, 0, 0]], -20.0)))
    assert answer.verdict is Verdict.UNSAT


@pytest.mark.parametrize(
    "build",
    [
        lambda net: net.relu("x"),
        lambda net: net.op("Identity", "x"),
        lambda net: net.op("Add", net.relu("x"), "x"),
        lambda net: net.op("Sub", net.relu("x"), net.relu("x")),
        lambda net: net.relu(net.relu("x")),
    ],
    ids=["relu", "identity", "relu + x", "relu - relu", "relu of relu"],
)
def test_networks_without_weights_are_decided(build: object) -> None:
    net = Net((2,))
    model = net.model(build(net))  # type: ignore[operator]
    box = ([-1.0, -1.0], [1.0, 1.0])
    answers = decide_all(
        model,
        {"sat": property_of(*box, region([[1, 0]], 0.0)), "unsat": property_of(*box, region([[1, 0]], -2.5))},
        config=BLIND,
    )
    assert [answers[k].verdict for k in ("sat", "unsat")] == [Verdict.SAT, Verdict.UNSAT]


def test_a_network_without_activations_whose_margin_touches_zero_is_no_error() -> None:
    for rhs in (0.0, -1e-9, -1e-8):
        answer = decide(IDENTITY, property_of(*UNIT, region([[1, 0]], rhs, strict=True)), config=BLIND)
        assert answer.verdict in (Verdict.UNSAT, Verdict.UNKNOWN)
        assert answer.record is not None
        assert answer.record.neurons == 0


def test_more_margins_than_one_block_of_lanes_holds() -> None:
    net = Net((4,), seed=3)
    v = net.relu(net.linear(net.relu(net.linear("x", 10, 4)), 10, 10))
    model = net.model(net.linear(v, 45, 10))
    regions = [region(np.eye(45)[k], -40.0) for k in range(45)]
    box = ([-1.0] * 4, [1.0] * 4)
    assert decide(model, property_of(*box, *regions), config=BLIND).verdict is Verdict.UNSAT
    low = lowest_seen(model, np.eye(45), *(np.array(end) for end in box))
    near = [region(np.eye(45)[k], low[k] - 0.5) for k in range(45)]
    answer = decide(model, property_of(*box, *near), Limits(60, "work", 2000), BLIND)
    assert answer.record is not None
    assert answer.record.domains > 45
    broken = [*near[:-1], region(np.eye(45)[44], low[44] + 1e-3)]
    assert decide(model, property_of(*box, *broken), Limits(60, "work", 2000)).verdict is not Verdict.UNSAT


def test_bounds_that_overflow_prove_nothing() -> None:
    model = fully_connected([([[1e30]], [0.0]), ([[1e30], [-1e30]], [0.0, 0.0])])
    box = ([-1e20], [1e20])
    assert decide(model, property_of(*box, region([[0, 1]], 0.0))).verdict is not Verdict.UNSAT
    wide = property_of([-np.inf], [np.inf], region([[0, 1]], -1e30))
    assert decide(model, wide).verdict is not Verdict.UNSAT


def test_grafted_neurons_count_for_unr_but_not_among_the_nonlinear() -> None:
    net = Net((3,), seed=6)
    v = net.grafted(net.linear("x", 8, 3), [True] * 5 + [False] * 3, [0.5] * 8, [0.1] * 8, "first")
    v = net.relu(net.linear(v, 6, 8), "second")
    model = net.model(net.linear(v, 3, 6))
    lower, upper = np.full(3, -9.0), np.full(3, 9.0)
    rhs = lowest_seen(model, np.array([[1.0, 0, 0]]), lower, upper) - 0.1
    answer = decide(model, property_of(lower, upper, region([[1, 0, 0]], rhs)), Limits(60, "work", 0), BLIND)
    record = answer.record
    assert record is not None
    assert record.unstable is not None
    assert record.neurons == 14
    assert {name: mask.shape for name, mask in record.unstable.items()} == {"first": (8,), "second": (6,)}
    first = record.unstable["first"]
    assert first[:5].any()
    assert record.unstable_nonlinear == int(first[5:].sum() + record.unstable["second"].sum())


def test_a_property_of_other_sizes_is_refused_before_any_answer() -> None:
    engine, answers = Engine(IDENTITY, "n", EngineConfig()), []
    good = property_of(*UNIT, region([[1, 0]], 0.0))
    bad = Property((PropertyCase(good.cases[0].box, ()),), 2, 3)
    with pytest.raises(UsageError):
        engine.problems(bad, "bad")
    with pytest.raises(UsageError):
        engine.decide({"good": good, "bad": bad}, Limits(10), lambda key, answer: answers.append(key))
    assert answers == []


def test_no_properties_are_no_answers() -> None:
    assert decide_all(IDENTITY, {}) == {}


def test_where_float32_may_overflow_nothing_is_proved() -> None:
    """In real arithmetic the output is positive; ONNX Runtime's sum overflows on the way and gives -0.1 at x = 1."""
    first, second = np.full((4, 1), 1e20), np.array([[-1.72e18, -1.72e18, 2e18, 2e18]])
    last = (np.array([[1e-38]]), np.array([-0.1]))
    model = fully_connected([(first, np.zeros(4)), (second, np.zeros(1)), last])
    answer = decide(model, property_of([0.5], [1.0], region([[1.0]], 0.0)))
    assert answer.verdict is not Verdict.UNSAT
