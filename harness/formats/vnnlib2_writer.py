"""VNN-LIB 2.0 properties: robustness of one network, and two networks compared on the same ball.

Numbers are plain decimals with a point, as 2.0 wants them; a property describes the violation.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from harness.formats.vnnlib_writer import check_bounds, check_label, comment_lines, exact_decimal

VERSION = "(vnnlib-version <2.0>)"
BASE, GRAFT = "base", "graft"
"""What the two networks of a comparison are called in the text and in instances.csv."""


def write_robustness_query(
    lower: NDArray[np.float32],
    upper: NDArray[np.float32],
    label: int,
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    dtype: str = "float32",
    comment: str = "",
) -> str:
    """Returns a VNN-LIB 2.0 text: some input in the box gives another class an output of at least the label's.

    It says the same as `write_robustness_property` does in 1.0; bounds are printed exactly.

    Args:
        lower: `(inputs,)` float32, flat in the C order of the input.
        upper: `(inputs,)` float32.
        label: the class that has to win.
        input_shape: of the network's input, with the batch.
        output_shape: of its output, with the batch; its elements are the classes.
        dtype: element type of both, `float32` or `float64`.
        comment: text for the head of the file, any number of lines.

    Raises:
        ValueError: bounds of another type or shape, not finite, or crossed; a label that is not a class.
    """
    check_bounds(lower, upper)
    outputs = _elements("Y", output_shape)
    check_label(label, len(outputs))
    wrong = [f"(>= {y} {outputs[label]})" for j, y in enumerate(outputs) if j != label]
    lines = [
        *comment_lines(comment),
        VERSION,
        *_network("net", "X", "Y", dtype, input_shape, output_shape),
        *_box("X", lower, upper, input_shape),
        *_any(wrong),
    ]
    return "\n".join(lines) + "\n"


def write_difference_query(
    lower: NDArray[np.float32],
    upper: NDArray[np.float32],
    delta: float,
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    dtype: str = "float32",
    comment: str = "",
) -> str:
    """Returns a VNN-LIB 2.0 text: some input in the box makes an output of two networks differ by more than `delta`.

    The networks are declared as `base` and `graft`, without a claim that they have one graph; their inputs are tied
    element by element.

    Args:
        lower: `(inputs,)` float32, flat in the C order of the input.
        upper: `(inputs,)` float32.
        delta: bound on each output's absolute difference; positive.
        input_shape: of either network's input, with the batch.
        output_shape: of either network's output, with the batch.
        dtype: element type of all, `float32` or `float64`.
        comment: text for the head of the file, any number of lines.

    Raises:
        ValueError: as `write_robustness_query`, or `delta` is not positive and finite.
    """
    check_bounds(lower, upper)
    if not (np.isfinite(delta) and delta > 0):
        raise ValueError(f"a bound on a difference cannot be {delta}")
    bound = format(Decimal(repr(float(delta))), "f")
    bound = bound if "." in bound else bound + ".0"
    apart = [
        f"(> (- {one} {other}) {bound})"
        for p, q in _element_pairs(_elements("P", output_shape), _elements("Q", output_shape))
        for one, other in ((p, q), (q, p))
    ]
    lines = [*_pair(comment, lower, upper, input_shape, output_shape, dtype), *_any(apart)]
    return "\n".join(lines) + "\n"


def write_regression_query(
    lower: NDArray[np.float32],
    upper: NDArray[np.float32],
    label: int,
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    dtype: str = "float32",
    comment: str = "",
) -> str:
    """Returns a VNN-LIB 2.0 text: some input in the box is classified rightly by one network and wrongly by the other.

    `base` gives the label strictly the greatest output, `graft` gives another class at least as much as the label. The
    question is asked of each point of the box, not of robustness on all of it.

    Args:
        lower: `(inputs,)` float32, flat in the C order of the input.
        upper: `(inputs,)` float32.
        label: the right class.
        input_shape: of either network's input, with the batch.
        output_shape: of either network's output, with the batch; its elements are the classes.
        dtype: element type of all, `float32` or `float64`.
        comment: text for the head of the file, any number of lines.

    Raises:
        ValueError: as `write_robustness_query`.
    """
    check_bounds(lower, upper)
    right, wrong = _elements("P", output_shape), _elements("Q", output_shape)
    check_label(label, len(right))
    others = [j for j in range(len(right)) if j != label]
    lines = [
        *_pair(comment, lower, upper, input_shape, output_shape, dtype),
        *(f"(assert (> {right[label]} {right[j]}))" for j in others),
        *_any([f"(>= {wrong[j]} {wrong[label]})" for j in others]),
    ]
    return "\n".join(lines) + "\n"


def _pair(
    comment: str,
    lower: NDArray[np.float32],
    upper: NDArray[np.float32],
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    dtype: str,
) -> list[str]:
    """Returns the lines that both comparisons begin with: two networks on one box, with tied inputs A and B."""
    tied = _element_pairs(_elements("A", input_shape), _elements("B", input_shape))
    return [
        *comment_lines(comment),
        VERSION,
        *_network(BASE, "A", "P", dtype, input_shape, output_shape),
        *_network(GRAFT, "B", "Q", dtype, input_shape, output_shape),
        *_box("A", lower, upper, input_shape),
        *(f"(assert (== {b} {a}))" for a, b in tied),
    ]


def _network(
    name: str, given: str, wanted: str, dtype: str, input_shape: Sequence[int], output_shape: Sequence[int]
) -> list[str]:
    return [
        f"(declare-network {name}",
        f"  (declare-input {given} {dtype} [{','.join(map(str, input_shape))}])",
        f"  (declare-output {wanted} {dtype} [{','.join(map(str, output_shape))}])",
        ")",
    ]


def _box(name: str, lower: NDArray[np.float32], upper: NDArray[np.float32], input_shape: Sequence[int]) -> list[str]:
    elements = _elements(name, input_shape)
    if len(elements) != lower.size:
        raise ValueError(f"{lower.size} bounds for an input of shape {tuple(input_shape)}")
    lines = []
    for i, element in enumerate(elements):
        lines.append(f"(assert (>= {element} {exact_decimal(float(lower[i]))}))")
        lines.append(f"(assert (<= {element} {exact_decimal(float(upper[i]))}))")
    return lines


def _any(parts: Sequence[str]) -> list[str]:
    return ["(assert (or", *(f"  {part}" for part in parts), "))"]


def _elements(name: str, shape: Sequence[int]) -> list[str]:
    if not shape:
        return [name]
    return [f"{name}[{','.join(map(str, index))}]" for index in itertools.product(*map(range, shape))]


def _element_pairs(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
    return [(first[i], second[i]) for i in range(len(first))]
