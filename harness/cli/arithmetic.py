"""The option `--arithmetic`, in a module of its own: `lgbench verify` starts quickly and imports little."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from harness.domain import ARITHMETICS

_Command = TypeVar("_Command", bound=Callable[..., object])


def arithmetic_option(default: str | None = None) -> Callable[[_Command], _Command]:
    """Returns what adds `--arithmetic`; the one definition of it.

    Args:
        default: its value where it is left out.
    """
    return click.option(
        "--arithmetic",
        type=click.Choice(ARITHMETICS),
        default=default,
        help="What unsat covers: every float32 evaluation of the network and its exact values, or these alone, as "
        f"verifiers commonly mean it.  [default: {ARITHMETICS[0]}]",
    )
