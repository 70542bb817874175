"""`python -m benchmarks.grafting`: selection, scores and training against their targets.

Exit codes: 0 measured (a missed target is printed as missed), 2 usage error.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.engine import this_machine
from harness.config import REPOSITORY
from harness.data.datasets import EMBEDDED, load_images
from harness.data.images import ImageSet
from harness.domain import UsageError
from harness.grafting.ranking import Ranking
from harness.grafting.selection import select
from harness.grafting.significance import significance
from harness.networks import zoo
from harness.training.loop import Progress, Trainer, TrainingConfig

CONVHUGE_NEURONS = 229_888
"""Neurons of ConvHuge, the study's largest network."""
SELECTION_TARGET_S = 1.0
SCORES_TARGET_S = 60.0
THROUGHPUT_TARGET = 0.7
BATCH = 128


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number and its target."""

    name: str
    value: float
    unit: str
    target: float
    """At most this where `at_most`, else at least."""
    at_most: bool
    runs: tuple[float, ...]
    """Of which `value` is the median, or what the docstring of the measurement says."""

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.value <= self.target if self.at_most else self.value >= self.target

    def line(self) -> str:
        """Returns a line of the table."""
        sign = "<=" if self.at_most else ">="
        verdict = "met" if self.met else "MISSED"
        return f"{self.name:34} {self.value:9.3f} {self.unit:9} target {sign} {self.target:g}: {verdict}"


def measure_selection(runs: int) -> list[Figure]:
    """Returns the median time of selecting half of ConvHuge's neurons, for each ranking.

    Like real ones, half of the significances are distinct and the others tied at zero; instabilities are counts.
    """
    random = np.random.default_rng(0)
    values = random.random(CONVHUGE_NEURONS, np.float32) * (random.random(CONVHUGE_NEURONS) < 0.5)
    counts = random.integers(0, 400, CONVHUGE_NEURONS)
    figures = []
    for ranking in Ranking:
        taken = tuple(_timed(lambda ranking=ranking: select(values, counts, ranking=ranking)) for _ in range(runs))
        figures.append(Figure(f"selection, {ranking}", median(taken), "s", SELECTION_TARGET_S, True, taken))
    return figures


def measure_scores(runs: int) -> Figure:
    """Returns the median time of loading CNN-B and scoring it by all means over 1,000 images."""
    images = load_images("cifar10", "test", count=EMBEDDED)
    folder = REPOSITORY / "models" / "cifar10_cnnb"
    taken = tuple(_timed(lambda: significance(zoo.load_network(folder, "baseline"), images)) for _ in range(runs))
    return Figure("scores of CNN-B, 1,000 images", median(taken), "s", SCORES_TARGET_S, True, taken)


def measure_training(rounds: int, steps: int, say: Callable[[str], None]) -> tuple[Figure, dict[str, float]]:
    """Returns our training's share of a bare loop's throughput, and the images a second of both (medians).

    They take turns, `steps` batches each, on CNN-B with the study's settings; the first round is not counted.
    """
    sample = load_images("cifar10", "test", count=EMBEDDED)
    repeats = -(-BATCH * steps * (rounds + 2) // EMBEDDED)
    images = ImageSet(np.tile(sample.images, (repeats, 1, 1, 1)), np.tile(sample.labels, repeats))
    config = TrainingConfig(batch_size=BATCH)
    trainer = Trainer(zoo.build("cifar10_cnn_b", 1), config, images, sample)
    bare = BareLoop(zoo.build("cifar10_cnn_b", 1), config, images)
    ours: list[float] = []
    plain: list[float] = []
    for number in range(rounds + 1):
        for loop, seconds in ((lambda: _trained(trainer, steps), ours), (lambda: bare.run(steps), plain)):
            taken = _timed(loop)
            if number:
                seconds.append(BATCH * steps / taken)
        say(f"training: round {number}/{rounds}")
    shares = tuple(a / b for a, b in zip(ours, plain, strict=True))
    name = "training against a bare loop"
    speeds = {"ours_images_per_s": median(ours), "bare_images_per_s": median(plain)}
    return Figure(name, median(shares), "of 1", THROUGHPUT_TARGET, False, shares), speeds


class BareLoop:
    """The steps of fast adversarial training as one writes them down in PyTorch; nothing of the package's is used.

    Args:
        network: trained in place.
        config: the study's settings.
        images: training images.
    """

    def __init__(self, network: nn.Module, config: TrainingConfig, images: ImageSet) -> None:
        self.network, self.config = network, config
        self.images, self.labels = torch.from_numpy(images.images), torch.from_numpy(images.labels)
        self.order = torch.randperm(len(images))
        self.optimizer = torch.optim.SGD(
            network.parameters(), config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self.step = 0

    def run(self, steps: int) -> None:
        """Takes so many optimiser steps."""
        for _ in range(steps):
            index = self.order[self.step * BATCH : (self.step + 1) * BATCH]
            self.batch(self.images[index].float() / 255, self.labels[index])
            self.step += 1

    def batch(self, x: Tensor, y: Tensor) -> float:
        """Crops and flips, makes the FGSM example, adds GradAlign, steps; returns the loss."""
        network, eps = self.network, self.config.eps
        padded = functional.pad(x, (4, 4, 4, 4))
        at = torch.randint(0, 9, (len(x), 2)).tolist()
        x = torch.stack([image[:, i : i + 32, j : j + 32] for image, (i, j) in zip(padded, at, strict=True)])
        x = torch.where((torch.rand(len(x)) < 0.5).view(-1, 1, 1, 1), x.flip(3), x)
        network.eval()
        delta = ((x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1) - x).requires_grad_(True)
        (g,) = torch.autograd.grad(functional.cross_entropy(network(x + delta), y), delta)
        delta = (delta.detach() + self.config.alpha * g.sign()).clamp(-eps, eps)
        delta = (x + delta).clamp(0, 1) - x
        network.train()
        loss = functional.cross_entropy(network(x + delta), y)
        clean = x.clone().requires_grad_(True)
        (g1,) = torch.autograd.grad(functional.cross_entropy(network(clean), y), clean)
        noisy = (x + torch.empty_like(x).uniform_(-eps, eps)).requires_grad_(True)
        (g2,) = torch.autograd.grad(functional.cross_entropy(network(noisy), y), noisy, create_graph=True)
        cosine = functional.cosine_similarity(g1.flatten(1), g2.flatten(1))
        loss = loss + self.config.gradalign * (1 - cosine.mean())
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach())


def _trained(trainer: Trainer, steps: int) -> None:
    done: list[Progress] = []
    trainer.run(done.append, should_stop=lambda: len(done) >= steps)


def _timed(work: Callable[[], Any]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Returns the options of a command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grafting", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=_positive, default=3, metavar="N", help="of each measurement; the median counts")
    parser.add_argument("--steps", type=_positive, default=8, metavar="N", help="training batches of a round")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive whole number")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, and returns the exit code."""
    options = parse(argv)
    machine = this_machine()

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    try:
        figures = measure_selection(options.runs)
        say("selection: done")
        figures.append(measure_scores(options.runs))
        say("scores: done")
        share, speeds = measure_training(options.runs, options.steps, say)
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    figures.append(share)
    if options.json:
        rows = [{**asdict(figure), "met": figure.met} for figure in figures]
        print(json.dumps({"machine": machine, "threads": torch.get_num_threads(), "figures": rows, **speeds}, indent=1))
        return 0
    for figure in figures:
        print(figure.line())
    print(f"training: {speeds['ours_images_per_s']:.0f} images/s, bare loop {speeds['bare_images_per_s']:.0f} images/s")
    print(f"{machine['cpu']}, {machine['cores']} cores, {torch.get_num_threads()} threads, load {machine['load']:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
