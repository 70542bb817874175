"""The files that a benchmark's list names: properties read and compared with their networks, networks run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.domain import FloatArray, InputBox, LgBenchError
from harness.formats.compressed import read_text
from harness.formats.instances import ListedInstance
from harness.formats.onnx_file import OnnxSession, open_session, run_flat
from harness.formats.vnnlib import parse_property
from harness.formats.vnnlib2_query import NetworkDeclaration, parse_query
from harness.formats.vnnlib2_reader import declared_box, query_property
from harness.formats.vnnlib2_text import is_version_2

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

    def add(self, error: LgBenchError | str, where: str) -> None:
        """Adds a problem; a message that does not begin with its own place stands at `where`, a `file:line`."""
        match = _PLACE.fullmatch(str(error))
        if match is None:
            match = _PLACE.fullmatch(f"{where}: {error}")
        if match is None:
            self.problems.append(Problem(str(self.folder), 0, f"{where}: {error}"))
            return
        column = f"column {match['column']}: " if match["column"] else ""
        self.problems.append(Problem(match["file"], int(match["line"]), f"{column}{match['message']}"))


class Content(NamedTuple):
    """What a property says, as far as its networks have to fit it."""

    inputs: int
    outputs: int
    """Of a VNN-LIB 1.0 property."""
    networks: tuple[NetworkDeclaration, ...]
    """Of a VNN-LIB 2.0 property; none for 1.0."""
    centre: FloatArray | None
    """Of the first box, for the first network; None where there is no box."""


class FileChecks:
    """Reads each property once and runs each network once, and adds to a report what is wrong with them.

    Args:
        report: gets the problems.
        version: of the properties: `1.0`, `2.0`, or `flat` for either.
        valid: least and greatest value of an input; None: any finite one.
    """

    def __init__(self, report: CheckReport, version: str, valid: tuple[float, float] | None) -> None:
        self._report, self._version, self._valid = report, version, valid
        self._sessions: dict[Path, OnnxSession | None] = {}
        self._contents: dict[Path, Content | None] = {}
        self._fitted: set[tuple[Path, ...]] = set()
        self._ran: set[Path] = set()

    def check(self, row: ListedInstance) -> None:
        """Checks the files of one row; what was checked for an earlier one is not repeated."""
        files = [path for _, path in row.networks] or [row.instance.network]
        prop = row.instance.property
        missing = [path for path in (*files, prop) if not path.is_file()]
        if missing:
            self._report.add(row.problem or f"{missing[0]} is no file", row.where)
        sessions = [self._session(path, row.where) if path.is_file() else None for path in files]
        content = self._content(prop) if prop.is_file() else None
        if content is None or (prop, *files) in self._fitted:
            return
        self._fitted.add((prop, *files))
        for message, place in _fits(row, content, sessions):
            self._report.add(message, place)
        for path, session in zip(files, sessions, strict=True):
            if session is not None and content.centre is not None:
                self._run(path, session, content.centre, row.where)

    def count(self) -> None:
        """Adds to the report how many files were read and run."""
        self._report.networks += len(self._ran)
        self._report.properties += len(self._contents)

    def _session(self, path: Path, where: str) -> OnnxSession | None:
        if path not in self._sessions:
            self._sessions[path] = None
            try:
                self._sessions[path] = open_session(path)
            except LgBenchError as error:
                self._report.add(error, where)
        return self._sessions[path]

    def _run(self, path: Path, session: OnnxSession, centre: FloatArray, where: str) -> None:
        if path in self._ran or centre.size != session.input.size:
            return
        self._ran.add(path)
        try:
            outputs = run_flat(session, centre)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime has no common error class; whatever it says is the finding
            self._report.add(f"{path}: ONNX Runtime cannot run it ({str(error).splitlines()[0]})", where)
            return
        if outputs.size != session.output.size or not np.isfinite(outputs).all():
            self._report.add(f"{path}: gives {outputs.size} outputs, not all finite, for the centre of a box", where)

    def _content(self, path: Path) -> Content | None:
        """Returns what a property says, after checking its version, text and boxes; None where it cannot be used."""
        if path not in self._contents:
            self._contents[path] = None
            try:
                text = read_text(path)
                found = "2.0" if is_version_2(text) else "1.0"
                if self._version not in ("flat", found):
                    message = f"a VNN-LIB {found} property in the folder of {self._version}"
                    self._report.add(message, f"{path}:1")
                self._contents[path] = self._read_2(path, text) if found == "2.0" else self._read_1(path, text)
            except LgBenchError as error:
                self._report.add(error, f"{path}:1")
        return self._contents[path]

    def _read_1(self, path: Path, text: str) -> Content:
        prop = parse_property(text, str(path))
        for case in prop.cases:
            self._check_box(path, text, case.box, "X_{}".format)
        centre = _centre(prop.cases[0].box) if prop.cases else None
        return Content(prop.input_size, prop.output_size, (), centre)

    def _read_2(self, path: Path, text: str) -> Content:
        query = parse_query(text, str(path))
        if len(query.networks) == 1:
            boxes = [case.box for case in query_property(query).cases]
        else:
            boxes = [declared_box(query)]
            bounded = np.isfinite(boxes[0].lower) & np.isfinite(boxes[0].upper)
            if not bounded.all():
                first = int(bounded.argmin())
                place = next(tensor.place for tensor in reversed(query.inputs) if tensor.first <= first)
                message = f"{query.text.input_name(first)} has no finite bound on both sides; assert one for each"
                raise query.text.error(place, message)
        for box in boxes:
            self._check_box(path, text, box, query.text.input_name)
        # Of several networks the first one's input; the others' are tied to it, or of its size at least.
        return Content(0, 0, query.networks, _centre(boxes[0])[: query.inputs[0].size] if boxes else None)

    def _check_box(self, path: Path, text: str, box: InputBox, name_of: Callable[[int], str]) -> None:
        """Checks one box; of the inputs that are wrong in one way the first is named, with its line."""
        low, high = self._valid or (-np.inf, np.inf)
        for wrong, what in (
            (box.lower > box.upper, "an empty box: the lower bound is above the upper one"),
            ((box.lower < low) | (box.upper > high), f"a bound outside the valid range [{low:g}, {high:g}]"),
        ):
            if wrong.any():
                first = int(wrong.argmax())
                lower, upper = float(box.lower[first]), float(box.upper[first])
                more = f" ({int(wrong.sum())} such inputs)" if wrong.sum() > 1 else ""
                line = _line_of(text, name_of(first), upper if upper > high else lower)
                self._report.add(f"{name_of(first)}: {what}: [{lower}, {upper}]{more}", f"{path}:{line}")


def _fits(row: ListedInstance, content: Content, sessions: Sequence[OnnxSession | None]) -> Iterator[tuple[str, str]]:
    """Yields what does not fit between a property and the networks of its row, each with its place."""
    where = f"{row.instance.property}:1"
    if content.networks:
        yield from _mapped(row, content.networks, sessions)
    elif row.networks:
        yield "several networks with a VNN-LIB 1.0 property, which knows one", row.where
    elif sessions[0] is not None:
        for kind, name, size, wanted in (
            ("inputs", "X", content.inputs, sessions[0].input.size),
            ("outputs", "Y", content.outputs, sessions[0].output.size),
        ):
            if size != wanted:
                yield f"declares {size} {kind} {name}_i, but {row.instance.network} has {wanted}", where


def _mapped(
    row: ListedInstance, networks: Sequence[NetworkDeclaration], sessions: Sequence[OnnxSession | None]
) -> Iterator[tuple[str, str]]:
    """Yields where declared networks and listed files do not belong together in name, shapes and types."""
    declared = [network.name for network in networks]
    names = [name for name, _ in row.networks] or declared[:1]
    # A network that equals another one needs no file.
    needed = [network.name for network in networks if not network.equal_to]
    for name in needed:
        if name not in names:
            yield f"no file is listed for the network '{name}' that {row.instance.property} declares", row.where
    for name in names:
        if name not in declared:
            yield f"the listed network '{name}' is not declared in {row.instance.property}", row.where
    listed = dict(zip(names, sessions, strict=False))
    for network in networks:
        session = listed.get(network.name)
        if session is not None:
            for message in _misfits(network, session):
                yield message, f"{row.instance.property}:1"


def _misfits(network: NetworkDeclaration, session: OnnxSession) -> Iterator[str]:
    for kind, tensors, info in (
        ("input", network.inputs, session.input),
        ("output", network.outputs, session.output),
    ):
        if len(tensors) != 1:
            yield f"declares {len(tensors)} {kind}s of {network.name}, but the network has one"
            continue
        tensor = tensors[0]
        if tensor.shape != info.shape:
            yield f"declares {kind} {tensor.name} of shape {list(tensor.shape)}, the network has {list(info.shape)}"
        if tensor.dtype not in ("real", info.dtype.name):
            yield f"declares {kind} {tensor.name} as {tensor.dtype}, the network has {info.dtype.name}"


def _centre(box: InputBox) -> FloatArray:
    return np.asarray(box.lower + (box.upper - box.lower) / 2)


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
