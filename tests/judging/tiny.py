"""Tiny networks and jobs on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import TensorProto, helper, numpy_helper

from harness.domain import InputBox, Instance, Job, Limits, OutputPolytope, Property, PropertyCase
from harness.files import sha256_bytes
from harness.formats.onnx_file import OnnxSession, open_session


def linear_model(weight: ArrayLike, bias: ArrayLike | None = None, dtype: DTypeLike = np.float32) -> bytes:
    """Returns y = W x + b as an ONNX model with input (1, inputs) and output (1, outputs)."""
    matrix = np.asarray(weight, dtype)
    offset = np.zeros(len(matrix), dtype) if bias is None else np.asarray(bias, dtype)
    kind = TensorProto.FLOAT if matrix.dtype == np.float32 else TensorProto.DOUBLE
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)],
        "linear",
        [helper.make_tensor_value_info("x", kind, [1, matrix.shape[1]])],
        [helper.make_tensor_value_info("y", kind, [1, matrix.shape[0]])],
        [numpy_helper.from_array(matrix, "w"), numpy_helper.from_array(offset, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def linear(weight: ArrayLike, bias: ArrayLike | None = None, dtype: DTypeLike = np.float32) -> OnnxSession:
    """Returns `linear_model` loaded."""
    return open_session(linear_model(weight, bias, dtype))


def region(
    rows: ArrayLike, rhs: ArrayLike, strict: ArrayLike | None = None, low: float = 0.0, high: float = 1.0
) -> Property:
    """Returns a property with one box and one violation region over as many inputs as outputs."""
    matrix = np.atleast_2d(np.asarray(rows, np.float64))
    size = matrix.shape[1]
    box = InputBox(np.full(size, low), np.full(size, high))
    flags = np.zeros(len(matrix), np.bool_) if strict is None else np.asarray(strict, np.bool_)
    polytope = OutputPolytope(matrix, np.atleast_1d(np.asarray(rhs, np.float64)), flags)
    return Property((PropertyCase(box, (polytope,)),), size, size)


TIE_OR_WORSE = """
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(assert (>= X_0 0.0))
(assert (<= X_0 1.0))
(assert (>= X_1 0.0))
(assert (<= X_1 1.0))
(assert (or (and (>= Y_1 Y_0))))
"""
"""Over y = x in [0, 1]^2: violated where the second number is not the smaller one."""


def identity_job(folder: Path, limits: Limits | None = None) -> Job:
    """Returns a job on y = x and TIE_OR_WORSE, whose files are made in `folder`."""
    network, prop = folder / "net.onnx", folder / "spec.vnnlib"
    network.write_bytes(linear_model(np.eye(2)))
    prop.write_text(TIE_OR_WORSE)
    hashes = sha256_bytes(network.read_bytes()), sha256_bytes(prop.read_bytes())
    own = limits or Limits(10.0, "wall")
    return Job("k", Instance(network, prop, own.timeout_s), "net", 3, own, *hashes)
