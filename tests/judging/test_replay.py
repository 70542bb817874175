from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from tiny import TIE_OR_WORSE, linear, linear_model, region

from harness.domain import (
    Counterexample,
    InputBox,
    Instance,
    Job,
    Limits,
    OutputPolytope,
    Property,
    PropertyCase,
    UsageError,
    WitnessVerdict,
)
from harness.formats.vnnlib import parse_property
from harness.judging.judge import Judge
from harness.judging.replay import INPUT_TOLERANCE, Rules, replay, replay_with_outputs

CORRECT = WitnessVerdict.CORRECT
UP_TO_TOLERANCE = WitnessVerdict.CORRECT_UP_TO_TOLERANCE
NOT_VIOLATED = WitnessVerdict.SPEC_NOT_VIOLATED

IDENTITY = linear(np.eye(2))
TIE = parse_property(TIE_OR_WORSE, "tie")
STRICT = region([1, -1], 0, strict=[True])
"""Over y = x in [0, 1]^2: violated where y_0 < y_1."""


def point(*values: float, dtype: type[np.floating] = np.float32) -> Counterexample:
    return Counterexample(np.array(values, dtype))


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((0.2, 0.8), CORRECT),
        ((0.5, 0.5), CORRECT),  # a tie violates a non-strict constraint
        ((0.0, 1.0), CORRECT),  # both ends belong to the box
        ((0.8, 0.2), NOT_VIOLATED),
        ((0.2, 1.0 + 0.9e-4), UP_TO_TOLERANCE),
        ((-0.9e-4, 0.5), UP_TO_TOLERANCE),
        ((0.2, 1.0 + 1.1e-4), NOT_VIOLATED),
        ((-1.1e-4, 0.5), NOT_VIOLATED),
        ((1.0 + 0.9e-4, 0.5), NOT_VIOLATED),  # near the box, but the outputs are fine
        ((np.inf, np.inf), NOT_VIOLATED),
    ],
)
def test_bounds_are_tight_for_correct_and_loose_by_the_tolerance_for_less(
    values: tuple[float, ...], verdict: WitnessVerdict
) -> None:
    assert replay(IDENTITY, TIE, point(*values)).verdict is verdict


def test_the_tolerance_itself_is_in() -> None:
    wide = linear(np.eye(2), dtype=np.float64)
    prop = region([1, -1], 0)
    inside = point(0.0, 1.0 + INPUT_TOLERANCE, dtype=np.float64)
    outside = point(0.0, float(np.nextafter(1.0 + INPUT_TOLERANCE, 2)), dtype=np.float64)
    assert replay(wide, prop, inside).verdict is UP_TO_TOLERANCE
    assert replay(wide, prop, outside).verdict is NOT_VIOLATED


def test_outputs_have_no_tolerance() -> None:
    below = float(np.nextafter(np.float32(0.5), np.float32(0)))
    assert replay(IDENTITY, TIE, point(0.5, below)).verdict is NOT_VIOLATED


def test_strict_constraints_are_strict() -> None:
    above = float(np.nextafter(np.float32(0.5), np.float32(1)))
    assert replay(IDENTITY, STRICT, point(0.5, 0.5)).verdict is NOT_VIOLATED
    assert replay(IDENTITY, STRICT, point(0.5, above)).verdict is CORRECT


def test_strictness_is_per_row() -> None:
    mixed = region([[1, -1], [1, 0]], [0, 0.5], strict=[False, True])  # y_0 <= y_1 and y_0 < 0.5
    assert replay(IDENTITY, mixed, point(0.25, 0.25)).verdict is CORRECT
    assert replay(IDENTITY, mixed, point(0.5, 0.5)).verdict is NOT_VIOLATED


def test_bounds_are_cast_to_the_networks_type_before_they_are_compared() -> None:
    # 0.1 as float32 is above 0.1; against the decimal number this corner of the box would be outside.
    corner = point(0.0, 0.1)
    assert float(corner.x[1]) > 0.1
    assert replay(IDENTITY, region([1, -1], 0, high=0.1), corner).verdict is CORRECT
    wide = linear(np.eye(2), dtype=np.float64)
    assert replay(wide, region([1, -1], 0, high=0.1), corner).verdict is UP_TO_TOLERANCE


