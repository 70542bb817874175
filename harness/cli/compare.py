"""`lgbench compare`: several tools on one benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from harness.analysis.comparison import compare as compare_entries
from harness.cli.options import rules_option
from harness.cli.outcome import EXIT_CONFLICT, EXIT_DONE, MIN_WIDTH
from harness.judging.replay import Rules
from harness.report.comparison import SOLVED_COLUMNS, comparison_json, disagreement_words, write_comparison
from harness.workflow.comparison import load_answers

_UNBOUNDED = 10_000
"""Columns of a screen that nothing has to be cut for."""


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--benchmark", metavar="NAME", help="Which benchmark of a competition's results.")
@rules_option("What a competition's counterexamples are judged by; a run's are judged already.")
@click.option("--verdicts", type=click.Path(path_type=Path), metavar="CSV", help="As for `lgbench score-vnncomp`.")
@click.option("--instances", type=click.Path(path_type=Path), metavar="DIR", help="As for `lgbench score-vnncomp`.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write a page, figures (PNG, SVG, CSV) and tables there.  [default: print only]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON; all else on standard error.")
def compare(
    folders: tuple[Path, ...],
    benchmark: str | None,
    rules: str,
    verdicts: Path | None,
    instances: Path | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Compare what several tools answered on one benchmark: solved, alone, when, and who contradicts whom.

    Each DIR is a run folder (`lgbench run`), or a folder with TOOL/YEAR_BENCHMARK/results.csv[.gz] as VNN-COMP
    publishes them. The exit code is 3 where one tool says unsat and another sat, unless every counterexample was
    replayed and none is correct.
    """
    answers = load_answers(folders, benchmark=benchmark, rules=Rules(rules), verdicts=verdicts, instances=instances)
    conditions = {one.tool: asdict(one) for one in answers.conditions}
    comparison = compare_entries(answers.entries, conditions)
    for note in answers.notes:
        click.echo(f"note: {note}", err=True)
    page = None if out is None else write_comparison(comparison, conditions, out, answers.title, answers.notes)
    tables = comparison_json(comparison, conditions)
    if as_json:
        click.echo(json.dumps(tables, indent=2))
    else:
        console = Console()
        table = _table(answers.title, tables)
        # Where output is piped, or the window is narrow, nothing must be cut to fit.
        needed = Measurement.get(console, console.options.update(max_width=_UNBOUNDED), table).maximum
        console.width = max(console.width, MIN_WIDTH, needed)
        console.print(table)
    for one in comparison.disagreements:
        kind = "CONFLICT" if one.conflict else "disagreement"
        click.echo(f"{kind}: {disagreement_words(one)}", err=True)
    if page is not None:
        click.echo(f"page: {page}", err=True)
    return EXIT_CONFLICT if comparison.conflicts else EXIT_DONE


def _table(title: str, tables: Mapping[str, Any]) -> Table:
    table = Table(
        title=Text(f"{title}: {tables['instances']} instances"), title_justify="left", box=None, pad_edge=False
    )
    table.add_column("tool", no_wrap=True)
    for column in (*SOLVED_COLUMNS, "limit"):
        table.add_column(column, justify="right", no_wrap=True)
    for tool, row in tables["tools"].items():
        counts = [f"{row[c]:.1f}" if c == "seconds" else str(row[c]) for c in SOLVED_COLUMNS]
        table.add_row(Text(tool), *counts, row["conditions"]["limits"])
    return table
