"""A cluster driver whose workers answer at once: what is left is what the cluster costs (`benchmarks.scale_out`)."""

from __future__ import annotations

import sys

import numpy as np

from harness.domain import EngineRecord, Job, Stage, ToolAnswer, Verdict
from harness.run import ray_driver
from harness.run.ray_worker import RayWorker
from harness.tools.contract import Tool
from harness.tools.dummy import DummyTool
from harness.tools.registry import ToolOptions

NEURONS = (8192, 2048, 250)
"""Of a network of CNN-B's size, whose unstable ones a record names."""


def answer(job: Job) -> ToolAnswer:
    """Returns an answer as large as the engine's."""
    masks = {f"relu{k}": np.random.default_rng(job.index).random(size) < 0.15 for k, size in enumerate(NEURONS)}
    record = EngineRecord(np.zeros(9), 100, masks, entered_bab=True, neurons=sum(NEURONS), unstable_nonlinear=1)
    return ToolAnswer(Verdict.UNSAT, 0.0, 0.0, Stage.BAB, record=record)


class NullWorker(RayWorker):
    """A worker with a tool that takes no time."""

    def make(self, name: str, options: ToolOptions) -> Tool:  # noqa: ARG002 - whatever is asked for
        """Returns the dummy."""
        return DummyTool(answer)


if __name__ == "__main__":
    # By its importable name, so that nodes find the class.
    from benchmarks.null_driver import NullWorker as Worker

    sys.exit(ray_driver.main(Worker))
