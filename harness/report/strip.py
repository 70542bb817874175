"""The strip of inputs: one cell for each test input, a stripe in it for each network, coloured by result set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from harness.report.palette import MISSING, SETS
from harness.report.plate import Plate
from harness.report.svg import element, figure, number
from harness.report.tables import InputLine

WIDTH = 640.0
"""Width of the strip in user units."""
_GAP = 5.0


def strip_layout(inputs: int, networks: int) -> tuple[int, float, float]:
    """Returns cells in a row, the width of a cell and the height of a stripe, in user units."""
    columns = 25 if inputs <= 100 else 50 if inputs <= 600 else 100
    return columns, WIDTH / columns, min(9.0, max(2.0, 36.0 / max(networks, 1)))


def strip_plate(lines: Sequence[InputLine], titles: Mapping[str, str]) -> Plate:
    """Returns the strip of the inputs in their order; the page's script tells which cell the pointer is on.

    Args:
        lines: the inputs table; its cells are in the order of `titles`.
        titles: variant to its name.
    """
    columns, width, height = strip_layout(len(lines), len(titles))
    pitch = height * len(titles) + _GAP
    outlines: dict[str, list[str]] = {category.key: [] for category in SETS}
    for k, line in enumerate(lines):
        x, y = (k % columns) * width, (k // columns) * pitch
        for stripe, cell in enumerate(line.cells):
            key = MISSING if cell is None else cell.result_set
            top = y + stripe * height
            outlines[key].append(
                f"M{number(x)} {number(top)}L{number(x + width - 1)} {number(top)}"
                f"L{number(x + width - 1)} {number(top + height)}L{number(x)} {number(top + height)}Z"
            )
    parts = [
        element("path", element("title", category.title), d="".join(outlines[category.key]), fill=category.colour)
        for category in SETS
        if outlines[category.key]
    ]
    rows = -(-len(lines) // columns)
    drawing = figure(WIDTH, max(rows * pitch, 1.0), "Every input and its result set under each network", *parts)
    numbers = [(line.index, *("" if cell is None else cell.result_set for cell in line.cells)) for line in lines]
    return Plate(
        "inputs",
        "Every input and its result set under each network",
        ("input", *titles.values()),
        numbers,
        Markup(drawing),  # noqa: S704 - made by `figure`
        "One cell for each test input, row by row from the top left; its stripes are the networks from top to bottom: "
        + "; ".join(titles.values()) + ".",
    )  # fmt: skip
