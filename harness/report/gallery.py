"""Which figures a run has: every plate of its page, in the order of the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.analysis.overlaps import set_overlaps
from harness.analysis.stages import UNDECIDED
from harness.analysis.study import Analysis
from harness.domain import UsageError
from harness.report.figures import Bar, stacked_bars, transition_flow
from harness.report.masks_in_play import mask_plates
from harness.report.palette import MISSING, SETS, STAGES, TRANSFER
from harness.report.plate import Plate
from harness.report.run_plots import MAX_SETS, cactus_plate, layers_plate, margins_plate, overlap_plates
from harness.report.source import Run
from harness.report.strip import strip_plate
from harness.report.tables import InputLine, title_of

TRANSFER_FILES = ("transfer*.json", "transfers/*.json")
"""Where `lgbench transfer` leaves its results in a run folder."""
GOLDEN_TRANSFER = "transfer_pretrained.json"


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """The plates of a run; those without numbers are missing."""

    sets: Plate
    stages: Plate
    flows: tuple[Plate, ...]
    """In the order of the summary's transitions."""
    overlaps: tuple[Plate, ...]
    transfer: Plate | None
    times: tuple[Plate, ...]
    """Cactus curve, margins at the root, unstable neurons by layer."""
    strip: Plate
    masks: tuple[Plate, ...]

    @property
    def plates(self) -> list[Plate]:
        """All of them, in the order of the page."""
        given = (self.sets, *self.flows, *self.overlaps, self.transfer, self.stages, *self.times, self.strip)
        return [plate for plate in (*given, *self.masks) if plate is not None]


def make_gallery(
    run: Run, study: Analysis, lines: Sequence[InputLine], transfers: Sequence[Mapping[str, Any]] = ()
) -> Gallery:
    """Returns every figure of a run.

    Args:
        run: with its details, as far as there are any.
        study: the analysis of its results.
        lines: its inputs table.
        transfers: what `read_transfers` found.
    """
    summary = run.summary
    titles = {name: title_of(summary, name) for name in summary["variants"]}
    domains = "" if summary["max_domains"] is None else f", {summary['max_domains']} domains"
    found = (
        cactus_plate(study, titles, f"{summary['timeout_s']:g} s{domains}"),
        margins_plate(run.details, titles),
        layers_plate(run.details, titles),
    )
    shown = dict(list(titles.items())[:MAX_SETS])
    overlaps = study.overlaps if len(shown) == len(titles) else set_overlaps(run.rows, list(shown))
    return Gallery(
        set_plate(summary),
        stage_plate(summary),
        tuple(flow_plate(summary, moved) for moved in summary["transitions"]),
        tuple(overlap_plates(overlaps, shown, whole=bool(summary.get("golden")))) if study.pairs else (),
        transfer_plate(transfers, titles) if transfers else None,
        tuple(plate for plate in found if plate is not None),
        strip_plate(lines, titles),
        tuple(mask_plates(summary, run.details.manifests, titles)),
    )


def set_plate(summary: Mapping[str, Any]) -> Plate:
    """Returns the size of each result set, a bar for each network."""
    bars = [
        Bar(title_of(summary, name), {**block["sets"], MISSING: block["missing"]})
        for name, block in summary["variants"].items()
    ]
    keys = [category.key for category in SETS]
    title = "Size of each result set, by network"
    rows = [(bar.label, *(bar.counts.get(key, 0) for key in keys)) for bar in bars]
    return Plate("result_sets", title, ("network", *keys), rows, stacked_bars(bars, SETS, title))


def stage_plate(summary: Mapping[str, Any]) -> Plate:
    """Returns how many inputs each stage decided, a bar for each network."""
    bars = [
        Bar(title_of(summary, name), {**block["stages"], UNDECIDED: block["sets"]["VF"], MISSING: block["missing"]})
        for name, block in summary["variants"].items()
    ]
    keys = [category.key for category in STAGES]
    title = "Which stage decided, by network"
    rows = [(bar.label, *(bar.counts.get(key, 0) for key in keys)) for bar in bars]
    return Plate("stages", title, ("network", *keys), rows, stacked_bars(bars, STAGES, title))


def flow_plate(summary: Mapping[str, Any], moved: Mapping[str, Any]) -> Plate:
    """Returns the Sankey diagram of one transition."""
    source, target = title_of(summary, moved["from"]), title_of(summary, moved["to"])
    order, matrix = moved["order"], moved["matrix"]
    rows = [(a, b, matrix[i][j]) for i, a in enumerate(order) for j, b in enumerate(order)]
    drawing = transition_flow(order, matrix, source, target)
    name = f"transition_{_file_name(moved['from'])}_{_file_name(moved['to'])}"
    return Plate(name, f"Transitions from {source} to {target}", ("from", "to", "inputs"), rows, drawing)


def transfer_plate(transfers: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> Plate:
    """Returns what counterexamples of one network do to another, a bar for each pair."""
    keys = [category.key for category in TRANSFER]
    bars = [
        Bar(
            f"{titles.get(one['from'], one['from'])} → {titles.get(one['to'], one['to'])}",
            {key: int(one[key]) for key in keys},
        )
        for one in transfers
    ]
    title = "Counterexamples of one network, shown to another"
    rows = [(one["from"], one["to"], *(one[key] for key in keys)) for one in transfers]
    return Plate("transfer", title, ("from", "to", *keys), rows, stacked_bars(bars, TRANSFER, title))


def read_transfers(folder: Path) -> list[dict[str, Any]]:
    """Returns the transfers that were measured in a run folder: objects with `from`, `to`, `count` and the classes.

    Raises:
        UsageError: a file of them cannot be read.
    """
    found: list[dict[str, Any]] = []
    for pattern in TRANSFER_FILES:
        for path in sorted(folder.glob(pattern)):
            raw = _json(path)
            given = raw.get("transfers", [raw]) if isinstance(raw, dict) else raw
            found += [_checked(path, one) for one in given]
    return found


def golden_transfers(folder: Path) -> list[dict[str, Any]]:
    """Returns the published transfer from the baseline to the grafted network; empty where the file is not there."""
    path = folder / GOLDEN_TRANSFER
    if not path.is_file():
        return []
    published = _json(path)["baseline_examples_on_grafted"]
    return [_checked(path, {"from": "baseline", "to": "grafted", **published})]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); measure the transfer again, or remove the file") from error


def _checked(path: Path, one: Any) -> dict[str, Any]:
    needed = ("from", "to", "count", *(category.key for category in TRANSFER))
    if not isinstance(one, dict) or any(key not in one for key in needed):
        raise UsageError(f"{path}: is no transfer ({', '.join(needed)} are needed); measure it again, or remove it")
    return one


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in text)
