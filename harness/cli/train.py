"""`lgbench train`: fast adversarial training of a network, resumable, to a committed form."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.training_common import (
    EXIT_UNFINISHED,
    LENGTH_OPTION,
    Length,
    NetworkName,
    data_remarks,
    publish_trained,
    report_published,
    run_training,
    test_data,
    torch_device,
    training_data,
    training_options,
    training_plan,
    with_options,
)
from harness.networks import zoo
from harness.training.loop import Trainer
from harness.training.publish import Origin, images_sha256
from harness.training.schedule import Schedule


@click.command()
@click.argument("target", metavar="(ARCHITECTURE | BENCHMARK)")
@click.option("--out", required=True, help="The network to write, e.g. models/cifar10_cnnb/baseline.")
@training_options
@LENGTH_OPTION
@click.option("--epochs", type=click.IntRange(min=1), help="Number of epochs.")
@click.option("--schedule", type=click.Choice([s.value for s in Schedule]), help="Shape of the learning rate.")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), help="Peak learning rate.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images a batch.")
@click.option(
    "--eps", type=click.FloatRange(min=0, max=1, min_open=True), help="Training radius; alpha follows (1.25x)."
)
@click.option("--seed", type=int, help="Seeds the initial weights and every draw.")
def train(
    target: str,
    out: str,
    data: Path | None,
    length: Length | None,
    epochs: int | None,
    schedule: str | None,
    lr: float | None,
    batch_size: int | None,
    eps: float | None,
    seed: int | None,
    device: str,
    checkpoint: Path | None,
    max_seconds: float | None,
) -> int:
    """Train a network by fast adversarial training (FGSM with random start, GradAlign).

    The epoch with the best validation RA is kept, rounded to float16 numbers, measured on the whole test set (SA, and
    RA under PGD-100) and written to OUT.onnx.gz with its manifest OUT.json. Ctrl-C and --max-seconds save the training;
    the same command goes on where it stood. Exit code 1: not finished yet.
    """
    name, where = NetworkName.parse(out), torch_device(device)
    plan = training_plan(target, length, where)
    config = with_options(
        plan.config,
        epochs=epochs,
        schedule=None if schedule is None else Schedule(schedule),
        lr=lr,
        batch_size=batch_size,
        eps=eps,
        alpha=None if eps is None else 1.25 * eps,
        seed=seed,
    )
    network = zoo.build(plan.architecture, config.seed).to(where)
    images, test = training_data(plan.dataset, data), test_data(plan.dataset, data)
    trainer = Trainer(network, config, images.train, images.validation, checkpoint or name.default_checkpoint)
    if not run_training(trainer, name.variant, max_seconds):
        return EXIT_UNFINISHED
    origin = Origin(
        plan.benchmark,
        name.variant,
        plan.architecture,
        plan.note if config == plan.config else f"{config.epochs} epochs, {config.schedule}",
        data={"train_sha256": images_sha256(images.everything), **data_remarks(plan.dataset, data)},
    )
    report_published(publish_trained(trainer, name, origin, test), name)
    return 0
