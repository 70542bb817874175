from __future__ import annotations

import contextlib
import gzip
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.domain import Property, UsageError
from harness.formats.vnnlib import (
    exact_decimal,
    parse_property,
    read_property,
    robustness_box,
    write_robustness_property,
)

SHARED = Path(__file__).parents[3] / "shared" / "vnncomp_cases"
HEAD = "(declare-const X_0 Real)\n(declare-const X_1 Real)\n(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n"
BOX = "(assert (>= X_0 0))(assert (<= X_0 1))\n(assert (>= X_1 -2.5e-1))(assert (<= X_1 .5))\n"


def parsed(asserts: str) -> Property:
    return parse_property(HEAD + BOX + asserts, "p.vnnlib")


def rows(prop: Property) -> list[list[list[tuple[list[float], float, bool]]]]:
    """Cases, polytopes, rows as plain values."""
    return [
        [
            [(c.tolist(), float(r), bool(s)) for c, r, s in zip(p.coefficients, p.rhs, p.strict, strict=True)]
            for p in case.polytopes
        ]
        for case in prop.cases
    ]


Y1_WINS = ([1.0, -1.0], 0.0, False)
Y0_WINS = ([-1.0, 1.0], 0.0, False)


@pytest.mark.parametrize(
    ("asserts", "expected"),
    [
        ("(assert (>= Y_1 Y_0))", [[[Y1_WINS]]]),
        ("(assert (<= Y_0 Y_1))", [[[Y1_WINS]]]),
        ("(assert (> Y_1 Y_0))", [[[([1.0, -1.0], 0.0, True)]]]),
        ("(assert (<= Y_0 3.5))", [[[([1.0, 0.0], 3.5, False)]]]),
        ("(assert (<= 3.5 Y_0))", [[[([-1.0, 0.0], -3.5, False)]]]),
        ("(assert (< 3.5 Y_0))", [[[([-1.0, 0.0], -3.5, True)]]]),
        ("(assert (= Y_0 2))", [[[([1.0, 0.0], 2.0, False), ([-1.0, 0.0], -2.0, False)]]]),
        ("(assert (or (and (>= Y_1 Y_0)) (and (>= Y_0 Y_1))))", [[[Y1_WINS], [Y0_WINS]]]),
        ("(assert (or (>= Y_1 Y_0) (>= Y_0 Y_1)))", [[[Y1_WINS], [Y0_WINS]]]),
        ("(assert (and (>= Y_1 Y_0) (>= Y_0 Y_1)))", [[[Y1_WINS, Y0_WINS]]]),
        ("(assert (>= Y_1 Y_0))(assert (>= Y_0 Y_1))", [[[Y1_WINS, Y0_WINS]]]),
        ("(assert (or (and (or (>= Y_1 Y_0) (>= Y_0 Y_1)))))", [[[Y1_WINS], [Y0_WINS]]]),
        ("(assert (<= (+ (* 2 Y_0) (* Y_1 -1) 1) (- 4 Y_1)))", [[[([2.0, 0.0], 3.0, False)]]]),
        ("(assert (<= (- Y_0) (- Y_1 Y_0 0.5)))", [[[([0.0, -1.0], -0.5, False)]]]),
        ("", [[[]]]),
        ("(assert (<= 0 1))", [[[]]]),
        ("(assert (<= 1 0))", []),
        ("(assert (< 1 1))", []),
        ("(assert (or (and (<= 1 0) (>= Y_1 Y_0)) (>= Y_0 Y_1)))", [[[Y0_WINS]]]),
        ("; only a comment (assert (", [[[]]]),
        ("(set-logic QF_LRA)(check-sat)", [[[]]]),
    ],
)
def test_dialects_mean_what_they_say(asserts: str, expected: object) -> None:
    prop = parsed(asserts)
    assert rows(prop) == expected
    for case in prop.cases:
        assert case.box.lower.tolist() == [0.0, -0.25]
        assert case.box.upper.tolist() == [1.0, 0.5]


def test_several_disjunctions_multiply() -> None:
    prop = parsed("(assert (or (<= Y_0 1) (<= Y_0 2)))(assert (or (<= Y_1 3) (<= Y_1 4) (<= Y_1 5)))")
    bounds = [[row[1] for row in polytope] for polytope in rows(prop)[0]]
    assert bounds == [[1, 3], [1, 4], [1, 5], [2, 3], [2, 4], [2, 5]]


