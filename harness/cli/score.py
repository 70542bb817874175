"""`lgbench score` and `mask`: from a trained network to the neurons to graft."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli.training_common import DATA_OPTION, DEVICE_OPTION, NetworkName, training_data
from harness.data.datasets import SCORE_SUBSET, score_subset
from harness.domain import UsageError
from harness.grafting.instability import Instability, instability
from harness.grafting.ranking import Ranking
from harness.grafting.recipe import MaskRecipe, make_mask
from harness.grafting.scores import collect_scores, write_scores
from harness.grafting.selection import DEFAULT_GAMMAS, DEFAULT_RATIO
from harness.grafting.significance import Heuristic, significance
from harness.networks import zoo
from harness.report.source import planned_rows
from harness.run.store import Store
from harness.training.publish import images_sha256

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
