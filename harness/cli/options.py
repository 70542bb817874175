"""The options that `bench` and `run` share, and how they become one value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from harness.workflow.device import DEVICES
from harness.workflow.options import RunOptions

_Command = TypeVar("_Command", bound=Callable[..., Any])

DATA_OPTION = click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="LGBENCH_DATA",
    show_envvar=True,
    help="Folder of the full data sets; see `lgbench data`.  [default: the embedded first 1,000 test images]",
)


def run_options(command: _Command) -> _Command:
    """Adds every option that `take_options` reads, and `--json`."""
    decorators = (
        click.option("--inputs", type=click.IntRange(min=1), metavar="N", help="Decide the first N inputs."),
        click.option("--timeout", type=float, metavar="S", help="Seconds an input may take."),
        click.option(
            "--max-domains",
            type=click.IntRange(min=0),
            metavar="N",
            help="Domains that one branch and bound may visit.",
        ),
        click.option("--device", type=click.Choice(DEVICES), help="Where the engine computes.  [default: auto]"),
        click.option("--variants", metavar="A,B", help="Only these networks.  [default: all]"),
        click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run folder."),
        click.option("--resume", is_flag=True, help="Continue the run in the folder; what is not asked for stays."),
        click.option("--tool", metavar="NAME", help="The verifier; see `lgbench tool list`.  [default: builtin]"),
        click.option("--seed", type=click.IntRange(min=0), help="Of everything random.  [default: the benchmark's]"),
        DATA_OPTION,
        click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON; all else on standard error."),
    )
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def take_options(command: str, protocol: str | None = None, **given: Any) -> RunOptions:
    """Returns the options of a run from the values of `run_options`.

    Args:
        command: what was called, without options, for the run's record.
        protocol: `full`, `cpu` or None.
        **given: what click collected, `as_json` left out.
    """
    variants = given.pop("variants")
    names = None if variants is None else tuple(name.strip() for name in variants.split(",") if name.strip())
    return RunOptions(command=command, protocol=protocol, timeout_s=given.pop("timeout"), variants=names, **given)
