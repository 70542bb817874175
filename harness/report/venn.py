"""Venn diagrams of two or three sets; circles and the overlap of each pair are in proportion to their counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from numpy.typing import NDArray

from harness.analysis.masks import Overlap
from harness.report.plots import COLOURS

_GRID = 240
"""Points along each side of the raster that labels are placed by."""
_ROOM = 0.06
"""Room around the circles and to their names, in radii of the largest."""
_STEEP = 0.35
"""Names in directions that are less sideways than this stand above or below."""
Point = tuple[float, float]


def draw_venn(panel: Axes, overlap: Overlap) -> None:
    """Draws the diagram of two or three sets with the count of every region.

    Three circles cannot show seven areas exactly: sizes and pairs are in proportion, the region of all three follows
    from them. A region that the circles leave no room for is named below the drawing.
    """
    radii = [math.sqrt(size / math.pi) for size in overlap.sizes]
    centres = layout(radii, overlap)
    for number, (centre, radius) in enumerate(zip(centres, radii, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        panel.add_patch(Circle(centre, radius, facecolor=colour, alpha=0.3, linewidth=0))
        panel.add_patch(Circle(centre, radius, fill=False, edgecolor=colour, linewidth=1.5))
    reach = max(radii, default=1.0) or 1.0
    places, hidden = label_places(centres, radii, overlap.regions)
    for key, (x, y) in places.items():
        panel.text(x, y, str(overlap.regions[key]), ha="center", va="center")
    middle = tuple(np.mean(np.array(centres), axis=0))
    for number, (name, size) in enumerate(zip(overlap.names, overlap.sizes, strict=True)):
        (x, y), (right, up) = _outward(number, centres, radii, middle)
        panel.text(
            x,
            y,
            f"{name}\n{size}",
            color=COLOURS[number],
            fontweight="bold",
            ha="center" if abs(right) < _STEEP else "left" if right > 0 else "right",
            va="center" if abs(right) >= _STEEP else "bottom" if up > 0 else "top",
        )
    if hidden:
        panel.set_xlabel("too small to draw: " + ", ".join(f"{key}: {overlap.regions[key]}" for key in hidden))
    panel.set_aspect("equal")
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_frame_on(False)
    low, high = (f(np.array(centres).T + np.array(radii) * sign, axis=1) for f, sign in ((np.min, -1), (np.max, 1)))
    panel.set_xlim(low[0] - _ROOM * reach, high[0] + _ROOM * reach)
    panel.set_ylim(low[1] - _ROOM * reach, high[1] + _ROOM * reach)


def layout(radii: Sequence[float], overlap: Overlap) -> list[Point]:
    """Returns centres at which each pair of circles has the area that the pair's sets have in common.

    Three such distances may make no triangle; then the third circle comes as close to them as it can.
    """

    def distance(first: int, second: int) -> float:
        common = sum(n for key, n in overlap.regions.items() if key[first] == "1" and key[second] == "1")
        return centre_distance(radii[first], radii[second], common)

    across = distance(0, 1)
    centres: list[Point] = [(0.0, 0.0), (across, 0.0)]
    if len(radii) == 3:
        left, right = distance(0, 2), distance(1, 2)
        x = (left**2 - right**2 + across**2) / (2 * across) if across else 0.0
        centres.append((x, -math.sqrt(max(0.0, left**2 - x**2))))
    return centres


def centre_distance(first: float, second: float, common: float) -> float:
    """Returns the distance of two centres at which the circles' overlap has the area `common`, by bisection."""
    low, high = abs(first - second), first + second
    if common >= math.pi * min(first, second) ** 2:
        return low
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if lens_area(first, second, middle) > common else (low, middle)
    return (low + high) / 2


def lens_area(first: float, second: float, distance: float) -> float:
    """Returns the area that two circles of those radii have in common."""
    if distance >= first + second:
        return 0.0
    if distance <= abs(first - second):
        return math.pi * min(first, second) ** 2
    total = 0.0
    for own, other in ((first, second), (second, first)):
        cosine = (distance**2 + own**2 - other**2) / (2 * distance * own)
        angle = math.acos(max(-1.0, min(1.0, cosine)))
        total += own**2 * (angle - math.sin(2 * angle) / 2)
    return total


def label_places(
    centres: Sequence[Point], radii: Sequence[float], regions: Mapping[str, int]
) -> tuple[dict[str, Point], list[str]]:
    """Returns for each region the point deepest inside it, and the regions that have neurons but no room."""
    low = np.min(np.array(centres) - np.array(radii)[:, None], axis=0)
    high = np.max(np.array(centres) + np.array(radii)[:, None], axis=0)
    x, y = np.meshgrid(np.linspace(low[0], high[0], _GRID), np.linspace(low[1], high[1], _GRID))
    inside = [(x - cx) ** 2 + (y - cy) ** 2 <= r * r for (cx, cy), r in zip(centres, radii, strict=True)]
    places: dict[str, Point] = {}
    hidden: list[str] = []
    for key in regions:
        area = np.logical_and.reduce([part if digit == "1" else ~part for part, digit in zip(inside, key, strict=True)])
        if area.any():
            row, column = _deepest(area)
            places[key] = (float(x[row, column]), float(y[row, column]))
        elif regions[key]:
            hidden.append(key)
    return places, hidden


def _deepest(area: NDArray[np.bool_]) -> tuple[int, int]:
    """Returns the middle of what is left of a raster region when its rim is taken off again and again."""
    while True:
        padded = np.pad(area, 1)
        smaller = area & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        if not smaller.any():
            points = np.argwhere(area)
            nearest = np.abs(points - points.mean(axis=0)).sum(axis=1).argmin()
            return int(points[nearest][0]), int(points[nearest][1])
        area = smaller


def _outward(
    number: int, centres: Sequence[Point], radii: Sequence[float], middle: Sequence[float]
) -> tuple[Point, Point]:
    """Returns where a set's name stands, and the direction to there: away from the others, outside of every circle."""
    centre, radius = centres[number], radii[number]
    x, y = centre[0] - middle[0], centre[1] - middle[1]
    length = math.hypot(x, y)
    if length < 1e-9 * max(radius, 1.0):
        angle = math.pi * (1 - number) if len(radii) == 2 else math.pi / 2 + 2 * math.pi * number / len(radii)
        x, y, length = math.cos(angle), math.sin(angle), 1.0
    x, y = x / length, y / length
    away = max(_leaves(centre, (x, y), other, r) for other, r in zip(centres, radii, strict=True))
    away += _ROOM * max(radii)
    return (centre[0] + away * x, centre[1] + away * y), (x, y)


def _leaves(start: Point, direction: Point, centre: Point, radius: float) -> float:
    """Returns how far from `start` a ray leaves a circle for good; 0 where it does not meet it."""
    x, y = centre[0] - start[0], centre[1] - start[1]
    along = x * direction[0] + y * direction[1]
    inside = radius**2 - (x * x + y * y - along**2)
    return max(0.0, along + math.sqrt(inside)) if inside >= 0 else 0.0
