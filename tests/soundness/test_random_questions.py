"""Random questions about random networks: no answer is refuted by ONNX Runtime (`fuzzing` says what is wrong)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fuzzing import Tally, examine
from nets import INPUTS, NEURONS, Net, decide, property_of, region
from random_networks import FAMILIES, draw_network
from random_questions import Box, Case, Row, holds, inside, text_of, violates

from harness.domain import Counterexample, Limits, Property, Verdict, WitnessVerdict
from harness.formats.onnx_file import open_session
from harness.formats.vnnlib import read_property
from harness.judging.replay import replay
from harness.verifier.config import EngineConfig

SAMPLE = range(7_000, 7_016)
NIGHTLY = 4_000
"""Networks of the nightly run."""


def examined(seeds: range, folder: Path) -> Tally:
    total = Tally()
    for seed in seeds:
        place = folder / str(seed)
        place.mkdir()
        total.add(examine(seed, place))
    return total


def test_no_answer_of_a_sample_is_wrong(tmp_path: Path) -> None:
    total = examined(SAMPLE, tmp_path)
    assert not total.wrong
    said = {word for _, word in total.verdicts}
    assert said >= {"sat", "unsat", "unknown"}
    assert total.known_sat > sum(total.verdicts.values()) / 4, "hardly any question could have found an error"


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(20))
def test_no_answer_of_many_is_wrong(part: int, tmp_path: Path) -> None:
    each = NIGHTLY // 20
    assert not examined(range(100_000 + part * each, 100_000 + (part + 1) * each), tmp_path).wrong


def test_an_unsound_bound_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample finds bounds that are too high by a hundredth of a percent."""
    import torch

    from harness.verifier.root import _TorchRoot
    from harness.verifier.sparse_root import SparseRoot

    for kind in (SparseRoot, _TorchRoot):
        margins = kind.margins

        def higher(self: object, C: torch.Tensor, rhs: torch.Tensor, of: object = margins) -> np.ndarray:
            found: np.ndarray = of(self, C, rhs)  # type: ignore[operator]
            return found + 1e-4 * (np.abs(found) + np.abs(rhs.numpy()))

        monkeypatch.setattr(kind, "margins", higher)
    assert examined(SAMPLE, tmp_path).wrong


def test_every_family_is_drawn_with_both_types() -> None:
    drawn = [draw_network(seed) for seed in range(200)]
    assert {d.family.split(",")[0] for d in drawn} == set(FAMILIES)
    assert {d.dtype for d in drawn} == {np.float32, np.float64}


def test_what_counts_as_a_violation(tmp_path: Path) -> None:
    """The test's own rules, by hand, and against the reader and the judge on a network that copies."""
    third = Row((1.0, 0.0, 0.0), "<=", 1 / 3)
    y = np.array([1 / 3, 0, 0], np.float32)
    assert holds(third, y), "a third is cast to float32"
    assert not holds(third._replace(operator="<"), y)
    assert holds(Row((1.0, -1.0, 0.0), ">", 0.0), y)
    box = Box((0.0, 0.0, 0.0), (1.0, 1.0, 1 / 3), frozenset({0}))
    assert inside(box, np.array([0.5, 1.0, 1 / 3], np.float32))
    assert not inside(box, np.array([1.0, 1.0, 0.0], np.float32))
    net = Net((3,))
    session = open_session(net.model(net.op("Identity", "x")))
    random = np.random.default_rng(0)
    cases = (Case(box, ((third, Row((0.0, 2.0, -1.0), ">=", 0.1)), (Row((0.0, 0.0, 1.0), ">=", 1 / 3),))),)
    (tmp_path / "p.vnnlib").write_text(text_of(cases, 3))
    prop = read_property(tmp_path / "p.vnnlib")
    seen = set()
    for _ in range(300):
        x = random.choice([0.0, 0.3, 1 / 3, 0.5, 1.0], 3).astype(np.float32)
        ours, theirs = violates(cases, x, x), replay(session, prop, Counterexample(x)).verdict
        assert ours == (theirs is WitnessVerdict.CORRECT)
        seen.add(ours)
    assert seen == {False, True}


def lost_in_products() -> tuple[bytes, Property, float]:
    """x * 1e-30 * 1e-30 * 1e30 * 1e30 is 0 in float32."""
    net, v = Net((1,)), "x"
    for factor in (1e-30, 1e-30, 1e30, 1e30):
        v = net.op("Mul", v, net.constant([factor]))
    return net.model(v), property_of([1], [2], region([1.0], 0.5)), 1.5


def clipped_infinity() -> tuple[bytes, Property, float]:
    """clip(x * 1e30 * 1e30 * 1e-30 * 1e-30) is 1 in float32."""
    net, v = Net((1,)), "x"
    for factor in (1e30, 1e30, 1e-30, 1e-30):
        v = net.op("Mul", v, net.constant([factor]))
    model = net.model(net.op("Clip", v, net.constant(0.0), net.constant(1.0)))
    return model, property_of([0.1], [0.2], region([-1.0], -0.9)), 0.15


def lost_behind_a_layer() -> tuple[bytes, Property, float]:
    net = Net((1,))
    v = net.op("Gemm", "x", net.constant([[1e-30]]), net.constant([0.0]), transB=1)
    for factor in (1e-30, 1e30, 1e30):
        v = net.op("Mul", v, net.constant([factor]))
    return net.model(v), property_of([1], [2], region([1.0], 0.5)), 1.5


