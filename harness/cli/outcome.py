"""How a run ends for its user: the figures, the files, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable

import click
from rich.console import Console

from harness.cli.progress import console_reporter
from harness.cli.show import summary_view
from harness.domain import plural
from harness.report.source import SUMMARY_FILE
from harness.workflow.options import Reporter, RunPlan, RunSummary

EXIT_DONE = 0
EXIT_UNDECIDED = 1
EXIT_CONFLICT = 3
MIN_WIDTH = 110
"""Columns of the table where the output is no terminal."""


def exit_code(done: RunSummary) -> int:
    """Returns 3 for a soundness conflict, 1 where inputs are undecided by interruption or error, else 0."""
    if done.conflicts:
        return EXIT_CONFLICT
    return EXIT_UNDECIDED if done.interrupted or done.errors or done.missing else EXIT_DONE


def carry_out(run: Callable[[Reporter], RunSummary], *, as_json: bool, hint: Callable[[RunPlan], str]) -> int:
    """Carries out a run with its progress on the console, says how it ended, and returns the exit code.

    Args:
        run: the run, given who is told of it.
        as_json: whether standard output gets the summary as JSON and nothing else.
        hint: a line of advice for a plan, empty for none.
    """
    out = Console(stderr=as_json)
    if not out.is_terminal:
        out.width = max(out.width, MIN_WIDTH)
    plans: list[RunPlan] = []

    def remember(plan: RunPlan) -> str:
        plans.append(plan)
        return hint(plan)

    try:
        with console_reporter(out, remember) as reporter:
            done = run(reporter)
    except KeyboardInterrupt:
        _say(out, f"interrupted{_resume_hint(plans)}")
        return EXIT_UNDECIDED
    if as_json:
        click.echo(json.dumps(done.summary, indent=2))
    else:
        out.print()
        out.print(summary_view(done.summary))
    _say(out, f"summary: {done.folder / SUMMARY_FILE}")
    _say(out, f"report:  {done.report}")
    if done.interrupted:
        _say(out, f"interrupted with {done.missing} of {plans[-1].instances} inputs open{_resume_hint(plans)}")
    elif done.errors:
        _say(out, f"{plural(done.errors, 'input')} ended in an error{_resume_hint(plans)}")
    if done.conflicts:
        _say(out, f"SOUNDNESS CONFLICT: {done.conflicts} properties were called proved and have a counterexample")
    return exit_code(done)


def _resume_hint(plans: list[RunPlan]) -> str:
    return (
        f"; continue with: {plans[-1].command} --resume" if plans else "; continue with the same command and --resume"
    )


def _say(out: Console, text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)
