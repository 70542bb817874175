"""The engine's own check of a counterexample: ONNX Runtime's float32 evaluation decides, not torch's."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.domain import Counterexample
from harness.verifier.problem import Problem


class WitnessChecker:
    """Runs candidates of one network on ONNX Runtime.

    Args:
        model_bytes: the network, not compressed.
    """

    def __init__(self, model_bytes: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model_bytes, options, providers=["CPUExecutionProvider"])
        given = self._session.get_inputs()[0]
        self._name = given.name
        self._shape = [d if isinstance(d, int) and d > 0 else 1 for d in given.shape]
        self._dtype = np.float64 if given.type == "tensor(double)" else np.float32

    def confirm(self, problem: Problem, x: Tensor) -> Counterexample | None:
        """Returns the counterexample if `x`, moved into the box, violates the problem; else None.

        Args:
            problem: box and regions.
            x: one input, any shape.
        """
        lower, upper = (end.astype(self._dtype) for end in (problem.box.lower, problem.box.upper))
        point: NDArray[np.floating] = np.clip(x.detach().cpu().numpy().ravel().astype(self._dtype), lower, upper)
        (y,) = self._session.run(None, {self._name: point.reshape(self._shape)})[:1]
        output = np.asarray(y).ravel()
        if not np.isfinite(output).all() or not bool(problem.violated_by(torch.from_numpy(output)[None])[0]):
            return None
        return Counterexample(point, output)