def test_boxes_inside_or_become_cases_with_their_own_constraints() -> None:
    text = """(assert (or (and (<= X_0 0.25) (<= Y_0 1)) (and (>= X_0 0.75) (<= Y_0 2)) (and (<= X_0 0.25) (<= Y_1 3))
        (<= Y_1 9)))"""
    prop = parsed(text)
    assert [(c.box.lower[0], c.box.upper[0]) for c in prop.cases] == [(0, 0.25), (0.75, 1), (0, 1)]
    assert [[p[0][1] for p in case] for case in rows(prop)] == [[1, 3], [2], [9]]


def test_boxes_only_inside_or() -> None:
    box = "(and (>= X_0 {0}) (<= X_0 {0}) (>= X_1 0) (<= X_1 1))"
    prop = parse_property(HEAD + f"(assert (or {box.format(1)} {box.format(2)}))(assert (<= Y_0 Y_1))", "p")
    assert [c.box.lower.tolist() for c in prop.cases] == [[1, 0], [2, 0]]
    assert rows(prop) == [[[Y1_WINS]], [[Y1_WINS]]]


def test_the_tightest_bound_counts_and_an_empty_box_is_legal() -> None:
    prop = parsed("(assert (<= X_0 0.5))(assert (<= X_0 0.75))")
    assert prop.cases[0].box.upper[0] == 0.5
    assert parsed("(assert (>= X_0 2))").cases[0].box.is_empty


def test_a_strict_input_bound_excludes_its_end() -> None:
    box = parsed("(assert (< X_0 0.5))(assert (> X_1 0))").cases[0].box
    assert box.upper[0] == np.nextafter(0.5, 0)
    assert box.lower[1] == np.nextafter(0, 1)
    assert parsed("(assert (< X_0 0.5))(assert (> X_0 0.5))").cases[0].box.is_empty


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (HEAD + BOX + "(assert (<= Y_0 nan))", "7:17", "'nan' is neither"),
        (HEAD + BOX + "(assert (<= Y_0 -inf))", "7:17", "'-inf' is neither"),
        (HEAD + BOX + "(assert (<= Y_0 1_0))", "7:17", "'1_0' is neither"),
        (HEAD + BOX + "(assert (<= X_0 1e999))", "7:17", "beyond the range"),
        (HEAD + BOX + "(assert (<= Y_0 Y_2))", "7:17", "Y_2 is used but not declared"),
        (HEAD + BOX + "(assert (<= Y_0))", "7:16", "a side of the constraint is missing"),
        (HEAD + BOX + "(assert (<= Y_0 1 2))", "7:19", "one part too many"),
        (HEAD + BOX + "(assert (<= Y_0 1)", "7:1", "')' is missing"),
        (HEAD + BOX + "; comment (\n  (assert (or))", "8:11", "an empty 'or'"),
        (HEAD + BOX + "(assert (not (<= Y_0 1)))", "7:10", "'not' is not supported"),
        (HEAD + BOX + "(assert (<= (* Y_0 Y_1) 1))", "7:20", "a product of variables"),
        (HEAD + BOX + "(assert (<= (/ Y_0 2) 1))", "7:14", "'/' is not supported"),
        (HEAD + BOX + "(assert (<= X_0 X_1))", "7:9", "together with other variables"),
        (HEAD + BOX + "(assert (<= X_0 Y_1))", "7:9", "together with other variables"),
        (HEAD + BOX + ")", "7:1", "where a statement should start"),
        (HEAD + BOX + "(prove (<= Y_0 1))", "7:1", "'prove' is not a VNN-LIB 1.0 statement"),
        (HEAD + BOX + "(assert (<= (* 1e200 (* 1e200 Y_0)) 1))", "7:9", "overflow"),
        (HEAD + BOX + "(assert " + "(and " * 100 + "(<= Y_0 1)" + ")" * 101, "7:329", "nested more than"),
        (HEAD + "(declare-const X_3 Real)", "5:16", "X_2 is not"),
        (HEAD + "(declare-const X_0 Real)", "5:16", "declared twice"),
        (HEAD + "(declare-const Z_0 Real)", "5:16", "'Z_0' cannot be declared"),
        (HEAD + "(declare-const X_2 Int)", "5:16", "'Int'"),
        (HEAD + "(assert (<= X_0 1))(assert (>= X_0 0))(assert (<= X_1 1))", "2:16", "X_1 has no finite lower bound"),
        ("(vnnlib-version <2.0>)", "1:23", "VNN-LIB 2.0"),
    ],
)
def test_what_is_not_understood_is_one_line_with_its_place(text: str, where: str, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_property(text, "dir/p.vnnlib")
    message = str(caught.value)
    assert message.startswith(f"dir/p.vnnlib:{where}: ")
    assert what in message
    assert "\n" not in message


def test_too_many_cases_are_refused_before_they_are_made() -> None:
    with pytest.raises(UsageError, match="1048576 cases"):
        parsed("(assert (or (<= Y_0 1) (<= Y_1 1)))" * 20)


def test_a_text_without_inputs_is_refused() -> None:
    with pytest.raises(UsageError, match="declares no input"):
        parse_property("", "empty")


@given(st.text(alphabet="()XY_01 .<=-+;\nandorset", max_size=80))
def test_any_text_is_a_property_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_property(HEAD + BOX + text, "p").input_size == 2


unit_floats = hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(0, 1, width=32))


