"""VNN-LIB 1.0 robustness properties, in the one form that every reader takes.

This module and `vnnlib2_writer` are shipped inside exported benchmarks, where nothing but numpy is at hand and Python
may be 3.9: no `zip(strict=...)`.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


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
    check_bounds(lower, upper)
    check_label(label, classes)
    lines = comment_lines(comment)
    lines += [f"(declare-const X_{i} Real)" for i in range(lower.size)]
    lines += [f"(declare-const Y_{j} Real)" for j in range(classes)]
    low, high = (list(map(exact_decimal, bounds.tolist())) for bounds in (lower, upper))
    lines += [f"(assert (>= X_{i} {low[i]}))\n(assert (<= X_{i} {high[i]}))" for i in range(lower.size)]
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


def check_bounds(lower: NDArray[np.float32], upper: NDArray[np.float32]) -> None:
    """Raises ValueError unless the bounds are two flat float32 arrays of one length, finite and not crossed."""
    if lower.dtype != np.float32 or upper.dtype != np.float32 or lower.ndim != 1 or lower.shape != upper.shape:
        raise ValueError("bounds are two flat float32 arrays of one length")
    if not (np.isfinite(lower) & np.isfinite(upper) & (lower <= upper)).all():
        raise ValueError("bounds must be finite, and no lower bound above its upper bound")


def check_label(label: int, classes: int) -> None:
    """Raises ValueError unless the label is one of at least two classes."""
    if not (classes >= 2 and 0 <= label < classes):
        raise ValueError(f"label {label} is not one of {classes} classes")


def comment_lines(comment: str) -> list[str]:
    """Returns the lines of a comment as both versions of VNN-LIB write it."""
    return [f"; {line}".rstrip() for line in comment.splitlines()]
