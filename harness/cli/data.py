"""`lgbench data`: fetch data sets, and say which are here."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from harness.data.datasets import DATASETS, EMBEDDED, load_images
from harness.data.fetch import ARCHIVES, fetch
from harness.domain import UsageError

_FOLDER_OPTION = click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="LGBENCH_DATA",
    show_envvar=True,
    default=Path("data"),
    show_default=True,
    help="The data folder.",
)


@click.group()
def data() -> None:
    """The data sets; the first 1,000 test images of each are built in."""


@data.command("fetch", short_help="Fetch data sets and check their MD5 sums.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@_FOLDER_OPTION
def fetch_data(names: tuple[str, ...], data: Path) -> None:
    """Fetch data sets from their official archives (all, or those named) and check their MD5 sums.

    What is there already is not fetched again, and a download that was cut off goes on.
    """
    for name in names:
        if name not in ARCHIVES:
            raise UsageError(f"there is no data set '{name}'; choose from {', '.join(ARCHIVES)}")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file, total=total)
            bars.update(tasks[file], completed=done, total=total)

        for name in names or tuple(ARCHIVES):
            fetch(name, data, progress)
    for name in names or tuple(ARCHIVES):
        click.echo(f"{name}: complete in {data}")
    click.echo(f"Other commands find them with --data {data}, or LGBENCH_DATA.", err=True)


@data.command("list")
@_FOLDER_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_data(data: Path, as_json: bool) -> None:
    """List the data sets, and whether the data folder has them in full."""
    found = {name: _full_sizes(name, data) for name in DATASETS}
    if as_json:
        rows = [
            {"name": name, "embedded_test_images": EMBEDDED, "folder": str(data), "images": sizes}
            for name, sizes in found.items()
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for name, sizes in found.items():
        if sizes:
            words = ", ".join(f"{count} {split} images" for split, count in sizes.items())
        else:
            words = f"not here; `lgbench data fetch {name}` gets it"
        click.echo(f"{name}: first {EMBEDDED} test images built in; in the folder {data}: {words}")


def _full_sizes(name: str, folder: Path) -> dict[str, int]:
    """Returns split to number of images; empty where the folder does not have the data set in full."""
    try:
        return {split: len(load_images(name, split, folder)) for split in ("train", "test")}
    except UsageError:
        return {}
