"""The results table of VNN-COMP: six columns, no header."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.domain import Verdict
from harness.files import write_atomically


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One row of results.csv."""

    category: str
    """The benchmark."""
    network: str
    """As column 1 of instances.csv writes it."""
    property: str
    """As column 2 of instances.csv writes it."""
    prepare_s: float
    """Seconds of preparation; 0 for a tool that has none."""
    verdict: Verdict
    run_s: float
    """Seconds; `work_s` in batch mode, `wall_s` in competition mode."""


def format_results(rows: Iterable[ResultRow]) -> str:
    """Returns the table's text, one line a row in the order given; seconds with six decimals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        seconds = f"{row.prepare_s:.6f}", f"{row.run_s:.6f}"
        writer.writerow((row.category, row.network, row.property, seconds[0], row.verdict.value, seconds[1]))
    return text.getvalue()


def write_results(path: Path, rows: Iterable[ResultRow]) -> None:
    """Replaces `path` atomically by the table of `rows`; see `format_results`."""
    write_atomically(path, format_results(rows))
