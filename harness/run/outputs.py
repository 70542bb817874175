"""The files that are written from a store for others to read: counterexamples and results.csv, as VNN-COMP has them."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from harness.domain import Counterexample, Job, LgBenchError, Verdict
from harness.files import write_atomically
from harness.formats.assignment import format_witness
from harness.formats.competition import instance_name
from harness.formats.compressed import read_head, read_text
from harness.formats.counterexample import format_counterexample
from harness.formats.results_csv import ResultRow, write_results
from harness.formats.vnnlib2_text import is_version_2
from harness.run.store import Store
from harness.run.stored import Place, StoredResult

SUFFIX = ".counterexample"
KEY_DIGITS = 12
"""Hex digits of a key that tell two files of one name apart."""
MAX_NAME_BYTES = 220
"""File systems take 255 bytes, and while a file is written its name is a little longer."""

_HEAD_BYTES = 4096
_STATEMENT = re.compile(r"^\s*[^\s;]", re.MULTILINE)
"""Something that is no comment."""

logger = logging.getLogger(__name__)


def counterexample_name(network_name: str, property_name: str) -> str:
    """Returns `<onnx stem>_<property stem>.counterexample`, where the competition's scorer looks for it.

    Args:
        network_name: column 1 of instances.csv; of a list of networks the declared names stand for the stem.
        property_name: column 2 of instances.csv.
    """
    if network_name.startswith("["):
        return f"{instance_name(network_name, property_name, network_name)}{SUFFIX}"
    return f"{_stem(network_name, '.onnx')}_{_stem(property_name, '.vnnlib')}{SUFFIX}"


def write_counterexample(folder: Path, name: str, counterexample: Counterexample, written: str = "") -> Path:
    """Writes one counterexample as VNN-COMP text, atomically; a file that says the same already stays untouched.

    Args:
        folder: where to.
        name: of the file.
        counterexample: inputs and outputs.
        written: the property's text, whose version is that of the counterexample's; empty: 1.0.

    Returns:
        The file's path.

    Raises:
        ValueError: a value is not finite.
        LgBenchError: the property's text is not one that a witness can be written for.
    """
    path = folder / name
    text = format_witness(counterexample, written, name) if written else format_counterexample(counterexample)
    if not (path.is_file() and path.read_text(encoding="ascii", errors="replace") == text):
        write_atomically(path, text)
    return path


def write_counterexamples(
    store: Store, rows: Iterable[StoredResult], folder: Path, properties: Mapping[Place, Path] | None = None
) -> list[Path]:
    """Leaves in `folder` the counterexample of every row that is judged sat, and no other; returns the files in order.

    Each was replayed as `correct`, and its outputs are those of ONNX Runtime. One that the format cannot hold is left
    out with a warning: the row keeps it. Names are those of `counterexample_name`; where several networks or
    properties of the rows share one, or the name is longer than a file's may be, the first digits of the row's key
    tell their files apart; so they do from the second on of one network and property under several limits.

    Args:
        store: holds the counterexamples.
        rows: of it.
        folder: where to.
        properties: row to the file of its property, whose version the text follows; 1.0 where none is given.
    """
    rows, files = list(rows), properties or {}
    owners = Counter(_name(row) for row in {(row.network_name, row.property_name): row for row in rows}.values())
    written, keys = [], dict[str, str]()
    for row in rows:
        counterexample = store.counterexample(row.key) if row.verdict is Verdict.SAT else None
        if counterexample is None:
            continue
        name, mark = _name(row), f"-{row.key[:KEY_DIGITS]}"
        # A list may hold the same network and property twice, with other limits.
        if owners[name] > 1 or keys.setdefault(name, row.key) != row.key:
            name = _name(row, mark)
        if len(name.encode()) > MAX_NAME_BYTES:
            kept = MAX_NAME_BYTES - len(f"{mark}{SUFFIX}")
            name = name.encode()[:kept].decode(errors="ignore") + mark + SUFFIX
        try:
            text = _version_2_text(files[row.place]) if row.place in files else ""
            written.append(write_counterexample(folder, name, counterexample, text))
        except (ValueError, LgBenchError) as error:
            logger.warning("the counterexample of %s %d is not written: %s", row.variant, row.index, error)
    for stale in set(folder.glob(f"*{SUFFIX}")).difference(written):
        stale.unlink()
    return written


def _version_2_text(prop: Path) -> str:
    """Returns the text of a property of VNN-LIB 2.0; empty for one of 1.0, of which no more than its head is read."""
    head = read_head(prop, _HEAD_BYTES).decode("utf-8-sig", errors="replace")
    undecided = not _STATEMENT.search(head)
    return text if (undecided or is_version_2(head)) and is_version_2(text := read_text(prop)) else ""


def _name(row: StoredResult, mark: str = "") -> str:
    return counterexample_name(row.network_name, row.property_name).removesuffix(SUFFIX) + mark + SUFFIX


def write_results_csv(path: Path, category: str, jobs: Sequence[Job], rows: Iterable[StoredResult]) -> None:
    """Replaces results.csv by the judged results of `jobs`, in their order, which is that of instances.csv.

    The run time is `work_s` where limits are on work and `wall_s` where they are on wall time; the preparation's time
    is beside it.
    Jobs without a result (an interrupted run) have no row.

    Args:
        path: the file.
        category: the benchmark's name.
        jobs: all planned jobs.
        rows: results; those of other jobs are ignored.
    """
    results = {row.place: row for row in rows}
    found = [results.get((job.key, job.variant, job.index)) for job in jobs]
    write_results(path, [_csv_row(category, row) for row in found if row is not None])


def _csv_row(category: str, row: StoredResult) -> ResultRow:
    seconds = row.wall_s if row.timeout_on == "wall" else row.work_s
    return ResultRow(category, row.network_name, row.property_name, row.prepare_s, row.verdict, seconds)


def _stem(name: str, suffix: str) -> str:
    return PurePosixPath(name).name.removesuffix(".gz").removesuffix(suffix)
