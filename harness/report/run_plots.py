"""Figures of a run with axes: cactus curves, margins at the root, unstable neurons by layer, overlaps of sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.analysis.masks import overlap
from harness.analysis.table import ResultRow
from harness.domain import ResultSet
from harness.report.details import Details
from harness.report.mask_figures import draw_upset
from harness.report.plate import Plate
from harness.report.plots import COLOURS, LINES, MARKERS, drawing_style, new_figure
from harness.report.venn import draw_venn

_SHORTEST_S = 0.01
"""Shorter times are drawn there: the axis is logarithmic."""
BINS = 30
MAX_SETS = 8
"""Networks in an UpSet figure; of more the first."""


def cactus_plate(rows: Sequence[ResultRow], titles: Mapping[str, str], limit: str) -> Plate | None:
    """Returns how many inputs of each network were decided within a time of work; None where no time is known.

    Inputs that the clean check sorted out cost nothing and are left out.

    Args:
        rows: the results.
        titles: variant to its name, in the order of the legend.
        limit: the limit in words.
    """
    lines: list[tuple[str, int, float]] = []
    with drawing_style():
        figure = new_figure(7.0, 4.2)
        axes = figure.subplots()
        for k, (variant, title) in enumerate(titles.items()):
            times = sorted(
                row.work_s
                for row in rows
                if row.variant == variant and row.decided and row.result_set is not ResultSet.SK
            )
            lines += [(title, count, seconds) for count, seconds in enumerate(times, 1)]
            axes.plot(
                [max(seconds, _SHORTEST_S) for seconds in times],
                range(1, len(times) + 1),
                label=title,
                color=COLOURS[k % len(COLOURS)],
                marker=MARKERS[k % len(MARKERS)],
                linestyle=LINES[k % len(LINES)],
                markersize=3.5,
                markevery=max(1, len(times) // 12),
                drawstyle="steps-post",
            )
        axes.set(xscale="log", xlabel=f"seconds of work for each input (limit: {limit})", ylabel="inputs decided")
        axes.legend(fontsize=8)
    if not any(seconds for _, _, seconds in lines):
        return None
    return Plate(
        "cactus",
        "How many inputs are decided within a time",
        ("network", "decided", "work_s"),
        lines,
        figure,
        f"Inputs that are proved or refuted, by the work that each took; less than {_SHORTEST_S} s is drawn there. "
        "Misclassified inputs are not counted.",
    )


def margins_plate(details: Details, titles: Mapping[str, str]) -> Plate | None:
    """Returns how the lowest margins at the root are spread, a panel for each network; None where none are known."""
    values = {v: np.array([m for (name, _), m in details.margins.items() if name == v]) for v in titles}
    values = {variant: margins for variant, margins in values.items() if margins.size}
    if not values:
        return None
    every = np.concatenate(list(values.values()))
    edges = np.linspace(float(every.min()), max(float(every.max()), float(every.min()) + 1e-6), BINS + 1)
    lines: list[tuple[str, float, float, int]] = []
    with drawing_style():
        figure = new_figure(7.0, 0.6 + 1.15 * len(values))
        panels = figure.subplots(len(values), 1, sharex=True, squeeze=False)[:, 0]
        for panel, (variant, margins) in zip(panels, values.items(), strict=True):
            counts, _ = np.histogram(margins, edges)
            proved = int((margins > 0).sum())
            panel.bar(edges[:-1], counts, np.diff(edges), align="edge", color=COLOURS[0])
            panel.axvline(0.0, color="#111111", linewidth=1)
            label = f"{titles[variant]}: {proved} of {margins.size} above 0"
            panel.set_title(label, fontsize=8, loc="left", pad=2)
            lines += [
                (titles[variant], float(low), float(high), int(n))
                for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)
            ]
        panels[-1].set_xlabel("lowest margin that the bounds at the root prove")
        figure.supylabel("inputs", fontsize=9)
    return Plate(
        "margins",
        "Margins at the root",
        ("network", "low", "high", "inputs"),
        lines,
        figure,
        "Lower bound of the worst class margin before branch and bound; an input to the right of the line is proved "
        "there. Inputs that the clean check or the first attack decided have none.",
    )


def layers_plate(details: Details, titles: Mapping[str, str]) -> Plate | None:
    """Returns the share of unstable neurons of each layer and network; None where no masks are known."""
    if not details.layers:
        return None
    layers = list(dict.fromkeys(share.layer for share in details.layers))
    shown = [variant for variant in titles if any(share.variant == variant for share in details.layers)]
    with drawing_style():
        figure = new_figure(7.0, 3.2)
        axes = figure.subplots()
        width = 0.8 / len(shown)
        for k, variant in enumerate(shown):
            found = {share.layer: share.percent for share in details.layers if share.variant == variant}
            axes.bar(
                [place + (k - (len(shown) - 1) / 2) * width for place in range(len(layers))],
                [found.get(layer, 0.0) for layer in layers],
                0.92 * width,
                label=titles[variant],
                color=COLOURS[k % len(COLOURS)],
                hatch=("", "///", "...", "xxx", "\\\\\\")[k % 5],
                edgecolor="#ffffff",
                linewidth=0,
            )
        sizes = {share.layer: share.neurons for share in details.layers}
        axes.set_xticks(range(len(layers)), [f"{layer}\n{sizes[layer]} neurons" for layer in layers])
        axes.set_ylabel("unstable at the root, %")
        axes.legend(fontsize=8)
    return Plate(
        "unstable_by_layer",
        "Unstable neurons by layer",
        ("network", "layer", "neurons", "percent", "inputs"),
        [(titles[s.variant], s.layer, s.neurons, s.percent, s.inputs) for s in details.layers if s.variant in titles],
        figure,
        "Share of each layer's neurons that the bounds at the root leave unstable, grafted ones counted, averaged over "
        "the inputs that entered branch and bound.",
    )


def overlap_plates(rows: Sequence[ResultRow], titles: Mapping[str, str]) -> list[Plate]:
    """Returns which inputs the networks have in common in each result set: Venn diagrams of two or three, else UpSet.

    Inputs that lack a result under one of the networks are left out, as the caption says. Empty without two networks,
    or where no input has a result under all.
    """
    chosen = list(titles)[:MAX_SETS]
    table: dict[int, dict[str, ResultSet]] = {}
    for row in rows:
        if row.variant in chosen:
            table.setdefault(row.index, {})[row.variant] = row.result_set
    common = sorted(index for index, found in table.items() if len(found) == len(chosen))
    if len(chosen) < 2 or not common:
        return []
    # Two networks may have one title; their sets must not become one.
    names = titles if len(set(titles.values())) == len(titles) else {variant: variant for variant in titles}
    plates = []
    for which in (ResultSet.VS, ResultSet.VF, ResultSet.AT, ResultSet.SK):
        masks = {names[v]: np.array([table[index][v] is which for index in common]) for v in chosen}
        found = overlap(masks)
        if not any(found.sizes):
            continue
        with drawing_style(grid=False):
            if len(chosen) <= 3:
                figure = new_figure(5.4, 3.6)
                draw_venn(figure.subplots(), found)
            else:
                figure = new_figure(7.0, 2.6 + 0.28 * len(chosen))
                upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 0.4 + 0.28 * len(chosen)))
                draw_upset(upper, lower, found, "inputs in exactly these")
        left_out = len(table) - len(common)
        distance = "" if found.distance is None else f"; average Jaccard distance {found.distance:.3f}"
        plates.append(
            Plate(
                f"overlap_{which.value}",
                f"Overlap of the sets {which.value}",
                ("region", *found.names, "inputs"),
                [(key, *key, count) for key, count in found.regions.items()],
                figure,
                f"Inputs in {which.value}: {len(common)} have a result under all networks shown{distance}."
                + (f" {left_out} lack one and are left out." if left_out else ""),
            )
        )
    return plates
