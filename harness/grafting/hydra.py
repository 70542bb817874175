"""Hydra: significance learned by gradient descent through a top-k mask, while the weights stay frozen.

Sehwag et al., "HYDRA: Pruning Adversarially Robust Neural Networks", NeurIPS 2020, with neurons in the place of its
weights: each neuron has a score; a forward pass keeps the neurons with the largest scores and drops the others; the
gradient passes through that choice as if it were the score itself (straight-through), so that a score grows where
keeping the neuron would lower the loss. The published grafting code names the heuristic but does not have
it.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from harness.data.images import ImageSet
from harness.domain import UsageError
from harness.files import atomic_writer
from harness.networks.grafted import neuron_shapes, relu_names
from harness.training.adversarial import fgsm_random_start
from harness.training.checkpoint import batch_generator, origin_of, read_checkpoint
from harness.training.evaluate import in_unit_range
from harness.training.schedule import Schedule, factor

CHECKPOINT_SCHEMA = 1
INITIAL_IMAGES = 256
"""Training images that the initial scores are computed on."""


@dataclass(frozen=True, slots=True)
class HydraConfig:
    """Everything that determines learned scores beside the network and the images.

    Raises:
        UsageError: a value is impossible.
    """

    epochs: int = 5
    """The number that is left over in the published code's options."""
    lr: float = 0.1
    """Peak learning rate of the scores, as in Hydra; cosine annealing to 0."""
    keep: float = 0.5
    """Share of all neurons that a forward pass keeps."""
    slope: float = 0.0
    """A dropped neuron gives `slope * z`: 0 prunes it, as in Hydra; a graft starts from 0.4."""
    adversarial: bool = False
    """Whether the loss is that of FGSM examples with random start, instead of clean images."""
    eps: float = 2 / 255
    """Radius of the examples in the maximum norm."""
    alpha: float = 2.5 / 255
    """Step of the examples."""
    momentum: float = 0.9
    batch_size: int = 128
    seed: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise UsageError("learning scores needs at least one epoch and batches of at least one image")
        if not 0 < self.keep < 1:
            raise UsageError(f"the share of neurons that is kept must be between 0 and 1, not {self.keep}")
        if not (0 < self.lr < math.inf and 0 <= self.momentum < 1 and math.isfinite(self.slope)):
            raise UsageError(f"the learning rate of scores must be positive and momentum in [0, 1), not {self.lr}")
        if self.adversarial and not (0 < self.eps <= 1 and self.alpha > 0):
            raise UsageError(f"eps must be in (0, 1] and alpha positive, not {self.eps} and {self.alpha}")


@dataclass(frozen=True, slots=True)
class HydraProgress:
    """What a progress display is told after each batch."""

    step: int
    """Batches done, of all epochs."""
    steps: int
    loss: float


class _Gate(nn.Module):
    """An activation of which only some neurons are kept; the others give `slope * z`."""

    def __init__(self, activation: nn.Module, slope: float) -> None:
        super().__init__()
        self.activation, self.slope = activation, slope
        self.open: Tensor | None = None
        """1 for a neuron that is kept, 0 for one that is dropped, of the neurons' shape; None keeps all."""

    def forward(self, z: Tensor) -> Tensor:
        kept: Tensor = self.activation(z)
        if self.open is None:
            return kept
        dropped = self.slope * z
        return dropped + self.open * (kept - dropped)