@given(unit_floats, st.floats(0, 0.5), st.integers(2, 6), st.data())
def test_a_written_property_reads_back_bit_equal(
    image: np.ndarray, eps: float, classes: int, data: st.DataObject
) -> None:
    label = data.draw(st.integers(0, classes - 1))
    lower, upper = robustness_box(image, eps)
    text = write_robustness_property(lower, upper, label, classes, "image 7\neps 2/255")
    prop = parse_property(text, "p")
    (case,) = prop.cases
    assert case.box.lower.astype(np.float32).tobytes() == lower.tobytes()
    assert case.box.upper.astype(np.float32).tobytes() == upper.tobytes()
    assert (case.box.lower == lower).all()
    assert (case.box.upper == upper).all()
    others = [j for j in range(classes) if j != label]
    assert len(case.polytopes) == len(others)
    for j, polytope in zip(others, case.polytopes, strict=True):
        row = np.zeros(classes)
        row[label], row[j] = 1, -1
        assert polytope.coefficients.tolist() == [row.tolist()]
        assert polytope.rhs.tolist() == [0]


def test_the_written_form_is_the_one_that_the_competition_reads() -> None:
    lower, upper = np.array([0, 0.1], np.float32), np.array([1, 0.2], np.float32)
    text = write_robustness_property(lower, upper, 1, 3, "two lines\nof comment")
    assert text == (
        "; two lines\n; of comment\n(declare-const X_0 Real)\n(declare-const X_1 Real)\n"
        "(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n(declare-const Y_2 Real)\n"
        "(assert (>= X_0 0.0))\n(assert (<= X_0 1.0))\n"
        "(assert (>= X_1 0.100000001490116119384765625))\n(assert (<= X_1 0.20000000298023223876953125))\n"
        "(assert (or\n    (and (>= Y_0 Y_1))\n    (and (>= Y_2 Y_1))\n))\n"
    )


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_decimals_are_exact_and_plain(value: float) -> None:
    text = exact_decimal(value)
    assert re.fullmatch(r"-?[0-9]+\.[0-9]+", text)
    assert Decimal(text) == Decimal(value)


@pytest.mark.parametrize(
    ("lower", "upper", "label"),
    [
        (np.zeros(2), np.ones(2), 0),
        (np.zeros(2, np.float32), np.ones(3, np.float32), 0),
        (np.ones(2, np.float32), np.zeros(2, np.float32), 0),
        (np.full(2, np.nan, np.float32), np.ones(2, np.float32), 0),
        (np.zeros(2, np.float32), np.ones(2, np.float32), 3),
    ],
)
def test_a_senseless_property_is_not_written(lower: np.ndarray, upper: np.ndarray, label: int) -> None:
    with pytest.raises(ValueError, match=r"bounds|label"):
        write_robustness_property(lower, upper, label, 3)


