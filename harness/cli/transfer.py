"""`lgbench transfer`: what the counterexamples of one network do to another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.analysis.transfer import Transfer, TransferClass
from harness.cli.outcome import MIN_WIDTH
from harness.cli.progress import step_bars
from harness.domain import UsageError
from harness.workflow.transfer import leave_transfers, measure_transfers, transfers_json, write_transfers

_HEADINGS = {
    TransferClass.CLEAN_MISCLASSIFIED: "wrong",
    TransferClass.ATTACK_FAILS: "fails",
    TransferClass.SAME_CLASS: "same",
    TransferClass.OTHER_CLASS: "other",
}


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--from", "source", metavar="A", help="The network whose counterexamples are shown.")
@click.option("--to", "target", metavar="B", help="The network that they are shown to.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the JSON there and leave the run folder as it is.  [default: RUN/transfer.json, for the report]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead, with every example.")
def transfer(run: Path, source: str | None, target: str | None, out: Path | None, as_json: bool) -> None:
    """Show the counterexamples of network A of the run in folder RUN to network B, and those of B to A.

    Without --from and --to: those of the baseline to each other network, and the other way round. Each example is one
    of: B is wrong on the unperturbed input, the attack fails, it works into the same class, or into another. SA and RA
    are B's on these inputs; beside them stands what B has on all inputs of the run, as a random sample would.
    """
    if (source is None) != (target is None):
        raise click.UsageError("--from and --to belong together; name both networks or neither")
    pairs = None
    if source is not None and target is not None:
        if source == target:
            raise click.UsageError(f"--from and --to are both '{source}'; name two networks")
        pairs = [(source, target), (target, source)]
    with step_bars(transient=True) as told:
        found = measure_transfers(run, pairs, told)
    _write(run, out, found)
    if as_json:
        click.echo(json.dumps(transfers_json(found), indent=2))
        return
    console = Console()
    console.width = max(console.width, MIN_WIDTH)
    console.print(transfer_table(found))
    for one in found:
        click.echo(one.words)
        if one.without_record:
            click.echo(f"{len(one.without_record)} of these have no result of {one.target}: classified anew.")
        if one.left_out:
            click.echo(f"{len(one.left_out)} more could not be shown: {next(iter(one.left_out.values()))}.")


def _write(run: Path, out: Path | None, found: Sequence[Transfer]) -> None:
    try:
        if out is None:
            leave_transfers(run, found)
        else:
            write_transfers(out, found)
    except OSError as error:
        reason = f"{out or run}: the result cannot be written ({error.strerror})"
        if out is not None:
            raise UsageError(f"{reason}; name another file with --out") from error
        # The folder may be somebody else's: what was measured is printed all the same.
        click.echo(f"note: {reason}; a report of the folder will not show it", err=True)


def transfer_table(transfers: Sequence[Transfer]) -> Table:
    """Returns what the terminal shows: a line for each direction, rates in percent."""
    table = Table(box=None, pad_edge=False)
    table.add_column("of", no_wrap=True)
    table.add_column("shown to", no_wrap=True)
    names = ("examples", *_HEADINGS.values(), "SA %", "of all", "RA %", "of all")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for one in transfers:
        counts = [str(one.count(which)) for which in _HEADINGS]
        shares = [_percent(value) for value in (one.sa, one.expected.sa, one.ra, one.expected.ra)]
        table.add_row(Text(one.source), Text(one.target), str(len(one.examples)), *counts, *shares)
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