def test_constants_of_outputs_are_cast_too() -> None:
    constant = region([0, 1], 0.1)  # y_1 <= 0.1
    assert replay(IDENTITY, constant, point(0.0, 0.1)).verdict is CORRECT
    assert replay(linear(np.eye(2), dtype=np.float64), constant, point(0.0, 0.1)).verdict is NOT_VIOLATED


def test_inputs_are_cast_to_the_networks_type() -> None:
    check, run = replay_with_outputs(IDENTITY, TIE, point(0.1, 0.2, dtype=np.float64))
    assert check.verdict is CORRECT
    assert run is not None
    assert run.x.dtype == np.float32


def test_what_the_tool_says_of_outputs_is_ignored_and_replaced() -> None:
    lie = Counterexample(np.array([0.8, 0.2], np.float32), np.array([0.0, 1.0], np.float32))
    check, run = replay_with_outputs(IDENTITY, TIE, lie)
    assert check.verdict is NOT_VIOLATED
    assert run is not None
    np.testing.assert_array_equal(run.y, lie.x)


def test_all_rows_of_a_region_have_to_hold_and_one_region_suffices() -> None:
    box = InputBox(np.zeros(2), np.ones(2))
    both = OutputPolytope(np.array([[1.0, 0], [0, 1]]), np.array([0.5, 0.5]), np.zeros(2, np.bool_))
    large = OutputPolytope(np.array([[-1.0, 0]]), np.array([-0.9]), np.zeros(1, np.bool_))
    prop = Property((PropertyCase(box, (both, large)),), 2, 2)
    assert replay(IDENTITY, prop, point(0.4, 0.4)).verdict is CORRECT
    assert replay(IDENTITY, prop, point(0.4, 0.6)).verdict is NOT_VIOLATED
    assert replay(IDENTITY, prop, point(0.95, 0.6)).verdict is CORRECT


def test_a_case_counts_only_with_its_own_box() -> None:
    def case(low: float, high: float, sign: float) -> PropertyCase:
        rows = OutputPolytope(np.array([[sign, 0.0]]), np.array([sign * 0.5]), np.zeros(1, np.bool_))
        return PropertyCase(InputBox(np.full(2, low), np.full(2, high)), (rows,))

    prop = Property((case(0.0, 0.3, -1.0), case(0.7, 1.0, -1.0)), 2, 2)  # violated where y_0 >= 0.5
    assert replay(IDENTITY, prop, point(0.2, 0.2)).verdict is NOT_VIOLATED
    assert replay(IDENTITY, prop, point(0.8, 0.8)).verdict is CORRECT
    assert replay(IDENTITY, prop, point(0.5, 0.8)).verdict is NOT_VIOLATED


def test_the_empty_forms_of_a_property() -> None:
    box, empty = InputBox(np.zeros(2), np.ones(2)), InputBox(np.ones(2), np.zeros(2))
    everything = OutputPolytope(np.empty((0, 2)), np.empty(0), np.empty(0, np.bool_))
    any_point = point(0.5, 0.5)
    assert replay(IDENTITY, Property((PropertyCase(box, (everything,)),), 2, 2), any_point).verdict is CORRECT
    assert replay(IDENTITY, Property((PropertyCase(box, ()),), 2, 2), any_point).verdict is NOT_VIOLATED
    assert replay(IDENTITY, Property((PropertyCase(empty, (everything,)),), 2, 2), any_point).verdict is NOT_VIOLATED
    assert replay(IDENTITY, Property((), 2, 2), any_point).verdict is NOT_VIOLATED


def test_outputs_that_are_infinite_prove_nothing() -> None:
    network = linear(np.eye(2) * 1e30)
    prop = region([0, -1], -1.0, low=0, high=1e30)  # y_1 >= 1: y_0 has no part in it
    check, run = replay_with_outputs(network, prop, point(1e30, 0.5))
    assert run is not None
    assert run.y is not None
    assert np.isinf(run.y[0])
    assert check.verdict is WitnessVerdict.UNSUPPORTED
    assert replay(network, prop, point(1e3, 0.5)).verdict is CORRECT
    assert replay(network, prop, point(1e30, 0.0)).verdict is NOT_VIOLATED


