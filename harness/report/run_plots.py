"""Figures of a run with axes: cactus curves, margins at the root, unstable neurons by layer, overlaps of sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.ticker import MaxNLocator

from harness.analysis.masks import Overlap
from harness.analysis.overlaps import SetOverlap
from harness.analysis.study import Analysis
from harness.domain import ResultSet
from harness.report.details import Details
from harness.report.mask_figures import draw_upset
from harness.report.plate import Plate
from harness.report.plots import COLOURS, LINES, MARKERS, drawing_style, new_figure
from harness.report.venn import draw_venn

_SHORTEST_S = 0.01
"""Shorter times are drawn there: the axis is logarithmic."""
BINS = 30
WIDTH = 6.0
"""Inches; narrow enough that a phone shows the text at a readable size."""
MAX_SETS = 8
"""Networks in an UpSet figure; of more the first."""
MAX_NAMED = 10
"""So many inputs without a result are named, of more the number is told."""


def cactus_plate(study: Analysis, titles: Mapping[str, str], limit: str) -> Plate | None:
    """Returns how many inputs of each network were decided within a time; None where no time is known.

    Inputs that the clean check sorted out cost nothing and are left out.

    Args:
        study: the analysis; its clock says which seconds are meant.
        titles: variant to its name, in the order of the legend.
        limit: the limit in words.
    """
    lines: list[tuple[str, int, float]] = []
    with drawing_style():
        figure = new_figure(WIDTH, 3.7)
        axes = figure.subplots()
        for k, (variant, title) in enumerate(titles.items()):
            times = study.network(variant).decided_s
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
        words = "seconds of work" if study.clock == "work" else "elapsed seconds"
        axes.set(xscale="log", xlabel=f"{words} for each input (limit: {limit})", ylabel="inputs decided")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8, loc="upper left")
    if not any(seconds for _, _, seconds in lines):
        return None
    return Plate(
        "cactus",
        "How many inputs are decided within a time",
        ("network", "decided", f"{study.clock}_s"),
        lines,
        figure,
        f"Inputs that are proved or refuted, by the time that each took; less than {_SHORTEST_S} s is drawn there. "
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
        figure = new_figure(WIDTH, 0.6 + 1.0 * len(values))
        panels = figure.subplots(len(values), 1, sharex=True, squeeze=False)[:, 0]
        for panel, (variant, margins) in zip(panels, values.items(), strict=True):
            counts, _ = np.histogram(margins, edges)
            proved = int((margins > 0).sum())
            panel.bar(edges[:-1], counts, np.diff(edges), align="edge", color=COLOURS[0])
            panel.axvline(0.0, color="#111111", linewidth=1)
            label = f"{titles[variant]}: {proved} of {margins.size} above 0"
            panel.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4, steps=[1, 2, 5, 10]))
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
        "Lower bound of the worst class margin before branch and bound; an input to the right of the line needs no "
        "branch and bound. Inputs that the clean check or the first attack decided have none.",
    )


def layers_plate(details: Details, titles: Mapping[str, str]) -> Plate | None:
    """Returns the share of unstable neurons of each layer and network; None where no masks are known."""
    if not details.layers:
        return None
    layers = list(dict.fromkeys(share.layer for share in details.layers))
    shown = [variant for variant in titles if any(share.variant == variant for share in details.layers)]
    with drawing_style():
        figure = new_figure(WIDTH, 3.2)
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
        axes.legend(fontsize=8, loc="upper left")
    return Plate(
        "unstable_by_layer",
        "Unstable neurons by layer",
        ("network", "layer", "neurons", "percent", "inputs"),
        [(titles[s.variant], s.layer, s.neurons, s.percent, s.inputs) for s in details.layers if s.variant in titles],
        figure,
        "Share of each layer's neurons that the bounds at the root leave unstable, grafted ones counted, averaged over "
        "the inputs that entered branch and bound.",
    )


def overlap_plates(overlaps: Sequence[SetOverlap], titles: Mapping[str, str], *, whole: bool = False) -> list[Plate]:
    """Returns which inputs the networks have in common in each result set: Venn diagrams of two or three, else UpSet.

    Empty sets have no figure.

    Args:
        overlaps: of all networks of `titles`, in their order.
        titles: variant to its name; at least two.
        whole: whether inputs without a result under one of the networks count as not in its set, as in the thesis;
            otherwise they are left out. The caption names them.
    """
    # Two networks may have one title; their sets must not become one.
    names = tuple(titles.values() if len(set(titles.values())) == len(titles) else titles)
    found = {one.which: one for one in overlaps}
    plates = []
    for which in (ResultSet.VS, ResultSet.VF, ResultSet.AT, ResultSet.SK):
        shown = found[which].overlap if whole else _recorded(found[which])
        if any(shown.sizes):
            plates.append(_overlap_plate(found[which], replace(shown, names=names), whole=whole))
    return plates


def _recorded(found: SetOverlap) -> Overlap:
    """Returns the overlap without the inputs that lack a result under some network."""
    lacking = {region: len(inputs) for region, inputs in found.unrecorded.items()}
    if not lacking:
        return found.overlap
    regions = {region: count - lacking.get(region, 0) for region, count in found.overlap.regions.items()}
    sizes = tuple(
        sum(count for region, count in regions.items() if region[k] == "1") for k in range(len(found.overlap.names))
    )
    return replace(found.overlap, regions=regions, sizes=sizes, distance=None)


def _overlap_plate(found: SetOverlap, shown: Overlap, *, whole: bool) -> Plate:
    which = found.which.value
    with drawing_style(grid=False):
        if len(shown.names) <= 3:
            figure = new_figure(4.6, 3.0)
            draw_venn(figure.subplots(), shown)
        else:
            figure = new_figure(WIDTH, 2.3 + 0.26 * len(shown.names))
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 0.4 + 0.28 * len(shown.names)))
            draw_upset(upper, lower, shown, "inputs in\nexactly these")
    caption = f"{which}: {sum(shown.regions.values())} inputs are in it under at least one network"
    caption += "." if shown.distance is None else f"; average Jaccard distance {shown.distance:.3f}."
    lacking = sorted({index for inputs in found.unrecorded.values() for index in inputs})
    if lacking:
        named = ", ".join(map(str, lacking)) if len(lacking) <= MAX_NAMED else str(len(lacking))
        caption += (
            f" Without a result under {'the other' if len(shown.names) == 2 else 'some'} network: {named}; "
            f"{'counted as not in its set' if whole else 'left out'}."
        )
    return Plate(
        f"overlap_{which}",
        f"Overlap of the sets {which}",
        ("region", *shown.names, "inputs"),
        [(key, *key, count) for key, count in shown.regions.items()],
        figure,
        caption,
    )
