"""`lgbench score` and `mask`: from a trained network to the neurons to graft."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
from numpy.typing import NDArray

from harness.cli.models import FILE, GivenData, GivenNetwork, given_data, model_options, open_network
from harness.cli.options import apply_options
from harness.cli.score_steps import bounded_instability, learned_significance, run_instability
from harness.cli.training_common import DATA_OPTION, DEVICE_OPTION, EXIT_UNFINISHED, counting, torch_device
from harness.data.datasets import SCORE_SUBSET, score_subset
from harness.data.images import ImageSet
from harness.domain import UsageError
from harness.grafting.agreement import Agreement, compare_instability
from harness.grafting.hydra import HydraConfig
from harness.grafting.instability import Instability, InstabilitySource
from harness.grafting.ranking import Ranking
from harness.grafting.recipe import MaskRecipe, make_mask
from harness.grafting.scores import Scores, collect_scores, write_scores
from harness.grafting.selection import DEFAULT_GAMMAS, DEFAULT_RATIO
from harness.grafting.significance import ALIASES, MEANS, Heuristic, random_significance, significance
from harness.networks.grafted import neuron_shapes

INSTABILITY_INPUTS = 200
"""Test inputs that instability is counted over, as the shipped benchmarks do."""
_HYDRA = HydraConfig()
_HYDRA_OPTIONS = ("epochs", "lr", "keep", "slope", "adversarial")
_RANKING_HELP = (
    "Of the significance: scores scaled to [0, 1] as they are (norank), or by rank; equal scores get the lowest rank "
    "of their group (min), one rank without gaps (dense), or each their own (ordinal)."
)
_GAMMAS_HELP = "One a stage: it picks the neurons with the largest gamma x instability - significance."
_Command = TypeVar("_Command", bound=Callable[..., Any])
_Layers = dict[str, NDArray[np.float32]]
"""Activation name to scores of the neurons' shape."""


def instability_options(command: _Command) -> _Command:
    """Adds what says how instability is counted."""
    decorators = (
        click.option(
            "--run",
            "run_folder",
            envvar="LGBENCH_SCORE_RUN",
            type=click.Path(path_type=Path),
            help="Run folder to count `bab` from.",
        ),
        click.option("--variant", help="Which variant of the run.  [default: the network's name]"),
        click.option(
            "--instability",
            type=click.Choice([source.value for source in InstabilitySource]),
            help="What masks go by: inputs that would enter branch and bound, or all rightly classified ones with CROWN"
            " bounds.  [default: bab with --run or --compare, else none]",
        ),
        click.option(
            "--inputs",
            type=click.IntRange(min=1),
            default=INSTABILITY_INPUTS,
            show_default=True,
            help="Test inputs that are bounded, where no run has been.",
        ),
        click.option("--eps", type=click.FloatRange(0, 1), help="Radius around them.  [default: the training's]"),
        click.option("--compare", is_flag=True, help="Count both ways, keep both, and print how far they agree."),
    )
    return apply_options(command, decorators)


