"""Tables as values: what the terminal prints and the page shows, from one source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.statistics import Share
from harness.analysis.table import ResultRow, by_variant
from harness.analysis.transfer import Expected, TransferClass, as_a_sample, expected_of
from harness.domain import ResultSet, Verdict

OURS = "this run"
METRICS = ("SA", "RA", "VA", "UNR")


@dataclass(frozen=True, slots=True)
class FiguresRow:
    """The figures of one network from one source, in percent; None where the source has none."""

    variant: str
    title: str
    source: str
    """`OURS`, or where the figures were published."""
    values: Mapping[str, float | None]
    """`METRICS` and `UNR_nonlinear` to percent."""
    measured: Mapping[str, Mapping[str, Any]]
    """Metric to its denominator and conditions; empty for published figures."""
    note: str = ""

    @property
    def ours(self) -> bool:
        """Whether this run measured it."""
        return self.source == OURS


def figures_table(summary: Mapping[str, Any]) -> list[FiguresRow]:
    """Returns the thesis' table: each network of the run in order, its published counterparts below it."""
    rows: list[FiguresRow] = []
    for name, block in summary["variants"].items():
        title = title_of(summary, name)
        values = {key: block[key] for key in (*METRICS, "UNR_nonlinear")}
        rows.append(FiguresRow(name, title, OURS, values, block["measured"]))
        rows += [
            FiguresRow(name, title, str(row["source"]), {key: row.get(key) for key in METRICS}, {}, row.get("note", ""))
            for row in summary.get("published", ())
            if row["variant"] == name
        ]
    return rows


def title_of(summary: Mapping[str, Any], variant: str) -> str:
    """Returns a network's name for readers."""
    return str(summary.get("titles", {}).get(variant) or variant)


def planned_inputs(summary: Mapping[str, Any], variant: str) -> int:
    """Returns how many inputs the run planned for a network; a plain list may name networks unequally often."""
    return int(summary["inputs_of"].get(variant, summary["inputs"]))


def conditions(measured: Mapping[str, Any], metric: str) -> str:
    """Returns in words what a figure was measured under, without its denominator."""
    if metric == "VA":
        return "this run's inputs"
    where = "this run's inputs" if "inputs" in measured else "whole test set"
    if "attack" not in measured:
        return where
    if "inputs" in measured:
        return f"{where}, neither skipped nor attacked"
    restarts = measured.get("restarts")
    times = "" if restarts is None else f", {restarts} restart{'' if restarts == 1 else 's'}"
    return f"{where}, {measured['attack']}{times}"


@dataclass(frozen=True, slots=True)
class TransferLine:
    """What counterexamples of one network do to another, beside what to expect of a random sample."""

    source: str
    target: str
    count: int
    """Examples."""
    classes: Mapping[str, int]
    """`TransferClass` to examples; the classes are disjoint and add up to `count`."""
    expected: Expected
    """The second network's results over all inputs of the run."""

    @property
    def clean(self) -> Share:
        """Examples whose input the second network classifies correctly."""
        return Share(self.count - self.classes[TransferClass.CLEAN_MISCLASSIFIED], self.count)

    @property
    def robust(self) -> Share:
        """Examples that the second network classifies correctly, of inputs that it classifies correctly too."""
        return Share(self.classes[TransferClass.ATTACK_FAILS], self.count)

    @property
    def words(self) -> str:
        """Whether the examples' unperturbed inputs are like any others to the second network."""
        if not self.count or self.expected.sa is None:
            return "nothing to compare"
        if as_a_sample(self.clean.count, self.count, self.expected):
            return "within noise"
        return "more than noise"


def transfer_table(transfers: Iterable[Mapping[str, Any]], rows: Sequence[ResultRow]) -> list[TransferLine]:
    """Returns a line for each measured transfer, in order.

    Args:
        transfers: objects with `from`, `to`, `count` and the classes, as `read_transfers` returns them.
        rows: the run's results; what to expect is taken from them.
    """
    table = by_variant(rows)
    return [
        TransferLine(
            str(one["from"]),
            str(one["to"]),
            int(one["count"]),
            {name.value: int(one[name]) for name in TransferClass},
            expected_of(table.get(str(one["to"]), {}).values()),
        )
        for one in transfers
    ]


@dataclass(frozen=True, slots=True)
class FailureRow:
    """Why inputs of one network are neither proved nor refuted."""

    title: str
    verdict: str
    message: str
    count: int


def failure_table(summary: Mapping[str, Any], rows: Iterable[ResultRow]) -> list[FailureRow]:
    """Returns how often each verdict and message stands behind the set VF, the most frequent first."""
    counts: dict[tuple[str, Verdict, str], int] = {}
    for row in rows:
        if row.result_set is ResultSet.VF:
            place = (row.variant, row.verdict, row.message)
            counts[place] = counts.get(place, 0) + 1
    order = list(summary["variants"])
    ranked = sorted(counts.items(), key=lambda item: (order.index(item[0][0]), -item[1], item[0]))
    return [FailureRow(title_of(summary, name), verdict, text, n) for (name, verdict, text), n in ranked]


@dataclass(frozen=True, slots=True)
class InputCell:
    """One input under one network."""

    result_set: str
    stage: str
    """Empty where no stage decided."""
    work_s: float
    message: str
    verdict: str = ""
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class InputLine:
    """One input under every network of the run; None where there is no result."""

    index: int
    cells: tuple[InputCell | None, ...]


def inputs_table(variants: Sequence[str], rows: Iterable[ResultRow]) -> list[InputLine]:
    """Returns a line for each input that has a result, by index, with a cell for each variant in order."""
    found: dict[int, dict[str, InputCell]] = {}
    for row in rows:
        stage = row.stage.value if row.stage is not None and row.decided else ""
        found.setdefault(row.index, {})[row.variant] = InputCell(
            row.result_set, stage, row.work_s, row.message, row.verdict, row.wall_s
        )
    return [InputLine(index, tuple(found[index].get(name) for name in variants)) for index in sorted(found)]
