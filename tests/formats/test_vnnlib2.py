"""VNN-LIB 2.0 in and out: what is read means what the 1.0 file says, and errors name line and column."""

from __future__ import annotations

import numpy as np
import pytest
import vnnlib.compat
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.domain import Property, UnsupportedPropertyError, UsageError
from harness.formats.vnnlib import parse_property, robustness_box, write_robustness_property
from harness.formats.vnnlib2_query import parse_query
from harness.formats.vnnlib2_reader import declared_box, parse_property_2
from harness.formats.vnnlib2_text import is_version_2
from harness.formats.vnnlib2_writer import write_difference_query, write_regression_query, write_robustness_query

HEAD = """; a comment (
(vnnlib-version <2.0>)
(declare-network f
  (declare-input X float32 [1,2])
  (declare-output Y float32 [1,2])
)
"""
BOX = "(assert (>= X[0,0] 0.0)) (assert (<= X[0,0] 1.0))\n(assert (>= X[0,1] -0.25)) (assert (<= X[0, 1] 0.5))\n"
SECOND = "(declare-network g (equal-to f) (declare-input Z float32 [1,2]) (declare-output W float32 [1,2]))"
Y1_WINS = ([1.0, -1.0], 0.0, False)
Y0_WINS = ([-1.0, 1.0], 0.0, False)


def rows(prop: Property) -> list[list[list[tuple[list[float], float, bool]]]]:
    return [
        [
            [(c.tolist(), float(r), bool(s)) for c, r, s in zip(p.coefficients, p.rhs, p.strict, strict=True)]
            for p in case.polytopes
        ]
        for case in prop.cases
    ]


@pytest.mark.parametrize(
    ("asserts", "expected"),
    [
        ("(assert (>= Y[0,1] Y[0,0]))", [[[Y1_WINS]]]),
        ("(assert (> Y[0,1] Y[0,0]))", [[[([1.0, -1.0], 0.0, True)]]]),
        ("(assert (<= 3.5 Y[0,0]))", [[[([-1.0, 0.0], -3.5, False)]]]),
        ("(assert (== Y[0,0] 2.0))", [[[([1.0, 0.0], 2.0, False), ([-1.0, 0.0], -2.0, False)]]]),
        ("(assert (!= Y[0,0] 2.0))", [[[([1.0, 0.0], 2.0, True)], [([-1.0, 0.0], -2.0, True)]]]),
        ("(assert (or (>= Y[0,1] Y[0,0]) (and (>= Y[0,0] Y[0,1]))))", [[[Y1_WINS], [Y0_WINS]]]),
        ("(assert (and (>= Y[0,1] Y[0,0]) (>= Y[0,0] Y[0,1])))", [[[Y1_WINS, Y0_WINS]]]),
        ("(assert (<= (+ (* 2.0 Y[0,0]) (* Y[0,1] -1.0) 1.0) (- 4.0 Y[0,1])))", [[[([2.0, 0.0], 3.0, False)]]]),
        ("(assert (<= (- Y[0,0]) (- Y[0,1] Y[0,0] 0.5)))", [[[([0.0, -1.0], -0.5, False)]]]),
        ("(assert (<= (* 2.0 3.0 Y[0,0] 0.5) 1.0))", [[[([3.0, 0.0], 1.0, False)]]]),
        ("(assert (<= 1.0 0.0))", []),
    ],
)
def test_what_is_asserted_is_read(asserts: str, expected: object) -> None:
    prop = parse_property(HEAD + BOX + asserts, "p.vnnlib")
    assert rows(prop) == expected
    for case in prop.cases:
        assert case.box.lower.tolist() == [0.0, -0.25]
        assert case.box.upper.tolist() == [1.0, 0.5]


def test_several_disjunctions_multiply() -> None:
    """The package's own flattening takes their union here: a wrong answer."""
    text = HEAD + BOX + "(assert (or (<= Y[0,0] 1.0) (<= Y[0,0] 2.0)))(assert (or (<= Y[0,1] 3.0) (<= Y[0,1] 4.0)))"
    bounds = [[row[1] for row in polytope] for polytope in rows(parse_property_2(text, "p"))[0]]
    assert bounds == [[1, 3], [1, 4], [2, 3], [2, 4]]


def test_an_equation_bounds_an_input_on_both_sides() -> None:
    box = parse_property(HEAD + BOX + "(assert (== X[0,0] 0.5))", "p").cases[0].box
    assert (box.lower[0], box.upper[0]) == (0.5, 0.5)


def test_boxes_inside_or_are_cases() -> None:
    text = HEAD + BOX + "(assert (or (and (<= X[0,0] 0.25) (<= Y[0,0] 1.0)) (and (>= X[0,0] 0.75) (<= Y[0,1] 2.0))))"
    cases = parse_property_2(text, "p").cases
    assert [(case.box.lower[0], case.box.upper[0]) for case in cases] == [(0, 0.25), (0.75, 1)]


