"""What `lgbench verify` loads: the engine and its libraries, and nothing that one instance does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NOT_NEEDED = {
    "docker",
    "jinja2",
    "llvmlite",
    "matplotlib",
    "numba",
    "onnx2pytorch",
    "pandas",
    "plotly",
    "psutil",
    "pydantic",
    "ray",
    "rich",
    "sqlite3",
    "sympy",
    "vnnlib",
    "yaml",
}

KERNELS = {"llvmlite", "numba", "yaml"}
"""Root bounds are compiled, and Numba reads its settings as YAML; what the first attack finds waits for neither."""

NET = """
import json, sys
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
from pathlib import Path

folder = Path(sys.argv[1])
weight = numpy_helper.from_array(np.eye(2, dtype=np.float32), "W")
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y")]
graph = helper.make_graph([helper.make_node("MatMul", ["x", "W"], ["y"])], "g", ends[:1], ends[1:], [weight])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
(folder / "n.onnx").write_bytes(model.SerializeToString())
lines = [f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0", "Y_1")]
lines += [f"(assert ({op} X_{i} {value}))" for i in (0, 1) for op, value in ((">=", "0.0"), ("<=", "1.0"))]
(folder / "p.vnnlib").write_text("\\n".join([*lines, f"(assert (>= Y_0 {sys.argv[2]}))"]))
from harness.cli.main import main

code = main(["verify", str(folder / "n.onnx"), str(folder / "p.vnnlib"), "--device", "cpu"])
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def loaded(folder: Path, threshold: str) -> tuple[str, set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", NET, str(folder), threshold],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    code, modules = json.loads(lines[-1])
    assert code == 0
    return lines[0], set(modules)


def test_a_falsified_instance_loads_only_what_it_needs(tmp_path: Path) -> None:
    verdict, modules = loaded(tmp_path, "0.5")
    assert verdict == "sat"
    assert sorted(modules & NOT_NEEDED) == []
    assert "harness" in modules


def test_an_instance_that_root_bounds_prove_loads_its_kernels_beside(tmp_path: Path) -> None:
    verdict, modules = loaded(tmp_path, "1.5")
    assert verdict == "unsat"
    assert sorted(modules & (NOT_NEEDED - KERNELS)) == []
