"""Shows the counterexamples of one network of a run to another, on ONNX Runtime (thesis, section 4.4).

Everything is taken from the run folder: networks and properties from `benchmark/`, counterexamples and what is known of
the unperturbed inputs from the store. Inputs of two networks belong together when their properties are the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.summary import RunHeader
from harness.analysis.table import rows_from_store
from harness.analysis.transfer import Transfer, TransferExample, expected_of
from harness.domain import FloatArray, InputBox, Property, ResultSet, UsageError, Verdict
from harness.files import sha256_bytes, write_atomically
from harness.formats.compressed import read_bytes
from harness.formats.onnx_file import OnnxSession, load_model_bytes, open_session, run_flat
from harness.formats.vnnlib import read_property
from harness.report.source import STORE_FILE, planned_rows, read_header
from harness.run.store import Store
from harness.run.stored import StoredResult
from harness.workflow.folder import BENCHMARK_FOLDER

TRANSFER_FILE = "transfer.json"
TRANSFER_SCHEMA = 1
Progress = Callable[[str, int, int], None]
"""Is told of a pair in words, of examples done, and of examples in all."""


def measure_transfers(
    folder: Path, pairs: Sequence[tuple[str, str]] | None = None, progress: Progress | None = None
) -> list[Transfer]:
    """Returns for each pair (A, B) what the counterexamples of A do to B; nothing is written.

    Only inputs count that A classifies correctly and that have a replayed counterexample: A's set AT.

    Args:
        folder: a run folder, finished or not; it is only read.
        pairs: names of networks; None: the baseline with each other network, in both directions.
        progress: is told of each example.

    Raises:
        UsageError: no run there, no such network, or a network or property of it is missing or was changed.
    """
    with Store.read(folder / STORE_FILE) as store:
        run = _Results(folder, read_header(store, folder), store, planned_rows(store))
        chosen = run.default_pairs() if pairs is None else list(pairs)
        for name in (name for pair in chosen for name in pair):
            if name not in run.header.variants:
                raise UsageError(f"{folder}: has no network '{name}'; it has {', '.join(run.header.variants)}")
        return [_transfer(run, source, target, progress) for source, target in chosen]


def transfers_json(transfers: Sequence[Transfer]) -> dict[str, Any]:
    """Returns the content of `transfer.json`."""
    return {"schema": TRANSFER_SCHEMA, "transfers": [one.to_json() for one in transfers]}


def write_transfers(path: Path, transfers: Sequence[Transfer]) -> None:
    """Replaces `path` by the transfers as JSON."""
    write_atomically(path, json.dumps(transfers_json(transfers), indent=2) + "\n")


def leave_transfers(folder: Path, transfers: Sequence[Transfer]) -> Path:
    """Leaves transfers in `transfer.json` of their run folder, where the report takes them from; returns its path.

    Pairs that were measured earlier stay, as long as they are of the counterexamples that the run has now.

    Raises:
        UsageError: no run there.
        OSError: the file cannot be written.
    """
    path = folder / TRANSFER_FILE
    content = transfers_json(transfers)
    measured = {(one.source, one.target) for one in transfers}
    with Store.read(folder / STORE_FILE) as store:
        rows = planned_rows(store)
    kept = [raw for raw in _earlier(path) if (raw["from"], raw["to"]) not in measured and _is_current(raw, rows)]
    write_atomically(path, json.dumps({**content, "transfers": kept + content["transfers"]}, indent=2) + "\n")
    return path


def _earlier(path: Path) -> list[dict[str, Any]]:
    """Returns the transfers of a file that `leave_transfers` wrote; none where it is missing or of another form."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return list(raw["transfers"]) if raw["schema"] == TRANSFER_SCHEMA else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _is_current(raw: dict[str, Any], rows: Sequence[StoredResult]) -> bool:
    attacked = {row.index for row in rows if row.variant == raw["from"] and row.result_set is ResultSet.AT}
    return {one["index"] for one in raw["examples"]} | {int(index) for index in raw["left_out"]} == attacked


@dataclass(frozen=True, slots=True, eq=False)
class _Results:
    """A run as it is read here."""

    folder: Path
    header: RunHeader
    store: Store
    rows: Sequence[StoredResult]

    def of(self, variant: str) -> list[StoredResult]:
        return [row for row in self.rows if row.variant == variant]

    def default_pairs(self) -> list[tuple[str, str]]:
        baseline = self.header.baseline
        if baseline is None:
            raise UsageError(f"{self.folder}: has no baseline to compare with; name two networks with --from and --to")
        others = [name for name in self.header.variants if name != baseline]
        return [pair for name in others for pair in ((baseline, name), (name, baseline))]

    def session(self, rows: Sequence[StoredResult]) -> OnnxSession:
        names = {(row.network_name, row.network_sha256) for row in rows}
        if len(names) != 1:
            raise UsageError(f"{self.folder}: results of {len(names)} networks under one name; show pairs of one each")
        ((name, sha256),) = names
        path = self.folder / BENCHMARK_FOLDER / name
        data = load_model_bytes(path)
        if sha256 and sha256_bytes(data) != sha256:
            raise UsageError(f"{path}: changed since the run; put the run's network back, or run again")
        return open_session(data)

    def property_of(self, row: StoredResult) -> Property:
        path = self.folder / BENCHMARK_FOLDER / row.property_name
        if row.property_sha256 and sha256_bytes(read_bytes(path)) != row.property_sha256:
            raise UsageError(f"{path}: changed since the run; put the run's property back, or run again")
        return read_property(path)


