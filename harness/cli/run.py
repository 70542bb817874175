"""`lgbench run`: decide a benchmark's instances, or those of any instances.csv."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from harness.cli.bench import run_spec
from harness.cli.options import run_options, take_options
from harness.cli.outcome import carry_out
from harness.workflow.instances import run_instances
from harness.workflow.options import Reporter, RunSummary


@click.command()
@click.argument("bench", required=False)
@click.option("--instances", type=click.Path(path_type=Path), metavar="CSV", help="A VNN-COMP instances.csv.")
@run_options
def run(bench: str | None, instances: Path | None, as_json: bool, **given: Any) -> int:
    """Decide the instances of benchmark BENCH, or of --instances CSV, with one verifier.

    A list of instances has no labels, so nothing is sorted out before the verifier is asked; --timeout lowers its
    limits, --inputs takes its first rows, and --out is needed.
    """
    if bench is not None and instances is None:
        return run_spec("lgbench run", bench, None, as_json=as_json, given=given)
    if instances is None or bench is not None:
        raise click.UsageError("name a benchmark or --instances CSV, one of the two")
    options = take_options(shlex.join(["lgbench", "run", "--instances", str(instances)]), **given)

    def decide(reporter: Reporter) -> RunSummary:
        return run_instances(instances, options, reporter)

    return carry_out(decide, as_json=as_json, hint=lambda _plan: "")
