"""A figure as files: the same numbers in CSV, drawings of ours as pixels too."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from harness.report.figures import Bar, stacked_bars, transition_flow
from harness.report.palette import SETS
from harness.report.plate import Plate
from harness.report.plots import new_figure

ORDER = ("SK", "AT", "VS", "VF")


def colour_at(png: bytes, x: float, y: float) -> tuple[int, ...]:
    """The pixel at a place in user units, of a drawing at 1.5 pixels a unit."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    return tuple(int(value) for value in pixels[round(1.5 * y), round(1.5 * x)])


def test_a_drawing_of_ours_becomes_the_same_pixels() -> None:
    drawing = stacked_bars([Bar("a", {"VS": 30, "VF": 10})], SETS, "title")
    root = ET.fromstring(drawing)
    bars = [r for g in root.iter("{http://www.w3.org/2000/svg}g") for r in g if r.tag.endswith("rect")]
    png = Plate("x", "title", (), (), drawing).png()
    for bar in bars:
        x, y = float(bar.get("x", 0)) + 3, float(bar.get("y", 0)) + 3
        wanted = bar.get("fill", "")
        assert colour_at(png, x, y) == tuple(int(wanted[k : k + 2], 16) for k in (1, 3, 5))


def test_ribbons_are_drawn_and_half_transparent() -> None:
    matrix = ((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 10, 0), (0, 0, 0, 0))
    png = Plate("x", "title", (), (), transition_flow(ORDER, matrix, "a", "b")).png()
    assert colour_at(png, 320, 180) == pytest.approx((127, 184, 216), abs=3)  # half of #0072b2 on white


def test_each_figure_is_three_files_and_stands_alone(tmp_path: Path) -> None:
    plates = [
        Plate("bars", "t", ("a", "b"), ((1, None), (2.5, "x,y")), stacked_bars([Bar("a", {"VS": 1})], SETS, "t")),
        Plate("axes", "t", ("a",), (), new_figure(2, 2)),
    ]
    for plate in plates:
        paths = plate.save(tmp_path)
        assert [path.name for path in paths] == [f"{plate.name}.{suffix}" for suffix in ("png", "svg", "csv")]
        with Image.open(paths[0]) as picture:
            assert picture.size[0] > 100
        assert ET.fromstring(paths[1].read_text()).tag.endswith("svg")
    assert (tmp_path / "bars.csv").read_text() == 'a,b\n1,\n2.5,"x,y"\n'


def test_a_figure_on_the_page_is_inside_it() -> None:
    markup = Plate("axes", 'a "title"', (), (), new_figure(2, 2)).markup
    assert markup.startswith('<img src="data:image/svg+xml;base64,')
    assert "a &#34;title&#34;" in markup
