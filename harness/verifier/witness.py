"""The engine's own check of a counterexample: ONNX Runtime's float32 evaluation decides, not torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.domain import Counterexample, FloatArray
from harness.formats.onnx_file import open_session, run_flat
from harness.verifier.problem import Problem


class WitnessChecker:
    """Runs candidates of one network on ONNX Runtime.

    Args:
        model_bytes: the network, not compressed.

    Raises:
        UsageError: ONNX Runtime cannot load the network.
    """

    def __init__(self, model_bytes: bytes) -> None:
        self._session = open_session(model_bytes)

    @property
    def dtype(self) -> np.dtype[np.floating[Any]]:
        """The floating type of the network's input."""
        return self._session.input.dtype

    def confirm(self, problem: Problem, x: Tensor) -> Counterexample | None:
        """Returns the counterexample if `x`, moved into the box, violates the problem; else None.

        Args:
            problem: box and regions.
            x: one input, any shape.
        """
        lower, upper = problem.box.ends(self.dtype)
        if (lower > upper).any():
            return None  # strict bounds that leave no number of the network's type between them
        point: FloatArray = np.clip(x.detach().cpu().numpy().ravel().astype(self.dtype), lower, upper)
        output = run_flat(self._session, point)
        if not np.isfinite(output).all() or not bool(problem.violated_by(torch.from_numpy(output)[None])[0]):
            return None
        return Counterexample(point, output)
