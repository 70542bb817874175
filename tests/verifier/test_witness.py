"""A candidate counts only if ONNX Runtime says so, and only inside the box."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nets import Net, fully_connected, graph_of, property_of, region

from harness.domain import UsageError
from harness.formats.vnnlib import parse_property
from harness.verifier.problem import Problem, problems_of
from harness.verifier.witness import WitnessChecker

IDENTITY = fully_connected([([[1.0]], [0.0])])


def problem(low: float, high: float, rhs: float, strict: bool = False) -> Problem:
    return problems_of(property_of([low], [high], region([1.0], rhs, strict)), graph_of(IDENTITY), "p")[0]


def test_a_violation_is_confirmed_with_its_output() -> None:
    found = WitnessChecker(IDENTITY).confirm(problem(0, 1, 0.25), torch.tensor([[0.125]], dtype=torch.float64))
    assert found is not None
    assert found.y is not None
    assert (found.x.dtype.name, found.x.tolist(), found.y.tolist()) == ("float32", [0.125], [0.125])


def test_no_violation_is_none() -> None:
    assert WitnessChecker(IDENTITY).confirm(problem(0, 1, 0.25), torch.tensor([0.5])) is None


def test_a_candidate_is_moved_into_the_box_first() -> None:
    checker = WitnessChecker(IDENTITY)
    found = checker.confirm(problem(0, 1, 0.25), torch.tensor([-3.0]))
    assert found is not None
    assert found.x.tolist() == [0.0]
    assert checker.confirm(problem(0.5, 1, 0.25), torch.tensor([-3.0])) is None


def test_equality_violates_unless_the_row_is_strict() -> None:
    checker, x = WitnessChecker(IDENTITY), torch.tensor([0.25])
    assert checker.confirm(problem(0, 1, 0.25), x) is not None
    assert checker.confirm(problem(0, 1, 0.25, strict=True), x) is None


def test_a_witness_lies_in_the_box_as_float32_casts_it() -> None:
    low, high = 0.1, 0.7
    for rhs, x in ((5.0, -9.0), (5.0, 9.0)):
        found = WitnessChecker(IDENTITY).confirm(problem(low, high, rhs), torch.tensor([x]))
        assert found is not None
        assert np.float32(low) <= found.x[0] <= np.float32(high)


def test_a_double_network_s_witness_lies_in_the_box_itself() -> None:
    """0.1 in float32 is above 0.1: no excuse for a network that takes doubles."""
    model = fully_connected([([[1.0]], [0.0])], np.float64)
    checker = WitnessChecker(model)
    prop = property_of([0.0], [0.1], region([-1.0], -0.1000000005))
    assert checker.confirm(problems_of(prop, graph_of(model), "p", checker.dtype)[0], torch.tensor([1.0])) is None


def test_an_output_that_is_no_number_confirms_nothing() -> None:
    net = Net((1,))
    model = net.model(net.op("Log", "x"))
    prop = property_of([-1], [1], region([1.0], 5.0))
    own = problems_of(prop, graph_of(IDENTITY), "p")[0]
    assert WitnessChecker(model).confirm(own, torch.tensor([-1.0])) is None
    assert WitnessChecker(model).confirm(own, torch.tensor([1.0])) is not None


def test_a_network_that_onnx_runtime_cannot_load_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="ONNX Runtime cannot load it"):
        WitnessChecker(b"no model")


@pytest.mark.parametrize("number", ["1", "0.1", "0.7"])
def test_a_strict_bound_holds_in_float32(number: str) -> None:
    """The next double below the bound is the bound again as float32, where the only violation would be."""
    head = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 0))"
    prop = parse_property(f"{head}(assert (< X_0 {number}))(assert (>= Y_0 {number}))", "p")
    own = problems_of(prop, graph_of(IDENTITY), "p")[0]
    assert WitnessChecker(IDENTITY).confirm(own, torch.tensor([float(number)])) is None


def test_bounds_with_no_float32_between_them_have_no_witness() -> None:
    head = "(declare-const X_0 Real)(declare-const Y_0 Real)"
    prop = parse_property(f"{head}(assert (> X_0 1))(assert (< X_0 1.00000011920928955078125))(assert (<= Y_0 9))", "p")
    own = problems_of(prop, graph_of(IDENTITY), "p")[0]
    assert WitnessChecker(IDENTITY).confirm(own, torch.tensor([1.0])) is None


def test_an_output_equal_to_a_strict_number_in_float32_is_no_witness() -> None:
    """0.7 in float32 is below 0.7, but the competition compares it with 0.7 in float32."""
    model = fully_connected([([[0.0]], [0.7])])
    checker = WitnessChecker(model)
    assert checker.confirm(problem(0, 1, 0.7, strict=True), torch.tensor([0.5])) is None
    assert checker.confirm(problem(0, 1, 0.7), torch.tensor([0.5])) is not None
