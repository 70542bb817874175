"""Figures as functions from a table to SVG text: no state, no files, the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report.palette import Category, set_category
from harness.report.svg import element, figure, number

WIDTH = 520.0
"""Width of every figure in user units; the page scales it. On a phone's width the text is still readable."""
_ROW, _LABEL, _BAR = 54.0, 18.0, 26.0
"""Heights: from bar to bar, of the name above each, of the bar itself."""
_TOTAL = 44.0
"""Room for the total at the end of the longest bar."""
_FONT = 13.0
_CHARACTER = 7.2
"""Width of one digit at `_FONT`, rounded up."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a stacked bar chart."""

    label: str
    counts: Mapping[str, int]
    """Category key to count; a key that is absent counts nothing."""


def stacked_bars(bars: Sequence[Bar], categories: Sequence[Category], title: str) -> Markup:
    """Returns horizontal bars, one a row, all on one scale, each cut into the categories in their order.

    Segments carry their count where it fits; every segment names itself on hover and to a screen reader. Categories
    that occur nowhere are left out of the legend.
    """
    longest = max((sum(bar.counts.values()) for bar in bars), default=0)
    used = [category for category in categories if any(bar.counts.get(category.key) for bar in bars)]
    legend, top = _legend(used)
    scale = (WIDTH - _TOTAL) / max(longest, 1)
    rows = [part for k, bar in enumerate(bars) for part in _bar(bar, used, top + k * _ROW, scale)]
    return figure(WIDTH, max(top + len(bars) * _ROW - (_ROW - _LABEL - _BAR), 1.0), title, *legend, *rows)


def _legend(categories: Sequence[Category]) -> tuple[list[Markup], float]:
    parts: list[Markup] = []
    x, y = 0.0, 4.0
    for category in categories:
        text = category.title if ":" not in category.title else f"{category.key}, {category.title.split(':')[0]}"
        width = 20 + _CHARACTER * len(text)
        if x + width > WIDTH and x > 0:
            x, y = 0.0, y + 22
        parts += [
            element("rect", x=x, y=y, width=14, height=14, fill=category.colour, rx=2),
            element("text", text, x=x + 20, y=y + 12),
        ]
        x += width + 10
    return parts, y + 26


def _bar(bar: Bar, categories: Sequence[Category], y: float, scale: float) -> Iterator[Markup]:
    yield element("text", shorten(bar.label, 60), x=0, y=y + _FONT, class_="strong")
    y += _LABEL
    middle = y + _BAR / 2 + _FONT * 0.36
    x, total = 0.0, sum(bar.counts.values())
    for category in categories:
        count = bar.counts.get(category.key, 0)
        if not count:
            continue
        width = count * scale
        told = f"{bar.label}: {count} of {total} {category.title}"
        parts = [element("title", told), element("rect", x=x, y=y, width=width, height=_BAR, fill=category.colour)]
        if width > _CHARACTER * len(str(count)) + 4:
            parts.append(
                element("text", str(count), x=x + width / 2, y=middle, text_anchor="middle", fill=category.ink)
            )
        yield element("g", *parts)
        x += width
    yield element("text", str(total), x=x + 8, y=middle, class_="quiet")


def shorten(text: str, limit: int) -> str:
    """Returns `text`, cut with an ellipsis where it is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


_NODE, _GAP, _FLOW_HEIGHT, _FLOW_TOP = 16.0, 14.0, 300.0, 30.0
_FLOW_SIDE = 124.0
"""Room for a label at either side: `VS 1000 (100 %)`."""


def transition_flow(order: Sequence[str], matrix: Sequence[Sequence[int]], source: str, target: str) -> Markup:
    """Returns a Sankey diagram of a transition matrix: sets under `source` on the left, under `target` on the right.

    Heights are proportional to counts. A ribbon has the colour of the set that it leaves, so one sees where a set went.
    """
    inputs = sum(map(sum, matrix))
    left = _stack([sum(row) for row in matrix])
    right = _stack([sum(row[k] for row in matrix) for k in range(len(order))])
    parts = [
        element("text", shorten(source, 34), x=0, y=14, class_="strong"),
        element("text", shorten(target, 34), x=WIDTH, y=14, text_anchor="end", class_="strong"),
        *_ribbons(order, matrix, left, right),
        *_nodes(order, left, inputs, at_left=True),
        *_nodes(order, right, inputs, at_left=False),
    ]
    title = f"Where the inputs of each result set of {source} went under {target}"
    return figure(WIDTH, _FLOW_TOP + _FLOW_HEIGHT + 8, title, *parts)


@dataclass(frozen=True, slots=True)
class _Node:
    y: float
    height: float
    count: int


def _stack(counts: Sequence[int]) -> list[_Node]:
    scale = (_FLOW_HEIGHT - _GAP * (len(counts) - 1)) / max(sum(counts), 1)
    nodes: list[_Node] = []
    y = _FLOW_TOP
    for count in counts:
        nodes.append(_Node(y, count * scale, count))
        y += count * scale + _GAP
    return nodes


def _ribbons(
    order: Sequence[str], matrix: Sequence[Sequence[int]], left: Sequence[_Node], right: Sequence[_Node]
) -> Iterator[Markup]:
    x0, x1 = _FLOW_SIDE + _NODE, WIDTH - _FLOW_SIDE - _NODE
    scale = (_FLOW_HEIGHT - _GAP * (len(order) - 1)) / max(sum(map(sum, matrix)), 1)
    leaves, enters = [node.y for node in left], [node.y for node in right]
    for i, before in enumerate(order):
        for j, after in enumerate(order):
            count = matrix[i][j]
            if not count:
                continue
            y0, y1, height = leaves[i], enters[j], count * scale
            leaves[i], enters[j] = y0 + height, y1 + height
            yield element(
                "path",
                element("title", f"{before} to {after}: {count}"),
                d=_ribbon_path(x0, y0, x1, y1, height),
                fill=set_category(before).colour,
                class_="ribbon",
            )


def _ribbon_path(x0: float, y0: float, x1: float, y1: float, height: float) -> str:
    middle = (x0 + x1) / 2

    def curve(start: float, end: float, y: float) -> str:
        return f"C{number(middle)} {number(start)} {number(middle)} {number(end)} {number(y)} {number(end)}"

    return (
        f"M{number(x0)} {number(y0)}{curve(y0, y1, x1)}"
        f"L{number(x1)} {number(y1 + height)}{curve(y1 + height, y0 + height, x0)}Z"
    )


def _nodes(order: Sequence[str], nodes: Sequence[_Node], inputs: int, at_left: bool) -> Iterator[Markup]:
    x = _FLOW_SIDE if at_left else WIDTH - _FLOW_SIDE - _NODE
    for name, node in zip(order, nodes, strict=True):
        label = f"{name} {node.count}"
        share = f"({100 * node.count / max(inputs, 1):.0f} %)"
        yield element(
            "g",
            element("title", f"{set_category(name).title}: {node.count} of {inputs}"),
            element("rect", x=x, y=node.y, width=_NODE, height=max(node.height, 1), fill=set_category(name).colour),
            element(
                "text",
                f"{label} {share}",
                x=x - 8 if at_left else x + _NODE + 8,
                y=node.y + node.height / 2 + _FONT * 0.36,
                text_anchor="end" if at_left else "start",
            ),
        )
