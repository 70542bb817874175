"""ONNX files: read as bytes, run on ONNX Runtime's CPU provider, one flat input to one flat output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from harness.domain import FloatArray, UsageError
from harness.formats.compressed import read_bytes
from harness.formats.onnx_limits import check_limits, stored_tensors

FATAL_ONLY = 4
"""ONNX Runtime's level of logging: what it writes to standard error otherwise is also in its exceptions."""
_ORT_TYPES: dict[str, np.dtype[np.floating[Any]]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
}
_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    # What its binding makes of texts that are no UTF-8, and of C++ exceptions.
    MemoryError,
    OverflowError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A network's input or output: its name, its shape with every free dimension read as 1, its floating type."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.floating[Any]]

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class OnnxSession:
    """A network, loaded into ONNX Runtime, with exactly one input and one output."""

    runtime: onnxruntime.InferenceSession
    input: TensorInfo
    output: TensorInfo


def load_model_bytes(path: Path) -> bytes:
    """Returns the bytes of an ONNX model, unzipped; all its weights are inside them.

    Args:
        path: `.onnx` or `.onnx.gz`; a missing `.onnx` is looked for with `.gz` added.

    Raises:
        UsageError: there is no such file, it is not an ONNX model, or it keeps weights in other files.
    """
    data = read_bytes(path)
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise UsageError(f"{path}: not an ONNX model; check that it is the right file") from error
    if not model.graph.node and not model.graph.output:
        raise UsageError(f"{path}: not an ONNX model (it has no graph); check that it is the right file")
    for tensor in stored_tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise UsageError(f"{path}: the weights '{tensor.name}' are in another file; save the model as one file")
    return data


def open_session(source: bytes | Path) -> OnnxSession:
    """Returns a session of one thread on the CPU provider for a network with one floating-point input and one output.

    Args:
        source: a model's bytes, or a file that `load_model_bytes` reads.

    Raises:
        UsageError: the model cannot be read or run, has other inputs or outputs than one of each, or would take more
            memory or time than a network may (`harness.formats.onnx_limits`).
    """
    label = str(source) if isinstance(source, Path) else "the network"
    data = load_model_bytes(source) if isinstance(source, Path) else source
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    check_limits(data, label)
    try:
        runtime = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        ends = (("input", runtime.get_inputs()), ("output", runtime.get_outputs()))
    except _ERRORS as error:
        raise UsageError(f"{label}: ONNX Runtime cannot load it ({_first_line(error)}); check the model") from error
    tensors = []
    for kind, found in ends:
        if len(found) != 1:
            names = ", ".join(tensor.name for tensor in found) or "none"
            raise UsageError(f"{label}: needs exactly one {kind}, but has {len(found)} ({names}); export it with one")
        tensors.append(_info(label, kind, found[0]))
    return OnnxSession(runtime, tensors[0], tensors[1])


def run_flat(session: OnnxSession, x: FloatArray) -> NDArray[np.floating[Any]]:
    """Returns the network's output for one input, both flat in C order.

    Args:
        session: the network.
        x: `(inputs,)`; cast to the network's type.

    Returns:
        `(outputs,)`, in the type of the network's output.

    Raises:
        ValueError: `x` is not a flat array of the network's input size.
        UsageError: the network can be loaded, but not evaluated.
    """
    info = session.input
    if x.shape != (info.size,):
        raise ValueError(f"the network takes {info.size} values, not an array of shape {x.shape}")
    options = onnxruntime.RunOptions()
    options.log_severity_level = FATAL_ONLY
    given = {info.name: x.astype(info.dtype).reshape(info.shape)}
    try:
        (y,) = session.runtime.run([session.output.name], given, options)
    except _ERRORS as error:
        raise UsageError(f"the network cannot be evaluated on ONNX Runtime ({_first_line(error)})") from error
    return np.asarray(y).ravel()


def _info(label: str, kind: str, found: onnxruntime.NodeArg) -> TensorInfo:
    dtype = _ORT_TYPES.get(found.type)
    if dtype is None:
        raise UsageError(f"{label}: its {kind} is a {found.type}; only float and double networks can be used")
    shape = tuple(d if isinstance(d, int) and d > 0 else 1 for d in found.shape)
    return TensorInfo(found.name, shape, dtype)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
