"""The figures of a sweep: SA, RA and VA along an axis of the grid, and verified against standard accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from harness.analysis.statistics import wilson
from harness.analysis.tradeoff import TradeoffRow
from harness.report.plots import COLOURS, LINES, MARKERS, QUIET, drawing_style, new_figure, save_figure

METRICS = ("SA", "RA", "VA")
_ALONG = ("ratio", "gammas")
"""Axes of the grid that a figure can run along, the first that varies is taken."""
_LISTED = "network"
"""What the figure runs along where neither varies."""


def write_tradeoff_figures(rows: Sequence[TradeoffRow], title: str, folder: Path) -> list[Path]:
    """Writes `tradeoff.*` (each accuracy along ratio, gammas, or the list of points) and `tradeoff_plane.*`.

    Bars are 95 % Wilson intervals. Figures without a value, as in a run that is not finished, are left out.

    Args:
        rows: a row each network, the one before grafting without axes.
        title: of the figures.
        folder: where they go.
    """
    return [*_along(rows, title, folder), *_plane(rows, title, folder)]


def _along(rows: Sequence[TradeoffRow], title: str, folder: Path) -> list[Path]:
    axis = next((name for name in _ALONG if len({_place(row, name) for row in rows if row.axes}) > 1), _LISTED)
    points = [row for row in rows if row.axes]
    series = _series(points, axis)
    places = _places(points, axis)
    with drawing_style():
        figure = new_figure(9.5, 3.6 if axis != _LISTED else 4.8)
        panels = figure.subplots(1, len(METRICS), squeeze=False)[0]
        for metric, panel in zip(METRICS, panels, strict=True):
            _draw_panel(panel, metric, rows, series, axis, places)
        figure.suptitle(title)
        if len(series) > 1:
            handles, labels = panels[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False)
    columns = ("series", axis, "metric", "percent", "low", "high", "n")
    lines = [
        (label, _place(row, axis), metric, row.values[metric], *_interval(row, metric), row.n[metric])
        for label, members in series.items()
        for row in members
        for metric in METRICS
    ]
    return save_figure(figure, folder, "tradeoff", columns, lines)


def _draw_panel(
    panel: Axes,
    metric: str,
    rows: Sequence[TradeoffRow],
    series: dict[str, list[TradeoffRow]],
    axis: str,
    places: dict[Any, float],
) -> None:
    for number, (label, members) in enumerate(series.items()):
        known = [row for row in members if row.values[metric] is not None]
        x = [places[_place(row, axis)] for row in known]
        y = [float(row.values[metric] or 0.0) for row in known]
        ends = [_interval(row, metric) for row in known]
        bars = [[v - (low if low is not None else v) for v, (low, _) in zip(y, ends, strict=True)],
                [(high if high is not None else v) - v for v, (_, high) in zip(y, ends, strict=True)]]  # fmt: skip
        panel.errorbar(
            x, y, yerr=bars, label=label, capsize=2, linewidth=1.2, markersize=5,
            color=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)],
            linestyle="none" if axis == _LISTED else LINES[number // len(COLOURS) % len(LINES)],
        )  # fmt: skip
    for row in rows:
        if not row.axes and row.values[metric] is not None:
            panel.axhline(float(row.values[metric] or 0.0), color="#111111", linestyle=":", linewidth=1.2)
    panel.set_title(f"{metric} %" + (" (dotted: before grafting)" if metric == METRICS[0] else ""), fontsize=9)
    panel.set_xlabel("" if axis == _LISTED else {"ratio": "share of neurons", "gammas": "gammas"}[axis])
    if axis != "ratio":
        labels = [str(place) for place in places]
        panel.set_xticks(list(places.values()), labels, rotation=60 if axis == _LISTED else 20, ha="right")


def _plane(rows: Sequence[TradeoffRow], title: str, folder: Path) -> list[Path]:
    known = [row for row in rows if row.values["SA"] is not None and row.values["VA"] is not None]
    with drawing_style():
        figure = new_figure(6.5, 4.6)
        panel = figure.subplots()
        for number, row in enumerate(known):
            x, y = float(row.values["SA"] or 0.0), float(row.values["VA"] or 0.0)
            low, high = _interval(row, "VA")
            bars = [[y - (y if low is None else low)], [(y if high is None else high) - y]]
            colour = COLOURS[number % len(COLOURS)] if row.axes else "#111111"
            marker = MARKERS[number // len(COLOURS) % len(MARKERS)] if row.axes else "*"
            panel.errorbar(
                [x], [y], yerr=bars, color=colour, ecolor=QUIET, marker=marker, markersize=7, capsize=2,
                linestyle="none", label=row.title,
            )  # fmt: skip
        panel.set_xlabel("SA %")
        panel.set_ylabel("VA %")
        figure.suptitle(title)
        if known:
            figure.legend(loc="outside right upper", frameon=False, fontsize=7)
    columns = ("variant", "title", "SA", "SA_n", "RA", "RA_n", "VA", "VA_n", "VA_low", "VA_high")
    lines = [
        (
            row.variant, row.title, row.values["SA"], row.n["SA"], row.values["RA"], row.n["RA"], row.values["VA"],
            row.n["VA"], *_interval(row, "VA"),
        )
        for row in rows
    ]  # fmt: skip
    return save_figure(figure, folder, "tradeoff_plane", columns, lines)


def _series(points: Sequence[TradeoffRow], axis: str) -> dict[str, list[TradeoffRow]]:
    """Returns the points of each line: those that differ in nothing but the axis."""
    if axis == _LISTED:
        return {"": list(points)}
    others = [name for name in (points[0].axes if points else {}) if name != axis]
    varying = [name for name in others if len({row.axes[name] for row in points}) > 1]
    series: dict[str, list[TradeoffRow]] = {}
    for row in points:
        label = ", ".join(_words(name, row.axes[name]) for name in varying)
        series.setdefault(label, []).append(row)
    return {label: sorted(members, key=lambda row: _sortable(row, axis)) for label, members in series.items()}


def _words(name: str, value: Any) -> str:
    if name == "retrain":
        return "retrained" if value else "weights kept"
    return f"{name} {value}" if name in ("seed", "gammas", "ratio") else str(value)


def _place(row: TradeoffRow, axis: str) -> Any:
    return row.title if axis == _LISTED else row.axes.get(axis)


def _places(points: Sequence[TradeoffRow], axis: str) -> dict[Any, float]:
    """Returns where each value stands: ratios at their number, the others one beside the other."""
    values = dict.fromkeys(_place(row, axis) for row in points)
    return {value: float(value) if axis == "ratio" else float(k) for k, value in enumerate(values)}


def _sortable(row: TradeoffRow, axis: str) -> float:
    return float(row.axes[axis]) if axis == "ratio" else 0.0


def _interval(row: TradeoffRow, metric: str) -> tuple[float | None, float | None]:
    value, n = row.values[metric], row.n[metric]
    return (None, None) if value is None or not n else wilson(value * n / 100, n)
