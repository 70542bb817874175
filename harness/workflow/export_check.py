"""Whether a benchmark folder is well-formed: every path, property, box and network of it, ours or another's."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from harness.domain import FloatArray, InputBox, LgBenchError, UsageError
from harness.formats.compressed import read_text
from harness.formats.instances import ListedInstance, read_rows
from harness.formats.onnx_file import OnnxSession, open_session, run_flat
from harness.formats.vnnlib import parse_property
from harness.formats.vnnlib2_query import NetworkDeclaration, Query, Tensor, parse_query
from harness.formats.vnnlib2_reader import declared_box, query_property
from harness.formats.vnnlib2_text import element_name, is_version_2
from harness.workflow.export import SIX_HOURS_S
from harness.workflow.export_generate import SETTINGS_FILE, VERSIONS, OnProgress, silent

LIST_FILE = "instances.csv"
_PLACE = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?::(?P<column>\d+))?: (?P<message>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a verifier or the competition's scripts would stumble over."""

    file: str
    line: int
    """From 1; 0 where a file is meant as a whole."""
    message: str

    def __str__(self) -> str:
        """Returns `file:line: message`."""
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


@dataclass(slots=True)
class CheckReport:
    """What a check saw."""

    folder: Path
    versions: list[str] = field(default_factory=list)
    """`1.0`, `2.0`; `flat` for a folder with its list in it."""
    instances: int = 0
    networks: int = 0
    """Files that were run."""
    properties: int = 0
    """Files that were read."""
    timeout_sum_s: float = 0.0
    """Of the version with the greatest sum."""
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is allowed, and still worth knowing."""


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


def _add(report: CheckReport, error: LgBenchError | str, where: str) -> None:
    """Adds a message that begins with its place; one without a place stands where the file was asked for."""
    match = _PLACE.fullmatch(str(error))
    if match is None:
        match = _PLACE.fullmatch(f"{where}: {error}")
    if match is None:
        report.problems.append(Problem(str(report.folder), 0, f"{where}: {error}"))
        return
    column = f"column {match['column']}: " if match["column"] else ""
    report.problems.append(Problem(match["file"], int(match["line"]), f"{column}{match['message']}"))


def _read_section(report: CheckReport, version: str, folder: Path) -> _Section:
    path = folder / LIST_FILE
    rows, problems = read_rows(path)
    for problem in problems:
        _add(report, problem, f"{path}:1")
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
    if not row.networks:
        return [row.instance.network_name]
    return re.findall(r"'([^']*)'\s*\)", row.instance.network_name) or [row.instance.network_name]


def _identity(row: ListedInstance) -> tuple[str, str]:
    """Returns what scoring knows an instance by: the stems of network and property, of a list the declared names."""
    joined = "_".join(name for name, _ in row.networks)
    return joined or _stem(row.instance.network_name), _stem(row.instance.property_name)


def _stem(name: str) -> str:
    return PurePosixPath(name).name.removesuffix(".gz").removesuffix(".onnx").removesuffix(".vnnlib")


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
                    _add(report, f"'{name}' is not below one folder {folder}/; scoring cuts paths there", line)
                if not name.endswith(ending):
                    _add(report, f"'{name}' does not end in {ending}; name the unzipped file", line)
        identity = _identity(row)
        if identity in seen:
            _add(report, f"the same network and property names stand in {seen[identity]} already", line)
        seen.setdefault(identity, line)
        stem = identity[1]
        if stems[stem] and PurePosixPath(prop) not in map(PurePosixPath, stems[stem]):
            other = min(stems[stem])
            _add(report, f"'{prop}' has the name of '{other}'; counterexamples of the two would collide", line)
        stems[stem].add(prop)


def _check_order(report: CheckReport, first: _Section, second: _Section) -> None:
    """Checks that both versions list the same instances in the same order, as scoring asserts."""
    if len(first.rows) != len(second.rows):
        message = f"{len(second.rows)} instances, but {first.list_file} lists {len(first.rows)}"
        _add(report, message, f"{second.list_file}:1")
        return
    for i, row in enumerate(second.rows):
        if _identity(row) != _identity(first.rows[i]):
            _add(report, f"another instance than at {first.rows[i].where}; both versions need one order", row.where)
            return
        if row.instance.timeout_s != first.rows[i].instance.timeout_s:
            _add(report, f"another time limit than at {first.rows[i].where}", row.where)


def _check_files(
    report: CheckReport, section: _Section, valid: tuple[float, float] | None, on_progress: OnProgress
) -> None:
    networks = _Networks(report)
    checked: set[tuple[Path, tuple[Path, ...]]] = set()
    for done, row in enumerate(section.rows):
        on_progress(f"checking {section.version}", done, len(section.rows))
        files = [path for _, path in row.networks] or [row.instance.network]
        missing = [path for path in (*files, row.instance.property) if not path.is_file()]
        if missing:
            _add(report, row.problem or f"{missing[0]} is no file", row.where)
        pairs = (row.instance.property, tuple(files))
        sessions = [networks.open(path, row.where) for path in files if path.is_file()]
        if pairs in checked or not row.instance.property.is_file():
            continue
        checked.add(pairs)
        box = _check_property(report, section, row, sessions if len(sessions) == len(files) else None, valid)
        for path, session in zip(files, sessions, strict=False):
            if box is not None and session is not None:
                networks.run(path, session, box, row.where)
    report.networks += len(networks.ran)
    report.properties += len({path for path, _ in checked})


class _Networks:
    """The networks of a section, each loaded and run once."""

    def __init__(self, report: CheckReport) -> None:
        self.report = report
        self.sessions: dict[Path, OnnxSession | None] = {}
        self.ran: set[Path] = set()

    def open(self, path: Path, where: str) -> OnnxSession | None:
        if path not in self.sessions:
            self.sessions[path] = None
            try:
                self.sessions[path] = open_session(path)
            except LgBenchError as error:
                _add(self.report, error, where)
        return self.sessions[path]

    def run(self, path: Path, session: OnnxSession, boxes: FloatArray, where: str) -> None:
        """Runs a network with an input of its size, the first time that one is at hand."""
        if path in self.ran or boxes.size != session.input.size:
            return
        self.ran.add(path)
        try:
            outputs = run_flat(session, boxes)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime has no common error class; whatever it says is the finding
            _add(self.report, f"{path}: ONNX Runtime cannot run it ({str(error).splitlines()[0]})", where)
            return
        if outputs.size != session.output.size or not np.isfinite(outputs).all():
            _add(self.report, f"{path}: gives {outputs.size} outputs, not all finite, for the centre of a box", where)


def _check_property(
    report: CheckReport,
    section: _Section,
    row: ListedInstance,
    sessions: Sequence[OnnxSession | None] | None,
    valid: tuple[float, float] | None,
) -> FloatArray | None:
    """Checks a property's text and how it fits; returns the centre of its first box, None where it has none."""
    path = row.instance.property
    try:
        text = read_text(path)
        second = is_version_2(text)
        if section.version != "flat" and second != (section.version == "2.0"):
            found = "2.0" if second else "1.0"
            _add(report, f"a VNN-LIB {found} property in the folder of {section.version}", f"{path}:1")
        if not second:
            return _check_1(report, row, text, sessions, valid)
        return _check_2(report, row, parse_query(text, str(path)), text, sessions, valid)
    except LgBenchError as error:
        _add(report, error, f"{path}:1")
        return None


