"""`lgbench score`, `mask`, `graft` and `evaluate`: from a trained network to a grafted, measured one."""

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
from harness.data.datasets import SCORE_SUBSET, load_images, score_subset
from harness.domain import UsageError
from harness.files import sha256_file
from harness.grafting.finetune import FINETUNE_EPOCHS, GRAFT_LR_THESIS, WEIGHT_LR, finetune_config, grafted_copy
from harness.grafting.instability import Instability, instability
from harness.grafting.masks import read_mask
from harness.grafting.ranking import Ranking
from harness.grafting.recipe import MaskRecipe, make_mask
from harness.grafting.scores import collect_scores, write_scores
from harness.grafting.selection import DEFAULT_GAMMAS, DEFAULT_RATIO
from harness.grafting.significance import Heuristic, significance
from harness.networks import zoo
from harness.report.source import planned_rows
from harness.run.store import Store
from harness.training.evaluate import PgdConfig
from harness.training.evaluate import evaluate as measure
from harness.training.loop import Trainer, TrainingConfig
from harness.training.publish import Origin, images_sha256, metrics

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("network")
@click.option("--out", type=FILE, required=True, help="Score file (.npz) to write.")
@click.option("--run", "run_folder", type=click.Path(path_type=Path), help="Run folder whose instability to add.")
@click.option("--variant", help="Which variant of the run.  [default: the network's name]")
@click.option("--images", type=click.IntRange(min=2), default=SCORE_SUBSET, show_default=True, help="Training images.")
@DATA_OPTION
@DEVICE_OPTION
def score(
    network: str, out: Path, run_folder: Path | None, variant: str | None, images: int, data: Path | None, device: str
) -> int:
    """Score the significance of each neuron of NETWORK, e.g. models/cifar10_cnnb/baseline.

    Writes gradient (GAP), magnitude (SAP) and variance (VAP) of the value before each activation; with --run also for
    how many inputs that entered branch and bound the neuron is unstable. `lgbench run BENCHMARK --variants baseline
    --inputs 200 --max-domains 0` makes such a run.
    """
    name = NetworkName.parse(network)
    manifest = name.manifest
    unstable = None if run_folder is None else run_instability(run_folder, variant or name.variant, manifest)
    everything = training_data(_dataset(manifest), data).everything
    subset = score_subset(len(everything), images)
    provenance = {
        "network": name.variant,
        "network_sha256": manifest.onnx.sha256,
        "images": str(len(subset)),
        "images_sha256": images_sha256(everything),
    }
    if unstable is not None:
        provenance["instability_inputs"] = str(unstable.inputs)
    scores = collect_scores(significance(name.load(device), everything[subset]), unstable, provenance)
    write_scores(out, scores)
    known = f", instability from {unstable.inputs} inputs (UNR {unstable.unr:.2f} %)" if unstable else ""
    click.echo(f"{out}: {', '.join(Heuristic)} of {scores.neurons} neurons on {len(subset)} images{known}")
    return 0


@click.command()
@click.option("--scores", "scores_file", type=FILE, required=True, help="Score file (.npz).")
@click.option("--heuristic", required=True, help="gradient, magnitude or variance (also: gap, sap, vap).")
@click.option("--ranking", type=click.Choice([r.value for r in Ranking]), required=True, help="Of the significance.")
@click.option(
    "--instability-ranking",
    type=click.Choice([r.value for r in Ranking]),
    help="Of the instability.  [default: as --ranking]",
)
@click.option("--gammas", default=",".join(f"{g:g}" for g in DEFAULT_GAMMAS), show_default=True, help="One a stage.")
@click.option("--ratio", type=float, default=DEFAULT_RATIO, show_default=True, help="Share of neurons to graft.")
@click.option("--local", is_flag=True, help="The same share in every layer.")
@click.option("--out", type=FILE, required=True, help="Mask file (.npz) to write.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts of each layer as JSON.")
def mask(
    scores_file: Path,
    heuristic: str,
    ranking: str,
    instability_ranking: str | None,
    gammas: str,
    ratio: float,
    local: bool,
    out: Path,
    as_json: bool,
) -> int:
    """Choose the neurons to graft: unstable and insignificant ones.

    Reads the arrays `layer_sizes`, `instability` and the heuristic's; writes `mask` (uint8, flat), `layer_sizes` and
    `stage_picks`, with names and shapes of the activations where the score file has them.
    """
    recipe = MaskRecipe(
        Heuristic.parse(heuristic),
        Ranking(ranking),
        None if instability_ranking is None else Ranking(instability_ranking),
        parse_gammas(gammas),
        ratio,
        local,
    )
    made = make_mask(recipe, scores_file, out)
    scores, counts = made.scores, made.layer_counts
    if as_json:
        names = scores.names or tuple(f"layer{i + 1}" for i in range(len(counts)))
        layers = [
            {"name": name, "neurons": size, "grafted": count}
            for name, size, count in zip(names, scores.layer_sizes, counts, strict=True)
        ]
        click.echo(json.dumps({"neurons": scores.neurons, "grafted": made.selection.count, "layers": layers}))
    else:
        click.echo(f"{out}: {made.selection.count} of {scores.neurons} neurons ({' + '.join(map(str, counts))})")
    return 0


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


def run_instability(folder: Path, variant: str, manifest: zoo.NetworkManifest) -> Instability:
    """Returns the instability counts from the results of a run: those it planned last, each input once.

    Raises:
        UsageError: the run has no results of that very network, or none of them entered branch and bound.
    """
    with Store.read(folder / "results.db") as store:
        # In the order of their time: where no plan was recorded, the last result of an input holds.
        rows = sorted(planned_rows(store), key=lambda row: row.finished_at)
        same = [row for row in rows if (row.variant, row.network_sha256) == (variant, manifest.onnx.sha256)]
        keys = {row.index: row.key for row in same}
        if not keys:
            raise UsageError(
                f"{folder}: has no results of '{variant}' as its manifest names it; run that network first"
            )
        records = [record for key in keys.values() if (record := store.record(key)) is not None]
    return instability(records)


def parse_gammas(text: str) -> tuple[float, ...]:
    """Returns the numbers of a list such as `2,1.5,1,0`; `inf` is instability alone.

    Raises:
        UsageError: an entry is not a number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--gammas '{text}' is not a list of numbers such as 2,1.5,1,0") from error


def _dataset(manifest: zoo.NetworkManifest) -> str:
    return manifest.architecture.partition("_")[0]


def _named_layers(text: str, manifest: zoo.NetworkManifest) -> dict[str, tuple[int, ...]]:
    shapes = {activation.name: activation.shape for activation in manifest.activations}
    names: Sequence[str] = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in shapes:
            raise UsageError(f"--layers names '{name}', but the network's activations are {', '.join(shapes)}")
    return {name: shapes[name] for name in names}
