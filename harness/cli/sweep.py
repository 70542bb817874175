"""`lgbench sweep`: a grid of grafted networks as one benchmark that can be stopped and continued anywhere."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.analysis.tradeoff import ATTACK_LOSS, VERIFIED_SHARE, TradeoffRow, tradeoff
from harness.cli.outcome import EXIT_UNDECIDED, MIN_WIDTH, exit_code
from harness.cli.progress import clock_words, console_reporter
from harness.cli.sweep_networks import MODELS, SweepNetworks, SweepSettings, Training, baseline_of
from harness.cli.training_common import EXIT_UNFINISHED, LENGTH_OPTION, Length, slice_options
from harness.config import BenchmarkSpec, find_spec
from harness.domain import UsageError
from harness.files import write_atomically
from harness.networks import zoo
from harness.report.sweep_figures import write_tradeoff_figures
from harness.run.lock import run_lock
from harness.sweep_config import SweepSpec, find_sweep, sweep_benchmark
from harness.workflow.benchmark import run_benchmark
from harness.workflow.folder import earlier_header
from harness.workflow.options import RunOptions, RunSummary
from harness.workflow.plan import DEFAULT_TOOL
from harness.workflow.sweep import SweepPoint, point_titles, sweep_points

SWEEP_JSON, SWEEP_CSV, FIGURES = "sweep.json", "sweep.csv", "figures"
SWEEP_SCHEMA = 1
_COLUMNS = ("SA", "RA", "VA", "UNR", "UNR_nonlinear", ATTACK_LOSS, VERIFIED_SHARE)


@click.command()
@click.argument("spec")
@click.option("--out", type=click.Path(path_type=Path), help="The sweep's folder.  [default: results/sweep-NAME]")
@slice_options
@LENGTH_OPTION
@click.option("--dry-run", is_flag=True, help="List the points and the work that is left; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON; all else on standard error.")
def sweep(
    spec: str,
    out: Path | None,
    data: Path | None,
    device: str,
    max_seconds: float | None,
    length: Length | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Graft, fine-tune and verify every point of the grid SPEC, and compare them.

    SPEC is a sweep of specs/sweeps/, or a YAML file. Networks go to OUT/models, results to OUT as those of `lgbench
    bench`, the comparison to OUT/sweep.csv, OUT/sweep.json and OUT/figures/. What points share is made once. Stopped or
    killed at any moment, the same command goes on; so does a spec to which points were added. --max-seconds bounds the
    training of networks.
    """
    found = find_sweep(spec)
    base = _base_of(found)
    points = sweep_points(found, base)
    folder = out or Path("results") / f"sweep-{found.name}"
    deadline = None if max_seconds is None else time.monotonic() + max_seconds
    settings = SweepSettings(folder, data, device, length, deadline)
    baseline_of(base)
    _check_folder(folder, found, base)
    if dry_run:
        return _dry_run(found, base, points, settings, as_json=as_json)
    networks = SweepNetworks(found, base, points, settings)
    # What training prints is progress here: standard output is the result's alone.
    with run_lock(folder), contextlib.redirect_stdout(sys.stderr):
        trainings = networks.prepare()
        if not networks.make_all(trainings):
            left = sum(not networks.stands(training) for training in trainings)
            click.echo(f"{left} of {len(trainings)} networks are not made yet; the same command goes on", err=True)
            return EXIT_UNFINISHED
    return _verify(found, base, networks, trainings, f"lgbench sweep {spec}", as_json=as_json)


def _base_of(found: SweepSpec) -> BenchmarkSpec:
    local = found.root / found.benchmark
    return find_spec(local) if local.exists() else find_spec(found.benchmark)


def _check_folder(folder: Path, found: SweepSpec, base: BenchmarkSpec) -> None:
    """Raises UsageError where the folder belongs to another run; it is not touched."""
    header = earlier_header(folder, resume=True)
    if header is not None and (header.benchmark, header.eps) != (found.name, base.eps):
        raise UsageError(f"{folder}: holds a run of {header.benchmark}, not of {found.name}; choose another --out")


