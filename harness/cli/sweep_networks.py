"""The networks of a sweep, made point by point: mask, graft, fine-tuning, publication; what is shared is made once."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.cli.pipeline import Pipeline, PipelineSettings, say
from harness.cli.training_common import Length, NetworkName
from harness.config import BenchmarkSpec
from harness.domain import GraftMask, UsageError
from harness.files import sha256_bytes, sha256_file, write_atomically
from harness.grafting.finetune import finetune_config, grafted_copy
from harness.grafting.masks import read_mask
from harness.grafting.ranking import Ranking
from harness.grafting.recipe import MaskRecipe, make_mask
from harness.grafting.scores import read_scores
from harness.grafting.significance import Heuristic
from harness.networks import zoo
from harness.sweep_config import SweepSpec
from harness.training.evaluate import PgdConfig, evaluate
from harness.training.loop import Trainer, TrainingConfig
from harness.training.publish import Origin
from harness.workflow.sweep import SweepPoint

MODELS, MASKS, CHECKPOINTS = "models", "masks", "checkpoints"
SCORES_FILE = "scores.npz"


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """What the command line decides of a sweep."""

    out: Path
    data: Path | None
    device: str
    length: Length | None
    deadline: float | None
    """On `time.monotonic`."""


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """One fine-tuning, and the points that it serves."""

    key: str
    """Hash of everything that the network depends on; also its file's name."""
    config: TrainingConfig
    mask_file: Path
    mask: GraftMask
    slope: float
    intercept: float
    points: tuple[SweepPoint, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is left to do, measured on this machine by a few batches."""

    seconds_per_epoch: float
    seconds_per_measurement: float


class SweepNetworks:
    """The networks of a sweep in its folder; every step can be repeated without harm.

    Args:
        sweep: the sweep.
        base: its base benchmark; its baseline is what is grafted.
        points: the sweep's points.
        settings: what the command line decides.

    Raises:
        UsageError: the baseline or the data are missing.
    """

    def __init__(
        self, sweep: SweepSpec, base: BenchmarkSpec, points: Sequence[SweepPoint], settings: SweepSettings
    ) -> None:
        self.sweep, self.base, self.points, self.settings = sweep, base, tuple(points), settings
        self.parent = baseline_of(base)
        self.pipeline = Pipeline(
            base,
            PipelineSettings(
                settings.data,
                settings.out / MODELS,
                settings.out / CHECKPOINTS,
                settings.length,
                settings.device,
                settings.deadline,
                images=sweep.training.train_images,
                test_images=sweep.training.test_images,
                score_images=sweep.scores.images,
                instability_inputs=sweep.scores.instability_inputs,
            ),
        )

    @property
    def models(self) -> Path:
        """Folder of the networks."""
        return self.settings.out / MODELS

    def planned(self) -> tuple[Training, ...] | None:
        """Returns the trainings that the points need, writing nothing; None where scores have to be computed first."""
        source = scores_of(self.sweep, self.parent)
        made = self.models / SCORES_FILE
        source = made if source is None and made.exists() else source
        if source is None:
            return None
        with tempfile.TemporaryDirectory(prefix="lgbench-") as scratch:
            return self._trainings(self._masks(source, Path(scratch)))

    def prepare(self) -> tuple[Training, ...]:
        """Leaves baseline, scores and masks in the sweep's folder and returns the trainings that the points need.

        Raises:
            UsageError: scores lack a heuristic, or are of another network.
        """
        for suffix in (zoo.NETWORK_SUFFIX, zoo.MANIFEST_SUFFIX):
            _copy(self.parent.folder / f"{self.parent.variant}{suffix}", self.models / f"{self.base.baseline}{suffix}")
        return self._trainings(self._masks(self._scores(), self.settings.out / MASKS))

    def _masks(self, scores: Path, folder: Path) -> dict[str, Path]:
        # All before the first training: a recipe that the scores do not allow is told at once.
        masks: dict[str, Path] = {}
        for point in self.points:
            path = folder / f"{point.mask_name}.npz"
            if point.mask_name not in masks:
                make_mask(recipe_of(point), scores, path)
                masks[point.mask_name] = path
        return masks

    def _scores(self) -> Path:
        """Returns the score file: the sweep's, the benchmark's where it stands, else one that is computed."""
        manifest, target = self.parent.manifest, self.models / SCORES_FILE
        source = scores_of(self.sweep, self.parent)
        if source is not None:
            stated = read_scores(source).provenance.get("network_sha256", manifest.onnx.sha256)
            if stated != manifest.onnx.sha256:
                raise UsageError(f"{source}: scores of another network than {self.parent.file}; compute them again")
            _copy(source, target)
        else:
            self.pipeline.scores()
        return target

    def _trainings(self, masks: Mapping[str, Path]) -> tuple[Training, ...]:
        shapes = {activation.name: activation.shape for activation in self.parent.manifest.activations}
        read = {name: read_mask(path, shapes) for name, path in masks.items()}
        found: dict[str, Training] = {}
        for point in self.points:
            config, mask = self._config(point), read[point.mask_name]
            slope, intercept = self._start(point)
            key = self._key(config, mask, slope, intercept)
            if key in found:
                found[key] = replace(found[key], points=(*found[key].points, point))
            else:
                found[key] = Training(key, config, masks[point.mask_name], mask, slope, intercept, (point,))
        return tuple(found.values())

    def _config(self, point: SweepPoint) -> TrainingConfig:
        grafting, wanted = self.pipeline.grafting, self.sweep.training
        return finetune_config(
            replace(self.pipeline.config, seed=point.seed),
            wanted.epochs or self.pipeline.graft_epochs(),
            point.retrain,
            grafting.lr if wanted.lr is None else wanted.lr,
            0.0 if point.method == "prune" else wanted.graft_lr or grafting.graft_lr,
        )

    def _start(self, point: SweepPoint) -> tuple[float, float]:
        grafting = self.pipeline.grafting
        return (0.0, 0.0) if point.method == "prune" else (grafting.slope, grafting.intercept)

    def _key(self, config: TrainingConfig, mask: GraftMask, slope: float, intercept: float) -> str:
        neurons = {name: sha256_bytes(np.packbits(layer).tobytes()) for name, layer in mask.layers.items()}
        made_of = {
            "config": config.digest(),
            "parent": self.parent.manifest.onnx.sha256,
            "mask": neurons,
            "start": [slope, intercept],
            "data": self.pipeline.remarks,
            "test": self.pipeline.test_sha256,
        }
        return sha256_bytes(json.dumps(made_of, sort_keys=True).encode())[:16]

    def stands(self, training: Training) -> bool:
        """Returns whether the network is there, whole and as its manifest says."""
        if not zoo.manifest_path(self.models, training.key).exists():
            return False
        NetworkName(self.models, training.key).load("cpu")
        return True

    def make(self, training: Training) -> bool:
        """Grafts, fine-tunes, measures and writes one network within the time slice; returns whether it is there."""
        if self.stands(training):
            return True
        name = NetworkName(self.models, training.key)
        network = grafted_copy(
            self.parent.load("cpu"), training.mask, self.base.input_shape, training.slope, training.intercept
        )
        origin = Origin(
            self.sweep.name,
            name.variant,
            self.base.architecture,
            f"{training.points[0].name}: {_schedule(training.config)}",
            zoo.ParentNetwork(self.base.baseline, self.parent.manifest.onnx.sha256),
            zoo.FileHash(training.mask_file.name, sha256_file(training.mask_file)),
            {**self.pipeline.remarks, "slope": training.slope, "intercept": training.intercept},
        )
        checkpoint = f"{training.key}.ckpt"
        network = network.to(self.pipeline.device)
        if not self.pipeline.trained(network, training.config, name, origin, checkpoint):
            return False
        # The network is whole; its checkpoint would only take up space.
        (self.settings.out / CHECKPOINTS / checkpoint).unlink(missing_ok=True)
        return True

    def make_all(self, trainings: Sequence[Training]) -> bool:
        """Makes every network that is missing; returns whether all are there at the end of the time slice."""
        for number, training in enumerate(trainings, 1):
            if self.stands(training):
                continue
            if self.pipeline.over():
                return False
            shared = f" (and {len(training.points) - 1} more)" if len(training.points) > 1 else ""
            say(f"network {number} of {len(trainings)}: {training.points[0].name}{shared}")
            if not self.make(training):
                return False
        return True

    def estimate(self, trainings: Sequence[Training]) -> Estimate:
        """Returns what an epoch and a measurement take on this machine, from two batches and an attack of ten steps.

        The batch before them is not timed: it pays for everything that is done once.
        """
        training, pipeline = trainings[0], self.pipeline
        network = grafted_copy(
            self.parent.load("cpu"), training.mask, self.base.input_shape, training.slope, training.intercept
        )
        images, size = pipeline.train_images, training.config.batch_size
        part = images[: 3 * size]
        config = replace(training.config, epochs=1, graft_lr=training.config.graft_lr or 0.1)
        trainer = Trainer(network.to(pipeline.device), config, part, images[:2])
        ends: list[float] = []
        trainer.run(lambda _progress: ends.append(time.monotonic()))
        per_batch = (ends[-1] - ends[0]) / max(1, len(ends) - 1)
        few = pipeline.test[:100]
        began = time.monotonic()
        evaluate(trainer.network, few, PgdConfig(config.eps, 10, config.eps / 4))
        measured = (time.monotonic() - began) * 10 * len(pipeline.test) / len(few)
        return Estimate(per_batch * len(images) / size, measured)


def baseline_of(base: BenchmarkSpec) -> NetworkName:
    """Returns the network that the points of a sweep are made from.

    Raises:
        UsageError: it, or its manifest, is missing; the message has the command that makes it.
    """
    path = base.network_path(base.baseline)
    name = NetworkName.parse(str(path))
    if not path.exists() or not zoo.manifest_path(name.folder, name.variant).exists():
        raise UsageError(f"{path}: the baseline is missing; make it with: scripts/train_all {base.name} --data DIR")
    return name


def scores_of(sweep: SweepSpec, parent: NetworkName) -> Path | None:
    """Returns the score file that a sweep takes: its own, or the benchmark's; None where they have to be computed."""
    if sweep.scores.file is not None:
        return sweep.root / sweep.scores.file
    own = parent.folder / SCORES_FILE
    if sweep.scores.images is not None or sweep.scores.instability_inputs is not None or not own.exists():
        return None
    same = read_scores(own).provenance.get("network_sha256") == parent.manifest.onnx.sha256
    return own if same else None


def recipe_of(point: SweepPoint) -> MaskRecipe:
    """Returns the recipe of a point's mask."""
    return MaskRecipe(
        Heuristic.parse(point.heuristic),
        Ranking(point.ranking),
        Ranking(point.instability_ranking),
        point.gammas,
        point.ratio,
        point.scope == "layer",
        point.seed if point.heuristic == Heuristic.RANDOM else 0,
    )


def _schedule(config: TrainingConfig) -> str:
    return f"{config.epochs} epochs of fine-tuning" if config.lr or config.graft_lr else "no fine-tuning"


def _copy(source: Path, target: Path) -> None:
    try:
        data = source.read_bytes()
    except OSError as error:
        raise UsageError(f"{source}: cannot be read ({error.strerror}); restore it, or name another file") from error
    if not target.exists() or target.read_bytes() != data:
        write_atomically(target, data)