class GatedNetwork(nn.Module):
    """A frozen copy of a network, in eval mode, with one score a neuron; only the largest |scores| are kept.

    Args:
        network: any network whose activations can be grafted; it stays as it is.
        input_shape: shape of one input, without the batch dimension.
        config: says which share is kept and what a dropped neuron gives.
        images: the initial scores follow the mean size of what each neuron adds on these, `(batch, *input_shape)`.
            They are scaled as Hydra scales them, to at most sqrt(6 / neurons), so that a few steps can reorder them.

    Raises:
        UsageError: the network has no activation.
    """

    def __init__(self, network: nn.Module, input_shape: tuple[int, ...], config: HydraConfig, images: Tensor) -> None:
        super().__init__()
        self.shapes = neuron_shapes(network, input_shape)
        if not self.shapes:
            raise UsageError("the network has no ReLU: there is nothing to score or graft")
        self.network = copy.deepcopy(network)
        self.gates = [_gate_(self.network, name, config.slope) for name in self.shapes]
        self.network.requires_grad_(False)
        self.sizes = [math.prod(shape) for shape in self.shapes.values()]
        self.kept = round(config.keep * sum(self.sizes))
        self.eval()
        self.scores = nn.Parameter(self._initial(images))

    def train(self, mode: bool = True) -> Self:
        """Changes nothing but the flag: batch norm keeps its statistics."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits of `x` with the neurons kept that have the largest |scores|; the first of equals."""
        sizes = self.scores.abs()
        chosen = torch.argsort(sizes.detach(), descending=True, stable=True)[: self.kept]
        mask = torch.zeros_like(sizes).index_fill_(0, chosen, 1.0)
        # Straight-through: the value is the mask's, the gradient the size's.
        mask = mask + (sizes - sizes.detach())
        for gate, part, shape in zip(self.gates, torch.split(mask, self.sizes), self.shapes.values(), strict=True):
            gate.open = part.view(shape)
        logits: Tensor = self.network(x)
        return logits

    def significance(self) -> dict[str, NDArray[np.float32]]:
        """Returns |score| of each activation's neurons, float32 of the neurons' shape; large means significant."""
        parts = torch.split(self.scores.detach().abs().cpu(), self.sizes)
        return {name: part.view(self.shapes[name]).numpy() for name, part in zip(self.shapes, parts, strict=True)}

    def _initial(self, images: Tensor) -> Tensor:
        added: dict[int, Tensor] = {}

        def hook_of(index: int, gate: _Gate) -> Callable[..., None]:
            def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                added[index] = (output - gate.slope * inputs[0]).abs().mean(0).flatten()

            return hook

        handles = [gate.register_forward_hook(hook_of(k, gate)) for k, gate in enumerate(self.gates)]
        try:
            with torch.no_grad():
                self.network(images)
        finally:
            for handle in handles:
                handle.remove()
        scale = math.sqrt(6 / sum(self.sizes))
        return torch.cat([scale * added[k] / added[k].max().clamp(min=1e-12) for k in range(len(self.gates))])


