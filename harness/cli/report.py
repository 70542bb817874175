"""`lgbench report`: the page of a run, written again from its stored results."""

from __future__ import annotations

from pathlib import Path

import click

from harness.domain import UsageError
from harness.report import write_report


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(run: Path) -> None:
    """Write report.html of the run in folder RUN and print its path.

    The page is made from the stored results: of a run that is still going, or that was ended, it shows what there is.
    """
    try:
        click.echo(write_report(run))
    except OSError as error:
        raise UsageError(
            f"{run}: the report cannot be written ({error.strerror}); check permissions and space"
        ) from error
