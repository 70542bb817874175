"""instances.csv: the list of a benchmark's instances; three columns, no header, paths relative to its folder."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.domain import Instance, UsageError
from harness.files import write_atomically
from harness.formats.competition import file_stem, network_paths
from harness.formats.compressed import locate, read_text


@dataclass(frozen=True, slots=True)
class ListedInstance:
    """A well-formed row of a list; whether its files are there is another question."""

    instance: Instance
    where: str
    """File and line, for messages."""
    problem: str = ""
    """Why the instance cannot be decided, with file and line; empty where all of its files exist."""
    networks: tuple[tuple[str, Path], ...] = ()
    """Declared name and file of each network where the row lists several (VNN-LIB 2.0); `instance.network` then only
    has a name made of theirs."""


def read_list(path: Path) -> list[ListedInstance]:
    """Returns the rows of a list in its order; one whose files are missing is among them, with the reason.

    Blank lines and Windows line ends are accepted. A file that is named without `.gz` may exist with it; the
    instance then holds the path that exists, and its `*_name` the name as written.

    Args:
        path: an instances.csv, as VNN-COMP writes it.

    Raises:
        UsageError: the file cannot be read, a row is malformed (with its line), or there is no row.
    """
    rows, problems = read_rows(path)
    if problems:
        raise UsageError(problems[0])
    return rows


def read_rows(path: Path) -> tuple[list[ListedInstance], list[str]]:
    """Returns the well-formed rows of a list, and what is wrong with the others, each with file and line.

    A row that is no CSV ends the reading. See `read_list`.

    Raises:
        UsageError: the file cannot be read.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows: list[ListedInstance] = []
    problems: list[str] = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                try:
                    rows.append(_row(path, reader.line_num, row))
                except UsageError as error:
                    problems.append(str(error))
    except csv.Error as error:
        problems.append(f"{path}:{reader.line_num}: not a CSV row ({error}); correct the line")
    if not rows and not problems:
        problems.append(f"{path}: lists no instances; write one 'network,property,seconds' row for each")
    return rows, problems


def read_instances(path: Path) -> list[Instance]:
    """Returns the instances that a file lists, in its order; every network and property exists. See `read_list`.

    Raises:
        UsageError: as `read_list`, or a file of a row is missing.
    """
    rows = read_list(path)
    for row in rows:
        if row.problem or row.networks:
            raise UsageError(row.problem or f"{row.where}: an instance of several networks; list one network")
    return [row.instance for row in rows]


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


def _row(path: Path, line: int, cells: list[str]) -> ListedInstance:
    where, row = f"{path}:{line}", [cell.strip() for cell in cells]
    if len(row) != 3:
        raise UsageError(f"{where}: {len(row)} columns; a row is 'network,property,seconds'")
    try:
        timeout_s = float(row[2])
    except ValueError:
        timeout_s = math.nan
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        raise UsageError(f"{where}: the time limit '{row[2]}' is not a positive number of seconds; correct it")
    if row[0].startswith("["):
        return _several(path, where, row, timeout_s)
    files, problem = [], ""
    for name in row[:2]:
        file, trouble = _find(_inside(where, path.parent, name))
        files.append(file)
        problem = problem or (trouble and f"{where}: '{name}' {trouble}")
    return ListedInstance(Instance(files[0], files[1], timeout_s, row[0], row[1]), where, problem)


def _several(path: Path, where: str, row: list[str], timeout_s: float) -> ListedInstance:
    """Returns a row whose first column is a list of (declared name, path)."""
    try:
        pairs = network_paths(row[0], where)
    except UsageError:
        pairs = []
    if not pairs or len({name for name, _ in pairs}) < len(pairs):
        hint = "write it as [('name', 'onnx/file.onnx'), ...], each name once"
        raise UsageError(f"{where}: '{row[0]}' is not a list of networks; {hint}")
    problem, found = "", []
    for name in (*(file for _, file in pairs), row[1]):
        file, trouble = _find(_inside(where, path.parent, name))
        found.append(file)
        problem = f"{where}: '{name}' {trouble}" if trouble else problem
    networks = tuple((pairs[i][0], found[i]) for i in range(len(pairs)))
    joined = "_".join(file_stem(file) for _, file in pairs)
    instance = Instance(path.parent / joined, found[-1], timeout_s, row[0], row[1])
    return ListedInstance(instance, where, problem, networks)


def _find(file: Path) -> tuple[Path, str]:
    """Returns the existing file that `file` names, or itself with what is wrong."""
    try:
        found = locate(file)
    except OSError as error:
        return file, f"cannot be looked for in {file.parent} ({error.strerror})"
    return (found, "") if found is not None else (file, f"is no file (nor is '{file.name}.gz') in {file.parent}")


def _inside(where: str, folder: Path, name: str) -> Path:
    """Returns the file that a row names; the name alone decides that it lies in the folder."""
    parts = PurePosixPath(name).parts
    if not name.isprintable():
        raise UsageError(f"{where}: '{name}' has characters that no file of a benchmark has in its name; rename it")
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name:
        raise UsageError(f"{where}: '{name}' does not lie in the list's folder; write it relative to {folder}")
    return folder.joinpath(*parts)


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix().removesuffix(".gz")
