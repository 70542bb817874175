"""Figures as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.figures import SetFigures
from benchmarks.startup import StartupFigures
from benchmarks.targets import GIB, TargetRow

VERDICTS = ("unsat", "sat", "unknown", "timeout", "error")
STAGES = ("attack", "incomplete", "bab")
COMPARED: Sequence[tuple[str, str]] = (
    ("verdicts.unsat", "unsat"),
    ("verdicts.sat", "sat"),
    ("wall_s", "wall s"),
    ("engine_s", "deciding s"),
    ("work_s", "work s"),
    ("before_s", "s to the last that was solved before"),
    ("domains", "domains"),
    ("domains_per_s", "domains/s"),
    ("kernel_gflops", "kernel GFLOP/s"),
    ("peak_gib", "peak GiB"),
)


def number(value: float | None, digits: int = 3) -> str:
    """Returns a number for people: whole from a thousand on, else so many significant digits; `-` for none."""
    if value is None:
        return "-"
    if abs(value) >= 1000 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def columns(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Returns rows as lines with aligned columns, the first column to the left, the others to the right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append(indent + "  ".join(cells).rstrip())
    return lines


def set_lines(title: str, figures: SetFigures, earlier: Mapping[str, Any] | None) -> list[str]:
    """Returns the block of one set.

    Args:
        title: of the set.
        figures: what was measured.
        earlier: the last figures with the same settings; None where there are none.
    """
    f = figures
    short = "" if f.full else ", shorter than the targets mean"
    left_out = f", {f.skipped} misclassified left out" if f.skipped else ""
    lines = [f"{title} ({f.name}): {f.cases} instances{left_out}, {f.timeout_s:g} s of work each{short}"]
    lines += [f"  NOTE {note}" for note in f.notes]
    lines += [f"  WRONG {line}" for line in f.wrong]
    lines += [f"  ERROR {line}" for line in f.broken]
    lines += columns(_verdict_rows(f))
    lines.append(f"  right by label {f.right}; solved before {f.before_solved} of {f.before}" + _last(f))
    lines.append(
        f"  wall {number(f.wall_s)} s after {number(f.import_s)} s of imports, deciding {number(f.engine_s)} s, "
        f"work {number(f.work_s)} s (longest {number(f.most_s)} s), CPU {number(f.cpu_s)} s on {f.cores} cores"
    )
    stages = "-" if f.seconds is None else ", ".join(f"{name} {number(s)}" for name, s in f.seconds.items())
    lines.append(f"  seconds by stage: {stages}")
    lines.append(
        f"  branch and bound: {number(f.domains)} domains in {number(f.bab_s)} s of wall time, "
        f"{number(f.domains_per_s)} domains/s"
    )
    share = f.kernel_gflops / f.matmul_gflops if f.kernel_gflops and f.matmul_gflops else None
    of_peak = "" if share is None else f" ({100 * share:.0f} %)"
    lines.append(f"  kernel {number(f.kernel_gflops)} GFLOP/s, matrix product {number(f.matmul_gflops)}{of_peak}")
    lines.append(f"  peak memory {number(f.peak_bytes / GIB if f.peak_bytes else None)} GiB")
    return lines + _comparison(f.as_json(), earlier)


def _last(f: SetFigures) -> str:
    return "" if f.before_s is None else f", the last of them {number(f.before_s)} s after imports"


def _verdict_rows(f: SetFigures) -> list[list[str]]:
    head = ["", *STAGES, "all"]
    rows = [head]
    for verdict in VERDICTS:
        by_stage = [str(f.stages.get(f"{stage} {verdict}", 0) or ".") for stage in STAGES]
        rows.append([verdict, *by_stage, str(f.verdicts.get(verdict, 0))])
    return rows


def startup_lines(figures: StartupFigures, earlier: Mapping[str, Any] | None) -> list[str]:
    """Returns the block of start-up."""
    f = figures
    rows = [
        ["imports alone", f"{median(f.imports_s):.2f} s", ""],
        ["sat by attack", f"{median(f.sat_s):.2f} s", f"{f.sat_ratio:.2f} x"],
        ["unsat by root bounds", f"{median(f.unsat_s):.2f} s", f"{f.unsat_ratio:.2f} x"],
    ]
    lines = [f"Start-up: whole processes, medians of {len(f.sat_s)} runs in turns", *columns(rows)]
    lines += [f"  WRONG {line}" for line in f.wrong]
    if earlier is not None:
        before = f"{earlier['sat_ratio']:.2f} x and {earlier['unsat_ratio']:.2f} x"
        lines.append(f"  before ({_when(earlier)}): {before}")
    return lines


def target_lines(rows: Sequence[TargetRow]) -> list[str]:
    """Returns the table of targets."""
    cells = [["target", "reach", "measured", "", ""]]
    cells += [
        [f"{r.set}: {r.what}", r.target, number(r.value), r.unit if r.value is not None else "", r.standing.value]
        for r in rows
    ]
    return ["Targets", *columns(cells)]


def _comparison(now: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> list[str]:
    if earlier is None:
        return ["  no earlier measurement with these settings"]
    rows = [["", "before", "now", "now / before"]]
    for path, title in COMPARED:
        old, new = _value(earlier, path), _value(now, path)
        if old is not None or new is not None:
            ratio = f"{new / old:.2f}" if old and new is not None else "-"
            rows.append([title, number(old), number(new), ratio])
    return [f"  against {_when(earlier)}", *columns(rows, "    ")]


def _value(figures: Mapping[str, Any], path: str) -> float | None:
    if path == "peak_gib":
        peak = figures.get("peak_bytes")
        return peak / GIB if peak else None
    name, _, part = path.partition(".")
    value = figures.get(name)
    if part:
        value = (value or {}).get(part, 0)
    return None if value is None else float(value)


def _when(earlier: Mapping[str, Any]) -> str:
    commit = str(earlier.get("commit") or "unknown commit")
    return f"{str(earlier['started'])[:16].replace('T', ' ')}, {commit[:7]}{'-dirty' if 'dirty' in commit else ''}"
