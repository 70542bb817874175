from __future__ import annotations

import numpy as np
import pytest

from harness.formats.assignment import parse_assignment
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
