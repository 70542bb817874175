"""One run as one HTML file that needs nothing else: styles, script, figures and images are inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from harness.analysis.sets import UNSTATED, stage_counts
from harness.analysis.table import ResultRow
from harness.files import write_atomically
from harness.report.gallery import Gallery, make_gallery, read_transfers
from harness.report.palette import SETS, STAGES, TRANSFER, UNDECIDED, Category, set_category
from harness.report.pictures import find_pictures, pictures_json
from harness.report.plate import Plate
from harness.report.sentences import inputs_in_words, percent, sentences
from harness.report.source import Run, load_run
from harness.report.strip import strip_layout
from harness.report.tables import (
    METRICS,
    conditions,
    failure_table,
    figures_table,
    inputs_table,
    interval_table,
    paired_table,
    planned_inputs,
    title_of,
)

REPORT_FILE = "report.html"

_TEMPLATES = Path(__file__).parent / "templates"


MAX_BYTES = 8_000_000
"""A page is at most so large: counterexamples, then images, are left out where it would be larger."""
FIGURES_FOLDER = "figures"


def write_report(run_dir: Path, path: Path | None = None, figures: Path | None = None) -> Path:
    """Writes the page of the run in a folder, replacing an older one whole, and returns its path.

    The page opens without a network; it is the same bytes for the same results. A run that is not finished gives a page
    that says so on top.

    Args:
        run_dir: the run folder; it is only read where `path` lies elsewhere.
        path: the file to write; None: `report.html` in the run folder.
        figures: where each figure is left as PNG, SVG and CSV; None: nowhere.

    Raises:
        UsageError: no run there, or one that cannot be read.
        OSError: the page cannot be written.
    """
    run = load_run(run_dir, details=True)
    return write_page(run, path or run_dir / REPORT_FILE, figures, read_transfers(run_dir))


def write_page(run: Run, path: Path, figures: Path | None = None, transfers: Sequence[Mapping[str, Any]] = ()) -> Path:
    """Writes the page of a run that was read or merged; arguments and result as in `write_report`."""
    lines = inputs_table(list(run.summary["variants"]), run.rows)
    gallery = make_gallery(run, lines, transfers)
    page = render(run, gallery, transfers)
    if figures is not None:
        for plate in gallery.plates:
            plate.save(figures)
    write_atomically(path, page)
    return path


def render(run: Run, gallery: Gallery | None = None, transfers: Sequence[Mapping[str, Any]] = ()) -> str:
    """Returns the page of a run as text, at most `MAX_BYTES` long where leaving out pictures can achieve it.

    Args:
        run: with its details, as far as there are any.
        gallery: its figures; None: made here.
        transfers: counterexamples of one network shown to another, as `read_transfers` returns them.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "seconds": _seconds, "share": _share}
    template = environment.get_template("report.html.j2")
    content = _content(run, gallery, transfers)
    highest = max((row.index for row in run.rows), default=-1)
    pictures = find_pictures(run.summary, highest, run.details.attacks) if highest >= 0 else None
    variants = list(run.summary["variants"])
    page = ""
    for images, differences in ((True, True), (True, False), (False, False)):
        data = pictures_json(pictures if images else None, variants, differences=differences)
        left_out = pictures is not None and not (images and differences)
        page = template.render({**content, "data": data, "left_out": left_out})
        if len(page.encode()) <= MAX_BYTES:
            break
    return page


