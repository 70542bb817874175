"""Figures as files: each as PNG, as SVG, and the numbers in it as CSV; the same bytes for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.files import write_atomically
from harness.report.csv_text import csv_text

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#111111")
"""Okabe and Ito's colour-blind safe palette; figures tell series apart by marker and line too."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")
QUIET = "#bbbbbb"
DPI = 150
_STYLE: Any = {
    "svg.hashsalt": "lgbench",
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.grid": True,
    "grid.alpha": 0.3,
}


def drawing_style(*, grid: bool = True) -> AbstractContextManager[None]:
    """Returns a context in which figures are drawn and saved, the same every time."""
    return mpl.rc_context(_STYLE | {"axes.grid": grid})


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of that size in inches; no window system and no global state is touched."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(
    figure: Figure, folder: Path, name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> list[Path]:
    """Writes `name.png`, `name.svg` and `name.csv` below `folder`, each replaced whole, and returns their paths.

    Args:
        figure: what to draw.
        folder: made if it is missing.
        name: the files' stem.
        columns: header of the CSV.
        rows: its lines; None becomes an empty field.
    """
    paths = []
    with drawing_style():
        for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            stream = io.BytesIO()
            figure.savefig(stream, format=suffix, dpi=DPI, metadata=metadata)
            paths.append(folder / f"{name}.{suffix}")
            write_atomically(paths[-1], stream.getvalue())
    paths.append(folder / f"{name}.csv")
    write_atomically(paths[-1], csv_text(columns, rows))
    return paths
