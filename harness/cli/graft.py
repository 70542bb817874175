"""`lgbench graft` and `evaluate`: from a trained network and a mask to a grafted, measured one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from harness.cli.training_common import (
    DATA_OPTION,
    DEVICE_OPTION,
    EXIT_UNFINISHED,
    NetworkName,
    counting,
    data_remarks,
    publish_trained,
    report_published,
    run_training,
    test_data,
    torch_device,
    training_data,
    training_options,
)
from harness.data.datasets import load_images
from harness.domain import UsageError
from harness.files import sha256_file
from harness.grafting.finetune import FINETUNE_EPOCHS, GRAFT_LR_THESIS, WEIGHT_LR, finetune_config, grafted_copy
from harness.grafting.masks import read_mask
from harness.networks import zoo
from harness.training.evaluate import PgdConfig
from harness.training.evaluate import evaluate as measure
from harness.training.loop import Trainer, TrainingConfig
from harness.training.publish import Origin, images_sha256, metrics

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("network")
@click.option("--mask", "mask_file", type=FILE, required=True, help="Mask file (.npz); see `lgbench mask`.")
@click.option("--out", required=True, help="The network to write, e.g. models/cifar10_cnnb/grafted_min.")
@click.option("--layers", help="Activations in the mask's order, for a mask without names: relu1,relu2,...")
@training_options
@click.option("--epochs", type=click.IntRange(min=1), default=FINETUNE_EPOCHS, show_default=True, help="Fine-tuning.")
@click.option("--retrain/--no-retrain", default=True, show_default=True, help="Whether weights are retrained too.")
@click.option("--weight-lr", type=click.FloatRange(min=0), default=WEIGHT_LR, show_default=True, help="Of the weights.")
@click.option(
    "--graft-lr",
    type=click.FloatRange(min=0),
    default=GRAFT_LR_THESIS,
    show_default=True,
    help="Of slopes and intercepts: 0.1 in the thesis' text, 0.01 in the published code.",
)
@click.option("--slope", type=float, default=0.4, show_default=True, help="Start value of the slopes.")
@click.option("--intercept", type=float, default=0.0, show_default=True, help="Start value of the intercepts.")
def graft(
    network: str,
    mask_file: Path,
    out: str,
    layers: str | None,
    data: Path | None,
    epochs: int,
    retrain: bool,
    weight_lr: float,
    graft_lr: float,
    slope: float,
    intercept: float,
    device: str,
    checkpoint: Path | None,
    max_seconds: float | None,
) -> int:
    """Graft NETWORK by a mask and fine-tune it.

    Masked neurons become linear; then slopes and intercepts, and the weights unless --no-retrain, are trained as the
    baseline was, with cosine annealing. Ctrl-C and --max-seconds save the training; the same command goes on where it
    stood. Exit code 1: not finished yet.
    """
    source, name, where = NetworkName.parse(network), NetworkName.parse(out), torch_device(device)
    manifest = source.manifest
    chosen = read_mask(mask_file, None if layers is None else _named_layers(layers, manifest))
    dataset = _dataset(manifest)
    grafted = grafted_copy(source.load("cpu"), chosen, manifest.input_shape, slope, intercept).to(where)
    config = finetune_config(TrainingConfig.from_record(manifest.training.config), epochs, retrain, weight_lr, graft_lr)
    images, test = training_data(dataset, data), test_data(dataset, data)
    trainer = Trainer(grafted, config, images.train, images.validation, checkpoint or name.default_checkpoint)
    if not run_training(trainer, name.variant, max_seconds):
        return EXIT_UNFINISHED
    origin = Origin(
        manifest.benchmark,
        name.variant,
        manifest.architecture,
        "" if epochs >= FINETUNE_EPOCHS else f"{epochs} epochs of fine-tuning instead of {FINETUNE_EPOCHS}",
        zoo.ParentNetwork(source.variant, manifest.onnx.sha256),
        zoo.FileHash(mask_file.name, sha256_file(mask_file)),
        {"train_sha256": images_sha256(images.everything), **data_remarks(dataset, data)},
    )
    report_published(publish_trained(trainer, name, origin, test), name)
    return 0


@click.command()
@click.argument("network")
@DATA_OPTION
@click.option("--inputs", type=click.IntRange(min=1), help="The first N test images.  [default: all]")
@click.option("--eps", type=click.FloatRange(min=0, max=1), help="Attack radius.  [default: the training's]")
@click.option("--steps", type=click.IntRange(min=1), default=100, show_default=True, help="Steps of 2.5 eps / steps.")
@click.option("--restarts", type=click.IntRange(min=1), default=1, show_default=True, help="Random starts.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seeds the random starts.")
@DEVICE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def evaluate(
    network: str,
    data: Path | None,
    inputs: int | None,
    eps: float | None,
    steps: int,
    restarts: int,
    seed: int,
    device: str,
    as_json: bool,
) -> int:
    """Measure standard accuracy and robust accuracy (PGD) of NETWORK on the test set.

    The same seed gives the same figures on the same device. Whatever is measured is printed with what it was measured
    under; nothing is written.
    """
    name = NetworkName.parse(network)
    manifest = name.manifest
    test = load_images(_dataset(manifest), "test", data, inputs)
    radius = float(manifest.training.config["eps"]) if eps is None else eps
    attack = PgdConfig(radius, steps, 2.5 * radius / steps, restarts)
    with counting("measuring SA and RA", len(test)) as progress:
        accuracy = measure(name.load(device), test, attack, seed, progress=progress)
    if as_json:
        click.echo(json.dumps({"network": name.variant, "seed": seed, **metrics(accuracy, attack)}))
    else:
        click.echo(
            f"{name.variant}: SA {accuracy.sa:.2f} %, RA {accuracy.ra:.2f} % of {accuracy.n} test images "
            f"(PGD-{steps}, {restarts} restart{'s' * (restarts > 1)}, eps {radius:.6g}, seed {seed})"
        )
    return 0


def _dataset(manifest: zoo.NetworkManifest) -> str:
    return manifest.architecture.partition("_")[0]


def _named_layers(text: str, manifest: zoo.NetworkManifest) -> dict[str, tuple[int, ...]]:
    shapes = {activation.name: activation.shape for activation in manifest.activations}
    names: Sequence[str] = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in shapes:
            raise UsageError(f"--layers names '{name}', but the network's activations are {', '.join(shapes)}")
    return {name: shapes[name] for name in names}
