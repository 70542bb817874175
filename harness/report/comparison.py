"""The comparison of several tools as files: a page, figures as PNG, SVG and CSV, tables as CSV and JSON."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.comparison import (
    Comparison,
    Disagreement,
    PairPoint,
    cactus,
    chosen_pairs,
    missing_rows,
    pair_points,
    solved_table,
    unique_solves,
)
from harness.files import write_atomically
from harness.report.csv_text import csv_text
from harness.report.template import asset, environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, TABLES = "comparison.html", "comparison.json"
SOLVED_COLUMNS = ("sat", "unsat", "solved", "unique", "wrong", "unknown", "timeout", "error", "missing", "seconds")
_SHORTEST_S = 0.01
"""Shorter times are drawn there: the axes are logarithmic."""
_CLOCKS = {"wall": "wall time", "work": "work"}


def comparison_json(comparison: Comparison, conditions: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Returns the comparison as JSON values.

    Args:
        comparison: the results.
        conditions: tool to `machine`, `limits`, `clock` and `source`.

    Returns:
        `instances` (their number); `tools`: tool to the counts of the solved table, its `conditions`, and the names of
        its `unique_solves` and `missing_rows`; `conflicts` and `disagreements` (those that are no conflicts): objects
        with `instance`, `unsat_by`, `sat_by` (tool to its witness's verdict or null) and `proved`.
    """
    unique, missing = unique_solves(comparison), missing_rows(comparison)
    return {
        "instances": len(comparison.names),
        "tools": {
            row.tool: {column: getattr(row, column) for column in SOLVED_COLUMNS}
            | {
                "unique_solves": list(unique[row.tool]),
                "missing_rows": list(missing[row.tool]),
                "conditions": dict(conditions[row.tool]),
            }
            for row in solved_table(comparison)
        },
        "conflicts": [_disagreement(one) for one in comparison.conflicts],
        "disagreements": [_disagreement(one) for one in comparison.disagreements if not one.conflict],
    }


def disagreement_words(one: Disagreement) -> str:
    """Returns one line: the instance, who called it unsat, and whose counterexample is worth what."""
    sat = ", ".join(f"{tool} (counterexample {witness or 'not checked'})" for tool, witness in one.sat_by.items())
    return f"{one.name}: unsat by {', '.join(one.unsat_by)}; sat by {sat}"


def write_comparison(
    comparison: Comparison,
    conditions: Mapping[str, Mapping[str, str]],
    folder: Path,
    title: str = "",
    notes: Sequence[str] = (),
) -> Path:
    """Writes the page, `comparison.json`, the tables and the figures into a folder; returns the page's path.

    The page opens without a network and holds its figures. Each figure is also there as PNG, SVG and CSV:
    `cactus`, and `times-A-B` for the pairs of tools that `chosen_pairs` names.

    Args:
        comparison: the results.
        conditions: as in `comparison_json`.
        folder: made if it is missing; files in it of the same names are replaced.
        title: the benchmark.
        notes: what a reader has to know, a line each.
    """
    tables = comparison_json(comparison, conditions)
    figures = [_cactus_figure(comparison, conditions, folder)]
    for first, second in chosen_pairs(comparison):
        figures.append(_pair_figure(pair_points(comparison, first, second), first, second, conditions, folder))
    write_atomically(folder / TABLES, json.dumps(tables, indent=2) + "\n")
    for name, (columns, rows) in _csv_tables(tables).items():
        write_atomically(folder / name, csv_text(columns, rows))
    page = (
        environment()
        .get_template("comparison.html.j2")
        .render(
            title=title or "Comparison",
            style=asset("report.css"),
            tables=tables,
            columns=SOLVED_COLUMNS,
            notes=notes,
            conflicts=[disagreement_words(one) for one in comparison.conflicts],
            disagreements=[disagreement_words(one) for one in comparison.disagreements if not one.conflict],
            figures=[(path.stem, words, base64.b64encode(path.read_bytes()).decode()) for path, words in figures],
        )
    )
    write_atomically(folder / PAGE, page)
    return folder / PAGE


def _disagreement(one: Disagreement) -> dict[str, Any]:
    return {
        "instance": one.name,
        "unsat_by": list(one.unsat_by),
        "sat_by": {tool: None if witness is None else witness.value for tool, witness in one.sat_by.items()},
        "proved": one.proved,
    }


