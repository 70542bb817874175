"""The clean check: what a network says of the unperturbed test inputs, on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.domain import Counterexample, FloatArray, InstanceResult, Job, Stage, Verdict, WitnessVerdict
from harness.formats.onnx_file import OnnxSession, open_session, run_flat
from harness.judging.judge import Judge, one_line


def clean_outputs(network: OnnxSession | Path, images: NDArray[np.float32]) -> FloatArray:
    """Returns the network's outputs for each image, evaluated one at a time as the competition does.

    Args:
        network: the network, or its file.
        images: `(N, inputs)`, each flat in the C order of the network's input.

    Returns:
        `(N, outputs)`, in the type of the network's output.

    Raises:
        UsageError: the network cannot be loaded.
        ValueError: the images do not fit the network's input.
    """
    session = open_session(network) if isinstance(network, Path) else network
    outputs = np.empty((len(images), session.output.size), session.output.dtype)
    for row, image in zip(outputs, images, strict=True):
        row[:] = run_flat(session, image)
    return outputs


def clean_labels(network: OnnxSession | Path, images: NDArray[np.float32]) -> NDArray[np.int64]:
    """Returns the predicted class of each image, `(N,)`; of equal outputs the first wins.

    Arguments and errors are those of `clean_outputs`.
    """
    return np.asarray(clean_outputs(network, images).argmax(axis=1), np.int64)


def clean_result(job: Job, x: FloatArray, y: FloatArray | None, judge: Judge) -> InstanceResult:
    """Returns the result of a misclassified test input: sat at stage `clean`, the input itself the counterexample.

    It is replayed like any other. If the replay does not show a violation, the property does not belong to this input
    and label, and the verdict is `error` with the reason.

    Args:
        job: the job of the test input.
        x: the unperturbed input, `(inputs,)`.
        y: the network's outputs for it, if known, `(outputs,)`.
        judge: replays the input.
    """
    check, replayed = judge.replay(job, Counterexample(x, y))
    correct = check.verdict is WitnessVerdict.CORRECT
    message = "" if correct else f"the misclassified input does not violate its property ({check.verdict.value}: "
    return InstanceResult(
        job,
        Verdict.SAT if correct else Verdict.ERROR,
        None,
        Stage.CLEAN if correct else None,
        wall_s=0.0,
        work_s=0.0,
        witness=check,
        counterexample=replayed or Counterexample(x, y),
        message=message and one_line(f"{message}{check.message})"),
    )
