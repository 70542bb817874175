"""`lgbench report`: the page of one run or several, written again from their stored results."""

from __future__ import annotations

from pathlib import Path

import click

from harness.domain import UsageError


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The page.  [default: RUN/report.html; of several runs, or with --golden: report.html]",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Leave each figure there as PNG, SVG and CSV.  [default: figures/; with --out, PAGE_figures/]",
)
@click.option("--no-figures", is_flag=True, help="Write the page alone.")
@click.option(
    "--golden",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Draw the published result sets in DIR instead of a run.",
)
def report(
    runs: tuple[Path, ...], out: Path | None, figures: Path | None, no_figures: bool, golden: Path | None
) -> int:
    """Write report.html of the run in folder RUN and print its path.

    The page is made from the stored results: of a run that is still going, or that was ended, it shows what there is.
    With --out the run folder is only read; it may be somebody else's. Several runs of one benchmark become one page
    that compares them.
    """
    if golden is not None and runs:
        raise click.UsageError("--golden draws published results instead of a run; name one or the other")
    if golden is None and not runs:
        raise click.UsageError("name a run folder, several to compare them, or --golden DIR")
    if no_figures and figures is not None:
        raise click.UsageError("--figures and --no-figures exclude each other; choose one")
    single = len(runs) == 1
    page = out or (runs[0] / "report.html" if single else Path("report.html"))
    folder = None if no_figures else figures or page.parent / (f"{page.stem}_figures" if out else "figures")
    try:
        click.echo(_write(runs, page, folder, golden))
    except OSError as error:
        raise UsageError(
            f"{error.filename or page}: the report cannot be written ({error.strerror}); name another file with --out, "
            "or check permissions and space"
        ) from error
    return 0


def _write(runs: tuple[Path, ...], page: Path, figures: Path | None, golden: Path | None) -> Path:
    from harness.report.gallery import golden_transfers, read_transfers
    from harness.report.golden import golden_run
    from harness.report.merge import merge_runs, merge_transfers, run_names
    from harness.report.page import write_page, write_report
    from harness.report.source import load_run

    if golden is not None:
        return write_page(golden_run(golden), page, figures, golden_transfers(golden))
    if len(runs) == 1:
        return write_report(runs[0], page, figures)
    folders = dict(zip(run_names(runs), runs, strict=True))
    merged = merge_runs({name: load_run(folder, details=True) for name, folder in folders.items()})
    transfers = merge_transfers({name: read_transfers(folder) for name, folder in folders.items()})
    return write_page(merged, page, figures, transfers)