def test_the_box_is_computed_in_float32_and_cut_to_the_unit_cube() -> None:
    image = (np.arange(256) / np.float32(255)).astype(np.float32)
    lower, upper = robustness_box(image, 2 / 255)
    assert lower.dtype == upper.dtype == np.float32
    assert (lower.min(), upper.max()) == (0, 1)
    assert lower[100] == image[100] - np.float32(2 / 255)
    assert upper[100] == image[100] + np.float32(2 / 255)
    with pytest.raises(ValueError, match="float32"):
        robustness_box(image.astype(np.float64), 0.1)
    with pytest.raises(ValueError, match="radius"):
        robustness_box(image, -0.1)
    with pytest.raises(ValueError, match="radius"):
        robustness_box(image, float("nan"))


def test_a_gzipped_file_is_read_under_both_names_and_compared_with_the_network(tmp_path: Path) -> None:
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress((HEAD + BOX).encode()))
    for name in ("p.vnnlib", "p.vnnlib.gz"):
        assert read_property(tmp_path / name, 2, 2).input_size == 2
    with pytest.raises(UsageError, match="declares 2 inputs X_i, but the network has 5"):
        read_property(tmp_path / "p.vnnlib", 5, 2)
    with pytest.raises(UsageError, match="declares 2 outputs Y_i, but the network has 10"):
        read_property(tmp_path / "p.vnnlib", 2, 10)
    with pytest.raises(UsageError, match="no such file"):
        read_property(tmp_path / "q.vnnlib")


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/vnncomp_cases is not here")
@pytest.mark.parametrize("folder", ["acasxu", "mnistfc", "oval21", "sdp_cifar_cnn_a"])
def test_public_properties_have_the_bounds_that_their_lines_say(folder: str) -> None:
    """Compares every file with a reading by plain patterns."""
    paths = sorted((SHARED / folder / "vnnlib").iterdir())
    assert paths
    for path in paths:
        text = re.sub(r";[^\n]*", "", gzip.decompress(path.read_bytes()).decode())
        prop = read_property(path)
        assert prop.input_size == len(re.findall(r"declare-const X_", text))
        assert prop.output_size == len(re.findall(r"declare-const Y_", text))
        bounds = re.findall(r"\(assert \((<=|>=) X_(\d+) (\S+)\)\)", text)
        if len(prop.cases) > 1:
            # ACAS Xu's property 6: one of two boxes, and one of four comparisons.
            assert path.name == "prop_6.vnnlib.gz"
            assert [len(case.polytopes) for case in prop.cases] == [4, 4]
            continue
        (case,) = prop.cases
        assert len(bounds) == 2 * prop.input_size
        for operator, index, number in bounds:
            side = case.box.upper if operator == "<=" else case.box.lower
            assert side[int(index)] == float(number)
        comparisons = re.findall(r"\((?:<=|>=) Y_\d+ \S+\)", text)
        assert sum(len(p.rhs) for p in case.polytopes) == len(comparisons)


@pytest.mark.parametrize(
    ("bound", "ends"),
    [
        ("(< X_0 1)", (0.0, 1 - 2**-24)),
        ("(< X_0 0.1)", (0.0, float(np.nextafter(np.float32(0.1), np.float32(0))))),  # 0.1 as float32 is above 0.1
        ("(<= X_0 0.1)", (0.0, float(np.float32(0.1)))),
        ("(> X_0 0)", (2.0**-149, 1.0)),
        ("(and (< X_0 0.5) (<= X_0 0.25))", (0.0, 0.25)),
        ("(and (<= X_0 0.5) (< X_0 0.5))", (0.0, 0.5 - 2**-25)),
    ],
)
def test_a_strict_input_bound_excludes_its_end_in_float32_too(bound: str, ends: tuple[float, float]) -> None:
    box = parsed(f"(assert {bound})").cases[0].box
    lower, upper = box.ends(np.dtype(np.float32))
    assert lower.dtype == upper.dtype == np.float32
    assert (float(lower[0]), float(upper[0])) == ends
    assert [end.tolist() for end in box.ends(np.dtype(np.float64))] == [box.lower.tolist(), box.upper.tolist()]


def test_boxes_that_differ_only_in_strictness_are_two_cases() -> None:
    below = repr(float(np.nextafter(0.5, 0)))
    prop = parsed(f"(assert (or (and (< X_0 0.5) (<= Y_0 0)) (and (<= X_0 {below}) (<= Y_1 0))))")
    assert len(prop.cases) == 2
    assert [case.box.ends(np.dtype(np.float32))[1][0] for case in prop.cases] == [0.5 - 2**-25, 0.5]
