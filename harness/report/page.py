"""One run as one HTML file that needs nothing else: styles, script, figures and images are inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.analysis.sets import SET_ORDER
from harness.analysis.stages import ASKED, VERIFIED_OR_FAILED
from harness.analysis.study import Analysis, PairAnalysis, analyse
from harness.domain import ResultSet
from harness.files import write_atomically
from harness.report.gallery import Gallery, make_gallery, read_transfers
from harness.report.golden import THESIS_FIGURES
from harness.report.palette import SETS, STAGES, TRANSFER, set_category
from harness.report.pictures import find_pictures, pictures_json
from harness.report.plate import Plate
from harness.report.provenance import provenance_groups
from harness.report.sentences import lacking, percent, sentences
from harness.report.source import Run, load_run
from harness.report.strip import strip_layout
from harness.report.tables import (
    METRICS,
    conditions,
    failure_table,
    figures_table,
    inputs_table,
    planned_inputs,
    title_of,
    transfer_table,
)
from harness.report.template import asset, environment
from harness.report.wording import moment, probability, run_facts, seconds, share

REPORT_FILE = "report.html"

MAX_BYTES = 8_000_000
"""A page is at most so large: counterexamples, then images, are left out where it would be larger."""
_ESCAPED = "backslashreplace"
"""How a byte of a folder's name is shown that is no UTF-8."""
TIME_GROUPS = {
    ASKED: "all that were asked",
    ResultSet.AT.value: "AT",
    ResultSet.VS.value: "VS",
    ResultSet.VF.value: "VF",
    VERIFIED_OR_FAILED: "VS and VF",
}
"""Groups of inputs in the table of times, in words."""


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
    study = analyse(run.rows, run.summary)
    gallery = make_gallery(run, study, inputs_table(list(run.summary["variants"]), run.rows), transfers)
    page = render(run, transfers, study, gallery)
    if figures is not None:
        for plate in gallery.plates:
            plate.save(figures)
    write_atomically(path, page)
    return path


def render(
    run: Run,
    transfers: Sequence[Mapping[str, Any]] = (),
    study: Analysis | None = None,
    gallery: Gallery | None = None,
) -> str:
    """Returns the page of a run as text, at most `MAX_BYTES` long where leaving out pictures can achieve it.

    Args:
        run: with its details, as far as there are any.
        transfers: counterexamples of one network shown to another, as `read_transfers` returns them.
        study: the analysis of its results; None: made here.
        gallery: its figures; None: made here.
    """
    pages = environment()
    pages.filters |= {
        "percent": percent,
        "seconds": seconds,
        "share": share,
        "probability": probability,
        "moment": moment,
    }
    template = pages.get_template("report.html.j2")
    content = _content(run, transfers, study or analyse(run.rows, run.summary), gallery)
    highest = max((row.index for row in run.rows), default=-1)
    pictures = find_pictures(run.summary, highest, run.details.attacks) if highest >= 0 else None
    variants = list(run.summary["variants"])
    page = ""
    for images, differences in ((True, True), (True, False), (False, False)):
        data = pictures_json(pictures if images else None, variants, differences=differences)
        left_out = pictures is not None and not (images and differences)
        page = template.render({**content, "data": data, "left_out": left_out})
        if len(page.encode(errors=_ESCAPED)) <= MAX_BYTES:
            break
    return page.encode(errors=_ESCAPED).decode()


def _content(
    run: Run, transfers: Sequence[Mapping[str, Any]], study: Analysis, gallery: Gallery | None
) -> dict[str, Any]:
    summary, rows = run.summary, run.rows
    variants = list(summary["variants"])
    lines = inputs_table(variants, rows)
    gallery = gallery or make_gallery(run, study, lines, transfers)
    columns, width, height = strip_layout(len(lines), len(variants))
    golden = bool(summary.get("golden"))
    return {
        "summary": summary,
        "style": asset("report.css"),
        "script": asset("report.js"),
        "facts": run_facts(summary),
        "golden": golden,
        "thesis": THESIS_FIGURES if golden else {},
        "sentences": sentences(summary, study),
        "lacking": {
            name: lacking(summary, block["missing"]) for name, block in summary["variants"].items() if block["missing"]
        },
        "metrics": METRICS,
        "figures": figures_table(summary),
        "study": study,
        "time_groups": TIME_GROUPS,
        "failures": failure_table(summary, rows),
        "titles": {name: title_of(summary, name) for name in variants},
        "sets": SETS[:-1],
        "stage_titles": {category.key: category.title for category in STAGES},
        "gallery": gallery,
        "strip": {"columns": columns, "width": width, "height": height, "networks": len(variants)},
        **_pairs(summary, study, gallery),
        "transfers": transfer_table(transfers, rows),
        "transfer_classes": TRANSFER,
        "inputs": lines,
        "planned": {name: planned_inputs(summary, name) for name in variants},
        "set_rank": {category.key: rank for rank, category in enumerate(SETS)},
        "conditions": conditions,
        "provenance": provenance_groups(summary, run.details.manifests),
    }


def _pairs(summary: Mapping[str, Any], study: Analysis, gallery: Gallery) -> dict[str, Any]:
    """Returns the compared pairs; where all start from one network, tables name the other one alone."""
    pairs = [_pair(summary, pair, plate) for pair, plate in zip(study.pairs, gallery.flows, strict=True)]
    sources = {pair["source"] for pair in pairs}
    one = len(sources) == 1
    for pair in pairs:
        pair["name"] = pair["target"] if one else f"{pair['source']} → {pair['target']}"
    return {"pairs": pairs, "pair_heading": f"Against {sources.pop()}" if one else "Networks"}


def _pair(summary: Mapping[str, Any], pair: PairAnalysis, plate: Plate) -> dict[str, Any]:
    """Returns what the page says of one network against another: names, the matrix with its margins, hypotheses."""
    matrix = pair.transition.matrix
    return {
        "source": title_of(summary, pair.source),
        "target": title_of(summary, pair.target),
        "sets": [set_category(name) for name in SET_ORDER],
        "matrix": matrix,
        "shares": [[count / sum(row) if sum(row) else 0.0 for count in row] for row in matrix],
        "columns": [sum(column) for column in zip(*matrix, strict=True)],
        "inputs": pair.transition.inputs,
        "only_in_source": pair.transition.only_in_source,
        "only_in_target": pair.transition.only_in_target,
        "plate": plate,
        "subsets": pair.subsets,
        "differences": pair.differences,
    }
