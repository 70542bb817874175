"""What VNN-COMP's result folders are made of: rows of results, limits, witness verdicts; one name for an instance.

Everything is read with a real CSV reader, because column 1 may be a quoted list, and every mistake is named with its
file and line.
"""

from __future__ import annotations

import ast
import csv
import io
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.domain import UsageError, Verdict, WitnessVerdict
from harness.formats.compressed import read_text

_PROBES = ("test_nano", "test_tiny")
_PREFIXES = (
    ("unsat", Verdict.UNSAT),
    ("sat", Verdict.SAT),
    ("timed-out", Verdict.TIMEOUT),
    ("timeout", Verdict.TIMEOUT),
    ("run_instance_timeout", Verdict.TIMEOUT),
    ("prepare_instance_timeout", Verdict.TIMEOUT),
    ("no_result_in_file", Verdict.UNKNOWN),
    ("prepare_instance_error_", Verdict.UNKNOWN),
    ("error_nonmaximal", Verdict.UNKNOWN),
    ("error_exit_code_", Verdict.ERROR),
)
"""Beginnings of result words, in the order of VNN-COMP 2026's scoring code."""
_WORDS = {
    "": Verdict.UNKNOWN,
    "holds": Verdict.UNSAT,
    "violated": Verdict.SAT,
    "unknown": Verdict.UNKNOWN,
    "error": Verdict.ERROR,
}
_SHARED_STEMS = {"safenlp": ("medical", "ruarobot")}
"""Benchmarks whose stems repeat in their folders; the competition puts the folder before them."""


@dataclass(frozen=True, slots=True)
class CompetitionRow:
    """One row of a tool's results.csv."""

    network: str
    """Column 2 as it stands: a path, or a quoted list of names and paths."""
    prop: str
    """Column 3 as it stands."""
    prepare_s: float
    word: str
    """The result as the harness wrote it."""
    verdict: Verdict
    """What the word means."""
    run_s: float
    """Wall seconds."""
    where: str
    """File and line, for messages."""

    @property
    def is_probe(self) -> bool:
        """Whether the row only measures the tool's overhead, and is no instance."""
        return any(probe in self.network for probe in _PROBES)

    @property
    def name(self) -> str:
        """`instance_name` of the row."""
        return instance_name(self.network, self.prop, self.where)


@dataclass(frozen=True, slots=True)
class ListedLimit:
    """A row of an instances.csv, whose files need not be there."""

    network: str
    """Column 1 as it stands."""
    prop: str
    """Column 2 as it stands."""
    timeout_s: float
    """Seconds, positive and finite."""
    where: str
    """File and line, for messages."""

    @property
    def name(self) -> str:
        """`instance_name` of the row."""
        return instance_name(self.network, self.prop, self.where)


@dataclass(frozen=True, slots=True)
class StatedVerdict:
    """What a table says of one witness."""

    benchmark: str
    """Without a year in front."""
    id: int
    """Position of the instance among the benchmark's, probes left out."""
    tool: str
    verdict: WitnessVerdict
    where: str
    """File and line, for messages."""


def verdict_of_word(word: str) -> Verdict | None:
    """Returns what a result word means to the competition's scorer; None where it knows no such word.

    Case and white space around it do not matter; known beginnings suffice: `timeout(X_0` is a timeout.
    """
    word = word.strip().lower()
    found = next((verdict for prefix, verdict in _PREFIXES if word.startswith(prefix)), None)
    return _WORDS.get(word) if found is None else found


def without_year(benchmark: str) -> str:
    """Returns a benchmark's name without the year and the underscore that result folders have in front of it."""
    return re.sub(r"^20\d\d_(?=.)", "", benchmark)


def network_paths(network: str, where: str) -> list[tuple[str, str]]:
    """Returns names and paths of the networks that a cell names; one network has the empty name.

    Args:
        network: a path, or a Python list of pairs as VNN-LIB 2.0 benchmarks have it: `[('f', 'onnx/a.onnx'), ...]`.
        where: file and line, for messages.

    Raises:
        UsageError: it begins like a list and is none.
    """
    if not network.startswith("["):
        return [("", network)]
    try:
        pairs = [(_text(name), _text(path)) for name, path in ast.literal_eval(network)]
        if not pairs:
            raise ValueError("no networks")
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise UsageError(f"{where}: '{network[:80]}' is not a list of (name, network) pairs; correct it") from error
    return pairs


def file_stem(name: str) -> str:
    """Returns the name of a network's or property's file without folders, `.gz`, and `.onnx` or `.vnnlib`."""
    stem = PurePosixPath(name).name.removesuffix(".gz")
    return stem.removesuffix(".onnx") if stem.endswith(".onnx") else stem.removesuffix(".vnnlib")


def instance_name(network: str, prop: str, where: str) -> str:
    """Returns `<network stem>_<property stem>`: the same for all tools, and the name of the instance's witness file.

    Of several networks the declared names are joined; in safenlp the sub-folder is put in front, as the scorer does.

    Raises:
        UsageError: the network's cell is a broken list.
    """
    pairs = network_paths(network, where)
    stem = "_".join(name for name, _ in pairs) if pairs[0][0] else file_stem(pairs[0][1])
    folders = PurePosixPath(network).parts
    marks = (mark for part, marks in _SHARED_STEMS.items() if part in network for mark in marks if mark in folders)
    return "_".join((*marks, stem, file_stem(prop)))


