"""Instances of several networks, joined into one network and one property."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from harness.domain import Counterexample, Property, UnsupportedPropertyError, UsageError
from harness.formats.assignment import format_witness, parse_assignment
from harness.formats.onnx_file import open_session, run_flat
from harness.formats.several import Joined, Joiner, joined_property, query_text
from harness.formats.vnnlib import parse_property
from harness.formats.vnnlib2_query import parse_query
from harness.formats.vnnlib2_writer import write_difference_query, write_regression_query
from harness.tools import toy_networks

LOWER, UPPER = np.array([-0.5, 0.25], np.float32), np.array([0.5, 1.0], np.float32)
SHAPE = (1, 2)
DIFFERENCE = write_difference_query(LOWER, UPPER, 0.75, SHAPE, SHAPE)
REGRESSION = write_regression_query(LOWER, UPPER, 0, SHAPE, SHAPE)
HEAD = """(vnnlib-version <2.0>)
(declare-network f (declare-input A float32 [1,2]) (declare-output P float32 [1,2]))
(declare-network g {kind} (declare-input B float32 [1,2]) (declare-output Q float32 [1,2]))
(assert (>= A[0,0] 0.0)) (assert (<= A[0,0] 1.0)) (assert (> A[0,1] 0.0)) (assert (<= B[0,1] 1.0))
"""
TIED = "(assert (== A[0,0] B[0,0])) (assert (<= B[0,1] A[0,1])) (assert (>= B[0,1] A[0,1]))\n"
AWAY = "(assert (>= (+ P[0,0] (* 2.0 Q[0,1])) 1.0))\n"


@pytest.fixture
def networks(tmp_path: Path) -> list[tuple[str, Path]]:
    for name, model in (("f", toy_networks.absolute_sum()), ("g", toy_networks.grafted())):
        (tmp_path / f"{name}.onnx").write_bytes(model)
    return [("base", tmp_path / "f.onnx"), ("graft", tmp_path / "g.onnx")]


def joined(networks: list[tuple[str, Path]], text: str) -> Joined:
    prop = networks[0][1].with_name("p.vnnlib")
    prop.write_text(text)
    return Joiner().join(networks, prop)


def violated(prop: Property, x: list[float], y: np.ndarray) -> bool:
    """Whether a point violates; all in double."""
    return any(
        bool(((x >= case.box.lower) & (x <= case.box.upper)).all())
        and any(
            bool(np.where(p.strict, p.coefficients @ y < p.rhs, p.coefficients @ y <= p.rhs).all())
            for p in case.polytopes
        )
        for case in prop.cases
    )


def test_the_joined_network_has_the_outputs_of_all(networks: list[tuple[str, Path]]) -> None:
    model = joined(networks, DIFFERENCE).model
    onnx.checker.check_model(onnx.load_model_from_string(model), full_check=True)
    session = open_session(model)
    assert (session.input.shape, session.output.shape) == ((1, 2), (1, 4))
    for x in np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32):
        both = [run_flat(open_session(file), x) for _, file in networks]
        np.testing.assert_array_equal(run_flat(session, x), np.concatenate(both))


@pytest.mark.parametrize("text", [DIFFERENCE, REGRESSION])
def test_the_property_says_the_same_of_points(networks: list[tuple[str, Path]], text: str) -> None:
    made = joined(networks, text)
    prop, session = parse_property(made.text, "made"), open_session(made.model)
    found = set()
    for x in np.random.default_rng(1).uniform(-0.75, 1.25, (300, 2)).astype(np.float32):
        p, q = (
            run_flat(open_session(file), x) if k < 1 else run_flat(session, x)[2:]
            for k, (_, file) in enumerate(networks)
        )
        inside = bool(((x >= LOWER) & (x <= UPPER)).all())
        expected = bool((abs(p - q) > 0.75).any()) if text is DIFFERENCE else bool(p[0] > p[1] and q[1] >= q[0])
        assert violated(prop, x.tolist(), run_flat(session, x)) == (inside and expected)
        found.add((inside, expected))
    assert found == {(False, False), (False, True), (True, False), (True, True)}


@pytest.mark.parametrize(
    "text",
    [
        DIFFERENCE,
        REGRESSION,
        HEAD.format(kind="") + TIED + AWAY,
        HEAD.format(kind="") + TIED + "(assert (or (and (<= A[0,0] 0.5) (> P[0,0] -0.125)) (< (* 3.0 Q[0,0]) 1.0)))",
        HEAD.format(kind="") + TIED + "(assert (< A[0,0] A[0,0]))",
        HEAD.format(kind="") + TIED,
    ],
)
def test_the_text_reads_back_as_the_same_property(text: str) -> None:
    prop = joined_property(parse_query(text, "p"))
    again = parse_property(query_text(prop, (1, 2), "float32"), "again")
    if not prop.cases:
        assert not violated(again, [0.0, 0.0], np.zeros(4))
        return
    assert len(again.cases) == len(prop.cases)
    for one, other in zip(prop.cases, again.cases, strict=True):
        for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
            if dtype == np.float32 or one.box.open_lower is None:
                np.testing.assert_array_equal(one.box.ends(dtype), other.box.ends(dtype))
        assert len(one.polytopes) == len(other.polytopes)
        for mine, theirs in zip(one.polytopes, other.polytopes, strict=True):
            np.testing.assert_array_equal(mine.coefficients, theirs.coefficients)
            np.testing.assert_array_equal(mine.rhs, theirs.rhs)
            np.testing.assert_array_equal(mine.strict, theirs.strict)


def test_one_that_is_equal_to_another_need_not_be_listed(networks: list[tuple[str, Path]]) -> None:
    made = joined([("f", networks[0][1])], HEAD.format(kind="(equal-to f)") + TIED + AWAY)
    x = np.array([0.5, 0.25], np.float32)
    y = run_flat(open_session(made.model), x)
    np.testing.assert_array_equal(y[:2], y[2:])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HEAD.format(kind="") + "(assert (== A[0,0] B[0,0]))" + AWAY, r"the input B is not tied to A element by elem"),
        (HEAD.format(kind="") + "(assert (== A[0,0] B[0,1])) (assert (== A[0,1] B[0,0]))" + AWAY, "is not tied to A"),
        (HEAD.replace("float32", "float16").format(kind="") + TIED + AWAY, "A has the element type float16"),
    ],
)
def test_what_is_not_supported_is_named(networks: list[tuple[str, Path]], text: str, reason: str) -> None:
    named = [("f", networks[0][1]), ("g", networks[1][1])]
    with pytest.raises(UnsupportedPropertyError, match=reason) as caught:
        joined(named, text)
    assert "several networks are supported where they share one whole input" in str(caught.value)


def test_what_does_not_fit_is_a_usage_error(networks: list[tuple[str, Path]], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="declares no network 'other', but base, graft"):
        joined([*networks, ("other", networks[0][1])], DIFFERENCE)
    with pytest.raises(UsageError, match="declares the network 'graft', which the list does not name"):
        joined(networks[:1], DIFFERENCE)
    (tmp_path / "g.onnx").write_bytes(toy_networks.convolution())
    with pytest.raises((UsageError, UnsupportedPropertyError), match=r"16 inputs and 2 outputs|one shape and type"):
        joined(networks, DIFFERENCE)


def test_the_witness_has_the_variables_of_all_networks() -> None:
    point = Counterexample(np.array([0.5, 0.25], np.float32), np.array([0.75, 0.5, -1.0, 2.0], np.float32))
    text = format_witness(point, DIFFERENCE, "p")
    tensors = [(name, (1, 2)) for name in "APBQ"]
    np.testing.assert_array_equal(
        np.concatenate(parse_assignment(text, tensors)), [0.5, 0.25, 0.75, 0.5, 0.5, 0.25, -1.0, 2.0]
    )
    for outputs in (point.y[:3], np.append(point.y, 0)):  # type: ignore[index]
        with pytest.raises(ValueError, match=r"finite values|more than the property"):
            format_witness(Counterexample(point.x, outputs), DIFFERENCE, "p")
