"""The masks that a run's grafted networks were made with: how scores are spread, and which neurons were taken."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config import find_spec
from harness.domain import UsageError
from harness.files import sha256_bytes
from harness.report.plate import Plate
from harness.report.plots import COLOURS, MARKERS, QUIET, drawing_style, new_figure

SCORES_FILE = "scores.npz"
BINS = 50
_SHORT = {"gradient": "GAP", "magnitude": "SAP", "variance": "VAP"}
Arrays = Mapping[str, NDArray[Any]]


def mask_plates(
    summary: Mapping[str, Any], manifests: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]
) -> list[Plate]:
    """Returns for each grafted network its scores' histograms and the plane that neurons were selected on.

    Masks are found beside the networks of the benchmark's specification, by the hash that the manifest states; the
    scores beside them, by the hash that the mask states. What is not there, or is another file, is left out.
    """
    try:
        spec = find_spec(str(summary["benchmark"]))
    except UsageError:
        return []
    plates: list[Plate] = []
    seen: set[str] = set()
    for variant, manifest in manifests.items():
        stated = manifest.get("mask") or {}
        digest = str(stated.get("sha256"))
        if variant not in titles or digest in seen or variant not in spec.variant_names:
            continue
        folder = spec.network_path(variant).parent
        mask = _arrays(folder / Path(str(stated.get("file"))).name, digest)
        if mask is None or not {"stage_picks", "provenance"} <= mask.keys():
            continue
        origin = json.loads(str(mask["provenance"]))
        scores = _arrays(folder / SCORES_FILE, str(origin.get("scores_sha256")))
        heuristic = str(origin.get("heuristic"))
        if scores is None or not {heuristic, "instability"} <= scores.keys():
            continue
        seen.add(digest)
        plates += _plates(variant, titles[variant], scores, mask["stage_picks"], origin)
    return plates


def _arrays(path: Path, sha256: str) -> Arrays | None:
    """Returns the arrays of an archive whose bytes have that hash; None of any other file."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if sha256_bytes(data) != sha256:
        return None
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _plates(
    variant: str, title: str, scores: Arrays, picks: NDArray[np.int32], origin: Mapping[str, Any]
) -> list[Plate]:
    heuristic = str(origin["heuristic"])
    word = _SHORT.get(heuristic, heuristic)
    unstable, significant = _unit(scores["instability"]), _unit(scores[heuristic])
    gammas = str(origin.get("gammas", "")).split(",")
    stage = np.zeros(unstable.size, np.int64)
    with drawing_style():
        plane = new_figure(6.0, 4.4)
        panel = plane.subplots()
        for number, chosen in enumerate(picks, 1):
            stage[chosen] = number
        left = stage == 0
        panel.scatter(unstable[left], significant[left], s=3, color=QUIET, label="kept", rasterized=True, linewidths=0)
        for k, chosen in enumerate(picks):
            gamma = f", gamma {gammas[k]}" if k < len(gammas) else ""
            panel.scatter(
                unstable[chosen], significant[chosen], s=6, color=COLOURS[k % len(COLOURS)],
                marker=MARKERS[k % len(MARKERS)], rasterized=True, linewidths=0,
                label=f"stage {k + 1}{gamma}: {len(chosen)}",
            )  # fmt: skip
        panel.set(xlabel="instability, scaled to [0, 1]", ylabel=f"significance ({word}), scaled to [0, 1]")
        panel.set_yscale("symlog", linthresh=1e-3)
        panel.set_xscale("symlog", linthresh=1e-2)
        plane.legend(loc="outside lower center", ncols=3, frameon=False, markerscale=2, fontsize=8)
        spread, lines = _histograms(unstable, significant, stage, word)
    ranking = origin.get("ranking", "")
    grafted = int((stage > 0).sum())
    about = f"{title}: {grafted} of {stage.size} neurons were grafted; significance {word}, ranking {ranking}."
    return [
        Plate(
            f"selection_{variant}", f"Selected neurons: {title}", ("neuron", "instability", "significance", "stage"),
            [(k, float(u), float(s), int(at)) for k, (u, s, at) in enumerate(zip(unstable, significant, stage,
                                                                                  strict=True))],
            plane, f"{about} Scores before ranking, scaled; both axes are logarithmic away from 0.",
        ),
        Plate(
            f"scores_{variant}", f"Scores: {title}", ("score", "low", "high", "kept", "grafted"), lines, spread,
            f"{about} Scores before ranking, scaled to [0, 1].",
        ),
    ]  # fmt: skip


def _histograms(
    unstable: NDArray[np.float32], significant: NDArray[np.float32], stage: NDArray[np.int64], word: str
) -> tuple[Any, list[tuple[str, float, float, int, int]]]:
    edges = np.linspace(0.0, 1.0, BINS + 1)
    figure = new_figure(6.0, 2.6)
    lines: list[tuple[str, float, float, int, int]] = []
    for panel, (name, values) in zip(
        figure.subplots(1, 2, sharey=True), ((f"significance ({word})", significant), ("instability", unstable)),
        strict=True,
    ):  # fmt: skip
        kept, grafted = (np.histogram(values[part], edges)[0] for part in (stage == 0, stage > 0))
        panel.stairs(kept, edges, fill=True, color=QUIET, label="kept")
        panel.stairs(grafted, edges, color=COLOURS[1], linewidth=1.4, label="grafted")
        panel.set_yscale("symlog", linthresh=10)
        panel.set_xlabel(name)
        lines += [
            (name, float(low), float(high), int(a), int(b))
            for low, high, a, b in zip(edges[:-1], edges[1:], kept, grafted, strict=True)
        ]
    figure.axes[0].set_ylabel("neurons")
    figure.axes[0].legend(fontsize=8, loc="upper right")
    return figure, lines


def _unit(values: NDArray[Any]) -> NDArray[np.float32]:
    flat: NDArray[np.float32] = np.array(values, np.float32).ravel()
    flat -= flat.min()
    top = flat.max()
    if top > 0:
        flat /= top
    return flat
