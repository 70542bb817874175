"""A sweep that runs in a second: toy networks, toy images, engines that answer what they are told.

As a program, `sweep_toy.py [--kill-at EVENT] ARGUMENTS...` runs `lgbench` with them, and dies by SIGKILL at the event:
`batch:N` in the middle of a training, `publish:N` before a network is written, `answer:N` during verification.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from toy_network import images, toy

from harness.cli import pipeline, training_common
from harness.cli.main import main
from harness.cli.pipeline import Pipeline, PipelineSettings
from harness.cli.training_common import TrainingData
from harness.config import find_spec
from harness.domain import EngineRecord, Job, Stage, ToolAnswer, Verdict
from harness.networks import zoo
from harness.tools import registry
from harness.tools.contract import Answered
from harness.training.loop import Trainer
from harness.workflow import benchmark

Setter = Callable[[Any, str, Any], None]

BENCHMARK = """
name: toy
title: Toy
dataset: mnist
architecture: toy_net
input_shape: [1, 6, 6]
classes: 3
eps: 0.05
baseline: baseline
protocols: {full: {inputs: 5, timeout_s: 1}, cpu: {inputs: 5, timeout_s: 1}}
variants:
  - {name: baseline, title: Before, network: models/toy/baseline.onnx.gz}
training:
  eps: 0.05
  alpha: 0.06
  batch_size: 16
  augment: false
  full: {epochs: 9, schedule: multistep}
  short: {epochs: 2, schedule: piecewise, knots: [[0, 1], [2, 0]]}
grafting:
  ratio: 0.5
  score_images: 20
  instability_inputs: 18
  full: {epochs: 9, schedule: cosine}
  short: {epochs: 1, schedule: cosine}
"""

SWEEP = """
name: toy_sweep
title: Toy sweep
benchmark: toy
grid:
  heuristic: [GAP]
  ranking: [min]
  ratio: [0.25, 0.5]
  method: [graft, prune]
training: {epochs: 2, test_images: 24}
verification: {inputs: 6, timeout_s: 5, max_domains: 4}
"""
SEEN: Counter[str] = Counter()


class ToyEngine:
    """Proves every other input at the root, and leaves the others open with random masks."""

    name = "toy"
    batched = True

    def __init__(self, *_args: Any, **_options: Any) -> None:
        pass

    def identity(self) -> str:
        return "toy"

    def decide(self, jobs: Sequence[Job]) -> Iterator[Answered]:
        for job in jobs:
            SEEN["answer"] += 1
            random = np.random.default_rng(job.index)
            masks = {"relu1": random.random(64) < 0.3, "relu2": random.random(6) < 0.3}
            if job.index % 2:
                yield Answered(job, ToolAnswer(Verdict.UNSAT, 0.1, 0.1, Stage.INCOMPLETE, record=EngineRecord()))
            else:
                record = EngineRecord(unstable=masks, entered_bab=True, neurons=70)
                yield Answered(job, ToolAnswer(Verdict.UNKNOWN, 0.1, 0.1, message="as told", record=record))


def install(set_: Setter) -> None:
    """Puts the toys in place of data sets, architectures and engines."""
    everything, test = images(80, 0), images(30, 1)
    set_(pipeline, "training_data", lambda *_: TrainingData(everything, everything[:60], everything[60:]))
    set_(pipeline, "test_data", lambda *_: test)
    set_(pipeline, "BuiltinTool", ToyEngine)
    set_(benchmark, "load_images", lambda _name, _split, _root=None, count=None: test[:count])
    set_(registry, "FACTORIES", {"builtin": lambda _options: ToyEngine()})
    set_(zoo, "ARCHITECTURES", {"toy_net": toy})
    set_(training_common, "ARCHITECTURES", {"toy_net": toy})


def make_files(sweep: str = SWEEP) -> None:
    """Writes benchmark, sweep and a trained baseline below the current folder."""
    for name, text in (("specs/toy/benchmark.yaml", BENCHMARK), ("specs/sweeps/toy_sweep.yaml", sweep)):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    settings = PipelineSettings(None, None, Path("checkpoints"), "short", "cpu", None)
    assert Pipeline(find_spec("toy"), settings).baseline()


def command(*more: str, out: str = "out") -> list[str]:
    return ["sweep", "toy_sweep", "--out", out, "--data", ".", "--device", "cpu", "--length", "short", *more]


def _die_at(event: str) -> None:
    kind, _, number = event.partition(":")

    def seen(what: str) -> None:
        SEEN[f"{what}!"] += 1
        if what == kind and SEEN[f"{what}!"] == int(number):
            os.kill(os.getpid(), signal.SIGKILL)

    batch, publish, decide = Trainer._batch, pipeline.publish_trained, ToyEngine.decide

    def watched_batch(self: Trainer, index: torch.Tensor) -> float:
        seen("batch")
        return batch(self, index)

    def watched_publish(*arguments: Any) -> Any:
        seen("publish")
        return publish(*arguments)

    def watched_decide(self: ToyEngine, jobs: Sequence[Job]) -> Iterator[Answered]:
        for answered in decide(self, jobs):
            yield answered
            seen("answer")

    setattr(Trainer, "_batch", watched_batch)  # noqa: B010 - mypy takes no assignment to a method
    setattr(pipeline, "publish_trained", watched_publish)  # noqa: B010
    setattr(ToyEngine, "decide", watched_decide)  # noqa: B010


if __name__ == "__main__":
    torch.set_num_threads(1)
    install(setattr)
    arguments = sys.argv[1:]
    if arguments[0] == "--kill-at":
        _die_at(arguments[1])
        arguments = arguments[2:]
    sys.exit(main(arguments))
