"""The training loop of baseline training and fine-tuning: resumable at any batch, reproducible under a seed.

Randomness is a function of (seed, epoch, batch), so a checkpoint holds no generator state and a resumed run takes
exactly the steps that an uninterrupted one takes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.data.images import ImageSet
from harness.domain import UsageError
from harness.files import atomic_writer
from harness.networks.grafted import GraftedReLU
from harness.training.adversarial import fgsm_random_start, grad_align
from harness.training.augment import crop_and_flip
from harness.training.checkpoint import batch_generator, origin_of, read_checkpoint
from harness.training.evaluate import PgdConfig, evaluate, in_unit_range
from harness.training.schedule import Knots, Schedule, factor

CHECKPOINT_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Everything that determines a training run beside the data and the starting network.

    The defaults are those of the published code's baseline training (Chen et al., ICML 2022).
    """

    eps: float = 2 / 255
    alpha: float = 2.5 / 255
    """Step of the FGSM example: 1.25 eps."""
    epochs: int = 200
    """0 where a network is measured and published without any training."""
    batch_size: int = 128
    lr: float = 0.1
    """Peak learning rate of the weights; 0 freezes them."""
    graft_lr: float = 0.1
    """Peak learning rate of slopes and intercepts (the thesis; the published code's default is 0.01)."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    """Of the weights; slopes and intercepts have none."""
    schedule: Schedule = Schedule.MULTISTEP
    knots: Knots = ()
    """Of a piecewise schedule: (epoch, factor)."""
    gradalign: float = 0.2
    """Weight of the GradAlign regulariser."""
    augment: bool = True
    """Random crop and flip."""
    seed: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch_size < 1:
            raise UsageError("a training needs batches of at least one image, and cannot have fewer than no epochs")
        if not 0 < self.eps <= 1 or self.alpha <= 0:
            raise UsageError(f"eps must be in (0, 1] and alpha positive, not {self.eps} and {self.alpha}")
        if min(self.lr, self.graft_lr, self.momentum, self.weight_decay, self.gradalign) < 0:
            raise UsageError("learning rates, momentum, weight decay and the weight of GradAlign cannot be negative")

        if (self.schedule is Schedule.PIECEWISE) != bool(self.knots):
            raise UsageError("a piecewise schedule, and no other, needs knots: pairs of epoch and factor")
        if any(left[0] > right[0] for left, right in itertools.pairwise(self.knots)):
            raise UsageError("the knots of a schedule must stand in the order of their epochs")

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Returns the configuration that `asdict` and JSON made of one; its digest is the same.

        Raises:
            UsageError: a field is unknown, or a value impossible.
        """
        values = {**record, "knots": tuple((knot[0], knot[1]) for knot in record.get("knots", ()))}
        try:
            return cls(**values | {"schedule": Schedule(record["schedule"])})
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"not the record of a training configuration: {error}") from error

    def digest(self) -> str:
        """Returns a hash over every field, for manifests and for refusing a foreign checkpoint."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """Accuracies after one epoch, in percent, under the one-step attack of training."""

    epoch: int
    """From 0; -1 where the network was not trained."""
    loss: float
    val_sa: float
    val_ra: float
    seconds: float


@dataclass(slots=True)
class TrainingState:
    """Where a run stands; everything a checkpoint holds."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)
    best_ra: float = -1.0
    best_weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a progress display is told after each batch."""

    epoch: int
    step: int
    steps: int
    loss: float
    history: tuple[EpochRecord, ...]


def parameter_groups(network: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """Returns the optimiser's groups: slopes and intercepts (no decay) apart from all other weights.

    A group whose learning rate is 0 is left out: its parameters must not move, not even by decay or momentum.
    """
    graft = [p for m in network.modules() if isinstance(m, GraftedReLU) for p in (m.slope, m.intercept)]
    graft_ids = {id(p) for p in graft}
    weights = [p for p in network.parameters() if id(p) not in graft_ids]
    groups: list[dict[str, Any]] = [
        {"params": weights, "peak_lr": config.lr, "weight_decay": config.weight_decay},
        {"params": graft, "peak_lr": config.graft_lr, "weight_decay": 0.0},
    ]
    return [g | {"lr": g["peak_lr"]} for g in groups if g["params"] and g["peak_lr"] > 0]


class Trainer:
    """One training run: a network, its optimiser and the position in the schedule.

    Args:
        network: trained in place, on the device where its parameters are.
        config: what determines the run.
        train: training images.
        validation: images that select the epoch.
        checkpoint: file that the run is saved to and resumed from; None keeps nothing.

    Raises:
        UsageError: the checkpoint exists but is of another configuration, starting network or training set, or cannot
            be read; no parameter would move, or there is no epoch.
    """

    def __init__(
        self,
        network: nn.Module,
        config: TrainingConfig,
        train: ImageSet,
        validation: ImageSet,
        checkpoint: Path | None = None,
    ) -> None:
        self.network, self.config, self.validation, self.checkpoint = network, config, validation, checkpoint
        if config.epochs < 1:
            raise UsageError("a training needs at least one epoch")
        self.device = next(network.parameters()).device
        self.images = torch.from_numpy(train.images).to(self.device)
        self.labels = torch.from_numpy(train.labels).to(self.device)
        self.steps = -(-len(train) // config.batch_size)
        self.origin = origin_of(network, train)
        groups = parameter_groups(network, config)
        if not groups:
            raise UsageError("no parameter would move: there are no grafted neurons, or all learning rates are 0")
        moving = {id(p) for g in groups for p in g["params"]}
        for parameter in network.parameters():
            parameter.requires_grad_(id(parameter) in moving)
        self.optimizer = torch.optim.SGD(groups, momentum=config.momentum)
        self.state = TrainingState()
        self._between_batches = True
        if checkpoint is not None and checkpoint.exists():
            self._load(checkpoint)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.state.epoch >= self.config.epochs

    def run(
        self,
        progress: Callable[[Progress], None] = lambda _p: None,
        save_every_s: float = 120.0,
        max_seconds: float | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Trains until the end, until `max_seconds` have passed, or until `should_stop`; saves on every way out.

        An exception inside a batch (Ctrl-C, no memory) leaves the checkpoint that was there: weights that have moved
        only in part are never saved, so a resumed run always takes the steps of an uninterrupted one.

        Args:
            progress: told after each batch.
            save_every_s: seconds between checkpoints.
            max_seconds: a time slice; None is no limit.
            should_stop: asked after each batch.

        Returns:
            Whether the run is finished; then the network holds the weights of the best validation RA.
        """
        started = time.monotonic()

        def stop() -> bool:
            return should_stop() or (max_seconds is not None and time.monotonic() - started >= max_seconds)

        try:
            while not self.finished:
                if not self._epoch_part(progress, save_every_s, stop):
                    return False
        finally:
            if self._between_batches:
                self.save()
        self.network.load_state_dict(self.state.best_weights)
        self.network.eval()
        return True

    def _epoch_part(self, progress: Callable[[Progress], None], save_every_s: float, stop: Callable[[], bool]) -> bool:
        """Runs the current epoch from where it stands to its end, or until `stop`; returns whether it reached the end.

        A checkpoint is written whenever the last one is `save_every_s` old, and at the end.
        """
        state = self.state
        began = saved = time.monotonic()
        order = torch.randperm(len(self.labels), generator=self._generator(torch.device("cpu"), -1))
        order = order.to(self.device)
        while state.step < self.steps:
            size = self.config.batch_size
            self._between_batches = False
            loss = self._batch(order[state.step * size : (state.step + 1) * size])
            state.loss_sum += loss
            state.step += 1
            self._between_batches = True
            progress(Progress(state.epoch, state.step, self.steps, loss, tuple(state.history)))
            if stop():
                return False
            if time.monotonic() - saved >= save_every_s:
                self.save()
                saved = time.monotonic()
        self._close_epoch(time.monotonic() - began)
        self.save()
        return True

    def _batch(self, index: Tensor) -> float:
        """Takes one optimiser step on the training images at `index`; returns the loss."""
        config, state = self.config, self.state
        generator = self._generator(self.device, state.step)
        x, y = in_unit_range(self.images[index]), self.labels[index]
        if config.augment:
            x = crop_and_flip(x, generator)
        delta = fgsm_random_start(self.network, x, y, config.eps, config.alpha, generator)
        self.network.train()
        loss = functional.cross_entropy(self.network(x + delta), y)
        if config.gradalign > 0:
            loss = loss + config.gradalign * grad_align(self.network, x, y, config.eps, generator)
        scale = factor(config.schedule, state.epoch, config.epochs, state.step, self.steps, config.knots)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * scale
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach())

    def _close_epoch(self, seconds: float) -> None:
        """Measures the validation accuracies, keeps the weights if RA is the best so far, moves to the next epoch."""
        state, config = self.state, self.config
        attack = PgdConfig.fgsm(config.eps, config.alpha)
        accuracy = evaluate(self.network, self.validation, attack, seed=config.seed)
        record = EpochRecord(state.epoch, state.loss_sum / self.steps, accuracy.sa, accuracy.ra, seconds)
        state.history.append(record)
        if accuracy.ra > state.best_ra:
            state.best_ra = accuracy.ra
            state.best_weights = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0

    def _generator(self, device: torch.device, step: int) -> torch.Generator:
        return batch_generator(device, self.config.seed, self.state.epoch, step)

    def save(self) -> None:
        """Writes the checkpoint, if the run has one; an interruption leaves the previous one intact."""
        if self.checkpoint is None:
            return
        state = self.state
        payload = {
            "schema": CHECKPOINT_SCHEMA,
            "config": self.config.digest(),
            "origin": self.origin,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": state.epoch,
            "step": state.step,
            "loss_sum": state.loss_sum,
            "history": [asdict(r) for r in state.history],
            "best_ra": state.best_ra,
            "best_weights": state.best_weights,
        }
        with atomic_writer(self.checkpoint) as stream:
            torch.save(payload, stream)

    def _load(self, path: Path) -> None:
        payload = read_checkpoint(path, self.device)
        if payload.get("schema") != CHECKPOINT_SCHEMA or payload.get("config") != self.config.digest():
            raise UsageError(f"{path}: a checkpoint of another configuration; delete it or name another file")
        # Grafting masks are part of the state, so a foreign checkpoint would silently replace the mask.
        if payload.get("origin", self.origin) != self.origin:
            raise UsageError(
                f"{path}: a checkpoint that began from another network or other images; delete it or name another file"
            )
        try:
            self.network.load_state_dict(payload["network"])
            self.optimizer.load_state_dict(payload["optimizer"])
            self.state = TrainingState(
                payload["epoch"],
                payload["step"],
                payload["loss_sum"],
                [EpochRecord(**r) for r in payload["history"]],
                payload["best_ra"],
                payload["best_weights"],
            )
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise UsageError(f"{path}: a damaged checkpoint ({error}); delete it to start again") from error
