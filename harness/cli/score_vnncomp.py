"""`lgbench score-vnncomp`: the tables of a competition from its result files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from harness.analysis.vnncomp import Contradiction, Scores, ToolScore, score
from harness.cli.options import rules_option
from harness.cli.outcome import EXIT_CONFLICT, EXIT_DONE
from harness.judging.replay import Rules
from harness.workflow.competition import Competition, load_competition

_WIDTH = 100


@click.command(name="score-vnncomp")
@click.argument("results", metavar="DIR", type=click.Path(path_type=Path))
@rules_option("Of which year; 2025 published two tables.")
@click.option(
    "--verdicts",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="What witnesses are worth that are not at hand: benchmark,id,tool,verdict.",
)
@click.option(
    "--instances",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The benchmarks' folders: their limits, and the files that witnesses are replayed on.",
)
@click.option("--fail-on-conflict", is_flag=True, help="End with exit code 3 where two tools contradict each other.")
@click.option("--json", "as_json", is_flag=True, help="Print the tables as JSON; all else on standard error.")
def score_vnncomp(
    results: Path, rules: str, verdicts: Path | None, instances: Path | None, fail_on_conflict: bool, as_json: bool
) -> int:
    """Compute VNN-COMP's tables from DIR/TOOL/YEAR_BENCHMARK/results.csv[.gz].

    A counterexample file beside a results.csv is replayed on ONNX Runtime where --instances has the benchmark; what
    else is known of counterexamples stands in --verdicts. A sat of which nothing is known earns nothing. Each instance
    that was answered both ways is named on standard error. Wrong answers are part of a score, so the exit code is 0
    whatever the tables say, unless --fail-on-conflict asks for 3: that of `lgbench compare`, and in the same cases.
    """
    chosen = Rules(rules)
    loaded = _load(results, chosen, verdicts, instances)
    scores = score(chosen, loaded.benchmarks, loaded.overheads, checked=loaded.checked)
    for note in loaded.notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        click.echo(json.dumps(scores_json(scores), indent=2))
    else:
        _print_tables(scores, chosen)
    for one in scores.contradictions:
        click.echo(contradiction_line(one), err=True)
    return EXIT_CONFLICT if fail_on_conflict and any(one.conflict for one in scores.contradictions) else EXIT_DONE


def _print_tables(scores: Scores, rules: Rules) -> None:
    console = Console()
    console.width = max(console.width, _WIDTH)
    for name, table in scores.benchmarks.items():
        console.print(_benchmark_table(name, table, with_bonus=rules is Rules.Y2022))
        console.print()
    console.print(_totals_table(scores.totals, rules))


def scores_json(scores: Scores) -> dict[str, Any]:
    """Returns `{"benchmarks": {name: {tool: line}}, "totals": {tool: score}}`; percents and totals are unrounded."""
    return {
        "benchmarks": {
            name: {
                tool: {
                    "verified": line.verified,
                    "falsified": line.falsified,
                    "penalty": line.penalty,
                    "points": line.points,
                    "percent": line.percent,
                }
                for tool, line in table.items()
            }
            for name, table in scores.benchmarks.items()
        },
        "totals": dict(scores.totals),
    }


def contradiction_line(one: Contradiction) -> str:
    """Returns one line that says who contradicts whom, and whose counterexample is worth what.

    It begins with `CONFLICT` where soundness is in question, else with `disagreement`, as those of `lgbench compare`.
    """
    sat = ", ".join(f"{tool} ({witness or 'not checked'})" for tool, witness in one.sat_by.items())
    kind = "CONFLICT" if one.conflict else "disagreement"
    where = f"{one.benchmark} {one.id} {one.instance}"
    return f"{kind}: {where}: unsat by {', '.join(one.unsat_by)}; sat by {sat}"


def _load(results: Path, rules: Rules, verdicts: Path | None, instances: Path | None) -> Competition:
    """Reads everything; replays take a while, so their progress is shown where somebody watches."""
    console = Console(stderr=True)
    columns = (TextColumn("counterexamples"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        return load_competition(
            results, rules, verdicts, instances, lambda done, total: bar.update(task, completed=done, total=total)
        )


def _benchmark_table(name: str, lines: Mapping[str, ToolScore], *, with_bonus: bool) -> Table:
    table = Table(title=Text(name), title_justify="left", box=None, pad_edge=False)
    table.add_column("tool", min_width=24)
    heads = ["verified", "falsified", *(["fastest"] if with_bonus else []), "penalty", "points", "percent"]
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for tool, line in lines.items():
        counts = [line.verified, line.falsified, *([line.fastest] if with_bonus else []), line.penalty, line.points]
        table.add_row(Text(tool), *map(str, counts), f"{line.percent:.1f}")
    return table


def _totals_table(totals: Mapping[str, float], rules: Rules) -> Table:
    table = Table(title=Text(f"Total, rules of {rules}"), title_justify="left", box=None, pad_edge=False)
    table.add_column("tool", min_width=24)
    table.add_column("score", justify="right")
    for tool, total in totals.items():
        table.add_row(Text(tool), f"{total:.1f}")
    return table
