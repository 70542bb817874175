"""`lgbench graft` and `evaluate`: from a network and a mask to a grafted, fine-tuned, measured network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from harness.cli.models import (
    FILE,
    GivenNetwork,
    config_options,
    fitted_test,
    given_data,
    is_user_set,
    model_options,
    open_network,
    untrained_history,
    user_test_set,
)
from harness.cli.options import comma_list
from harness.cli.training_common import (
    DATA_OPTION,
    DEVICE_OPTION,
    EXIT_UNFINISHED,
    NetworkName,
    counting,
    dataset_of,
    publish_network,
    report_published,
    run_training,
    torch_device,
    training_options,
)
from harness.data.datasets import load_images
from harness.data.images import ImageSet
from harness.domain import GraftMask, UsageError
from harness.files import sha256_file
from harness.grafting.finetune import (
    FINETUNE_EPOCHS,
    GRAFT_LR_THESIS,
    WEIGHT_LR,
    finetune_config,
    grafted_copy,
    only_layers,
)
from harness.grafting.masks import read_mask
from harness.grafting.npz import read_npz
from harness.networks import zoo
from harness.networks.export import ROUNDINGS
from harness.networks.grafted import INITIAL_INTERCEPT, INITIAL_SLOPE, neuron_shapes
from harness.training.evaluate import BLOCK, PgdConfig
from harness.training.evaluate import evaluate as measure
from harness.training.loop import Trainer
from harness.training.publish import Origin, images_sha256, metrics

Shapes = Mapping[str, tuple[int, ...]]

MASK_OPTION = click.option(
    "--mask", "mask_file", type=FILE, required=True, help="Mask file (.npz); see `lgbench mask`."
)
OUT_OPTION = click.option("--out", required=True, help="The network to write, e.g. models/cifar10_cnnb/grafted_min.")
ROUNDING_OPTION = click.option(
    "--rounding",
    type=click.Choice([*ROUNDINGS, "none"]),
    help="Round all weights to this type: smaller files.  [default: as the network's; none for your own]",
)


@click.command()
@click.argument("network", metavar="MODEL")
@MASK_OPTION
@OUT_OPTION
@click.option("--layers", help="Activations in the mask's order, for a mask without names: relu1,relu2,...")
@click.option("--only", help="Graft only these of the mask's activations: relu1,relu2,...")
@click.option(
    "--existing",
    type=click.Choice(["keep", "replace"]),
    default="keep",
    show_default=True,
    help="Neurons that are linear already: keep them beside the mask's, or have exactly the mask in its activations.",
)
@training_options
@click.option(
    "--epochs", type=click.IntRange(min=0), default=FINETUNE_EPOCHS, show_default=True, help="Of fine-tuning."
)
@click.option("--retrain/--no-retrain", default=True, show_default=True, help="Whether weights are retrained too.")
@click.option("--weight-lr", type=click.FloatRange(min=0), default=WEIGHT_LR, show_default=True, help="Of the weights.")
@click.option(
    "--graft-lr",
    type=click.FloatRange(min=0),
    default=GRAFT_LR_THESIS,
    show_default=True,
    help="Of slopes and intercepts: 0.1 in the thesis' text, 0.01 in the published code.",
)
@click.option("--slope", type=float, default=INITIAL_SLOPE, show_default=True, help="Start value of the slopes.")
@click.option(
    "--intercept", type=float, default=INITIAL_INTERCEPT, show_default=True, help="Start value of the intercepts."
)
@click.option(
    "--freeze-graft/--train-graft",
    default=None,
    help="Whether slopes and intercepts stay as they are.  [default: only where both are 0: pruned neurons]",
)
@model_options
@config_options
@ROUNDING_OPTION
def graft(
    network: str,
    mask_file: Path,
    out: str,
    layers: str | None,
    only: str | None,
    existing: str,
    data: Path | None,
    epochs: int,
    retrain: bool,
    weight_lr: float,
    graft_lr: float,
    slope: float,
    intercept: float,
    freeze_graft: bool | None,
    weights: Path | None,
    input_shape: str | None,
    data_set: str | None,
    rounding: str | None,
    device: str,
    checkpoint: Path | None,
    max_seconds: float | None,
    **options: Any,
) -> int:
    """Graft MODEL by a mask and fine-tune it.

    MODEL is a published network (models/cifar10_cnnb/baseline), an ONNX file with ReLUs, or MODULE:FACTORY of your own
    code with --weights. Masked neurons become linear; then slopes and intercepts, and the weights unless --no-retrain,
    are trained as the baseline was, with cosine annealing. --epochs 0 grafts without any training; --slope 0 with
    --intercept 0 prunes. Ctrl-C and --max-seconds save the training; the same command goes on where it stood. Exit code
    1: not finished yet.
    """
    name, where = NetworkName.parse(out), torch_device(device)
    given = open_network(network, weights, input_shape, data_set)
    mask = chosen_mask(mask_file, neuron_shapes(given.network, given.input_shape), layers, only)
    grafted = grafted_copy(given.network, mask, given.input_shape, slope, intercept, keep=existing == "keep")
    _say_of_another(mask_file, mask, given)
    images = given_data(given, data_set, data)
    frozen = slope == intercept == 0 if freeze_graft is None else freeze_graft
    config = finetune_config(
        given.config(images.dataset, **options), epochs, retrain, weight_lr, 0.0 if frozen else graft_lr
    )
    unusual = {
        "only": only,
        "existing": existing if existing != "keep" and given.manifest and given.manifest.grafted_neurons else None,
        "slope": slope if slope != INITIAL_SLOPE else None,
        "intercept": intercept if intercept != INITIAL_INTERCEPT else None,
    }
    origin = Origin(
        given.manifest.benchmark if given.manifest else name.folder.resolve().name,
        name.variant,
        given.architecture,
        finetuning_note(epochs),
        zoo.ParentNetwork(given.name, given.sha256),
        zoo.FileHash(mask_file.name, sha256_file(mask_file)),
        images.remarks | {f"graft_{key}": value for key, value in unusual.items() if value is not None},
        rounding or given.rounding,
    )
    grafted = grafted.to(where)
    if epochs:
        trainer = Trainer(grafted, config, images.train, images.validation, checkpoint or name.default_checkpoint)
        if not run_training(trainer, name.variant, max_seconds):
            return EXIT_UNFINISHED
        history = tuple(trainer.state.history)
    else:
        history = untrained_history(grafted, config, images.validation)
    report_published(publish_network(grafted, config, history, name, origin, images.test), name)
    return 0


@click.command()
@click.argument("network", metavar="MODEL")
@OUT_OPTION
@DATA_OPTION
@DEVICE_OPTION
@model_options
@config_options
@ROUNDING_OPTION
def adopt(
    network: str,
    out: str,
    data: Path | None,
    device: str,
    weights: Path | None,
    input_shape: str | None,
    data_set: str | None,
    rounding: str | None,
    **options: Any,
) -> int:
    """Publish MODEL, your own ONNX file or MODULE:FACTORY, as it is: measured, with a manifest.

    Afterwards it can be scored, masked, grafted and named in a benchmark's specification like a network of models/.
    """
    name, where = NetworkName.parse(out), torch_device(device)
    given = open_network(network, weights, input_shape, data_set)
    images = given_data(given, data_set, data)
    config = replace(given.config(images.dataset, **options), epochs=0)
    origin = Origin(
        name.folder.resolve().name,
        name.variant,
        given.architecture,
        "trained elsewhere",
        zoo.ParentNetwork(given.name, given.sha256),
        data=images.remarks,
        rounding=rounding or given.rounding,
    )
    moved = given.network.to(where)
    history = untrained_history(moved, config, images.validation)
    report_published(publish_network(moved, config, history, name, origin, images.test), name)
    return 0


@click.command()
@click.argument("network", metavar="MODEL")
@DATA_OPTION
@click.option("--inputs", type=click.IntRange(min=1), help="The first N test images.  [default: all]")
@click.option("--eps", type=click.FloatRange(min=0, max=1), help="Attack radius.  [default: the training's]")
@click.option("--steps", type=click.IntRange(min=1), default=100, show_default=True, help="Steps of the attack.")
@click.option("--alpha", type=click.FloatRange(min=0), help="Size of a step.  [default: 2.5 eps / steps]")
@click.option("--restarts", type=click.IntRange(min=1), default=1, show_default=True, help="Random starts.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seeds the random starts.")
@click.option("--batch-size", type=click.IntRange(1, BLOCK), default=BLOCK, show_default=True, help="Images a pass.")
@DEVICE_OPTION
@model_options
@click.option("--write", is_flag=True, help="Put the figures into the network's manifest.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def evaluate(
    network: str,
    data: Path | None,
    inputs: int | None,
    eps: float | None,
    steps: int,
    alpha: float | None,
    restarts: int,
    seed: int,
    batch_size: int,
    device: str,
    weights: Path | None,
    input_shape: str | None,
    data_set: str | None,
    write: bool,
    as_json: bool,
) -> int:
    """Measure standard accuracy and robust accuracy (PGD) of MODEL on the test set.

    The same seed gives the same figures on the same device, whatever the batch size. They are printed with what they
    were measured under; nothing is written without --write.
    """
    given = open_network(network, weights, input_shape, data_set)
    radius = given.radius(eps)
    test = _test_images(given, data_set, data, inputs)
    if write:
        _refuse_to_write(given, network, len(test))
    attack = PgdConfig(radius, steps, 2.5 * radius / steps if alpha is None else alpha, restarts)
    where = torch_device(device)
    with counting("measuring SA and RA", len(test)) as progress:
        accuracy = measure(given.network.to(where), test, attack, seed, batch_size, progress)
    found = metrics(accuracy, attack, seed)
    if write and given.manifest is not None:
        manifest = given.manifest
        stated = {**manifest.data, "test_sha256": images_sha256(test)}
        path = zoo.manifest_path(NetworkName.parse(network).folder, manifest.variant)
        zoo.write_manifest(path, replace(manifest, metrics=found, data=stated))
    if as_json:
        click.echo(json.dumps({"network": given.name, "seed": seed, **found}))
    else:
        click.echo(
            f"{given.name}: SA {accuracy.sa:.2f} %, RA {accuracy.ra:.2f} % of {accuracy.n} test images "
            f"(PGD-{steps}, {restarts} restart{'s' * (restarts > 1)}, eps {radius:.6g}, seed {seed})"
        )
    return 0


def chosen_mask(path: Path, shapes: Shapes, layers: str | None = None, only: str | None = None) -> GraftMask:
    """Returns the mask of a file, for a network with activations of the given shapes.

    A mask without names is taken in the order of `layers`, or of all activations where the sizes are theirs.

    Raises:
        UsageError: the file is no mask, does not fit, or lacks one of the activations named in `only`.
    """
    named: Shapes | None = None
    if layers is not None:
        named = _named_layers(layers, shapes)
    else:
        arrays = read_npz(path)
        sizes = tuple(math.prod(shape) for shape in shapes.values())
        if "names" not in arrays and tuple(arrays.get("layer_sizes", ())) == sizes:
            named = shapes
    mask = read_mask(path, None if named is None else dict(named))
    return mask if only is None else only_layers(mask, comma_list(only))


def finetuning_note(epochs: int) -> str:
    """Returns how a fine-tuning differs from the published one; empty where it does not."""
    if not epochs:
        return "grafted without fine-tuning"
    return "" if epochs >= FINETUNE_EPOCHS else f"{epochs} epochs of fine-tuning instead of {FINETUNE_EPOCHS}"


def _test_images(given: GivenNetwork, data_set: str | None, data: Path | None, inputs: int | None) -> ImageSet:
    dataset = data_set or (None if given.manifest is None else dataset_of(given.manifest))
    if dataset is None:
        raise UsageError(f"{given.name}: name its images with --data-set: cifar10, mnist, or a .npz file of yours")
    if is_user_set(dataset):
        images = user_test_set(given, dataset)
        if inputs is not None and inputs > len(images):
            raise UsageError(f"{dataset}: {inputs} images were asked for, but there are {len(images)}; ask for fewer")
        return images[:inputs]
    return fitted_test(given, load_images(dataset, "test", data, inputs), dataset)


def _refuse_to_write(given: GivenNetwork, model: str, n: int) -> None:
    if given.manifest is None:
        raise UsageError(f"--write needs a manifest, and {model} has none; `lgbench adopt` makes one")
    stated = int(given.manifest.metrics.get("SA", {}).get("n", 0))
    if n < stated:
        raise UsageError(
            f"--write: the manifest's figures are of {stated} test images, these would be of {n}; "
            "leave out --inputs and name the full data set with --data"
        )


def _say_of_another(path: Path, mask: GraftMask, given: GivenNetwork) -> None:
    made_from = mask.provenance.get("network_sha256", given.sha256)
    if made_from != given.sha256:
        name = mask.provenance.get("network", "a network")
        click.echo(f"note: {path} was made from {name} ({made_from[:12]}), not from {given.name}; it fits", err=True)


def _named_layers(text: str, shapes: Shapes) -> Shapes:
    names = comma_list(text)
    for name in names:
        if name not in shapes:
            raise UsageError(f"--layers names '{name}', but the network's activations are {', '.join(shapes)}")
    return {name: shapes[name] for name in names}
