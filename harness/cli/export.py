"""`lgbench export`: a benchmark as a folder for VNN-COMP, and whether such a folder is well-formed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from harness.cli.main import EXIT_USAGE
from harness.cli.options import comma_list, data_option
from harness.cli.progress import step_bars
from harness.config import find_spec
from harness.workflow.export import DELTA, TIMEOUT_S, Exported, ExportOptions, export_benchmark
from harness.workflow.export_check import check_folder
from harness.workflow.export_check_files import CheckReport
from harness.workflow.export_generate import OnProgress


@click.command()
@click.argument("bench", required=False, metavar="[NAME]")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The new folder.")
@click.option("--check", type=click.Path(path_type=Path), metavar="DIR", help="Check this folder instead.")
@click.option("--range", type=(float, float), metavar="LOW HIGH", help="With --check: least and greatest input.")
@click.option("--variants", metavar="A,B", help="Only these networks.  [default: all]")
@click.option("--seed", type=click.IntRange(min=0), help="Of the draw.  [default: the benchmark's]")
@click.option("--instances", type=click.IntRange(min=1), metavar="N", help="How many.  [default: what six hours take]")
@click.option("--inputs", type=click.IntRange(min=1), metavar="N", help="Draw from the first N test inputs.")
@click.option("--timeout", type=float, default=TIMEOUT_S, show_default=True, metavar="S", help="Limit of an instance.")
@click.option("--all", is_flag=True, help="All inputs that every network classifies rightly; no draw.")
@click.option("--gzip", is_flag=True, help="Gzip networks and properties.")
@click.option("--two-network", is_flag=True, help="Compare the baseline with each other network (VNN-LIB 2.0 only).")
@click.option(
    "--delta", type=float, default=DELTA, show_default=True, help="With --two-network: bound on outputs' differences."
)
@data_option("the embedded first 1,000 test images")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; all else on standard error.")
def export(
    bench: str | None,
    check: Path | None,
    variants: str | None,
    out: Path | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Write benchmark NAME as VNN-COMP takes it, or check such a folder.

    DIR gets 1.0/ and 2.0/ with instances.csv, onnx/ and vnnlib/, generate_properties.py SEED, its data and a README:
    120 instances at 180 s, drawn by the seed from the inputs that every network classifies rightly.

    --check DIR takes any such folder, flat ones too, and prints each problem in one line with file and line; the exit
    code is 2 if there is one.
    """
    # Taken from `given`, as they would hide Python's own names.
    valid, every = given.pop("range"), given.pop("all")
    if check is not None:
        if bench is not None or out is not None:
            raise click.UsageError("--check DIR goes without NAME and --out")
        _refuse(*given, "variants", "all", reason="goes without --check, which looks at what is there")
        return _check(check, valid, as_json=as_json)
    if bench is None or out is None:
        raise click.UsageError("name a benchmark and --out DIR, or --check DIR")
    _refuse("range", reason="is for --check")
    if every:
        _refuse("instances", reason="goes without --all, which takes every instance")
    if not given["two_network"]:
        _refuse("delta", reason="is for --two-network")
    names = None if variants is None else comma_list(variants)
    options = ExportOptions(out=out, variants=names, every=every, timeout_s=given.pop("timeout"), **given)
    with _bars() as progress:
        done = export_benchmark(find_spec(bench), options, progress)
    _say_exported(done, as_json=as_json)
    return 0


def _refuse(*names: str, reason: str) -> None:
    """Refuses those options where they were typed, for they would have no effect; an environment's may stand."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} {reason}")


def _check(folder: Path, valid: tuple[float, float] | None, *, as_json: bool) -> int:
    if valid is not None and not valid[0] <= valid[1]:
        raise click.UsageError(f"--range {valid[0]:g} {valid[1]:g}: LOW is above HIGH")
    with _bars() as progress:
        report = check_folder(folder, valid, progress)
    if as_json:
        click.echo(json.dumps(_as_json(report), indent=2))
    else:
        for problem in report.problems:
            click.echo(str(problem))
        for note in report.notes:
            click.echo(f"note: {note}", err=True)
        found = f"{len(report.problems)} problem{'' if len(report.problems) == 1 else 's'}"
        seen = f"{report.instances} instances, {report.properties} properties, {report.networks} networks run"
        click.echo(f"{folder}: {', '.join(report.versions)}: {seen}; {found if report.problems else 'well-formed'}")
    return EXIT_USAGE if report.problems else 0


def _as_json(report: CheckReport) -> dict[str, object]:
    return {
        "folder": str(report.folder),
        "ok": not report.problems,
        "versions": report.versions,
        "instances": report.instances,
        "properties": report.properties,
        "networks": report.networks,
        "timeout_sum_s": report.timeout_sum_s,
        "problems": [{"file": p.file, "line": p.line, "message": p.message} for p in report.problems],
        "notes": report.notes,
    }


def _say_exported(done: Exported, *, as_json: bool) -> None:
    if as_json:
        values = {
            "folder": str(done.folder),
            "versions": done.versions,
            "networks": done.networks,
            "instances": done.instances,
            "timeout_s": done.timeout_s,
            "timeout_sum_s": done.timeout_sum_s,
            "seed": done.seed,
        }
        click.echo(json.dumps(values, indent=2))
        return
    click.echo(
        f"{done.folder}: {done.instances} instances of {len(done.networks)} networks in {', '.join(done.versions)}, "
        f"{done.timeout_sum_s:g} s together, seed {done.seed}"
    )


@contextmanager
def _bars() -> Iterator[OnProgress]:
    """Yields a progress report that draws a bar for each step on a terminal, and nothing elsewhere."""
    with step_bars(transient=False) as told:
        # Told before each item: the one that is worked on counts, so that the bar is full at the end.
        yield lambda what, done, total: told(what, done + 1, total)