class HydraTraining:
    """Learns the scores: resumable at any batch, the same under a seed whether or not it was interrupted.

    Args:
        network: stays as it is; the scores are learned on its device.
        config: what determines the scores.
        images: training images; no augmentation.
        checkpoint: file that the learning is saved to and resumed from; None keeps nothing.

    Raises:
        UsageError: the network has no activation, there are no images, or the checkpoint is damaged or of another
            network, configuration or set of images.
    """

    def __init__(
        self, network: nn.Module, config: HydraConfig, images: ImageSet, checkpoint: Path | None = None
    ) -> None:
        if not len(images):
            raise UsageError("learning scores needs training images")
        if not relu_names(network):
            raise UsageError("the network has no ReLU: there is nothing to score or graft")
        self.config, self.checkpoint = config, checkpoint
        self.device = next(network.parameters()).device
        self.images = torch.from_numpy(np.ascontiguousarray(images.images)).to(self.device)
        self.labels = torch.from_numpy(np.ascontiguousarray(images.labels)).to(self.device)
        self.origin = origin_of(network, images, json.dumps(asdict(config), sort_keys=True).encode())
        first = in_unit_range(self.images[:INITIAL_IMAGES])
        self.network = GatedNetwork(network, tuple(first.shape[1:]), config, first)
        self.optimizer = torch.optim.SGD([self.network.scores], lr=config.lr, momentum=config.momentum)
        self.batches = -(-len(images) // config.batch_size)
        self.step = 0
        if checkpoint is not None and checkpoint.exists():
            self._load(checkpoint)

    @property
    def steps(self) -> int:
        """Number of batches of all epochs."""
        return self.config.epochs * self.batches

    def run(
        self,
        progress: Callable[[HydraProgress], None] = lambda _p: None,
        should_stop: Callable[[], bool] = lambda: False,
        save_every_s: float = 60.0,
    ) -> bool:
        """Learns until the end or until `should_stop`, and saves on the way; returns whether it is finished.

        Args:
            progress: told after each batch.
            should_stop: asked after each batch.
            save_every_s: seconds between checkpoints.
        """
        saved, order, epoch = time.monotonic(), torch.empty(0), -1
        while self.step < self.steps:
            if epoch != self.step // self.batches:
                epoch = self.step // self.batches
                order = torch.randperm(len(self.labels), generator=self._generator(torch.device("cpu"), -1))
            start = (self.step % self.batches) * self.config.batch_size
            loss = self._batch(order[start : start + self.config.batch_size].to(self.device))
            self.step += 1
            progress(HydraProgress(self.step, self.steps, loss))
            stopped = should_stop()
            if stopped or time.monotonic() - saved >= save_every_s:
                self.save()
                saved = time.monotonic()
            if stopped:
                break
        return self.step >= self.steps

    def significance(self) -> dict[str, NDArray[np.float32]]:
        """Returns the scores as they stand; see `GatedNetwork.significance`."""
        return self.network.significance()

    def save(self) -> None:
        """Writes the checkpoint, if there is one; an interruption leaves the previous one intact."""
        if self.checkpoint is None:
            return
        payload = {
            "schema": CHECKPOINT_SCHEMA,
            "origin": self.origin,
            "step": self.step,
            "scores": self.network.scores.detach(),
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_writer(self.checkpoint) as stream:
            torch.save(payload, stream)

    def _batch(self, index: Tensor) -> float:
        config, epoch, batch = self.config, self.step // self.batches, self.step % self.batches
        x, y = in_unit_range(self.images[index]), self.labels[index]
        if config.adversarial:
            with _frozen(self.network.scores):
                generator = self._generator(self.device, self.step)
                x = x + fgsm_random_start(self.network, x, y, config.eps, config.alpha, generator)
        loss = functional.cross_entropy(self.network(x), y)
        scale = factor(Schedule.COSINE, epoch, config.epochs, batch, self.batches)
        self.optimizer.param_groups[0]["lr"] = config.lr * scale
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach())

    def _generator(self, device: torch.device, step: int) -> torch.Generator:
        return batch_generator(device, self.config.seed, self.step // self.batches, step)

    def _load(self, path: Path) -> None:
        payload = read_checkpoint(path, self.device)
        if payload.get("schema") != CHECKPOINT_SCHEMA or payload.get("origin") != self.origin:
            raise UsageError(f"{path}: a checkpoint of other scores; delete it or name another file")
        try:
            with torch.no_grad():
                self.network.scores.copy_(payload["scores"])
            self.optimizer.load_state_dict(payload["optimizer"])
            self.step = int(payload["step"])
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise UsageError(f"{path}: a damaged checkpoint ({error}); delete it to start again") from error


def _gate_(network: nn.Module, name: str, slope: float) -> _Gate:
    """Puts a gate around an activation of `network`."""
    parent, _, child = name.rpartition(".")
    activation = network.get_submodule(name)
    if isinstance(activation, nn.ReLU):
        # In place it would overwrite the value that a dropped neuron gives.
        activation.inplace = False
    gate = _Gate(activation, slope)
    setattr(network.get_submodule(parent), child, gate)
    return gate


@contextmanager
def _frozen(parameter: nn.Parameter) -> Iterator[None]:
    """Keeps a parameter out of the graph for the block: the examples need the gradient of the images only."""
    parameter.requires_grad_(False)
    try:
        yield
    finally:
        parameter.requires_grad_(True)
