"""The options that `bench` and `run` share, and how they become one value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from harness.cli.arithmetic import arithmetic_option
from harness.judging.replay import Rules
from harness.workflow.device import DEVICES
from harness.workflow.options import EXECUTORS, RunOptions

_Command = TypeVar("_Command", bound=Callable[..., Any])


def data_option(without: str = "") -> Callable[[_Command], _Command]:
    """Returns what adds `--data`; the one definition of it.

    Args:
        without: what is taken where no folder is named, for the help; empty: nothing is.
    """
    default = f"  [default: {without}]" if without else ""
    return click.option(
        "--data",
        type=click.Path(path_type=Path),
        envvar="LGBENCH_DATA",
        show_envvar=True,
        help=f"Folder of the full data sets; see `lgbench data`.{default}",
    )


def rules_option(text: str, default: str | None = Rules.Y2026.value) -> Callable[[_Command], _Command]:
    """Returns what adds `--rules`; the one definition of it.

    Args:
        text: the help.
        default: its value where it is left out, which the help then names.
    """
    choice = click.Choice([rule.value for rule in Rules])
    return click.option("--rules", type=choice, default=default, show_default=default is not None, help=text)


def comma_list(text: str) -> tuple[str, ...]:
    """Returns the names in a list such as `a,b`, without the blanks around them; empty ones are left out."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def apply_options(
    command: _Command, decorators: Sequence[Callable[[Callable[..., Any]], Callable[..., Any]]]
) -> _Command:
    """Returns the command with options that stand in its help in the order given."""
    for decorator in reversed(decorators):
        command = cast(_Command, decorator(command))
    return command


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
        click.option(
            "--tool-dir",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Folder with VNN-COMP's scripts of a verifier; --tool then names it in the results.",
        ),
        click.option("--tool-memory", type=float, metavar="GIB", help="Memory of a verifier that is not ours."),
        click.option("--tool-cores", type=click.IntRange(min=1), metavar="N", help="Processor cores of it."),
        click.option("--tool-cpu", type=float, metavar="S", help="Processor seconds of it for one input."),
        rules_option("Of VNN-COMP's years: what a counterexample is judged by.  [default: 2026]", default=None),
        click.option("--seed", type=click.IntRange(min=0), help="Of everything random.  [default: the benchmark's]"),
        arithmetic_option(),
        click.option(
            "--executor", type=click.Choice(EXECUTORS), help="This machine, or a Ray cluster.  [default: local]"
        ),
        click.option(
            "--ray-address", metavar="HOST:PORT", help="The cluster's head.  [default: RAY_ADDRESS, else one here]"
        ),
        click.option(
            "--job-cores", type=click.IntRange(min=1), metavar="N", help="Processor cores of a worker on Ray."
        ),
        click.option(
            "--chunk", type=click.IntRange(min=1), metavar="N", help="Inputs that a worker on Ray gets at most at once."
        ),
        data_option("the embedded first 1,000 test images"),
        click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON; all else on standard error."),
    )
    return apply_options(command, decorators)


def take_options(command: str, protocol: str | None = None, **given: Any) -> RunOptions:
    """Returns the options of a run from the values of `run_options`.

    Args:
        command: what was called, without options, for the run's record.
        protocol: `full`, `cpu` or None.
        **given: what click collected, `as_json` left out.
    """
    variants = given.pop("variants")
    names = None if variants is None else comma_list(variants)
    return RunOptions(command=command, protocol=protocol, timeout_s=given.pop("timeout"), variants=names, **given)