def _variants(
    found: SweepSpec, base: BenchmarkSpec, points: Sequence[SweepPoint], trainings: Sequence[Training]
) -> tuple[dict[str, str], dict[str, str]]:
    """Returns variant to title and variant to network file, the baseline first."""
    titles, files = {}, {}
    if found.baseline:
        titles[base.baseline] = base.variant(base.baseline).title
        files[base.baseline] = f"{MODELS}/{base.baseline}{zoo.NETWORK_SUFFIX}"
    for name, title in point_titles(points).items():
        key = next(training.key for training in trainings if name in [point.name for point in training.points])
        titles[name], files[name] = title, f"{MODELS}/{key}{zoo.NETWORK_SUFFIX}"
    return titles, files


def _verify(
    found: SweepSpec,
    base: BenchmarkSpec,
    networks: SweepNetworks,
    trainings: Sequence[Training],
    command: str,
    *,
    as_json: bool,
) -> int:
    """Verifies all networks as one benchmark, writes the comparison and returns the exit code."""
    settings, limits = networks.settings, found.verification
    benchmark = sweep_benchmark(found, base, *_variants(found, base, networks.points, trainings), settings.out)
    options = RunOptions(
        out=settings.out,
        # A protocol by name: limits are then the file's, not those of an earlier start.
        protocol="full",
        max_domains=limits.max_domains,
        device=settings.device,
        variants=benchmark.variant_names,
        tool=DEFAULT_TOOL,
        seed=benchmark.seed,
        resume=True,
        data=settings.data,
        command=command,
    )
    console = _console(as_json)
    try:
        with console_reporter(console) as reporter:
            done = run_benchmark(benchmark, options, reporter)
    except KeyboardInterrupt:
        _say(console, "interrupted; the same command goes on")
        return EXIT_UNDECIDED
    rows = write_comparison(found, done, networks.points)
    if as_json:
        click.echo((settings.out / SWEEP_JSON).read_text(encoding="utf-8"), nl=False)
    else:
        console.print(comparison_table(rows))
    _say(console, f"table:   {settings.out / SWEEP_CSV}, {settings.out / SWEEP_JSON}")
    _say(console, f"figures: {settings.out / FIGURES}")
    _say(console, f"report:  {done.report}")
    if done.interrupted:
        _say(console, f"interrupted with {done.missing} inputs open; the same command goes on")
    return exit_code(done)


def write_comparison(found: SweepSpec, done: RunSummary, points: Sequence[SweepPoint]) -> list[TradeoffRow]:
    """Writes sweep.csv, sweep.json and the figures of a run, finished or not, and returns its rows."""
    summary = done.summary
    rows = tradeoff(summary, {point.name: point.axes() for point in points})
    keys = ("inputs", "eps", "timeout_s", "timeout_on", "max_domains", "device", "complete", "conflicts")
    document = {
        "schema": SWEEP_SCHEMA,
        "sweep": found.name,
        "benchmark": found.benchmark,
        **{key: summary[key] for key in keys},
        "points": [row.to_json() for row in rows],
    }
    write_atomically(done.folder / SWEEP_CSV, comparison_csv(rows))
    write_tradeoff_figures(rows, found.title, done.folder / FIGURES)
    write_atomically(done.folder / SWEEP_JSON, json.dumps(document, indent=2) + "\n")
    return rows


def comparison_csv(rows: Sequence[TradeoffRow]) -> str:
    """Returns the comparison as CSV with a header: a line a network, percent unrounded, empty where there is none."""
    flat = [row.flat() for row in rows]
    # The network before grafting has no axes.
    columns = list(dict.fromkeys(key for line in sorted(flat, key=len, reverse=True) for key in line))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in line.items()} for line in flat)
    return stream.getvalue()


