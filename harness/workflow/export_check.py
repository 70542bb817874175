"""Whether a benchmark folder is well-formed: every path, property, box and network of it, ours or another's."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from harness.domain import UsageError
from harness.formats.competition import file_stem, network_paths
from harness.formats.instances import ListedInstance, read_rows
from harness.workflow.export import SIX_HOURS_S
from harness.workflow.export_check_files import CheckReport, FileChecks, Problem
from harness.workflow.export_generate import SETTINGS_FILE, VERSIONS, OnProgress, silent

LIST_FILE = "instances.csv"


class _Section(NamedTuple):
    version: str
    folder: Path
    rows: list[ListedInstance]

    @property
    def list_file(self) -> Path:
        return self.folder / LIST_FILE


def check_folder(
    folder: Path, valid: tuple[float, float] | None = None, on_progress: OnProgress = silent
) -> CheckReport:
    """Returns what is wrong with a benchmark folder; nothing is, where the report has no problems.

    Looked at are the lists (columns, limits, doubles, paths, the same instances in both versions), every property (our
    reader; 2.0 by the official parser too), how it fits its networks (sizes; in 2.0 shapes, types and names), its
    boxes (bounded, not empty, inside the valid range), and every network, run on ONNX Runtime with the centre of a box.

    Args:
        folder: with `1.0/` or `2.0/` or both, or with an `instances.csv` of its own.
        valid: least and greatest value of an input; None: what the folder's `data/benchmark.json` says, if it is ours,
            else only that bounds are finite.
        on_progress: is told how far it is.

    Raises:
        UsageError: the folder is none, or has no list at all.
    """
    report = CheckReport(folder)
    places = {version: folder / version for version in VERSIONS if (folder / version / LIST_FILE).is_file()}
    if not places and (folder / LIST_FILE).is_file():
        places = {"flat": folder}
    if not places:
        raise UsageError(f"{folder}: no benchmark; it has no {LIST_FILE}, nor 1.0/{LIST_FILE}, nor 2.0/{LIST_FILE}")
    report.versions = list(places)
    sections = [_read_section(report, version, place) for version, place in places.items()]
    for version in VERSIONS:
        if (folder / version).is_dir() and version not in places:
            report.problems.append(Problem(str(folder / version), 0, f"there is no {LIST_FILE} in it"))
    valid = valid or _stated_range(folder, report)
    for section in sections:
        _check_names(report, section)
        _check_files(report, section, valid, on_progress)
    if len(sections) == 2:
        _check_order(report, *sections)
    if report.timeout_sum_s > SIX_HOURS_S:
        report.notes.append(f"the time limits sum up to {report.timeout_sum_s:g} s; VNN-COMP allows {SIX_HOURS_S:g} s")
    return report


def _read_section(report: CheckReport, version: str, folder: Path) -> _Section:
    path = folder / LIST_FILE
    rows, problems = read_rows(path)
    for problem in problems:
        report.add(problem, f"{path}:1")
    report.instances += len(rows)
    report.timeout_sum_s = max(report.timeout_sum_s, sum(row.instance.timeout_s for row in rows))
    return _Section(version, folder, rows)


def _stated_range(folder: Path, report: CheckReport) -> tuple[float, float] | None:
    path = folder / SETTINGS_FILE
    if not path.is_file():
        report.notes.append("the valid range of inputs is not stated; boxes were only checked to be finite")
        return None
    try:
        low, high = json.loads(path.read_text(encoding="utf-8"))["input_range"]
        return float(low), float(high)
    except (OSError, ValueError, KeyError, TypeError) as error:
        report.problems.append(Problem(str(path), 1, f"does not state 'input_range' ({error})"))
        return None


def _names(row: ListedInstance) -> list[str]:
    """Returns the paths that column 1 names."""
    return [path for _, path in network_paths(row.instance.network_name, row.where)]


def _identity(row: ListedInstance) -> tuple[str, str]:
    """Returns what scoring knows an instance by: the stems of network and property, of a list the declared names."""
    joined = "_".join(name for name, _ in row.networks)
    return joined or file_stem(row.instance.network_name), file_stem(row.instance.property_name)


def _check_names(report: CheckReport, section: _Section) -> None:
    """Checks what the names in the list alone decide: folders, endings, doubles."""
    seen: dict[tuple[str, str], str] = {}
    stems: dict[str, set[str]] = defaultdict(set)
    for row in section.rows:
        line = row.where
        prop = row.instance.property_name
        for folder, ending, names in (("onnx", ".onnx", _names(row)), ("vnnlib", ".vnnlib", [prop])):
            for name in names:
                parts = PurePosixPath(name).parts
                if parts[:1] != (folder,) or {"onnx", "vnnlib"} & set(parts[1:-1]):
                    report.add(f"'{name}' is not below one folder {folder}/; scoring cuts paths there", line)
                if not name.endswith(ending):
                    report.add(f"'{name}' does not end in {ending}; name the unzipped file", line)
        identity = _identity(row)
        if identity in seen:
            report.add(f"the same network and property names stand in {seen[identity]} already", line)
        seen.setdefault(identity, line)
        stem = identity[1]
        if stems[stem] and PurePosixPath(prop) not in map(PurePosixPath, stems[stem]):
            other = min(stems[stem])
            report.add(f"'{prop}' has the name of '{other}'; counterexamples of the two would collide", line)
        stems[stem].add(prop)


def _check_order(report: CheckReport, first: _Section, second: _Section) -> None:
    """Checks that both versions list the same instances in the same order, as scoring asserts."""
    if len(first.rows) != len(second.rows):
        message = f"{len(second.rows)} instances, but {first.list_file} lists {len(first.rows)}"
        report.add(message, f"{second.list_file}:1")
        return
    for i, row in enumerate(second.rows):
        if _identity(row) != _identity(first.rows[i]):
            report.add(f"another instance than at {first.rows[i].where}; both versions need one order", row.where)
            return
        if row.instance.timeout_s != first.rows[i].instance.timeout_s:
            report.add(f"another time limit than at {first.rows[i].where}", row.where)


def _check_files(
    report: CheckReport, section: _Section, valid: tuple[float, float] | None, on_progress: OnProgress
) -> None:
    checks = FileChecks(report, section.version, valid)
    for done, row in enumerate(section.rows):
        on_progress(f"checking {section.version}", done, len(section.rows))
        checks.check(row)
    checks.count()
