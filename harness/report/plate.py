"""A figure with everything that belongs to it: title, caption, numbers; drawn on the page and saved as files."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree as ET

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline

from harness.files import write_atomically
from harness.report.csv_text import csv_text
from harness.report.plots import DPI, drawing_style, new_figure
from harness.report.svg import element

_SVG = "{http://www.w3.org/2000/svg}"
_STYLE = (
    "text{font:13px system-ui,'Segoe UI',Roboto,Arial,sans-serif;fill:#1a1a1a}text[fill='#ffffff']{fill:#ffffff}"
    ".quiet{fill:#595959}.strong{font-weight:600}.ribbon{opacity:.5}"
)
_POINTS = 72 / 100
"""A user unit of our drawings is a hundredth of an inch."""
_CODES = {"M": (Outline.MOVETO, 1), "L": (Outline.LINETO, 1), "C": (Outline.CURVE4, 3), "H": (Outline.LINETO, 1)}


@dataclass(frozen=True, eq=False)
class Plate:
    """One figure of a report."""

    name: str
    """Stem of its files."""
    title: str
    """What a screen reader says, and its heading."""
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    """The numbers in it; None is an empty field of the CSV."""
    drawing: Figure | Markup
    """A Matplotlib figure, or a drawing of `harness.report.svg`."""
    caption: str = ""

    @property
    def markup(self) -> Markup:
        """The figure as the page holds it; nothing of it is fetched."""
        if isinstance(self.drawing, Markup):
            return self.drawing
        address = f"data:image/svg+xml;base64,{base64.b64encode(self.svg()).decode()}"
        return Markup('<img src="{}" alt="{}">').format(address, self.title)

    def svg(self) -> bytes:
        """Returns the figure as a file of vectors; drawn once, for the page and for the file."""
        return self._vectors

    @cached_property
    def _vectors(self) -> bytes:
        if isinstance(self.drawing, Markup):
            start, rest = str(self.drawing).split(">", 1)
            return f"{start}>{element('style', Markup(_STYLE))}{rest}\n".encode()  # noqa: S704 - our own constant
        return _saved(self.drawing, "svg")

    def png(self) -> bytes:
        """Returns the figure as pixels."""
        return _saved(_as_figure(self.drawing) if isinstance(self.drawing, Markup) else self.drawing, "png")

    def csv(self) -> str:
        """Returns its numbers with a header."""
        return csv_text(self.columns, self.rows)

    def save(self, folder: Path) -> list[Path]:
        """Writes `name.png`, `name.svg` and `name.csv` below a folder, each replaced whole; returns their paths."""
        paths = []
        for suffix, content in (("png", self.png()), ("svg", self.svg()), ("csv", self.csv())):
            paths.append(folder / f"{self.name}.{suffix}")
            write_atomically(paths[-1], content)
        return paths


def _saved(figure: Figure, kind: str) -> bytes:
    stream = io.BytesIO()
    empty = {"Software": None} if kind == "png" else dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with drawing_style():
        figure.savefig(stream, format=kind, dpi=DPI, metadata=empty)
    return stream.getvalue()


def _as_figure(drawing: Markup) -> Figure:
    """Returns a drawing of ours as a Matplotlib figure: rectangles, texts, and outlines of M, L, C, H and Z."""
    root = ET.fromstring(drawing)  # noqa: S314 - our own drawing
    _, _, width, height = map(float, root.get("viewBox", "").split())
    figure = new_figure(width / 100, height / 100)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    for node in root.iter():
        place = [float(node.get(name, 0)) for name in ("x", "y", "width", "height")]
        fill = node.get("fill", "#1a1a1a")
        if node.tag == f"{_SVG}rect":
            axes.add_patch(Rectangle((place[0], place[1]), place[2], place[3], facecolor=fill, linewidth=0))
        elif node.tag == f"{_SVG}path":
            opacity = 0.5 if node.get("class") == "ribbon" else 1.0
            axes.add_patch(PathPatch(_outline(node.get("d", "")), facecolor=fill, alpha=opacity, linewidth=0))
        elif node.tag == f"{_SVG}text":
            kind = node.get("class", "")
            axes.text(
                place[0],
                place[1],
                node.text or "",
                color="#595959" if kind == "quiet" else fill,
                fontsize=13 * _POINTS,
                fontweight="bold" if kind == "strong" else "normal",
                ha={"end": "right", "middle": "center"}.get(node.get("text-anchor", ""), "left"),
                va="baseline",
            )
    return figure


def _outline(d: str) -> Outline:
    """Returns the outline that the commands of a path describe; H takes only an x, all coordinates are absolute."""
    points: list[tuple[float, float]] = []
    codes: list[int] = []
    for letter in "MLCHZ":
        d = d.replace(letter, f" {letter} ")
    words = d.split()
    k = 0
    while k < len(words):
        letter, k = words[k], k + 1
        if letter == "Z":
            points.append((0.0, 0.0))
            codes.append(int(Outline.CLOSEPOLY))
            continue
        code, count = _CODES[letter]
        for _ in range(count):
            if letter == "H":
                points.append((float(words[k]), points[-1][1]))
                k += 1
            else:
                points.append((float(words[k]), float(words[k + 1])))
                k += 2
            codes.append(int(code))
    return Outline(points, codes)
