"""`lgbench bench`: the main job."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click

from harness.cli.options import run_options, take_options
from harness.cli.outcome import carry_out
from harness.config import BenchmarkSpec, find_spec
from harness.formats.instances import format_seconds
from harness.workflow.benchmark import run_benchmark
from harness.workflow.options import Reporter, RunPlan, RunSummary
from harness.workflow.plan import PROTOCOLS

MAIN_JOB_VARIABLE = "LGBENCH_MAIN_JOB"
"""Environment variable in which run_benchmark.sh and the container say how their user calls `lgbench bench`."""


@click.command()
@click.argument("name")
@click.option("--protocol", type=click.Choice(PROTOCOLS), help="Size of the run.  [default: full with a GPU, else cpu]")
@run_options
def bench(name: str, protocol: str | None, as_json: bool, **given: Any) -> int:
    """Run benchmark NAME: decide its networks' test inputs, check every answer, write the report.

    NAME is a benchmark of specs/, or a benchmark.yaml. Results go to results/NAME-PROTOCOL unless --out says otherwise.
    A run that was stopped goes on with --resume.
    """
    return run_spec(main_job_command(), name, protocol, as_json=as_json, given=given)


def main_job_command() -> str:
    """Returns what a user types before the benchmark's name: `lgbench bench`, or the script that called it for them."""
    return os.environ.get(MAIN_JOB_VARIABLE, "").strip() or "lgbench bench"


def run_spec(command: str, name: str, protocol: str | None, *, as_json: bool, given: dict[str, Any]) -> int:
    """Runs the benchmark of that name and returns the exit code.

    Args:
        command: what was called, as typed in a shell: `lgbench bench` or `lgbench run`.
        name: a benchmark's name, file or folder.
        protocol: `full`, `cpu` or None.
        as_json: whether standard output gets the summary as JSON and nothing else.
        given: the values of the shared options.
    """
    spec = find_spec(Path(name) if "/" in name else name)
    called = f"{command} {shlex.quote(name)}"
    options = take_options(called, protocol, **given)

    def run(reporter: Reporter) -> RunSummary:
        return run_benchmark(spec, options, reporter)

    return carry_out(run, as_json=as_json, hint=lambda plan: _full_hint(spec, plan, called))


def _full_hint(spec: BenchmarkSpec, plan: RunPlan, called: str) -> str:
    if plan.protocol == "full":
        return ""
    full = spec.protocols.full
    size = f"{full.inputs} inputs, {format_seconds(full.timeout_s)} s each"
    return f"for the full protocol ({size}; best with a GPU): {called} --protocol full"