def _check_1(
    report: CheckReport,
    row: ListedInstance,
    text: str,
    sessions: Sequence[OnnxSession | None] | None,
    valid: tuple[float, float] | None,
) -> FloatArray | None:
    path = row.instance.property
    prop = parse_property(text, str(path))
    if row.networks:
        _add(report, "several networks with a VNN-LIB 1.0 property, which knows one", row.where)
        return None
    session = sessions[0] if sessions else None
    if session is not None:
        for kind, name, size, wanted in (
            ("inputs", "X", prop.input_size, session.input.size),
            ("outputs", "Y", prop.output_size, session.output.size),
        ):
            if size != wanted:
                _add(report, f"declares {size} {kind} {name}_i, but {row.instance.network} has {wanted}", f"{path}:1")
    for case in prop.cases:
        _check_box(report, path, text, case.box, [f"X_{i}" for i in range(prop.input_size)], valid)
    return _centre(prop.cases[0].box) if prop.cases else None


def _check_2(
    report: CheckReport,
    row: ListedInstance,
    query: Query,
    text: str,
    sessions: Sequence[OnnxSession | None] | None,
    valid: tuple[float, float] | None,
) -> FloatArray | None:
    path = row.instance.property
    _check_mapping(report, row, query, sessions)
    names = [element_name(t.name, t.shape, i) for t in query.inputs for i in range(t.size)]
    if len(query.networks) == 1:
        prop = query_property(query)
        boxes = [case.box for case in prop.cases]
    else:
        boxes = [declared_box(query)]
        open_ends = ~(np.isfinite(boxes[0].lower) & np.isfinite(boxes[0].upper))
        if open_ends.any():
            raise query.text.error(-1, f"{names[int(open_ends.argmax())]} has no finite bound on both sides")
    for box in boxes:
        _check_box(report, path, text, box, names, valid)
    # Of several networks the first one's input; the others' are tied to it, or of its size at least.
    return _centre(boxes[0])[: query.inputs[0].size] if boxes else None