@pytest.mark.parametrize(("dtype", "kind"), [("float32", np.float32), ("float64", np.float64), ("real", np.float64)])
def test_a_strict_bound_ends_at_the_next_value_of_the_type(dtype: str, kind: type) -> None:
    text = HEAD.replace("float32", dtype) + BOX + "(assert (< X[0,0] 0.1))(assert (> (* 2.0 X[0,1]) 0.5))"
    box = parse_property_2(text, "p").cases[0].box
    assert box.upper[0] == float(np.nextafter(kind(0.1), kind(-1)))
    assert box.lower[1] == float(np.nextafter(kind(0.25), kind(1)))


def test_scalars_and_big_tensors_are_numbered_in_c_order() -> None:
    text = """(vnnlib-version <2.0>)
    (declare-network f (declare-input X real [2,3]) (declare-output Y real []))
    (assert (<= Y 1.0))""" + "".join(
        f"(assert (>= X[{i},{j}] {i}.{j})) (assert (<= {i}.{j} X[{i},{j}]))(assert (<= X[{i},{j}] 9.0))"
        for i in range(2)
        for j in range(3)
    )
    prop = parse_property_2(text, "p")
    assert prop.cases[0].box.lower.tolist() == [0.0, 0.1, 0.2, 1.0, 1.1, 1.2]
    assert rows(prop) == [[[([1.0], 1.0, False)]]]


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (HEAD + BOX + "(assert (<= Y[0,0] 1e-5))", "9:21", "no exponent"),
        (HEAD + BOX + "(assert (<= Y[0,0] 1))", "9:20", "PositiveIntConstant"),
        (HEAD + BOX + "(assert (<= Y[0, 5] 1.0))", "9:13", "Index 5 is out of bounds"),
        (HEAD + BOX + "(assert (<= Y[0] 1.0))", "9:13", "Not enough indices"),
        (HEAD + BOX + "  (assert (<= Z[0,0] 1.0))", "9:15", "Undeclared variable"),
        (HEAD + BOX + "(assert (<= X[0,0] X[0,1]))", "9:10", "together with other variables"),
        (HEAD + BOX + "(assert (== X[0,0] X[0,1]))", "9:10", "together with other variables"),
        (HEAD + BOX + "; <= >=\n(assert (or (<= Y[0,0] 1.0)\n  (<= X[0,0] Y[0,0])))", "11:4", "together with other"),
        (HEAD + BOX + "(assert (<= (* Y[0,0] Y[0,1]) 1.0))", "9:10", "a product of variables"),
        (HEAD + BOX + f"(assert (<= Y[0,0] 1{'0' * 400}.0))", "9:20", "beyond the range"),
        (HEAD + BOX + f"(assert (<= Y[0,0] -0.{'0' * 310}1))", "9:20", "beyond the range"),
        (HEAD + "(assert (<= X[0,0] 1.0))(assert (>= X[0,0] 0.0))(assert (<= X[0,1] 1.0))", "4:4", "X[0,1] has no"),
        (HEAD.replace("X float32", "X Float32") + BOX, "4:4", "type of X"),
        (HEAD.replace("2.0", "3.0") + BOX, "2:17", "Incompatible"),
        (HEAD + BOX + "(assert (<= Y[0,0] 1.0)) é", "9:26", "not allowed"),
        (HEAD + BOX + "\0", "9:1", "not allowed"),
        (HEAD + "(assert " + "(and " * 100_000 + "(<= Y[0,0] 1.0)" + ")" * 100_001, "1:1", "nested more than"),
        (HEAD + BOX + "(assert (<= Y[0,0] 1.0)", "9:23", "something else, or more"),
        (HEAD, "6:2", "something else, or more"),
    ],
)
def test_errors_name_line_and_column(text: str, where: str, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_property(text, "dir/p.vnnlib")
    message = str(caught.value)
    assert message.startswith(f"dir/p.vnnlib:{where}: ")
    assert what in message
    assert len(message.splitlines()) == 1


def test_comments_may_hold_anything() -> None:
    text = "; «é» (((\n" + HEAD + "; " + "(" * 500 + "\n" + BOX + "(assert (<= Y[0,0] 1.0)) ; <= \N{SNOWMAN}"
    assert rows(parse_property(text, "p")) == [[[([1.0, 0.0], 1.0, False)]]]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            HEAD.replace("X float32 [1,2])", "X float32 [1,2])\n(declare-input Z float32 [1])")
            + BOX
            + "(assert (<= Z[0] 1.0))",
            "5:2: a network with 2 inputs",
        ),
        (
            HEAD.replace("(declare-output", '(declare-hidden H float32 [3] "h<=(")\n(declare-output') + BOX,
            "5:4: the hidden node H",
        ),
        (HEAD.replace("float32", "float16") + BOX, "4:4: the element type float16"),
        (
            HEAD
            + "(declare-network g (equal-to f) (declare-input Z float32 [1,2]) (declare-output W float32 [1,2]))"
            + BOX,
            "4:4: a property of 2 networks (f, g)",
        ),
    ],
)
def test_what_is_valid_but_not_supported_says_so(text: str, what: str) -> None:
    with pytest.raises(UnsupportedPropertyError) as caught:
        parse_property(text, "p.vnnlib")
    assert str(caught.value).startswith(f"p.vnnlib:{what}")


