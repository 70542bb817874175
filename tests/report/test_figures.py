"""Figures: geometry that adds up, text that is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

import pytest

from harness.report.figures import WIDTH, Bar, shorten, stacked_bars, transition_flow
from harness.report.palette import SETS, STAGES, Category
from harness.report.svg import element, number

SVG = "{http://www.w3.org/2000/svg}"
MATRIX = ((156, 30, 5, 1), (75, 81, 20, 18), (2, 16, 333, 7), (13, 55, 138, 47))
ORDER = ("SK", "AT", "VS", "VF")


def rectangles(root: ET.Element) -> list[tuple[float, float]]:
    """(x, width) of every bar segment; legend squares are outside of groups."""
    return [
        (float(r.get("x", 0)), float(r.get("width", 0))) for g in root.iter(f"{SVG}g") for r in g.iter(f"{SVG}rect")
    ]


def test_bars_are_proportional_and_without_gaps() -> None:
    root = ET.fromstring(stacked_bars([Bar("a", {"SK": 10, "AT": 0, "VS": 30, "VF": 60})], SETS, "title"))
    (x0, w0), (x1, w1), (x2, w2) = rectangles(root)
    assert w1 == pytest.approx(3 * w0, abs=0.03)
    assert w2 == pytest.approx(6 * w0, abs=0.06)
    assert [x1, x2] == pytest.approx([x0 + w0, x1 + w1], abs=0.02)
    assert x2 + w2 < WIDTH


def test_long_names_of_networks_are_shown_whole() -> None:
    name = "first-run: Grafted, min, weights kept, second seed"
    assert name in stacked_bars([Bar(name, {"VS": 3})], SETS, "title")


def test_all_bars_share_one_scale() -> None:
    root = ET.fromstring(stacked_bars([Bar("a", {"VS": 100}), Bar("b", {"VS": 50})], SETS, "title"))
    (_, whole), (_, half) = rectangles(root)
    assert half == pytest.approx(whole / 2, abs=0.01)


def test_every_segment_names_itself_and_the_legend_has_only_what_occurs() -> None:
    drawing = stacked_bars([Bar("net", {"VS": 3, "VF": 1})], SETS, "title")
    assert "<title>net: 3 of 4 verified: proved robust</title>" in drawing
    assert "VS, verified" in drawing
    assert "skipped" not in drawing


@pytest.mark.parametrize("bars", [[], [Bar("empty", {})], [Bar("zero", {"SK": 0})]])
def test_nothing_to_draw_is_still_a_drawing(bars: Sequence[Bar]) -> None:
    assert ET.fromstring(stacked_bars(bars, STAGES, "title")).tag == f"{SVG}svg"


def test_ribbons_of_the_published_transitions_are_as_high_as_their_counts() -> None:
    root = ET.fromstring(transition_flow(ORDER, MATRIX, "baseline", "grafted"))
    heights = {}
    for path in root.iter(f"{SVG}path"):
        title = path.find(f"{SVG}title")
        assert title is not None
        corners = [float(value) for value in re.findall(r"-?\d+(?:\.\d+)?", path.get("d", ""))]
        heights[title.text] = (
            corners[-1] - corners[1]
        )  # left edge: where the last curve ends, less where the path starts
    assert len(heights) == 16
    scale = heights["VS to VS: 333"] / 333
    assert heights["VF to VS: 138"] == pytest.approx(138 * scale, abs=0.02)
    assert heights["SK to VF: 1"] == pytest.approx(scale, abs=0.02)


def test_nodes_have_the_marginal_counts_and_empty_cells_no_ribbon() -> None:
    drawing = transition_flow(ORDER, MATRIX, "baseline", "grafted")
    for label in ("SK 192 (19 %)", "VS 358 (36 %)", "VS 496 (50 %)", "VF 73 (7 %)"):
        assert label in drawing
    assert transition_flow(ORDER, ((1, 0, 0, 0),) + ((0,) * 4,) * 3, "a", "b").count("<path") == 1
    assert "<path" not in transition_flow(ORDER, ((0,) * 4,) * 4, "a", "b")


def test_text_and_attributes_are_escaped() -> None:
    assert element("text", "<b>&", aria_label='"><x>') == (
        '<text aria-label="&#34;&gt;&lt;x&gt;">&lt;b&gt;&amp;</text>'
    )
    ET.fromstring(transition_flow(ORDER, MATRIX, "<a>&", '"b"'))


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (0.126, "0.13"), (-0.001, "0"), (10.5, "10.5"), (100.0, "100")]
)
def test_numbers_are_short_and_stable(value: float, text: str) -> None:
    assert number(value) == text


def test_long_names_are_cut_visibly() -> None:
    assert shorten("grafted_norank", 26) == "grafted_norank"
    assert shorten("x" * 40, 10) == "x" * 9 + "…"


def _luminance(colour: str) -> float:
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("category", [*SETS, *STAGES])
def test_text_on_a_colour_can_be_read(category: Category) -> None:
    dark, light = sorted((_luminance(category.colour), _luminance(category.ink)))
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_labels_of_a_thousand_inputs_stay_inside_the_drawing() -> None:
    everything = ((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 1000, 0), (0, 0, 0, 0))
    root = ET.fromstring(transition_flow(ORDER, everything, "a", "b"))
    labels = [text for group in root.iter(f"{SVG}g") for text in group.iter(f"{SVG}text")]
    assert "VS 1000 (100 %)" in {label.text for label in labels}
    for label in labels:
        x, width = float(label.get("x", 0)), 7.2 * len(label.text or "")
        assert x - width >= 0 if label.get("text-anchor") == "end" else x + width <= WIDTH
