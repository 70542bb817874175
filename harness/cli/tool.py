"""`lgbench tool`: the verifiers that can be run."""

from __future__ import annotations

import json

import click

from harness.tools.registry import FACTORIES


@click.group()
def tool() -> None:
    """The verifiers that `--tool` takes."""


@tool.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of names.")
def list_tools(as_json: bool) -> None:
    """List the verifiers by name."""
    names = sorted(FACTORIES)
    click.echo(json.dumps(names) if as_json else "\n".join(names))
