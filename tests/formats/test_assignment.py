from __future__ import annotations

import numpy as np
import pytest

from harness.formats.assignment import format_assignment, parse_assignment
from harness.formats.counterexample import (
    MalformedCounterexampleError,
    MissingCounterexampleError,
    WrongShapeError,
)

VARIABLES = [("A", (1, 2)), ("P", ())]
TEXT = "A float32 [1, 2]\n0.25\n\n-1e-3\nP real []\n3\n"


def test_each_variable_is_read_in_order() -> None:
    a, p = parse_assignment(TEXT, VARIABLES)
    np.testing.assert_array_equal(a, [0.25, -0.001])
    np.testing.assert_array_equal(p, [3.0])
    assert a.dtype == p.dtype == np.float64


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (" \n", MissingCounterexampleError),
        ("0.25\n" + TEXT, MalformedCounterexampleError),
        (TEXT.replace("P real", "Q real"), MalformedCounterexampleError),
        (TEXT.replace("P real", "P int32"), MalformedCounterexampleError),
        (TEXT.partition("P")[0], MalformedCounterexampleError),
        (TEXT + "P real []\n3\n", MalformedCounterexampleError),
        (TEXT.replace("0.25", "0.25 0.5"), MalformedCounterexampleError),
        (TEXT.replace("0.25", "inf"), MalformedCounterexampleError),
        (TEXT.replace("[1, 2]", "[1,,2]"), MalformedCounterexampleError),
        (TEXT.replace("[1, 2]", "[2]"), WrongShapeError),
        (TEXT.replace("0.25\n", ""), WrongShapeError),
        (TEXT + "4\n", WrongShapeError),
    ],
)
def test_what_is_refused(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_assignment(text, VARIABLES)


def test_an_assignment_reads_back_bit_equal_without_exponents() -> None:
    x = np.array([1e-7, -0.1, 3e20, 0.0], np.float32)
    text = format_assignment([("A", "float32", (2, 2), x), ("B", "float64", (), np.array([1 / 3]))])
    assert text.startswith("A float32 [2,2]\n0.0000001\n-0.1\n")
    assert "e" not in text.replace("float", "")
    first, second = parse_assignment(text, [("A", (2, 2)), ("B", ())])
    assert np.array_equal(first.astype(np.float32), x)
    assert second.tolist() == [1 / 3]


@pytest.mark.parametrize("values", [[1.0], [1.0, np.inf]])
def test_an_assignment_of_other_values_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="2 finite values"):
        format_assignment([("A", "float32", (1, 2), np.array(values))])
