from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.domain import UsageError
from harness.formats.compressed import gzip_bytes
from harness.formats.onnx_file import load_model_bytes, open_session, run_flat

DOUBLE, FLOAT = TensorProto.DOUBLE, TensorProto.FLOAT


def model(
    shape: tuple[int | str, ...] = ("n", 2, 3), kind: int = FLOAT, inputs: int = 1, outputs: int = 1
) -> onnx.ModelProto:
    """y = 2 x, elementwise."""
    dtype = np.float32 if kind == FLOAT else np.float64
    nodes = [helper.make_node("Mul", ["x0", "two"], [f"y{i}"]) for i in range(outputs)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(f"x{i}", kind, shape) for i in range(inputs)],
        [helper.make_tensor_value_info(f"y{i}", kind, shape) for i in range(outputs)],
        [numpy_helper.from_array(np.array([2], dtype), "two")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize(("kind", "dtype"), [(FLOAT, np.float32), (DOUBLE, np.float64)])
def test_a_free_batch_is_one_and_the_type_is_the_networks(kind: int, dtype: type) -> None:
    session = open_session(model(kind=kind).SerializeToString())
    assert (session.input.name, session.input.shape, session.input.size) == ("x0", (1, 2, 3), 6)
    assert session.input.dtype == dtype
    y = run_flat(session, np.arange(6.0))
    assert y.dtype == dtype
    assert y.tolist() == [0, 2, 4, 6, 8, 10]
    with pytest.raises(ValueError, match="takes 6 values"):
        run_flat(session, np.zeros(5))


def test_files_plain_and_zipped(tmp_path: Path) -> None:
    data = model().SerializeToString()
    (tmp_path / "a.onnx").write_bytes(data)
    (tmp_path / "b.onnx.gz").write_bytes(gzip_bytes(data))
    for name in ("a.onnx", "b.onnx", "b.onnx.gz"):
        assert load_model_bytes(tmp_path / name) == data
    assert open_session(tmp_path / "b.onnx").output.shape == (1, 2, 3)


@pytest.mark.parametrize(
    ("proto", "what"),
    [
        (model(inputs=2), "exactly one input, but has 2"),
        (model(outputs=2), "exactly one output, but has 2"),
        (model(kind=TensorProto.INT64), "ONNX Runtime cannot load it"),
    ],
)
def test_other_networks_are_refused(proto: onnx.ModelProto, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        open_session(proto.SerializeToString())


def test_integer_networks_are_refused() -> None:
    proto = model()
    nodes = [helper.make_node("Identity", ["x0"], ["y0"])]
    info = [helper.make_tensor_value_info(name, TensorProto.INT64, (1,)) for name in ("x0", "y0")]
    proto.graph.CopyFrom(helper.make_graph(nodes, "g", info[:1], info[1:]))
    with pytest.raises(UsageError, match=r"is a tensor\(int64\)"):
        open_session(proto.SerializeToString())


def test_files_that_are_no_networks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    for content in (b"this is not a network", b""):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="not an ONNX model"):
            load_model_bytes(path)


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    proto = model()
    tensor = proto.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    (tmp_path / "a.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(UsageError, match="'two' are in another file"):
        load_model_bytes(tmp_path / "a.onnx")
