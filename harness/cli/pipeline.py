"""The networks of a benchmark, made step by step: baseline, scores, masks, grafted networks.

Each step is skipped when its result stands there already, made from the same things: hashes of configuration, images,
parent network and mask are compared, not names or dates. `scripts/train_all` and `lgbench sweep` consist of these
steps.
"""

from __future__ import annotations

import functools
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch

from harness.cli.models import untrained_history
from harness.cli.training_common import (
    Length,
    NetworkName,
    data_remarks,
    default_length,
    publish_network,
    publish_trained,
    report_published,
    run_training,
    schedule_note,
    test_data,
    torch_device,
    training_config,
    training_data,
)
from harness.config import BenchmarkSpec, GraftSpec, VariantSpec
from harness.data.datasets import score_subset
from harness.data.images import ImageSet
from harness.domain import UsageError
from harness.files import sha256_bytes, sha256_file
from harness.grafting.finetune import finetune_config, grafted_copy
from harness.grafting.instability import instability
from harness.grafting.masks import read_mask
from harness.grafting.ranking import Ranking
from harness.grafting.recipe import MaskRecipe, make_mask
from harness.grafting.scores import collect_scores, read_scores, write_scores
from harness.grafting.significance import Heuristic, significance
from harness.networks import zoo
from harness.tools.builtin import BuiltinTool
from harness.training.loop import Trainer, TrainingConfig
from harness.training.publish import Origin, images_sha256
from harness.workflow.root_bounds import Ball, root_records


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """What the command line decides."""

    data: Path | None
    models: Path | None
    checkpoints: Path
    length: Length | None
    device: str
    deadline: float | None
    """On `time.monotonic`."""
    epochs: int | None = None
    graft_epochs: int | None = None
    images: int | None = None
    """Trial: only so many training and test images."""
    instability_inputs: int | None = None
    score_images: int | None = None
    test_images: int | None = None
    """SA and RA are measured on the first of them only."""

    def remaining(self) -> float | None:
        """Returns the seconds left of the time slice; None where there is no limit."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    @property
    def over(self) -> bool:
        """Whether the time slice is over."""
        remaining = self.remaining()
        return remaining is not None and remaining <= 0


class Pipeline:
    """The networks of one benchmark, step by step; every step can be repeated without harm."""

    def __init__(self, spec: BenchmarkSpec, settings: PipelineSettings) -> None:
        if spec.grafting is None:
            raise UsageError(f"{spec.source}: has no 'grafting' section, so nothing says how to graft {spec.name}")
        self.spec, self.settings, self.grafting = spec, settings, spec.grafting
        self.device = torch_device(settings.device)
        self.length: Length = settings.length or default_length(self.device)
        self.worked = False
        """Whether this slice got something done."""
        self.folder = settings.models or (spec.root / "models" / spec.name)
        self.data = training_data(spec.dataset, settings.data)
        self.test = test_data(spec.dataset, settings.data)
        self.remarks: dict[str, Any] = {
            "train_sha256": images_sha256(self.data.everything),
            **data_remarks(spec.dataset, settings.data),
        }
        if settings.images is not None:
            self.remarks["trial_images"] = settings.images
        if settings.test_images or settings.images:
            self.test = self.test[: settings.test_images or settings.images]
        config = training_config(spec, self.length)
        self.config = config if settings.epochs is None else shortened(config, settings.epochs)

    @property
    def scores_file(self) -> Path:
        """Significance and instability of the baseline."""
        return self.folder / "scores.npz"

    @property
    def train_images(self) -> ImageSet:
        """The images that are trained on."""
        return self.data.train[: self.settings.images]

    @functools.cached_property
    def test_sha256(self) -> str:
        """Hash of the images that SA and RA are measured on."""
        return images_sha256(self.test)

    def mask_file(self, graft: GraftSpec) -> Path:
        """Where the mask of a recipe stands; variants with the same recipe share it."""
        return self.folder / f"mask_{graft.heuristic.lower()}_{graft.ranking}.npz"

    def run(self) -> bool:
        """Does what is missing; returns whether everything is there."""
        if not self.baseline() or self.over():
            return False
        self.scores()
        for variant in self.spec.variants:
            if variant.graft is not None and (self.over() or not self.grafted(variant, variant.graft)):
                return False
        return True

    def over(self) -> bool:
        """Returns whether the time slice is over and something was done in it."""
        # Checking what stands can use up a short slice; each slice has to get something done nevertheless.
        return self.worked and self.settings.over

    def baseline(self) -> bool:
        """Trains, measures and writes the baseline; returns whether it is there."""
        name = NetworkName(self.folder, self.spec.baseline)
        if self._stands(name, self.config, None, None):
            return True
        network = zoo.build(self.spec.architecture, self.config.seed).to(self.device)
        origin = Origin(
            self.spec.name,
            name.variant,
            self.spec.architecture,
            schedule_note(self.spec, self.config.epochs, "training"),
            data=self.remarks,
        )
        return self.trained(network, self.config, name, origin, f"{name.variant}.ckpt")

    def scores(self) -> None:
        """Verifies some test inputs up to the root's bounds, scores the baseline's neurons, writes both."""
        name = NetworkName(self.folder, self.spec.baseline)
        inputs = self.settings.instability_inputs or self.grafting.instability_inputs
        subset = score_subset(
            len(self.data.everything), self.settings.score_images or self.settings.images or self.grafting.score_images
        )
        made_from = {
            "network": name.variant,
            "network_sha256": name.manifest.onnx.sha256,
            "images": str(len(subset)),
            "images_sha256": self.remarks["train_sha256"],
            "test_inputs": str(inputs),
            "eps": repr(self.spec.eps),
        }
        if self.scores_file.exists():
            provenance = read_scores(self.scores_file).provenance
            if {key: provenance.get(key) for key in made_from} == made_from:
                say(f"{self.scores_file}: stands")
                return
        with tempfile.TemporaryDirectory(prefix="lgbench-") as scratch:
            tool = BuiltinTool(Path(scratch), device=self.device.type, seed=self.spec.seed)
            ball = Ball(self.spec.eps, self.spec.classes)
            say(f"{name.variant}: bounding {inputs} test inputs at the root")
            records = root_records(name.file, self.test[:inputs], ball, tool, Path(scratch))
        unstable = instability(records)
        say(f"{name.variant}: {unstable.inputs} inputs would enter branch and bound, UNR {unstable.unr:.2f} %")
        network = name.load(self.settings.device)
        values = significance(network, self.data.everything[subset])
        made_from["inputs_in_branch_and_bound"] = str(unstable.inputs)
        write_scores(self.scores_file, collect_scores(values, unstable, made_from))
        self.worked = True
        say(f"{self.scores_file}: written")

    def grafted(self, variant: VariantSpec, graft: GraftSpec) -> bool:
        """Grafts, fine-tunes, measures and writes one variant; returns whether it is there."""
        parent = NetworkName(self.folder, variant.parent or self.spec.baseline)
        name, mask_file = NetworkName(self.folder, variant.name), self.mask_file(graft)
        recipe = MaskRecipe(
            Heuristic.parse(graft.heuristic),
            Ranking(graft.ranking),
            gammas=self.grafting.gammas,
            ratio=self.grafting.ratio,
        )
        counts = make_mask(recipe, self.scores_file, mask_file).layer_counts
        config = self._finetune_config(graft)
        source = zoo.ParentNetwork(parent.variant, parent.manifest.onnx.sha256)
        mask = zoo.FileHash(mask_file.name, sha256_file(mask_file))
        if self._stands(name, config, source, mask):
            return True
        say(f"{variant.name}: grafting {' + '.join(map(str, counts))} neurons")
        network = grafted_copy(
            parent.load("cpu"),
            read_mask(mask_file),
            self.spec.input_shape,
            self.grafting.slope,
            self.grafting.intercept,
        )
        note = schedule_note(self.spec, config.epochs, "grafting")
        origin = Origin(self.spec.name, name.variant, self.spec.architecture, note, source, mask, self.remarks)
        # The checkpoint's name says what it belongs to: one of an older mask must not be continued.
        key = sha256_bytes(f"{config.digest()}/{source.sha256}/{mask.sha256}".encode())[:12]
        return self.trained(network.to(self.device), config, name, origin, f"{name.variant}-{key}.ckpt")

    def _finetune_config(self, graft: GraftSpec) -> TrainingConfig:
        chosen = self.graft_epochs()
        return finetune_config(
            self.config,
            self.settings.graft_epochs or chosen,
            graft.retrain,
            self.grafting.lr,
            self.grafting.graft_lr,
        )

    def graft_epochs(self) -> int:
        """Returns the epochs of fine-tuning that the benchmark asks for.

        Raises:
            UsageError: its schedule is none that fine-tuning has.
        """
        chosen = self.grafting.full if self.length == "full" else self.grafting.short
        if chosen.schedule != "cosine":
            raise UsageError(f"{self.spec.source}: fine-tuning is by cosine annealing, not '{chosen.schedule}'")
        return chosen.epochs

    def _stands(
        self,
        name: NetworkName,
        config: TrainingConfig,
        parent: zoo.ParentNetwork | None,
        mask: zoo.FileHash | None,
    ) -> bool:
        """Returns whether the network was made already, of exactly this."""
        if not zoo.manifest_path(name.folder, name.variant).exists():
            return False
        manifest = name.manifest
        made_of = (manifest.training.digest, manifest.parent, manifest.mask, dict(manifest.data))
        data = {**self.remarks, "test_sha256": self.test_sha256}
        if made_of != (config.digest(), parent, mask, data):
            return False
        name.load("cpu")
        say(f"{name.file}: stands")
        return True

    def trained(
        self, network: torch.nn.Module, config: TrainingConfig, name: NetworkName, origin: Origin, checkpoint: str
    ) -> bool:
        """Trains within the time slice; a finished network is measured and written, and the return value True.

        A network of which nothing would move (both learning rates 0) is measured and written as it is.
        """
        validation = self.data.validation[: self.settings.images]
        if not (config.lr or config.graft_lr):
            self.worked = True
            history = untrained_history(network, config, validation)
            report_published(publish_network(network, config, history, name, origin, self.test), name)
            return True
        trainer = Trainer(network, config, self.train_images, validation, self.settings.checkpoints / checkpoint)
        say(f"{name.variant}: training, {trainer.state.epoch} of {config.epochs} epochs done")
        self.worked = True
        remaining = self.settings.remaining()
        if not run_training(trainer, name.variant, remaining):
            return False
        report_published(publish_trained(trainer, name, origin, self.test), name)
        return True


def shortened(config: TrainingConfig, epochs: int) -> TrainingConfig:
    """Returns the training with another length; its schedule has the same shape on its own scale."""
    scale = epochs / config.epochs
    return replace(config, epochs=epochs, knots=tuple((at * scale, factor) for at, factor in config.knots))


def say(text: str) -> None:
    """Prints a line with the time on standard error."""
    click.echo(f"{time.strftime('%H:%M:%S')} {text}", err=True)
