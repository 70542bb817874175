"""Figures of scores and masks, as the thesis' figures 4.1 to 4.5: histograms, selection, overlaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from harness.analysis.masks import Overlap
from harness.domain import UsageError
from harness.report.plots import COLOURS, MARKERS, QUIET, drawing_style, new_figure, save_figure
from harness.report.venn import draw_venn

BINS = 50
MAX_REGIONS = 30
"""Regions of an UpSet figure, the largest first; its CSV has all."""
Scores = NDArray[np.float32]


def write_score_histograms(
    significance: Mapping[str, Scores], instability: Mapping[str, Scores], title: str, folder: Path, name: str
) -> list[Path]:
    """Writes how ranked scores are spread: a column for each ranking, significance above, instability below.

    Args:
        significance: ranking to ranked scores in [0, 1], `(neurons,)`.
        instability: the same rankings of the instability.
        title: of the figure.
        folder: where the files go.
        name: their stem.
    """
    edges = np.linspace(0.0, 1.0, BINS + 1)
    lines: list[tuple[str, str, float, float, int]] = []
    with drawing_style():
        figure = new_figure(2.6 * len(significance) + 0.6, 4.4)
        panels = figure.subplots(2, len(significance), squeeze=False, sharex=True, sharey="row")
        for line, (kind, table) in enumerate((("significance", significance), ("instability", instability))):
            for column, (ranking, values) in enumerate(table.items()):
                counts, _ = np.histogram(values, edges)
                panel = panels[line][column]
                panel.bar(edges[:-1], counts, np.diff(edges), align="edge", color=COLOURS[line])
                panel.set_yscale("symlog", linthresh=10)
                panel.set_title(ranking if line == 0 else "", fontsize=9)
                panel.set_xlabel(f"ranked {kind}")
                lines += [
                    (ranking, kind, float(low), float(high), int(count))
                    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
                ]
            panels[line][0].set_ylabel("neurons")
        figure.suptitle(title)
    return save_figure(figure, folder, name, ("ranking", "score", "low", "high", "neurons"), lines)


def write_selection(
    ranked: tuple[Scores, Scores],
    stage_picks: Sequence[NDArray[np.int32]],
    gammas: Sequence[float],
    title: str,
    folder: Path,
    name: str,
) -> list[Path]:
    """Writes which neurons each stage picked on the plane of instability and significance, with the stages' cuts.

    A cut is the line `gamma * r_u - r_s = c` through the last neuron that the stage took: what lies to its right was
    taken, by this stage or an earlier one.

    Args:
        ranked: ranked instability r_u and significance r_s, each `(neurons,)`.
        stage_picks: neurons of each stage, best first.
        gammas: weight of instability in each stage.
        title: of the figure.
        folder: where the files go.
        name: their stem.
    """
    r_u, r_s = ranked
    stage = np.zeros(r_u.size, np.int64)
    for number, picks in enumerate(stage_picks, 1):
        stage[picks] = number
    with drawing_style():
        figure = new_figure(6.4, 4.8)
        panel = figure.subplots()
        left = stage == 0
        # Thousands of dots would make the drawing's file large; axes, lines and text stay vectors.
        panel.scatter(r_u[left], r_s[left], s=3, color=QUIET, label="kept", rasterized=True, linewidths=0)
        for number, (picks, gamma) in enumerate(zip(stage_picks, gammas, strict=True)):
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            panel.scatter(
                r_u[picks], r_s[picks], s=7, color=colour, marker=marker, rasterized=True, linewidths=0,
                label=f"stage {number + 1}, gamma {gamma:g}: {picks.size}",
            )  # fmt: skip
            _cut(panel, r_u, r_s, picks, gamma, colour)
        panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="ranked instability", ylabel="ranked significance")
        figure.suptitle(title)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, markerscale=2)
    lines = ((k, float(u), float(s), int(at)) for k, (u, s, at) in enumerate(zip(r_u, r_s, stage, strict=True)))
    return save_figure(figure, folder, name, ("neuron", "r_u", "r_s", "stage"), lines)


def _cut(panel: Axes, r_u: Scores, r_s: Scores, picks: NDArray[np.int32], gamma: float, colour: str) -> None:
    if not picks.size:
        return
    last = picks[-1]
    if np.isinf(gamma):
        panel.axvline(float(r_u[last]), color=colour, linewidth=1.2)
        return
    cut = gamma * float(r_u[last]) - float(r_s[last])
    x = np.array([0.0, 1.0])
    panel.plot(x, gamma * x - cut, color=colour, linewidth=1.2)


def write_overlap(overlap: Overlap, title: str, folder: Path, name: str) -> list[Path]:
    """Writes the overlap of masks: a Venn diagram of two or three, an UpSet figure of more.

    Raises:
        UsageError: there are fewer than two masks.
    """
    if len(overlap.names) < 2:
        raise UsageError("an overlap is of at least two masks; name another one")
    distance = "" if overlap.distance is None else f"average Jaccard distance {overlap.distance:.3f}"
    with drawing_style(grid=False):
        if len(overlap.names) <= 3:
            figure = new_figure(5.6, 4.8)
            draw_venn(figure.subplots(), overlap)
        else:
            figure = new_figure(8.0, 3.2 + 0.28 * len(overlap.names))
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 0.4 + 0.28 * len(overlap.names)))
            draw_upset(upper, lower, overlap)
        figure.suptitle(f"{title}\n{distance}" if distance else title)
    lines = [(key, *key, count) for key, count in overlap.regions.items()]
    return save_figure(figure, folder, name, ("region", *overlap.names, "neurons"), lines)


def draw_upset(upper: Axes, lower: Axes, overlap: Overlap, unit: str = "neurons in exactly these") -> None:
    """Draws bars of the largest regions over a matrix of dots that says whose they are (Lex et al. 2014).

    Args:
        upper: for the bars.
        lower: for the dots; shares its x axis with `upper`.
        overlap: sets and regions.
        unit: what is counted.
    """
    ranked = sorted(overlap.regions.items(), key=lambda item: -item[1])
    shown = [(key, count) for key, count in ranked if count][:MAX_REGIONS]
    x = range(len(shown))
    upper.bar(x, [count for _, count in shown], color=COLOURS[0], width=0.7)
    for k, (_, count) in enumerate(shown):
        upper.annotate(str(count), (k, count), ha="center", va="bottom", fontsize=7, rotation=60 if count > 99 else 0)
    upper.margins(y=0.2)
    upper.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    upper.set_ylabel(unit)
    for position in range(len(overlap.names)):
        inside = [k for k, (key, _) in enumerate(shown) if key[position] == "1"]
        lower.scatter(x, [position] * len(shown), color="#e3e3e3", s=26)
        lower.scatter(inside, [position] * len(inside), color="#111111", s=26)
    for k, (key, _) in enumerate(shown):
        rows = [position for position, digit in enumerate(key) if digit == "1"]
        lower.plot([k, k], [rows[0], rows[-1]], color="#111111", linewidth=1.2)
    labels = [f"{name} ({size})" for name, size in zip(overlap.names, overlap.sizes, strict=True)]
    lower.set_yticks(range(len(labels)), labels)
    lower.invert_yaxis()
    lower.set_xticks([])
    lower.set_xlabel(f"the {len(shown)} largest regions" if len(shown) < len([c for _, c in ranked if c]) else "")
