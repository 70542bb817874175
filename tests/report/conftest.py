"""Runs to draw: clearly synthetic ones, and the published result sets."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.analysis.summary import RunHeader, build_summary
from harness.analysis.table import ResultRow, rows_from_published
from harness.domain import Stage, Verdict
from harness.report.source import Run

VARIANTS = ("baseline", "grafted_min", "grafted_norank")
NEURONS = 1000


def synthetic_header(inputs: int, variants: tuple[str, ...] = VARIANTS) -> RunHeader:
    return RunHeader(
        benchmark="synthetic",
        variants=variants,
        inputs=inputs,
        timeout_s=5.0,
        device="synthetic device, no real measurement",
        eps=2 / 255,
        baseline="baseline",
        title="Synthetic rows: nothing here was measured",
        protocol="synthetic",
        command="lgbench bench synthetic --out results/synthetic",
        started_at="2000-01-01T00:00:00Z",
        finished_at="2000-01-01T00:10:00Z",
        seed=100,
        tool="dummy",
        titles={name: f"Synthetic {name}" for name in variants},
        published=(
            {"variant": "baseline", "source": "nowhere", "SA": 78.1, "RA": 61.19, "VA": 41.5, "UNR": 13.28},
            {"variant": "grafted_min", "source": "nowhere", "VA": 49.2, "note": "only <one> figure & a note"},
        ),
        provenance={"versions": {"torch": "0.0"}, "git": "synthetic"},
    )


def synthetic_rows(inputs: int, variants: tuple[str, ...] = VARIANTS, seed: int = 0) -> list[ResultRow]:
    """Rows of every verdict and stage, the same for the same seed; later variants verify more."""
    chance = random.Random(seed)
    kinds = [
        (Verdict.SAT, Stage.CLEAN, False),
        (Verdict.SAT, Stage.ATTACK, False),
        (Verdict.UNSAT, Stage.INCOMPLETE, False),
        (Verdict.UNSAT, Stage.BAB, True),
        (Verdict.SAT, Stage.BAB, True),
        (Verdict.TIMEOUT, None, True),
        (Verdict.UNKNOWN, None, True),
        (Verdict.ERROR, None, False),
    ]
    rows = []
    for k, variant in enumerate(variants):
        weights = (20 + 4 * k, 18, 16 + 12 * k, 20 + 3 * k, 2, max(22 - 8 * k, 1), 1, 1)
        for index in range(inputs):
            verdict, stage, entered = chance.choices(kinds, weights)[0]
            work = chance.expovariate(1.0) if entered else 0.02
            unstable = chance.randrange(100, 200)
            rows.append(
                ResultRow(
                    variant,
                    index,
                    verdict,
                    stage,
                    2 * work,
                    work,
                    chance.randrange(2, 500) if entered else 0,
                    entered,
                    NEURONS if entered else 0,
                    unstable if entered else None,
                    (unstable // (2 if k else 1)) if entered else None,
                    "the engine <crashed> & was started again" if verdict is Verdict.ERROR else "",
                )
            )
    return rows


@pytest.fixture
def synthetic_run() -> Callable[..., Run]:
    """Returns a function that makes a synthetic run of so many inputs, leaving out what `keep` refuses."""

    def make(
        inputs: int = 60,
        variants: tuple[str, ...] = VARIANTS,
        keep: Callable[[ResultRow], bool] = lambda _: True,
    ) -> Run:
        rows = [row for row in synthetic_rows(inputs, variants) if keep(row)]
        return Run(build_summary(rows, synthetic_header(inputs, variants), {}), tuple(rows))

    return make


@pytest.fixture(scope="session")
def published_run(shared_dir: Path) -> Run:
    """The published CNN-B result sets; their files have no times."""
    rows = rows_from_published(shared_dir / "golden" / "cnn_b" / "results_pretrained.json")
    header = RunHeader(
        benchmark="cifar10_cnnb",
        variants=("baseline", "grafted"),
        inputs=1000,
        timeout_s=180.0,
        device="A40 (published)",
        eps=2 / 255,
        baseline="baseline",
        title="CNN-B, the published result sets",
    )
    return Run(build_summary(rows, header, {}), tuple(rows))
