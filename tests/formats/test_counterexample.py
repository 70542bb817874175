from __future__ import annotations

from typing import Literal, SupportsIndex

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.domain import Counterexample
from harness.formats.counterexample import (
    MalformedCounterexampleError,
    MissingCounterexampleError,
    WrongShapeError,
    format_counterexample,
    parse_counterexample,
)


def finite(dtype: type, width: Literal[32, 64]) -> st.SearchStrategy[np.ndarray]:
    elements = st.floats(width=width, allow_nan=False, allow_infinity=False)
    return hnp.arrays(dtype, st.integers(1, 8), elements=elements)


@given(st.one_of(finite(np.float32, 32), finite(np.float64, 64)), finite(np.float32, 32))
def test_values_read_back_bit_equal(x: np.ndarray, y: np.ndarray) -> None:
    text = format_counterexample(Counterexample(x, y))
    found = parse_counterexample(text, x.size, y.size, x.dtype)
    assert found.x.dtype == x.dtype
    assert found.x.tobytes() == x.tobytes()
    assert found.y is not None
    assert found.y.astype(np.float32).tobytes() == y.tobytes()


def test_the_text_is_the_competitions() -> None:
    x, y = np.array([0.25, 0.1], np.float32), np.array([-1.25], np.float32)
    assert format_counterexample(Counterexample(x, y)) == "((X_0 0.25)\n(X_1 0.100000001)\n(Y_0 -1.25))\n"


def test_outputs_may_be_missing() -> None:
    text = format_counterexample(Counterexample(np.array([0.5], np.float32)))
    assert parse_counterexample(text, 1, 3).y is None


@pytest.mark.parametrize("text", ["((X_0\n1)\r\n (Y_0   2) )  \n", "((X_0 1)(Y_0 2))", "\n((X_0 1.e0) (Y_0 +2))"])
def test_white_space_is_free(text: str) -> None:
    found = parse_counterexample(text, 1, 1)
    assert found.x.tolist() == [1]
    assert found.y is not None
    assert found.y.tolist() == [2]


class Watched(str):
    """A text that counts the characters that are copied out of it."""

    __slots__ = ()

    copied = 0

    def strip(self, chars: str | None = None) -> Watched:
        return Watched(str.strip(self, chars))

    def __getitem__(self, place: SupportsIndex | slice) -> str:
        part = str.__getitem__(self, place)
        Watched.copied += len(part)
        return part


def test_the_work_is_in_proportion_to_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watched, "copied", 0)
    text = Watched(format_counterexample(Counterexample(np.ones(500, np.float32))))
    assert parse_counterexample(text, 500, 1).x.size == 500
    # With what is left copied at each pair it is 250 times the text.
    assert Watched.copied <= len(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", MissingCounterexampleError),
        ("  \n", MissingCounterexampleError),
        ("sat\n((X_0 1)(Y_0 2))", MalformedCounterexampleError),
        ("((X_0 1)(Y_0 2)", MalformedCounterexampleError),
        ("((X_0 1)(Y_0 2)) x", MalformedCounterexampleError),
        ("((X_0 1) 3 (Y_0 2))", MalformedCounterexampleError),
        ("((X_1 1)(Y_0 2))", MalformedCounterexampleError),
        ("((X_0 1)(X_0 1)(Y_0 2))", MalformedCounterexampleError),
        ("((Z_0 1)(Y_0 2))", MalformedCounterexampleError),
        ("((X_0 1 2)(Y_0 2))", MalformedCounterexampleError),
        ("((X_0 nan)(Y_0 2))", MalformedCounterexampleError),
        ("((X_0 inf)(Y_0 2))", MalformedCounterexampleError),
        ("((X_0 1e999)(Y_0 2))", MalformedCounterexampleError),
        ("((X_0 1e39)(Y_0 2))", MalformedCounterexampleError),
        ("((X_0 0x1)(Y_0 2))", MalformedCounterexampleError),
        ("((X_0 1)(X_1 1)(Y_0 2))", WrongShapeError),
        ("((Y_0 2))", WrongShapeError),
        ("((X_0 1)(Y_0 2)(Y_1 2))", WrongShapeError),
    ],
)
def test_refusals_say_which_verdict_they_are(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_counterexample(text, 1, 1)


@pytest.mark.parametrize("x", [np.array([np.nan], np.float32), np.array([np.inf]), np.array([1])])
def test_senseless_values_are_not_written(x: np.ndarray) -> None:
    with pytest.raises(ValueError, match="counterexample has"):
        format_counterexample(Counterexample(x))
