"""`lgbench audit`: what can be checked of a finished run is checked again."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click

from harness.cli.outcome import EXIT_CONFLICT, EXIT_DONE, EXIT_UNDECIDED
from harness.cli.progress import step_bars
from harness.domain import UsageError
from harness.workflow.audit import OUTCOMES, Audit, audit_run


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--sample", type=click.IntRange(min=0), default=10, show_default=True, metavar="N", help="Proofs that are redone."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the choice.")
@click.option(
    "--timeout", type=float, default=60.0, show_default=True, metavar="S", help="Wall seconds for each of them."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
def audit(run: Path, sample: int, seed: int, timeout: float, as_json: bool) -> int:
    """Check the run in folder RUN again; nothing in it is changed.

    All hashes of its manifest are compared, every counterexample is replayed on ONNX Runtime, and N of its answers
    unsat, chosen at random, are proved again by a second verifier in float64, in a process of its own. Exit code: 0
    where nothing disagrees (a proof that is not found again in its time is said, and is no disagreement), 1 where
    something could not be checked, 3 where anything is not as the run says.
    """
    if not (math.isfinite(timeout) and timeout > 0):
        raise UsageError(f"--timeout {timeout:g}: has to be a positive number of seconds")
    with step_bars(transient=True) as told:
        found = audit_run(run, sample, seed, timeout, told)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        for line in audit_lines(found):
            click.echo(line)
    if found.disagreements:
        return EXIT_CONFLICT
    return EXIT_UNDECIDED if found.manifest != "present" or found.count("failed") else EXIT_DONE


def audit_lines(found: Audit) -> list[str]:
    """Returns what the terminal shows of an audit."""
    redone = ", ".join(f"{found.count(word)} {word}" for word in OUTCOMES)
    lines = [
        f"manifest:         {found.manifest}",
        f"files:            {found.files} networks and properties compared",
        f"counterexamples:  {found.counterexamples_confirmed} of {found.counterexamples} confirmed on ONNX Runtime",
        f"unsat:            {len(found.rechecked)} of {found.unsat} proved again: {redone}",
    ]
    lines += [
        f"  {one.outcome}: {one.variant} {one.index}, {one.seconds:.1f} s{f' ({one.message})' if one.message else ''}"
        for one in found.rechecked
        if one.outcome != "confirmed"
    ]
    lines += [f"note: {note}" for note in found.notes]
    lines += [f"DISAGREES ({one.check}): {one.where}: {one.message}" for one in found.disagreements]
    return [*lines, "the run agrees with all that was checked" if not found.disagreements else "THE RUN DISAGREES"]
