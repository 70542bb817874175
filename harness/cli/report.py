"""`lgbench report`: the page of a run, written again from its stored results."""

from __future__ import annotations

from pathlib import Path

import click

from harness.domain import UsageError
from harness.report import write_report


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The page.  [default: RUN/report.html]",
)
def report(run: Path, out: Path | None) -> None:
    """Write report.html of the run in folder RUN and print its path.

    The page is made from the stored results: of a run that is still going, or that was ended, it shows what there is.
    With --out the run folder is only read; it may be somebody else's.
    """
    try:
        click.echo(write_report(run, out))
    except OSError as error:
        target = out or run
        raise UsageError(
            f"{target}: the report cannot be written ({error.strerror}); name another file with --out, "
            "or check permissions and space"
        ) from error
