"""The thesis' published result sets of CNN-B as a run that the page can show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.analysis.summary import RunHeader, build_summary
from harness.analysis.table import rows_from_published
from harness.config import find_spec
from harness.domain import UsageError
from harness.files import sha256_file
from harness.report.source import Run

GOLDEN_RESULTS = "results_pretrained.json"
GOLDEN_TIMES = "verified_ret.npz"
PUBLISHED_INPUTS = 1000
"""Test inputs that the published run was over; 999 and 997 of them have a record."""
BENCHMARK = "cifar10_cnnb"
THESIS_FIGURES = {"overlaps": "4.6", "transitions": "4.7", "transfer": "4.9"}
"""Section of the page to the thesis' figure of the same results."""
_SOURCE = "thesis, provided models"
_VARIANTS = {"baseline": "baseline", "grafted_min": "grafted"}
"""Variant of the specification beside which the figures are published, to the published network."""


def golden_run(folder: Path) -> Run:
    """Returns the thesis' published result sets of CNN-B as a run; counterexamples are not published.

    Seconds and domains are those of the verifier's rows where the folder has them, all stages of an input together.

    Raises:
        UsageError: the folder has no such results, or a file has another form.
    """
    path, times = folder / GOLDEN_RESULTS, folder / GOLDEN_TIMES
    if not path.is_file():
        raise UsageError(f"{folder}: has no {GOLDEN_RESULTS}; name the folder of published results")
    rows = tuple(rows_from_published(path, times if times.is_file() else None))
    header = RunHeader(
        benchmark=BENCHMARK,
        variants=("baseline", "grafted"),
        inputs=PUBLISHED_INPUTS,
        timeout_s=180.0,
        timeout_on="wall",
        device="NVIDIA A40, 48 GB (as published)",
        eps=2 / 255,
        baseline="baseline",
        title="CIFAR-10, CNN-B: the published result sets",
        protocol="the thesis', networks and mask of the paper's authors",
        command=f"lgbench report --golden {folder}",
        titles={"baseline": "Baseline", "grafted": "Grafted"},
        published=_printed(),
        provenance={file.name: {"sha256": sha256_file(file)} for file in (path, times) if file.is_file()},
    )
    return Run({**build_summary(rows, header, {}), "golden": True}, rows)


def _printed() -> list[dict[str, Any]]:
    """Returns the figures that the thesis prints of these networks; none where the specification is not there."""
    try:
        published = find_spec(BENCHMARK).published
    except UsageError:
        return []
    return [
        row.model_dump(exclude_none=True)
        | {"variant": _VARIANTS[row.variant], "note": "its VA is over the 999 inputs with a record of the baseline"}
        for row in published
        if row.source == _SOURCE and row.variant in _VARIANTS
    ]