def _csv_tables(tables: Mapping[str, Any]) -> dict[str, tuple[Sequence[str], list[Sequence[object]]]]:
    tools = tables["tools"].items()
    return {
        "solved.csv": (
            ("tool", *SOLVED_COLUMNS, "limits", "clock", "machine"),
            [
                (
                    tool,
                    *(row[c] for c in SOLVED_COLUMNS),
                    *(row["conditions"][c] for c in ("limits", "clock", "machine")),
                )
                for tool, row in tools
            ],
        ),
        "unique.csv": (("tool", "instance"), [(tool, name) for tool, row in tools for name in row["unique_solves"]]),
        "missing.csv": (("tool", "instance"), [(tool, name) for tool, row in tools for name in row["missing_rows"]]),
        "conflicts.csv": (
            ("instance", "unsat_by", "sat_by", "witnesses", "proved"),
            [
                (
                    one["instance"],
                    " ".join(one["unsat_by"]),
                    " ".join(one["sat_by"]),
                    " ".join(witness or "not_checked" for witness in one["sat_by"].values()),
                    one["proved"],
                )
                for one in (*tables["conflicts"], *tables["disagreements"])
            ],
        ),
    }


def _label(tool: str, conditions: Mapping[str, Mapping[str, str]]) -> str:
    return f"{tool} ({conditions[tool]['limits']})"


def _cactus_figure(
    comparison: Comparison, conditions: Mapping[str, Mapping[str, str]], folder: Path
) -> tuple[Path, str]:
    from matplotlib.ticker import MaxNLocator

    from harness.report.plots import COLOURS, LINES, MARKERS, drawing_style, new_figure, save_figure

    rows: list[tuple[str, int, float]] = []
    with drawing_style():
        figure = new_figure(7.0, 4.4)
        axes = figure.subplots()
        for k, tool in enumerate(comparison.tools):
            times = cactus(comparison, tool)
            rows += [(tool, count, seconds) for count, seconds in enumerate(times, 1)]
            axes.plot(
                range(1, len(times) + 1),
                [max(seconds, _SHORTEST_S) for seconds in times],
                label=_label(tool, conditions),
                color=COLOURS[k % len(COLOURS)],
                marker=MARKERS[k % len(MARKERS)],
                linestyle=LINES[k % len(LINES)],
                markersize=3,
                markevery=max(1, len(times) // 12),
            )
        axes.set_yscale("log")
        axes.set_xlabel("instances solved")
        axes.set_ylabel(f"seconds of {_clocks(conditions)} for each")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend_above(figure)
    paths = save_figure(figure, folder, "cactus", ("tool", "solved", "seconds"), rows)
    return paths[1], "How many instances each tool solves within a time"


def _pair_figure(
    points: Sequence[PairPoint], first: str, second: str, conditions: Mapping[str, Mapping[str, str]], folder: Path
) -> tuple[Path, str]:
    from harness.report.plots import COLOURS, MARKERS, QUIET, drawing_style, new_figure, save_figure

    kinds = (("both", True, True), (f"only {first}", True, False), (f"only {second}", False, True))
    with drawing_style():
        figure = new_figure(5.2, 4.8)
        axes = figure.subplots()
        longest = max((max(point.x, point.y) for point in points), default=1.0)
        shortest = max(_SHORTEST_S, min((min(point.x, point.y) for point in points), default=_SHORTEST_S))
        axes.plot([shortest, longest], [shortest, longest], color=QUIET, linewidth=1)
        for k, (label, x_solved, y_solved) in enumerate(kinds):
            shown = [p for p in points if (p.x_solved, p.y_solved) == (x_solved, y_solved)]
            axes.scatter(
                [max(p.x, _SHORTEST_S) for p in shown],
                [max(p.y, _SHORTEST_S) for p in shown],
                s=14,
                color=COLOURS[k],
                marker=MARKERS[k],
                label=f"solved by {label}: {len(shown)}",
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        for set_label, tool in ((axes.set_xlabel, first), (axes.set_ylabel, second)):
            set_label(f"{_label(tool, conditions)}, seconds of {_CLOCKS[conditions[tool]['clock']]}")
        _legend_above(figure)
    rows = [(p.name, p.x, p.x_solved, p.y, p.y_solved) for p in points]
    columns = ("instance", first, f"{first} solved", second, f"{second} solved")
    paths = save_figure(figure, folder, f"times-{_file_name(first)}-{_file_name(second)}", columns, rows)
    where = "an instance that one did not solve stands at its limit (where none is known, at the longest time)"
    return paths[1], f"Times of {first} and {second}; {where}"


def _legend_above(figure: Figure) -> None:
    """Draws the legend outside of the axes: points may lie anywhere in them."""
    figure.legend(fontsize=8, loc="outside upper left", ncols=2)


def _clocks(conditions: Mapping[str, Mapping[str, str]]) -> str:
    return " or ".join(sorted({_CLOCKS[one["clock"]] for one in conditions.values()}))


def _file_name(tool: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "_", tool).strip("_")