def lost_in_alpha() -> tuple[bytes, Property, float]:
    net = Net((1,))
    v = net.op("Gemm", "x", net.constant([[1e-30]]), net.constant([0.0]), transB=1, alpha=1e-30)
    for factor in (1e30, 1e30):
        v = net.op("Mul", v, net.constant([factor]))
    return net.model(v), property_of([1], [2], region([1.0], 0.5)), 1.5


def too_large_before_alpha() -> tuple[bytes, Property, float]:
    net = Net((1,))
    v = net.op("Gemm", "x", net.constant([[3e38]]), net.constant([0.0]), transB=1, alpha=1e-38)
    model = net.model(net.op("Clip", v, net.constant(-8.0), net.constant(8.0)))
    return model, property_of([1.5], [2], region([-1.0], -7.5)), 1.75


def fused_to_zero() -> tuple[bytes, Property, float]:
    """ONNX Runtime takes the scales around a matrix product together: 1e-30 * 1e-20 is 0 in float32."""
    net = Net((1,))
    v = net.op("MatMul", net.op("Mul", "x", net.constant(1e-30)), net.constant([[1e38]]))
    v = net.op("Mul", net.op("Mul", v, net.constant(1e-20)), net.constant(1e20))
    return net.model(v), property_of([1], [2], region([1.0], 5e7)), 1.5


def fused_to_infinity() -> tuple[bytes, Property, float]:
    net = Net((1,))
    v = net.op("MatMul", net.op("Mul", "x", net.constant(1e25)), net.constant([[1e-38]]))
    v = net.op("Mul", net.op("Mul", v, net.constant(1e15)), net.constant(0.1))
    model = net.model(net.op("Clip", net.op("Mul", v, net.constant(1e-2)), net.constant(0.0), net.constant(9.0)))
    return model, property_of([1], [2], region([-1.0], -8.0)), 1.5


def a_convolution_that_takes_in_a_scale() -> tuple[bytes, Property, float]:
    """Its weights are infinite behind that."""
    net = Net((1, 1, 1))
    v = net.op("Conv", net.op("Mul", "x", net.constant(1e-20)), net.constant(np.full((1, 1, 1, 1), 1e20)))
    v = net.op("Mul", net.op("Mul", v, net.constant(np.full((1, 1, 1), 1e20))), net.constant(1e-20))
    model = net.model(net.op("Flatten", net.op("Clip", v, net.constant(0.0), net.constant(9.0))))
    return model, property_of([1], [2], region([-1.0], -8.0)), 1.5


def copied(kind: str, rhs: float) -> tuple[bytes, Property, float]:
    """A right-hand side that is cast to the least value of an output that nothing rounds."""
    net, least = Net((1,)), float(np.float32(1.2345))
    return net.model(net.op(kind, "x")), property_of([least], [2], region([1.0], rhs)), least


HARD = {
    "underflow": lost_in_products,
    "overflow": clipped_infinity,
    "underflow behind a layer": lost_behind_a_layer,
    "underflow by alpha": lost_in_alpha,
    "overflow before alpha": too_large_before_alpha,
    "scales fused to zero": fused_to_zero,
    "scales fused to infinity": fused_to_infinity,
    "weights fused to infinity": a_convolution_that_takes_in_a_scale,
    "cast right-hand side": lambda: copied("Identity", float(np.float32(1.2345)) * (1 - 1e-9)),
    "cast right-hand side, relu": lambda: copied("Relu", float(np.float32(1.2345)) * (1 - 1e-9)),
}


@pytest.mark.parametrize("config", [NEURONS, INPUTS], ids=["neurons", "inputs"])
@pytest.mark.parametrize("clock", ["work", "wall"])
@pytest.mark.parametrize("form", HARD)
def test_what_float32_loses_is_never_proved_away(form: str, clock: str, config: EngineConfig) -> None:
    model, prop, x = HARD[form]()
    witness = Counterexample(np.array([x], np.float32))
    assert replay(open_session(model), prop, witness).verdict is WitnessVerdict.CORRECT
    assert decide(model, prop, Limits(20, clock, 200), config).verdict is not Verdict.UNSAT


def test_a_right_hand_side_that_float32_takes_for_zero() -> None:
    net = Net((1,))
    model, prop = net.model(net.relu("x")), property_of([-1], [1], region([1.0], -1e-50))
    assert replay(open_session(model), prop, Counterexample(np.zeros(1, np.float32))).verdict is WitnessVerdict.CORRECT
    for config in (NEURONS, INPUTS):
        assert decide(model, prop, Limits(20, "work", 50), config).verdict is not Verdict.UNSAT


def test_scales_of_common_sizes_are_still_taken_together() -> None:
    """A network that normalises, and multiplies by 255 and back, is proved as before."""
    net, v = Net((1,)), "x"
    for kind, number in (("Sub", 0.4), ("Div", 0.2), ("Mul", 255.0), ("Mul", 1 / 255.0), ("Add", 1.0)):
        v = net.op(kind, v, net.constant([number]))
    prop = property_of([0], [1], region([1.0], -1.0 - 1e-5))
    assert decide(net.model(v), prop).verdict is Verdict.UNSAT