def inside_benchmark(path: str, top: str) -> str:
    """Returns a recorded path from its last folder `top` (`onnx` or `vnnlib`) on; as it is where it has none."""
    parts = PurePosixPath(path).parts
    last = max((k for k, part in enumerate(parts[:-1]) if part == top), default=None)
    return path if last is None else str(PurePosixPath(*parts[last:]))


def read_results(path: Path) -> list[CompetitionRow]:
    """Returns the rows of a results.csv (six columns, no header) in its order, probes among them.

    Args:
        path: the file; it may be gzipped, with or without `.gz` in its name.

    Raises:
        UsageError: it cannot be read, or a row is malformed: its columns, seconds, or result word; two instances share
            their stems, so that their witnesses would have one name (the same row twice is legal: VNN-COMP has it).
    """
    rows = [_result(where, cells) for where, cells in _rows(path)]
    _check_stems(row for row in rows if not row.is_probe)
    return rows


def read_limits(path: Path) -> list[ListedLimit]:
    """Returns the rows of an instances.csv; networks may be lists, and no file has to exist.

    Raises:
        UsageError: it cannot be read, a row has not three columns, a limit is not positive and finite, or two instances
            share their stems.
    """
    rows = [_limit(where, cells) for where, cells in _rows(path)]
    _check_stems(rows)
    return rows


def read_verdicts(path: Path) -> list[StatedVerdict]:
    """Returns the rows of a table of witness verdicts; its header is benchmark,id,tool,verdict.

    Raises:
        UsageError: it cannot be read, a column is missing, an id is no count, a verdict is no `WitnessVerdict`, or one
            witness has two verdicts.
    """
    rows = _rows(path)
    where, header = next(rows, (f"{path}:1", []))
    columns = ("benchmark", "id", "tool", "verdict")
    if any(column not in header for column in columns):
        raise UsageError(f"{where}: the header is not '{','.join(columns)}'; correct it")
    found: dict[tuple[str, int, str], StatedVerdict] = {}
    for where, cells in rows:
        stated = _verdict(where, dict(zip(header, cells, strict=False)))
        key = stated.benchmark, stated.id, stated.tool
        before = found.setdefault(key, stated)
        if before.verdict is not stated.verdict:
            raise UsageError(f"{where}: {before.where} has another verdict on the same answer; keep one of them")
    return list(found.values())


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yields file and line, and the stripped cells, of each row that is not blank."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield f"{path}:{reader.line_num}", cells
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num}: not a CSV row ({error}); correct the line") from error


def _result(where: str, cells: list[str]) -> CompetitionRow:
    if len(cells) != 6:
        expected = "'category,network,property,prepare seconds,result,run seconds'"
        raise UsageError(f"{where}: {len(cells)} columns; a row is {expected}")
    _, network, prop, prepare, word, run = cells
    verdict = verdict_of_word(word)
    if verdict is None:
        raise UsageError(f"{where}: '{word}' is no result word; write sat, unsat, unknown, timeout or error")
    seconds = [_seconds(where, text) for text in (prepare, run)]
    return CompetitionRow(network, prop, seconds[0], word, verdict, seconds[1], where)


def _limit(where: str, cells: list[str]) -> ListedLimit:
    if len(cells) != 3:
        raise UsageError(f"{where}: {len(cells)} columns; a row is 'network,property,seconds'")
    limit = _number(cells[2])
    if not (math.isfinite(limit) and limit > 0):
        raise UsageError(f"{where}: the time limit '{cells[2]}' is not a positive number of seconds; correct it")
    return ListedLimit(cells[0], cells[1], limit, where)


def _verdict(where: str, row: dict[str, str]) -> StatedVerdict:
    missing = next((column for column in ("benchmark", "id", "tool", "verdict") if not row.get(column)), None)
    if missing is not None:
        raise UsageError(f"{where}: '{missing}' is empty; complete the row")
    if not re.fullmatch("[0-9]+", row["id"]):
        raise UsageError(f"{where}: '{row['id']}' is no id; ids count the instances of a benchmark from 0")
    try:
        verdict = WitnessVerdict(row["verdict"])
    except ValueError as error:
        words = ", ".join(WitnessVerdict)
        raise UsageError(f"{where}: '{row['verdict']}' is no witness verdict; write one of {words}") from error
    return StatedVerdict(without_year(row["benchmark"]), int(row["id"]), row["tool"], verdict, where)


def _check_stems(rows: Iterable[CompetitionRow | ListedLimit]) -> None:
    first: dict[str, CompetitionRow | ListedLimit] = {}
    for row in rows:
        before = first.setdefault(row.name, row)
        if _files(before) != _files(row):
            raise UsageError(
                f"{row.where}: shares the stems '{row.name}' with {before.where}, and so the name of its witness; "
                "rename a property"
            )


def _files(row: CompetitionRow | ListedLimit) -> tuple[str, ...]:
    networks = (inside_benchmark(path, "onnx") for _, path in network_paths(row.network, row.where))
    return *networks, inside_benchmark(row.prop, "vnnlib")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r} is no name")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _seconds(where: str, text: str) -> float:
    seconds = _number(text)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise UsageError(f"{where}: '{text}' is no number of seconds; it has to be finite and not negative")
    return seconds