def test_an_output_that_is_not_a_number_satisfies_nothing_and_spoils_the_rest() -> None:
    network = linear([[1e30, -1e30], [0, 1]])
    x = point(1e30, 1e30)
    assert replay(network, region([1, 0], 0, high=1e30), x).verdict is NOT_VIOLATED
    assert replay(network, region([0, -1], 0, high=1e30), x).verdict is WitnessVerdict.UNSUPPORTED


def test_an_infinite_input_of_an_unbounded_box_proves_nothing() -> None:
    whatever = region(np.zeros((0, 2)), [], low=-np.inf, high=np.inf)
    assert replay(IDENTITY, whatever, point(7.0, 2.0)).verdict is CORRECT
    assert replay(IDENTITY, whatever, point(np.inf, 2.0)).verdict is WitnessVerdict.UNSUPPORTED


@pytest.mark.parametrize(
    ("counterexample", "verdict", "message"),
    [
        (None, WitnessVerdict.NO_CE, "no counterexample"),
        (point(0.1), WitnessVerdict.WRONG_SHAPE, "1 values for a network with 2 inputs"),
        (point(0.1, 0.2, 0.3), WitnessVerdict.WRONG_SHAPE, "3 values"),
        (point(0.1, np.nan), WitnessVerdict.MALFORMED_CE, "input 1 is not a number"),
        (Counterexample(np.array([0, 1])), WitnessVerdict.MALFORMED_CE, "int64"),
        (Counterexample(np.zeros((1, 2), np.float32)), WitnessVerdict.MALFORMED_CE, "flat"),
    ],
)
def test_what_cannot_be_run(counterexample: Counterexample | None, verdict: WitnessVerdict, message: str) -> None:
    check, run = replay_with_outputs(IDENTITY, TIE, counterexample)
    assert check.verdict is verdict
    assert message in check.message
    assert run is None


def test_a_property_of_another_network_is_unsupported() -> None:
    three = linear(np.eye(3))
    check = replay(three, TIE, point(0.1, 0.2, 0.3))
    assert check.verdict is WitnessVerdict.UNSUPPORTED
    assert "2 inputs" in check.message


def test_a_network_may_be_given_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(linear_model(np.eye(2)))
    assert replay(path, TIE, point(0.2, 0.8)).verdict is CORRECT
    with pytest.raises(UsageError):
        replay(tmp_path / "other.onnx", TIE, point(0.2, 0.8))


def test_the_distance_from_the_box_is_told() -> None:
    assert "by 5e-05" in replay(IDENTITY, TIE, point(-0.00005, 0.5)).message
    assert "by 0.5" in replay(IDENTITY, TIE, point(-0.5, 0.5)).message


def stating(x: tuple[float, ...], y: tuple[float, ...]) -> Counterexample:
    return Counterexample(np.array(x, np.float64), np.array(y, np.float64))


SMALL, ZERO, OLD = Rules.Y2025_SMALL, Rules.Y2025_ZERO, Rules.Y2022
NO_MATCH = WitnessVerdict.EXEC_DOESNT_MATCH
EXACT = stating((0.25, 0.5), (0.25, 0.5))


