"""`lgbench show`: a run's figures in the terminal, or for a program to read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from harness.analysis.sets import SET_ORDER
from harness.domain import plural
from harness.report.source import load_run
from harness.report.tables import METRICS, figures_table, title_of

_SETS = tuple(name.value for name in SET_ORDER)
_FIGURES = (*METRICS, "UNR_nonlinear")
_WIDTH = 112


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, with the keys of summary.json.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the table as CSV: figures in percent, times in seconds.")
def show(run: Path, as_json: bool, as_csv: bool) -> None:
    """Print the results of the run in folder RUN beside the published figures.

    A run that is not finished is shown as far as it is.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other; choose one")
    summary = load_run(run).summary
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    elif as_csv:
        click.echo(summary_csv(summary), nl=False)
    else:
        console = Console()
        # Where output is piped, or the window is narrow, figures must not be cut to fit.
        console.width = max(console.width, _WIDTH)
        console.print(summary_view(summary))


def summary_csv(summary: Mapping[str, Any]) -> str:
    """Returns the table as CSV with a header: a line for each network and source; fields without a value are empty.

    Figures are unrounded, in percent; `wall_s` and `work_s` are seconds. Published lines have figures only.
    """
    columns = ["variant", "source", *_SETS, *_FIGURES, "errors", "missing", "wall_s", "work_s"]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in figures_table(summary):
        line = {"variant": row.variant, "source": row.source, **row.values}
        if row.ours:
            block = summary["variants"][row.variant]
            line |= block["sets"] | {name: block[name] for name in ("errors", "missing", "wall_s", "work_s")}
        writer.writerow({name: "" if value is None else value for name, value in line.items()})
    return stream.getvalue()


def summary_view(summary: Mapping[str, Any]) -> Group:
    """Returns what the terminal shows of a summary: the table of figures, then what a reader must know of it."""
    return Group(_table(summary), *_notes(summary))


def _size(summary: Mapping[str, Any]) -> str:
    """Returns how much was asked: inputs of each network, of a plain list its instances."""
    listed = summary.get("inputs_of") or {}
    count, noun = (sum(listed.values()), "instance") if listed else (summary["inputs"], "input")
    return plural(count, noun)


def _table(summary: Mapping[str, Any]) -> Table:
    limit = "" if summary["max_domains"] is None else f", {summary['max_domains']} domains"
    run = f"{_size(summary)}, {summary['timeout_s']:g} s{limit}, {summary['device']}"
    table = Table(title=Text(f"{summary['benchmark']}: {run}"), title_justify="left", box=None, pad_edge=False)
    table.add_column("network")
    for name in (*_SETS, "SA %", "RA %", "VA %", "UNR %", "non-linear %", "work s"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in figures_table(summary):
        figures = [_two_decimals(row.values.get(name)) for name in _FIGURES]
        if row.ours:
            block = summary["variants"][row.variant]
            sizes = [str(block["sets"][name]) for name in _SETS]
            table.add_row(Text(row.title), *sizes, *figures, f"{block['work_s']:.0f}", style="bold")
        else:
            table.add_row(Text(f"  {row.source}"), *[""] * len(_SETS), *figures, "", style="dim")
    return table


def _two_decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _notes(summary: Mapping[str, Any]) -> list[Text]:
    blocks = summary["variants"]
    notes = [
        Text(
            f"{title_of(summary, name)}: no result yet for {plural(block['missing'], 'input')}, "
            "which VA counts as not verified."
        )
        for name, block in blocks.items()
        if block["missing"]
    ]
    notes += [
        Text(f"{title_of(summary, name)}: {plural(block['errors'], 'error')} among the VF; the report says why.")
        for name, block in blocks.items()
        if block["errors"]
    ]
    if summary["conflicts"]:
        notes.append(
            Text(f"{len(summary['conflicts'])} soundness conflicts: see `conflicts` with --json.", style="bold red")
        )
    run_only = [m for m in ("SA", "RA") if any("inputs" in b["measured"].get(m, {}) for b in blocks.values())]
    if run_only:
        notes.append(
            Text(
                f"{' and '.join(run_only)}: without a figure in the manifest they are over this run's inputs, "
                "once all are decided."
            )
        )
    return notes
