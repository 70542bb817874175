"""VNN-LIB 1.0 properties: read in the dialects that occur, written in the one form that every reader takes.

A property file describes the violation: satisfiable means that the network is not safe on the box.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.domain import Property, UsageError
from harness.formats.compressed import read_text
from harness.formats.vnnlib_normalise import normalise
from harness.formats.vnnlib_reader import read_statements


def read_property(path: Path, input_size: int | None = None, output_size: int | None = None) -> Property:
    """Returns the property of a VNN-LIB 1.0 file.

    Args:
        path: `.vnnlib` or `.vnnlib.gz`; a missing file is looked for with `.gz` added.
        input_size: number of the network's inputs, if it is to be compared with the file's.
        output_size: number of the network's outputs, likewise.

    Raises:
        UsageError: there is no such file, it is not understood (with line and column), or it does not fit the network.
    """
    found = parse_property(read_text(path), str(path))
    for kind, name, size, wanted in (
        ("inputs", "X", found.input_size, input_size),
        ("outputs", "Y", found.output_size, output_size),
    ):
        if wanted is not None and size != wanted:
            message = f"{path}: declares {size} {kind} {name}_i, but the network has {wanted}"
            raise UsageError(f"{message}; give the property that belongs to it")
    return found


def parse_property(text: str, source: str) -> Property:
    """Returns the property that a VNN-LIB 1.0 text describes.

    Accepted beside the usual form: constants on either side, `or` without `and`, boxes inside `or` (also mixed
    with output constraints), several `or`s (their product), a top-level `and`, strict comparisons, equations,
    linear terms with `+`, `-`, `*`. Conjunctions keep the order of the text.

    Args:
        text: the property.
        source: what errors call it.

    Raises:
        UsageError: the text is not understood, with line and column; or it declares no input.
    """
    statements = read_statements(text, source)
    if not statements.inputs:
        raise UsageError(f"{source}: declares no input X_0; check that it is a VNN-LIB 1.0 property")
    return normalise(statements)


def robustness_box(image: NDArray[np.float32], eps: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns lower and upper bounds `clip(image -+ eps, 0, 1)`, computed in float32.

    Args:
        image: `(inputs,)` float32 in [0, 1].
        eps: radius in the maximum norm, rounded to float32 before use.

    Raises:
        ValueError: the image is not flat float32 in [0, 1], or the radius is negative.
    """
    if image.ndim != 1 or image.dtype != np.float32 or not ((image >= 0) & (image <= 1)).all():
        raise ValueError("an image is a flat float32 array in [0, 1]")
    radius = np.float32(eps)
    if not radius >= 0:
        raise ValueError(f"a radius cannot be {eps}")
    zero, one = np.float32(0), np.float32(1)
    return np.clip(image - radius, zero, one), np.clip(image + radius, zero, one)


def write_robustness_property(
    lower: NDArray[np.float32], upper: NDArray[np.float32], label: int, classes: int, comment: str = ""
) -> str:
    """Returns a VNN-LIB 1.0 text: some input in the box gives another class an output of at least the label's.

    Bounds are printed exactly, without exponent, and read back bit-equal; one statement a line, and the form of
    the disjunction is the one that the competition's own reader takes.

    Args:
        lower: `(inputs,)` float32.
        upper: `(inputs,)` float32.
        label: the class that has to win.
        classes: number of outputs.
        comment: text for the head of the file, any number of lines.

    Raises:
        ValueError: bounds of another type or shape, not finite, or crossed; a label that is not a class.
    """
    if lower.dtype != np.float32 or upper.dtype != np.float32 or lower.ndim != 1 or lower.shape != upper.shape:
        raise ValueError("bounds are two flat float32 arrays of one length")
    if not (np.isfinite(lower) & np.isfinite(upper) & (lower <= upper)).all():
        raise ValueError("bounds must be finite, and no lower bound above its upper bound")
    if not (classes >= 2 and 0 <= label < classes):
        raise ValueError(f"label {label} is not one of {classes} classes")
    lines = [f"; {line}".rstrip() for line in comment.splitlines()]
    lines += [f"(declare-const X_{i} Real)" for i in range(lower.size)]
    lines += [f"(declare-const Y_{j} Real)" for j in range(classes)]
    for i, (low, high) in enumerate(zip(lower.tolist(), upper.tolist(), strict=True)):
        lines.append(f"(assert (>= X_{i} {exact_decimal(low)}))")
        lines.append(f"(assert (<= X_{i} {exact_decimal(high)}))")
    lines.append("(assert (or")
    lines += [f"    (and (>= Y_{j} Y_{label}))" for j in range(classes) if j != label]
    lines.append("))")
    return "\n".join(lines) + "\n"


# An image has 256 grey values, so the bounds of all properties of a data set are a few hundred numbers.
@lru_cache(maxsize=4096)
def exact_decimal(value: float) -> str:
    """Returns the exact value of a finite number as a decimal with a point and without exponent."""
    text = format(Decimal(value), "f")
    return text if "." in text else text + ".0"