def hydra_options(command: _Command) -> _Command:
    """Adds the settings of learned scores."""
    decorators = (
        click.option(
            "--hydra-epochs",
            type=click.IntRange(min=1),
            default=_HYDRA.epochs,
            show_default=True,
            help="Of learned scores.",
        ),
        click.option(
            "--hydra-lr",
            type=click.FloatRange(0, min_open=True),
            default=_HYDRA.lr,
            show_default=True,
            help="Peak learning rate of the scores.",
        ),
        click.option(
            "--hydra-keep",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            default=_HYDRA.keep,
            show_default=True,
            help="Share of neurons that is kept.",
        ),
        click.option(
            "--hydra-slope",
            type=float,
            default=_HYDRA.slope,
            show_default=True,
            help="What a dropped neuron multiplies by: 0 prunes it, 0.4 is a graft's start.",
        ),
        click.option("--hydra-adversarial", is_flag=True, help="Learn on adversarial examples."),
        click.option("--hydra-images", type=click.IntRange(min=1), help="Training images.  [default: all]"),
    )
    return apply_options(command, decorators)


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """What `lgbench score` is asked for, beside the network and its images."""

    heuristics: tuple[Heuristic, ...]
    images: int
    run_folder: Path | None
    variant: str | None
    instability: InstabilitySource | None
    inputs: int
    eps: float | None
    compare: bool
    hydra: Mapping[str, Any]
    hydra_images: int | None
    seed: int
    device: str

    @classmethod
    def taken(cls, given: dict[str, Any]) -> ScoreOptions:
        """Returns the options out of what click collected; the hydra settings are those of `HydraConfig`'s names.

        Raises:
            UsageError: a heuristic is unknown.
        """
        names = [part.strip() for part in given.pop("heuristics").split(",")]
        instability = given.pop("instability")
        hydra = {name: given.pop(f"hydra_{name}") for name in _HYDRA_OPTIONS}
        source = None if instability is None else InstabilitySource(instability)
        return cls(heuristics=tuple(map(Heuristic.parse, names)), instability=source, hydra=hydra, **given)

    @property
    def chosen(self) -> InstabilitySource | None:
        """The way of counting that masks go by."""
        known = self.instability is None and (self.compare or self.run_folder is not None)
        return InstabilitySource.BAB if known else self.instability

    @property
    def counted(self) -> tuple[InstabilitySource, ...]:
        """All ways of counting that are asked for."""
        asked = {self.chosen, *(InstabilitySource if self.compare else ())}
        if self.run_folder is not None:
            asked.add(InstabilitySource.BAB)
        return tuple(source for source in InstabilitySource if source in asked)


class Scoring:
    """One call of `lgbench score`.

    Args:
        model: as the command line names the network.
        given: the network.
        data: its images.
        options: what is asked for.

    Raises:
        UsageError: the run, the radius or the test inputs that are asked for are missing.
    """

    def __init__(self, model: str, given: GivenNetwork, data: GivenData, options: ScoreOptions) -> None:
        self.model, self.given, self.data, self.options = model, given, data, options
        # The whole training file, as the published scores' subset is drawn from it.
        self.everything = ImageSet(
            np.concatenate([data.train.images, data.validation.images]),
            np.concatenate([data.train.labels, data.validation.labels]),
        )
        self.subset = score_subset(len(self.everything), min(options.images, len(self.everything)))
        self.provenance = {
            "network": given.name,
            "network_sha256": given.sha256,
            "images": str(len(self.subset)),
            "images_sha256": data.remarks["train_sha256"],
        }
        # What can be wrong is told before anything long begins.
        self.counts: dict[InstabilitySource, Instability] = {}
        if options.run_folder is not None:
            found = run_instability(options.run_folder, options.variant or given.name, given.sha256)
            self.counts[InstabilitySource.BAB] = found
        if Heuristic.HYDRA in options.heuristics:
            self.hydra = self._hydra_config()
        if self._bounded:
            given.radius(options.eps)
            if options.inputs > len(data.test):
                raise UsageError(f"--inputs {options.inputs}: there are {len(data.test)} test inputs; ask for fewer")

    @property
    def _bounded(self) -> list[InstabilitySource]:
        return [source for source in self.options.counted if source not in self.counts]

    def scores(self) -> Scores | None:
        """Returns the scores; None where Ctrl-C came while Hydra was learning."""
        values = self._significance()
        if values is None:
            return None
        for source in self._bounded:
            radius = self.given.radius(self.options.eps)
            found = bounded_instability(
                self.model,
                self.given,
                self.data.test[: self.options.inputs],
                radius,
                source,
                self.options.device,
                self.options.seed,
            )
            self.counts[source] = found
            self.provenance |= {"test_inputs": str(self.options.inputs), "eps": repr(radius)}
        chosen = self.options.chosen
        if chosen is None:
            return collect_scores(values, None, self.provenance)
        others = {source: found for source, found in self.counts.items() if source is not chosen}
        self.provenance |= {"instability": chosen.value, "instability_inputs": str(self.counts[chosen].inputs)}
        self.provenance |= {f"instability_{source}_inputs": str(found.inputs) for source, found in others.items()}
        return collect_scores(values, self.counts[chosen], self.provenance, others)

    def _significance(self) -> dict[Heuristic, _Layers] | None:
        options, given = self.options, self.given
        values: dict[Heuristic, _Layers] = {}
        if Heuristic.HYDRA in options.heuristics:
            images = self.data.train[: options.hydra_images or len(self.data.train)]
            learned = learned_significance(given, self.hydra, images, options.device)
            if learned is None:
                return None
            values[Heuristic.HYDRA] = learned
            self.provenance["hydra"] = json.dumps({**asdict(self.hydra), "images": len(images)}, sort_keys=True)
        means = [heuristic for heuristic in MEANS if heuristic in options.heuristics]
        if means:
            network = given.network.to(torch_device(options.device))
            with counting(f"{given.name}: scoring neurons", len(self.subset)) as progress:
                values |= significance(network, self.everything[self.subset], means, progress=progress)
        if Heuristic.RANDOM in options.heuristics:
            values[Heuristic.RANDOM] = self._random()
            self.provenance["random"] = f"seed {options.seed}"
        return {heuristic: values[heuristic] for heuristic in Heuristic if heuristic in values}

    def _hydra_config(self) -> HydraConfig:
        config = HydraConfig(**self.options.hydra, seed=self.options.seed)
        # Clean images need no radius, and the same scores come out whatever it is.
        if not config.adversarial:
            return config
        radius = self.given.radius(self.options.eps)
        return replace(config, eps=radius, alpha=1.25 * radius)

    def _random(self) -> _Layers:
        shapes = neuron_shapes(self.given.network, self.given.input_shape)
        sizes = [math.prod(shape) for shape in shapes.values()]
        parts = np.split(random_significance(sum(sizes), self.options.seed), np.cumsum(sizes)[:-1])
        return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


