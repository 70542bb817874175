"""instances.csv: the list of a benchmark's instances; three columns, no header, paths relative to its folder."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from harness.domain import Instance, UsageError
from harness.files import write_atomically
from harness.formats.compressed import locate, read_text


def read_instances(path: Path) -> list[Instance]:
    """Returns the instances that a file lists, in its order; every network and property exists.

    Blank lines and Windows line ends are accepted. A file that is named without `.gz` may exist with it; the
    instance then holds the path that exists, and its `*_name` the name as written.

    Args:
        path: an instances.csv, as VNN-COMP writes it.

    Raises:
        UsageError: the file cannot be read, a row is wrong (with its line), or there is no row.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        instances = [_instance(path, reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num}: not a CSV row ({error}); correct the line") from error
    if not instances:
        raise UsageError(f"{path}: lists no instances; write one 'network,property,seconds' row for each")
    return instances


def write_instances(path: Path, instances: Sequence[Instance]) -> None:
    """Replaces `path` atomically by the list of `instances`, so that `read_instances` returns them again.

    Args:
        path: the instances.csv to write.
        instances: written under `network_name` and `property_name`; where such a name is empty, the file's
            path relative to the folder of `path` stands for it, without `.gz`.

    Raises:
        ValueError: an instance has no name and its file lies outside the folder.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for instance in instances:
        network = instance.network_name or _relative(instance.network, path.parent)
        prop = instance.property_name or _relative(instance.property, path.parent)
        writer.writerow((network, prop, format_seconds(instance.timeout_s)))
    write_atomically(path, text.getvalue())


def format_seconds(seconds: float) -> str:
    """Returns the shortest text that reads back as `seconds`, whole numbers without a point."""
    return str(int(seconds)) if float(seconds).is_integer() else repr(float(seconds))


def _instance(path: Path, line: int, cells: list[str]) -> Instance:
    where, row = f"{path}:{line}", [cell.strip() for cell in cells]
    if len(row) != 3:
        raise UsageError(f"{where}: {len(row)} columns; a row is 'network,property,seconds'")
    if row[0].startswith("["):
        raise UsageError(f"{where}: a row with several networks (VNN-LIB 2.0) is not supported; list one network")
    try:
        timeout_s = float(row[2])
    except ValueError:
        timeout_s = math.nan
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        raise UsageError(f"{where}: the time limit '{row[2]}' is not a positive number of seconds; correct it")
    network, prop = (_file(where, path.parent, name) for name in row[:2])
    return Instance(network, prop, timeout_s, row[0], row[1])


def _file(where: str, folder: Path, name: str) -> Path:
    """Returns the existing file that a row names; the name alone decides that it lies in the folder."""
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name:
        raise UsageError(f"{where}: '{name}' does not lie in the list's folder; write it relative to {folder}")
    found = locate(folder.joinpath(*parts))
    if found is None:
        raise UsageError(f"{where}: there is no file '{name}' (nor '{name}.gz') in {folder}; add it or drop the row")
    return found


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix().removesuffix(".gz")