@pytest.mark.parametrize(
    ("claim", "small", "zero", "old"),
    [
        (EXACT, CORRECT, CORRECT, CORRECT),
        (point(0.25, 0.5), NO_MATCH, NO_MATCH, NO_MATCH),  # nothing stated
        (stating((0.25, 0.5), (0.25,)), NO_MATCH, NO_MATCH, NO_MATCH),
        (stating((0.25, 0.5), (0.25, 0.5 + 4e-7)), CORRECT, UP_TO_TOLERANCE, CORRECT),
        (stating((0.25, 0.5), (0.25, 0.5 + 4e-6)), UP_TO_TOLERANCE, UP_TO_TOLERANCE, CORRECT),
        (stating((0.25, 0.5), (0.25, 0.5004)), UP_TO_TOLERANCE, UP_TO_TOLERANCE, NO_MATCH),
        (stating((0.25, 0.5), (0.25, 0.501)), NO_MATCH, NO_MATCH, NO_MATCH),
        (stating((0.25, 1 + 5e-8), (0.25, 1)), CORRECT, UP_TO_TOLERANCE, CORRECT),  # beyond the box by less than 1e-7
        (stating((0.25, 1.00005), (0.25, 1.00005)), UP_TO_TOLERANCE, UP_TO_TOLERANCE, CORRECT),
        (stating((0.25, 1.0002), (0.25, 1.0002)), NOT_VIOLATED, NOT_VIOLATED, NOT_VIOLATED),
        (stating((0.5, 0.49995), (0.5, 0.49995)), UP_TO_TOLERANCE, UP_TO_TOLERANCE, CORRECT),  # an output on tolerance
        (stating((0.5, 0.4998), (0.5, 0.4998)), NOT_VIOLATED, NOT_VIOLATED, NOT_VIOLATED),
        (stating((0.75, 0.5), (0.5, 0.75)), NO_MATCH, NO_MATCH, NO_MATCH),  # what it states would violate
        (stating((0.0, 5e-7), (0.0, 9e-7)), CORRECT, CORRECT, CORRECT),  # too small a norm to divide by
    ],
)
def test_earlier_years_take_stated_outputs(
    claim: Counterexample, small: WitnessVerdict, zero: WitnessVerdict, old: WitnessVerdict
) -> None:
    found = [replay(IDENTITY, TIE, claim, rules).verdict for rules in (SMALL, ZERO, OLD)]
    assert found == [small, zero, old]


def test_a_stated_output_decides_where_the_replay_would_not() -> None:
    barely = stating((0.5, 0.4999999), (0.5, 0.5))
    assert replay(IDENTITY, TIE, barely, SMALL).verdict is CORRECT
    assert replay(IDENTITY, TIE, barely).verdict is NOT_VIOLATED


@pytest.mark.parametrize(
    ("rules", "column"),
    [
        (Rules.Y2026, "verdict_2026_rules"),
        (Rules.Y2025_SMALL, "verdict_2025_small_tol"),
        (Rules.Y2025_ZERO, "verdict_2025_zero_tol"),
    ],
)
def test_real_counterexamples_get_the_verdicts_of_the_competitions_rules(
    shared_dir: Path, rules: Rules, column: str
) -> None:
    """All witnesses of three tools on ACAS Xu, against verdicts recomputed with the competition's own checker."""
    folder = shared_dir / "vnncomp_results" / "2025_acasxu_witnesses"
    with (folder / "verdicts_recomputed.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    differing = []
    judge = Judge(rules, networks=64)
    for row in rows:
        network, prop = folder / "onnx" / f"{row['network']}.onnx", folder / "vnnlib" / f"{row['property']}.vnnlib"
        text = (folder / row["tool"] / f"{row['network']}_{row['property']}.counterexample").read_text()
        job = Job("", Instance(network, prop, 116.0), row["network"], int(row["id"]), Limits(116.0))
        verdict = judge.replay_text(job, text).check.verdict
        if verdict != row[column]:
            differing.append((row["tool"], row["id"], row[column], verdict.value, row["rel_output_error"]))
    assert len(rows) > 100
    assert differing == []


STRICT_BOX = """
(declare-const X_0 Real)
(declare-const Y_0 Real)
(assert (>= X_0 0))
(assert (< X_0 {0}))
(assert (>= Y_0 {0}))
"""


@pytest.mark.parametrize("number", [1.0, 0.1, 0.7])
def test_a_strict_input_bound_is_strict_against_its_number_in_float32(number: float) -> None:
    """The next double below a number is that number again as float32."""
    prop, network = parse_property(STRICT_BOX.format(number), "p"), linear([[1.0]])
    at_the_end = replay(network, prop, point(number))
    assert at_the_end.verdict is UP_TO_TOLERANCE
    inside = parse_property(STRICT_BOX.format(number).replace(f">= Y_0 {number}", ">= Y_0 0"), "p")
    below = float(np.nextafter(np.float32(number), np.float32(0)))
    assert replay(network, inside, point(below)).verdict is CORRECT