@click.command()
@click.argument("model")
@click.option("--out", type=FILE, required=True, help="Score file (.npz) to write.")
@click.option(
    "--heuristics", default=",".join(MEANS), show_default=True, metavar="A,B", help=f"Of {', '.join(Heuristic)}."
)
@click.option("--images", type=click.IntRange(min=2), default=SCORE_SUBSET, show_default=True, help="Training images.")
@instability_options
@hydra_options
@click.option(
    "--seed", type=click.IntRange(min=0), default=_HYDRA.seed, show_default=True, help="Of everything that is drawn."
)
@model_options
@DATA_OPTION
@DEVICE_OPTION
@click.option("--json", "as_json", envvar="LGBENCH_SCORE_JSON", is_flag=True, help="Print what was found as JSON.")
def score(
    model: str,
    out: Path,
    weights: Path | None,
    input_shape: str | None,
    data_set: str | None,
    data: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Score the neurons of MODEL: significance and instability.

    MODEL is a published network (models/cifar10_cnnb/baseline), an ONNX file, or MODULE:FACTORY of your own code.
    Significance, of the value z before each activation: gradient (GAP, mean |dCE/dz|), magnitude (SAP, mean |z|),
    variance (VAP), product (mean |dCE/dz * z|), hydra (learned through a top-k mask, weights frozen), random.
    Instability: for how many inputs CROWN bounds leave the sign of z open; of a run (--run), or of test inputs that are
    bounded now (--instability). Ctrl-C keeps what Hydra has learned; the same command goes on. Exit code 1: not
    finished yet.
    """
    wanted = ScoreOptions.taken(options)
    given = open_network(model, weights, input_shape, data_set)
    scoring = Scoring(model, given, given_data(given, data_set, data), wanted)
    scores = scoring.scores()
    if scores is None:
        click.echo(f"{out}: not written yet; the same command goes on learning the scores")
        return EXIT_UNFINISHED
    agreement = compare_instability(scores, scoring.counts) if wanted.compare else None
    write_scores(out, scores)
    if as_json:
        click.echo(json.dumps(_as_json(out, scores, scoring, agreement)))
        return 0
    click.echo(f"{out}: {', '.join(wanted.heuristics)} of {scores.neurons} neurons on {len(scoring.subset)} images")
    for source, found in scoring.counts.items():
        used = " (masks go by this)" if source is wanted.chosen else ""
        click.echo(f"instability {source}: {found.inputs} inputs, UNR {found.unr:.2f} %{used}")
    if agreement is not None:
        click.echo("\n".join(_agreement_lines(agreement)))
    return 0


def _as_json(out: Path, scores: Scores, scoring: Scoring, agreement: Agreement | None) -> dict[str, Any]:
    chosen = scoring.options.chosen
    return {
        "file": str(out),
        "neurons": scores.neurons,
        "layers": [
            {"name": name, "neurons": size} for name, size in zip(scores.names, scores.layer_sizes, strict=True)
        ],
        "heuristics": [str(heuristic) for heuristic in scoring.options.heuristics],
        "images": len(scoring.subset),
        "instability": None if chosen is None else chosen.value,
        "counts": {str(source): {"inputs": c.inputs, "UNR": c.unr} for source, c in scoring.counts.items()},
        "comparison": None if agreement is None else agreement.to_json(),
    }


def _agreement_lines(found: Agreement) -> list[str]:
    correlation = "not defined" if found.spearman is None else f"{found.spearman:.4f}"
    lines = [f"bab and crown: rank correlation {correlation}", "masks by one and by the other (default gammas, ratio):"]
    return lines + [
        f"  {mask.heuristic:9} {mask.ranking:7} Jaccard {mask.jaccard:.4f}, {mask.common} neurons in both"
        for mask in found.masks
    ]


@click.command()
@click.option(
    "--scores", "scores_file", envvar="LGBENCH_MASK_SCORES", type=FILE, required=True, help="Score file (.npz)."
)
@click.option("--heuristic", required=True, help=f"Significance: {', '.join((*Heuristic, *ALIASES))}.")
@click.option("--ranking", type=click.Choice([r.value for r in Ranking]), required=True, help=_RANKING_HELP)
@click.option(
    "--instability-ranking",
    type=click.Choice([r.value for r in Ranking]),
    help="Of the instability.  [default: as --ranking]",
)
@click.option("--gammas", default=",".join(f"{g:g}" for g in DEFAULT_GAMMAS), show_default=True, help=_GAMMAS_HELP)
@click.option("--ratio", type=float, default=DEFAULT_RATIO, show_default=True, help="Share of neurons to graft.")
@click.option("--local", is_flag=True, help="The same share in every layer.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of random scores, where the file has none.",
)
@click.option("--out", type=FILE, required=True, help="Mask file (.npz) to write.")
@click.option(
    "--json", "as_json", envvar="LGBENCH_MASK_JSON", is_flag=True, help="Print the counts of each layer as JSON."
)
def mask(
    scores_file: Path,
    heuristic: str,
    ranking: str,
    instability_ranking: str | None,
    gammas: str,
    ratio: float,
    local: bool,
    seed: int,
    out: Path,
    as_json: bool,
) -> int:
    """Choose the neurons to graft: unstable and insignificant ones.

    Reads the arrays `layer_sizes`, `instability` and the heuristic's; writes `mask` (uint8, flat), `layer_sizes` and
    `stage_picks`, with names and shapes of the activations where the score file has them. Where the file has no array
    `product`, the product of `gradient` and `magnitude` is taken; where it has no `random`, --seed draws it; the mask's
    provenance says so.
    """
    recipe = MaskRecipe(
        Heuristic.parse(heuristic),
        Ranking(ranking),
        None if instability_ranking is None else Ranking(instability_ranking),
        parse_gammas(gammas),
        ratio,
        local,
        seed,
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


def parse_gammas(text: str) -> tuple[float, ...]:
    """Returns the numbers of a list such as `2,1.5,1,0`; `inf` is instability alone.

    Raises:
        UsageError: an entry is not a number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--gammas '{text}' is not a list of numbers such as 2,1.5,1,0") from error
