#!/usr/bin/env python3
"""Trains every network of the given benchmarks, unattended: baseline, scores, masks, grafted networks.

    scripts/train_all cifar10_cnnb --data DIR [--max-seconds 3600]

Each step is skipped when its result stands there already, made from the same things (hashes of configuration, images,
parent network and mask are compared, not names or dates), so the same command goes on after an interruption, and a
changed specification redoes exactly what depends on the change. Exit code 1: not finished yet.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from harness.cli.main import main
from harness.cli.pipeline import Pipeline, PipelineSettings, say
from harness.cli.training_common import EXIT_UNFINISHED, LENGTH_OPTION, Length, slice_options
from harness.config import find_spec


@click.command()
@click.argument("benchmarks", nargs=-1, required=True)
@slice_options
@LENGTH_OPTION
@click.option(
    "--checkpoints",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("checkpoints"),
    show_default=True,
    help="Folder of the trainings' checkpoints; DIR/BENCHMARK where several benchmarks are named.",
)
@click.option("--models", type=click.Path(path_type=Path, file_okay=False), help="Folder of the networks, if another.")
@click.option("--epochs", type=click.IntRange(min=1), help="Of the baseline, instead of the spec's.")
@click.option("--graft-epochs", type=click.IntRange(min=1), help="Of each fine-tuning, instead of the spec's.")
@click.option("--instability-inputs", type=click.IntRange(min=1), help="Test inputs, instead of the spec's.")
@click.option(
    "--trial-images", type=click.IntRange(min=2), help="A trial with so few images; choose other folders for it."
)
@click.option("--test-images", type=click.IntRange(min=1), help="Measure SA and RA on the first N.  [default: all]")
def train_all(
    benchmarks: tuple[str, ...],
    data: Path | None,
    device: str,
    max_seconds: float | None,
    length: Length | None,
    checkpoints: Path,
    models: Path | None,
    epochs: int | None,
    graft_epochs: int | None,
    instability_inputs: int | None,
    trial_images: int | None,
    test_images: int | None,
) -> int:
    """Train every network of BENCHMARKS: baseline, scores, masks, grafted networks. Repeat to go on.

    --max-seconds bounds training; a scoring or a measurement that has begun runs to its end.
    """
    deadline = None if max_seconds is None else time.monotonic() + max_seconds
    several = len(benchmarks) > 1
    for spec in [find_spec(name) for name in benchmarks]:
        settings = PipelineSettings(
            data,
            models / spec.name if several and models else models,
            checkpoints / spec.name if several else checkpoints,
            length,
            device,
            deadline,
            epochs,
            graft_epochs,
            trial_images,
            instability_inputs,
            test_images=test_images,
        )
        if not Pipeline(spec, settings).run():
            say(f"{spec.name}: not finished; the same command goes on from here")
            return EXIT_UNFINISHED
        say(f"{spec.name}: all networks stand")
    return 0


if __name__ == "__main__":
    sys.exit(main(command=train_all, name="train_all"))