def _transfer(run: _Results, source: str, target: str, progress: Progress | None) -> Transfer:
    theirs = run.of(target)
    expected = expected_of(rows_from_store(theirs))
    attacked = [row for row in run.of(source) if row.result_set is ResultSet.AT]
    if not attacked or not theirs:
        reason = f"{target} has no results, so its network is not known"
        return Transfer(source, target, (), expected, left_out={row.index: reason for row in attacked})
    session = run.session(theirs)
    records = {row.property_sha256: row for row in theirs if row.verdict is not Verdict.ERROR}
    examples: list[TransferExample] = []
    left_out: dict[int, str] = {}
    without_record: list[int] = []
    for done, row in enumerate(attacked):
        record = records.get(row.property_sha256) if row.property_sha256 else None
        shown = _show(run, session, row, record)
        if isinstance(shown, str):
            left_out[row.index] = shown
        else:
            examples.append(shown)
            if record is None:
                without_record.append(row.index)
        if progress is not None:
            progress(f"{source} on {target}", done + 1, len(attacked))
    return Transfer(source, target, tuple(examples), expected, tuple(without_record), left_out)


def _show(run: _Results, session: OnnxSession, row: StoredResult, record: StoredResult | None) -> TransferExample | str:
    """Returns what the network says of one counterexample, or why it cannot be asked."""
    prop = run.property_of(row)
    label = robust_label(prop)
    example = run.store.counterexample(row.key)
    if label is None:
        return "its property is not that one class wins on one box"
    if example is None or example.y is None:
        return "its counterexample has no replayed outputs"
    if (session.input.size, session.output.size) != (prop.input_size, prop.output_size):
        return "the network has other inputs or outputs"
    box = prop.cases[0].box
    return TransferExample(
        row.index,
        label,
        _winner(example.y, label, among_others=True),
        _clean_class(run, session, box, label, record),
        _winner(run_flat(session, example.x), label),
        _winner(run_flat(session, _corner(box, row.property_sha256)), label),
    )


def _clean_class(run: _Results, session: OnnxSession, box: InputBox, label: int, record: StoredResult | None) -> int:
    """Returns the class of the unperturbed input: as the run found it, else of the input that the box was made of."""
    if record is None:
        return int(run_flat(session, clean_input(box, run.header.eps)).argmax())
    if record.result_set is not ResultSet.SK:
        return label
    found = run.store.counterexample(record.key)
    y = run_flat(session, clean_input(box, run.header.eps)) if found is None or found.y is None else found.y
    return _winner(y, label, among_others=True)


def _winner(y: FloatArray, label: int, *, among_others: bool = False) -> int:
    """Returns the class of the outputs as the property counts it: another class wins where it is as high as the label.

    Args:
        y: `(classes,)`.
        label: the true class.
        among_others: the highest class but the label, whether or not the label is higher.
    """
    others = np.array(y, np.float64)
    others[label] = -np.inf
    best = int(others.argmax())
    return best if among_others or others[best] >= y[label] else label


def robust_label(prop: Property) -> int | None:
    """Returns the class that has to win, of a property that says this and no more; else None.

    That is one box, and for each other class one region `y[label] <= y[other]`.
    """
    if len(prop.cases) != 1:
        return None
    labels, others = set(), set()
    for polytope in prop.cases[0].polytopes:
        if polytope.coefficients.shape[0] != 1 or polytope.rhs[0] != 0 or polytope.strict[0]:
            return None
        row = polytope.coefficients[0]
        up, down = np.flatnonzero(row > 0), np.flatnonzero(row < 0)
        if up.size != 1 or down.size != 1 or row[up[0]] != -row[down[0]]:
            return None
        labels.add(int(up[0]))
        others.add(int(down[0]))
    whole = len(labels) == 1 and labels | others == set(range(prop.output_size))
    return labels.pop() if whole else None


def clean_input(box: InputBox, eps: float | None) -> FloatArray:
    """Returns the input that a box `clip(x -+ eps, 0, 1)` was made of, up to rounding; `(inputs,)` float32.

    Images are bytes: a value within 1e-3 of one byte becomes that byte over 255, so they come back exactly.

    Args:
        box: the box.
        eps: its radius; None: unknown, then it is half of the widest side.
    """
    radius = float((box.upper - box.lower).max()) / 2 if eps is None else eps
    x = np.where(box.lower <= 0, box.upper - radius, np.where(box.upper >= 1, box.lower + radius, 0.0))
    inside = (box.lower > 0) & (box.upper < 1)
    x = np.clip(np.where(inside, (box.lower + box.upper) / 2, x), 0.0, 1.0)
    byte = np.rint(x * 255)
    return np.where(np.abs(x * 255 - byte) < 1e-3, byte.astype(np.float32) / np.float32(255), x.astype(np.float32))


def _corner(box: InputBox, seed: str) -> FloatArray:
    """Returns a random corner of a box, the same for the same property: noise of full radius without an aim."""
    up = np.random.default_rng(int(seed[:16] or "0", 16)).random(box.size) < 0.5
    return np.where(up, box.upper, box.lower)
