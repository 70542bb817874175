"""Both ways of reading the plain part take the same texts for the same, and leave the others alone."""

from __future__ import annotations

import numpy as np
import pytest

from harness.formats import vnnlib_plain
from harness.formats.vnnlib_plain import PlainPart

DECLARED = "".join(f"(declare-const X_{i} Real)\n" for i in range(2)) + "(declare-const Y_0 Real)\n"
BOUNDS = (
    "(assert (<= X_0 1.25))\n(assert (>= X_0 -1e-3))\n",
    "(assert (<= X_1 0.1000000000000000055511151231257827))\n(assert (>= X_1 .5))\n",
)
REST = "; what is violated\n(assert (<= Y_0 0))\n"
USUAL = {
    "usual": DECLARED + "".join(BOUNDS) + REST,
    "a comment first": "; two inputs (and an output\n\n" + DECLARED + "".join(BOUNDS) + REST,
    "nothing behind": DECLARED + "".join(BOUNDS),
    "no line end behind": DECLARED + "".join(BOUNDS).rstrip() + "(assert (<= Y_0 0))",
    "lower bounds first": DECLARED
    + "".join("".join(reversed(pair.splitlines(keepends=True))) for pair in BOUNDS)
    + REST,
}
UNUSUAL = {
    "a comment between": DECLARED + BOUNDS[0] + "; next\n" + BOUNDS[1] + REST,
    "other order": DECLARED + BOUNDS[1] + BOUNDS[0] + REST,
    "no spaces between": DECLARED + "".join(BOUNDS).replace("\n", "") + REST,
    "two kinds of order": DECLARED + BOUNDS[0] + "".join(reversed(BOUNDS[1].splitlines(keepends=True))) + REST,
}
NOT_PLAIN = {
    "empty": "",
    "a statement first": "(set-logic QF_LRA)\n" + USUAL["usual"],
    "no bounds": DECLARED + REST,
    "no outputs": DECLARED.replace("(declare-const Y_0 Real)\n", "") + "".join(BOUNDS),
    "a bound is missing": DECLARED + BOUNDS[0] + BOUNDS[1].splitlines(keepends=True)[0] + REST,
    "declared twice": DECLARED.replace("X_1", "X_0") + "".join(BOUNDS) + REST,
    "no number": USUAL["usual"].replace("1.25", "1.2.5"),
    "an expression": USUAL["usual"].replace("1.25", "1)"),
    "no finite number": USUAL["usual"].replace("1.25", "1e999"),
    "two numbers in one": USUAL["usual"].replace("1.25))\n(", "1.25 ("),
    "not a number": USUAL["usual"].replace("1.25", "nan"),
    "a digit of Python's": USUAL["usual"].replace("1.25", "1_0"),
}


def same(one: PlainPart | None, other: PlainPart | None) -> bool:
    if one is None or other is None:
        return one is other
    equal = [np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(one.bounds, other.bounds, strict=True)]
    return (one.inputs, one.outputs, one.end) == (other.inputs, other.outputs, other.end) and all(equal)


@pytest.mark.parametrize("name", USUAL)
def test_usual_texts_are_read_both_ways_alike(name: str) -> None:
    found = vnnlib_plain._usual(USUAL[name])
    assert found is not None
    assert same(found, vnnlib_plain._matched(USUAL[name]))
    assert list(found.bounds.value[:2]) == ([-1e-3, 1.25] if name.startswith("lower") else [1.25, -1e-3])
    rest = USUAL[name][found.end :]
    assert rest == "" if name == "nothing behind" else rest.startswith("(assert (<= Y_0")


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_texts_are_left_to_the_pattern(name: str) -> None:
    assert vnnlib_plain._usual(UNUSUAL[name]) is None
    assert vnnlib_plain.plain_part(UNUSUAL[name]) is not None


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_is_not_plain_is_left_to_the_reader_of_statements(name: str) -> None:
    assert vnnlib_plain._usual(NOT_PLAIN[name]) is None
    assert vnnlib_plain.plain_part(NOT_PLAIN[name]) is None


def test_numbers_are_read_as_python_reads_them() -> None:
    random = np.random.default_rng(0)
    values = np.concatenate(
        [random.normal(size=300), random.normal(size=300).astype(np.float32), 10.0 ** np.arange(-20, 20)]
    )
    written = [f"{value!r}" for value in values.tolist()] + [f"{value:.25e}" for value in values.tolist()]
    count = len(written)
    text = "".join(f"(declare-const X_{i} Real)\n" for i in range(count)) + "(declare-const Y_0 Real)\n"
    text += "".join(f"(assert (>= X_{i} {number}))\n(assert (<= X_{i} {number}))\n" for i, number in enumerate(written))
    found = vnnlib_plain._usual(text)
    assert found is not None
    assert found.bounds.value[::2].tolist() == [float(number) for number in written]