def _content(run: Run, gallery: Gallery | None, transfers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    summary, rows = run.summary, run.rows
    variants = list(summary["variants"])
    lines = inputs_table(variants, rows)
    gallery = gallery or make_gallery(run, lines, transfers)
    columns, width, height = strip_layout(len(lines), len(variants))
    return {
        "summary": summary,
        "style": _asset("report.css"),
        "script": _asset("report.js"),
        "facts": _facts(summary),
        "sentences": sentences(summary),
        "metrics": METRICS,
        "figures": figures_table(summary),
        "intervals": interval_table(summary),
        "paired": paired_table(summary),
        "robust_bounds": [_robust_bounds(summary, name) for name in variants],
        "failures": failure_table(summary, rows),
        "titles": {name: title_of(summary, name) for name in variants},
        "sets": SETS[:-1],
        "stages": _stages_in_use(summary),
        "gallery": gallery,
        "strip": {"columns": columns, "width": width, "height": height, "networks": len(variants)},
        "stage_rows": _stage_rows(summary, rows),
        "transitions": [
            _transition(summary, moved, plate)
            for moved, plate in zip(summary["transitions"], gallery.flows, strict=True)
        ],
        "transfers": transfers,
        "transfer_classes": TRANSFER,
        "inputs": lines,
        "planned": {name: planned_inputs(summary, name) for name in variants},
        "set_rank": {category.key: rank for rank, category in enumerate(SETS)},
        "conditions": conditions,
        "provenance": _flat(summary.get("provenance", {})),
    }


def _asset(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - a file of this package


def _seconds(value: float) -> str:
    """Returns a duration for readers, with two significant figures below ten seconds."""
    if value >= 3600:
        return f"{value / 3600:.1f} h"
    if value >= 60:
        return f"{value / 60:.1f} min"
    return f"{value:.0f} s" if value >= 10 else f"{value:.2g} s"


def _share(count: int, n: int) -> str:
    """Returns a share for readers: `333 of 360, 92.5 %`."""
    return f"{count} of {n}{f', {100 * count / n:.1f} %' if n else ''}"


def _facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    limit = f"{summary['timeout_s']:g} s of {_CLOCK[summary['timeout_on']]} for each input"
    if summary["max_domains"] is not None:
        limit += f", at most {summary['max_domains']} domains"
    eps = summary["eps"]
    facts = [
        ("Protocol", summary["protocol"]),
        ("Device", summary["device"]),
        ("Verifier", summary["tool"]),
        # The present rules go without saying.
        ("Judged by", "" if (rules := summary.get("rules", "2026")) == "2026" else f"VNN-COMP's rules of {rules}"),
        ("Inputs", inputs_in_words(summary)),
        ("Radius", "" if eps is None else f"{_fraction(eps)} in the maximum norm"),
        ("Limit", limit),
        ("Seed", "" if summary["seed"] is None else str(summary["seed"])),
        ("Started", summary["started_at"]),
        ("Finished", summary["finished_at"] or ("" if summary["complete"] else "not yet")),
    ]
    return [(name, text) for name, text in facts if text]


_CLOCK = {"work": "work (batch mode)", "wall": "wall-clock time (competition mode)"}
"""What a time limit is on, in words."""


def _fraction(eps: float) -> str:
    steps = eps * 255
    exact = abs(steps - round(steps, 1)) < 1e-9
    return f"{steps:g}/255 = {eps:.6f}" if exact else f"{eps:g}"


def _stages_in_use(summary: Mapping[str, Any]) -> list[Category]:
    """Returns the stages of the table: the four, what none decided, and `UNSTATED` only where a tool is silent."""
    silent = any(block["stages"][UNSTATED] for block in summary["variants"].values())
    return [category for category in STAGES[:-1] if silent or category.key != UNSTATED]


def _stage_rows(summary: Mapping[str, Any], rows: Sequence[ResultRow]) -> list[dict[str, Any]]:
    """Returns, for each network and each set that a stage decides, the count of each stage and the time spent."""
    lines = []
    for name in summary["variants"]:
        for category in SETS[:-1]:
            chosen = [row for row in rows if row.variant == name and row.result_set.value == category.key]
            if chosen:
                lines.append(
                    {
                        "title": title_of(summary, name),
                        "set": category,
                        "counts": {**stage_counts(chosen), UNDECIDED: sum(not row.decided for row in chosen)},
                        "work_s": sum(row.work_s for row in chosen),
                        "domains": sum(row.domains for row in chosen),
                    }
                )
    return lines


def _transition(summary: Mapping[str, Any], moved: Mapping[str, Any], plate: Plate) -> dict[str, Any]:
    source, target = title_of(summary, moved["from"]), title_of(summary, moved["to"])
    matrix, order = moved["matrix"], moved["order"]
    return {
        **moved,
        "source": source,
        "target": target,
        "sets": [set_category(name) for name in order],
        "shares": [[count / sum(row) if sum(row) else 0.0 for count in row] for row in matrix],
        "columns": [sum(row[k] for row in matrix) for k in range(len(order))],
        "plate": plate,
        "kept": [
            (name, matrix[k][k], *(summary["variants"][moved[end]]["sets"][name] for end in ("from", "to")))
            for k, name in enumerate(order)
        ],
    }


def _robust_bounds(summary: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns what the run proves of the true robust accuracy on its inputs: at least VS, at most VS + VF."""
    block, n = summary["variants"][name], planned_inputs(summary, name)
    low = block["sets"]["VS"]
    high = low + block["sets"]["VF"] + block["missing"]
    return {"title": title_of(summary, name), "low": 100 * low / n, "high": 100 * high / n, "n": n}


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{prefix}{name} / ")
        else:
            lines.append((prefix + name, str(value)))
    return lines