def _check_mapping(
    report: CheckReport, row: ListedInstance, query: Query, sessions: Sequence[OnnxSession | None] | None
) -> None:
    """Checks that declared networks and listed files belong together in name, shapes and types."""
    where = f"{row.instance.property}:1"
    names = [name for name, _ in row.networks] or [network.name for network in query.networks[:1]]
    listed = dict(zip(names, sessions or (), strict=False))
    needed = [network for network in query.networks if not network.equal_to]
    if row.networks or len(needed) != 1:
        given = {name for name, _ in row.networks}
        absent = sorted({network.name for network in needed} - given)
        strange = sorted(given - {network.name for network in query.networks})
        if absent:
            _add(report, f"no file is listed for the declared network '{absent[0]}'", row.where)
        if strange:
            _add(report, f"the listed network '{strange[0]}' is not declared in {row.instance.property}", row.where)
    for network in query.networks:
        session = listed.get(network.name)
        if session is not None:
            for message in _misfits(network, session):
                _add(report, message, where)


def _misfits(network: NetworkDeclaration, session: OnnxSession) -> Iterator[str]:
    for kind, tensors, info in (
        ("input", network.inputs, session.input),
        ("output", network.outputs, session.output),
    ):
        if len(tensors) != 1:
            yield f"declares {len(tensors)} {kind}s of {network.name}, but the network has one"
            continue
        tensor: Tensor = tensors[0]
        if tensor.shape != info.shape:
            yield f"declares {kind} {tensor.name} of shape {list(tensor.shape)}, the network has {list(info.shape)}"
        if tensor.dtype not in ("real", info.dtype.name):
            yield f"declares {kind} {tensor.name} as {tensor.dtype}, the network has {info.dtype.name}"


def _centre(box: InputBox) -> FloatArray:
    return np.asarray(box.lower + (box.upper - box.lower) / 2)


def _check_box(
    report: CheckReport, path: Path, text: str, box: InputBox, names: Sequence[str], valid: tuple[float, float] | None
) -> None:
    """Checks one box; of the inputs that are wrong in one way the first is named, with its line."""
    low, high = valid or (-np.inf, np.inf)
    for wrong, what in (
        (box.lower > box.upper, "an empty box: the lower bound is above the upper one"),
        ((box.lower < low) | (box.upper > high), f"a bound outside the valid range [{low:g}, {high:g}]"),
    ):
        if wrong.any():
            first = int(wrong.argmax())
            bad = box.upper[first] if box.upper[first] > high else box.lower[first]
            more = f" ({int(wrong.sum())} such inputs)" if wrong.sum() > 1 else ""
            line = _line_of(text, names[first], float(bad))
            _add(
                report, f"{names[first]}: {what}: [{box.lower[first]!s}, {box.upper[first]!s}]{more}", f"{path}:{line}"
            )


def _line_of(text: str, name: str, value: float) -> int:
    """Returns the line that sets an input's bound to a value; else the first that asserts something of it, or 1."""
    variable = re.compile(r"(?<![\w.])" + r"\s*".join(map(re.escape, re.findall(r"\w+|\W", name))) + r"(?![\w\[])")
    number = re.compile(r"(?<![\w\[,.])[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?(?![\w\],])")
    found = 0
    for i, line in enumerate(text.splitlines(), 1):
        if "declare" in line or not variable.search(line):
            continue
        if any(float(match[0]) == value for match in number.finditer(variable.sub(" ", line))):
            return i
        found = found or i
    return found or 1
