"""Bounds at the root of test inputs, through the Tool contract: what instability is counted from, without branching.

Two questions can be asked of an input. Whether it is robust: then only inputs that neither an attack nor root bounds
decide have their unstable neurons recorded, which are those that would enter branch and bound.
Or one that neither attack nor bounds can answer: then every input has them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.images import ImageSet
from harness.domain import EngineRecord, Instance, LgBenchError, Limits, UsageError, Verdict
from harness.formats.compressed import write_gz
from harness.formats.vnnlib import exact_decimal, robustness_box, write_robustness_property
from harness.judging.clean import clean_outputs
from harness.run.identity import JobPlanner
from harness.tools.contract import Tool

ROOT_LIMITS = Limits(timeout_s=3600.0, max_domains=0)
"""Root bounds only; the time is there to end a broken engine."""
_DISJUNCTION = "(assert (or"


@dataclass(frozen=True, slots=True)
class Ball:
    """The inputs around a test input that are bounded."""

    eps: float
    """Radius in the maximum norm, on images in [0, 1]."""
    classes: int
    """Number of the network's outputs."""


def root_records(
    network: Path,
    images: ImageSet,
    ball: Ball,
    tool: Tool,
    scratch: Path,
    *,
    every_input: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[EngineRecord]:
    """Returns what the engine found at the root for each rightly classified image, in their order; no branching.

    Args:
        network: ONNX file.
        images: test inputs.
        ball: what is bounded around each.
        tool: the engine.
        scratch: an empty folder for the properties.
        every_input: whether each record has the input's unstable neurons; else only those of inputs that would enter
            branch and bound.
        progress: called with the number of inputs that are answered, and of all.

    Raises:
        UsageError: the network or a property cannot be read, or the images do not fit the network.
        LgBenchError: the engine failed on an input, so that counts would be wrong.
    """
    flat = images.images.reshape(len(images), -1).astype(np.float32)
    if images.images.dtype == np.uint8:
        flat /= np.float32(255)
    try:
        outputs = clean_outputs(network, flat)
    except ValueError as error:
        raise UsageError(f"{network}: does not take the test inputs ({error}); name the network's data set") from error
    planner, jobs = JobPlanner(tool.identity()), []
    for index in np.flatnonzero(outputs.argmax(axis=1) == images.labels):
        label, path = int(images.labels[index]), scratch / f"input_{index}.vnnlib.gz"
        text = write_robustness_property(*robustness_box(flat[index], ball.eps), label, ball.classes)
        write_gz(path, _unanswerable(text, label, outputs[index, label]) if every_input else text)
        instance = Instance(network, path, ROOT_LIMITS.timeout_s, network.name, path.name)
        jobs.append(planner.plan(instance, network.name, int(index), ROOT_LIMITS))
    records: dict[int, EngineRecord] = {}
    # Closed on the way out, so that a Ctrl-C ends the engine's process too.
    with closing(tool.decide(jobs)) as answers:  # type: ignore[type-var]
        for job, answer in answers:
            if answer.verdict in (Verdict.ERROR, Verdict.TIMEOUT) or answer.record is None:
                raise LgBenchError(f"test input {job.index}: the engine answered {answer.verdict}: {answer.message}")
            if every_input and answer.record.unstable is None:
                raise LgBenchError(f"test input {job.index}: the engine did not say which neurons are unstable")
            records[job.index] = answer.record
            progress(len(records), len(jobs))
    return [records[index] for index in sorted(records)]


def _unanswerable(robustness: str, label: int, output: np.floating[Any]) -> str:
    """Returns the property with another question: is the label's output both at most its value here and above it?

    No float32 output is, so no attack succeeds; and as the input itself attains the value, no sound bounds exclude
    either half, whatever they are.
    """
    box, found, _ = robustness.partition(_DISJUNCTION)
    if not found:
        raise ValueError("the property has no disjunction to replace")
    above = np.nextafter(output, np.inf, dtype=output.dtype)
    low, high = exact_decimal(float(output)), exact_decimal(float(above))
    return f"{box}(assert (<= Y_{label} {low}))\n(assert (>= Y_{label} {high}))\n"