def test_the_version_is_told_by_the_first_statement() -> None:
    assert is_version_2("; a (vnnlib-version <1>)\n\n ( vnnlib-version <2.0>)")
    assert not is_version_2("; (vnnlib-version <2.0>)\n(declare-const X_0 Real)")


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.5, width=32), st.integers(2, 6))
def test_both_versions_of_a_robustness_property_say_the_same(seed: int, eps: float, classes: int) -> None:
    rng = np.random.default_rng(seed)
    image, label = rng.random(12, dtype=np.float32), int(rng.integers(classes))
    lower, upper = robustness_box(image, eps)
    first = parse_property(write_robustness_property(lower, upper, label, classes, "a\nb"), "1")
    second = parse_property(
        write_robustness_query(lower, upper, label, (1, 3, 2, 2), (1, classes), comment="a\nb"), "2"
    )
    assert rows(first) == rows(second)
    for prop in (first, second):
        (case,) = prop.cases
        assert np.array_equal(case.box.lower, lower)
        assert np.array_equal(case.box.upper, upper)


def test_the_official_flattening_agrees_where_it_can() -> None:
    lower, upper = robustness_box(np.linspace(0, 1, 12, dtype=np.float32), 0.1)
    text = write_robustness_query(lower, upper, 1, (1, 3, 2, 2), (1, 3))
    (case,) = vnnlib.compat.transform(vnnlib.parse_query_string(text))
    assert np.array_equal(np.array(case.input_box), np.stack([lower, upper], axis=1).astype(np.float64))
    assert len(case.output_constraints) == 2


def test_a_difference_bounds_every_output_both_ways() -> None:
    lower, upper = robustness_box(np.full(4, 0.5, np.float32), 0.1)
    query = parse_query(write_difference_query(lower, upper, 1e-7, (1, 4), (1, 2)), "d")
    assert [network.name for network in query.networks] == ["base", "graft"]
    assert not any(network.isomorphic_to or network.equal_to for network in query.networks)
    atoms = query.formulas[-1].parts
    # Outputs have the keys -1, -2 (base) and -3, -4 (graft).
    assert [(dict(a.terms), a.rhs, a.strict) for a in atoms] == [
        ({-1: -1.0, -3: 1.0}, -1e-7, True),
        ({-1: 1.0, -3: -1.0}, -1e-7, True),
        ({-2: -1.0, -4: 1.0}, -1e-7, True),
        ({-2: 1.0, -4: -1.0}, -1e-7, True),
    ]


def test_a_regression_asks_for_right_and_wrong_at_one_point() -> None:
    lower, upper = robustness_box(np.full(4, 0.5, np.float32), 0.1)
    query = parse_query(write_regression_query(lower, upper, 1, (1, 4), (1, 3)), "r")
    *right, wrong = query.formulas
    assert [(tie.first, tie.second) for tie in query.ties] == [(4, 0), (5, 1), (6, 2), (7, 3)]
    assert [(dict(a.terms), a.strict) for a in right] == [({-1: 1.0, -2: -1.0}, True), ({-3: 1.0, -2: -1.0}, True)]
    assert [(dict(a.terms), a.strict) for a in wrong.parts] == [
        ({-5: 1.0, -4: -1.0}, False),
        ({-5: 1.0, -6: -1.0}, False),
    ]
    box = declared_box(query)
    assert np.array_equal(box.lower, np.concatenate([lower, lower]))
    assert np.array_equal(box.upper, np.concatenate([upper, upper]))


def test_a_declared_box_follows_chains_of_ties_and_leaves_the_rest_open() -> None:
    text = HEAD.replace("[1,2])", "[1,4])", 1) + (
        "(assert (== X[0,0] X[0,1])) (assert (and (<= X[0,2] X[0,1]) (>= X[0,2] X[0,1])))"
        "(assert (>= X[0,2] 0.5)) (assert (<= (* -2.0 X[0,0]) -1.5)) (assert (or (and (<= X[0,1] 2.0))))"
        "(assert (or (<= X[0,3] 1.0) (>= X[0,3] 2.0)))"
    )
    box = declared_box(parse_query(text, "t"))
    assert box.lower.tolist() == [0.75, 0.75, 0.75, -np.inf]
    assert box.upper.tolist() == [2.0, 2.0, 2.0, np.inf]


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan"), float("inf")])
def test_a_difference_needs_a_positive_bound(delta: float) -> None:
    lower, upper = robustness_box(np.full(4, 0.5, np.float32), 0.1)
    with pytest.raises(ValueError, match="a bound on a difference"):
        write_difference_query(lower, upper, delta, (1, 4), (1, 2))


def test_bounds_have_to_fit_the_shape() -> None:
    lower, upper = robustness_box(np.full(4, 0.5, np.float32), 0.1)
    with pytest.raises(ValueError, match="4 bounds for an input of shape"):
        write_robustness_query(lower, upper, 0, (1, 5), (1, 2))