def comparison_table(rows: Sequence[TradeoffRow]) -> Table:
    """Returns the comparison as the terminal shows it; sample sizes stand in the title where all rows share them."""
    shared = {name: {row.n[name] for row in rows} for name in ("SA", "RA", "VA")}
    sizes = ", ".join(f"{name} of {next(iter(n))}" for name, n in shared.items() if len(n) == 1)
    table = Table(title=Text(f"inputs: {sizes}; percent"), title_justify="left", box=None, pad_edge=False)
    table.add_column("network")
    for name in ("SA", "RA", "VA", "UNR", "non-linear", ATTACK_LOSS, VERIFIED_SHARE):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("n (SA/RA/VA/UNR)", justify="right", no_wrap=True)
    for row in rows:
        figures = ["-" if row.values[name] is None else f"{row.values[name]:.2f}" for name in _COLUMNS]
        counts = "/".join("-" if row.n[name] is None else str(row.n[name]) for name in ("SA", "RA", "VA", "UNR"))
        table.add_row(Text(row.title), *figures, counts)
    return table


def _dry_run(
    found: SweepSpec, base: BenchmarkSpec, points: Sequence[SweepPoint], settings: SweepSettings, *, as_json: bool
) -> int:
    variants = len(points) + found.baseline
    limits = found.verification
    work: dict[str, Any] = {
        "sweep": found.name,
        "points": [{"name": point.name, **point.axes()} for point in points],
        "instances": variants * limits.inputs,
        "verification_s_at_most": variants * limits.inputs * limits.timeout_s,
    }
    if settings.data is not None:
        work |= _training_work(SweepNetworks(found, base, points, settings), work["points"])
    if as_json:
        click.echo(json.dumps(work, indent=2))
        return 0
    console = _console(as_json)
    for line in _work_lines(found, work):
        _say(console, line)
    return 0


def _training_work(networks: SweepNetworks, listed: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns what is left to train and adds each point's network and its state to `listed`."""
    trainings = networks.planned()
    if trainings is None:
        return {"scores": "to be computed first; what points share is known afterwards"}
    missing = [training for training in trainings if not networks.stands(training)]
    by_point = {point.name: training for training in trainings for point in training.points}
    for entry in listed:
        training = by_point[entry["name"]]
        entry |= {"network": training.key, "made": training not in missing, "neurons": training.mask.count}
    work: dict[str, Any] = {"networks": len(trainings), "networks_missing": len(missing)}
    if missing:
        moving = [training for training in missing if training.config.lr or training.config.graft_lr]
        estimate, epochs = networks.estimate(missing), sum(training.config.epochs for training in moving)
        work |= {"epochs": epochs, "seconds_per_epoch": estimate.seconds_per_epoch}
        work["training_s"] = epochs * estimate.seconds_per_epoch + len(missing) * estimate.seconds_per_measurement
    return work


def _work_lines(found: SweepSpec, work: Mapping[str, Any]) -> list[str]:
    lines = [f"{found.name}: {found.title}", f"{len(work['points'])} points:"]
    for entry in work["points"]:
        state = "" if "made" not in entry else f"  network {entry['network']}{', made' if entry['made'] else ''}"
        lines.append(f"  {entry['name']}{state}")
    if "networks" in work:
        lines.append(f"{work['networks']} networks, {work['networks_missing']} to be made")
    elif "scores" in work:
        lines.append(f"scores: {work['scores']}")
    else:
        lines.append("name the data set's folder with --data for the work of training")
    if "training_s" in work:
        pace = f"{work['epochs']} epochs of {work['seconds_per_epoch']:.0f} s"
        lines.append(f"training: about {clock_words(work['training_s'])}, measuring included ({pace})")
    bound = clock_words(work["verification_s_at_most"])
    lines.append(f"verification: {work['instances']} instances, at most {bound}")
    return lines


def _console(as_json: bool) -> Console:
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console.width = max(console.width, MIN_WIDTH + 30)
    return console


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
