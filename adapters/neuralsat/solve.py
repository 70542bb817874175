"""NeuralSAT as a verifier of VNN-COMP's interface: `solve.py CATEGORY ONNX VNNLIB RESULT SECONDS`.

NeuralSAT is a program, not a package: it is run in this process with the arguments of its command line. The property
is written anew for it in plain VNN-LIB 1.0, and its `sat` counts after a replay on ONNX Runtime.
"""

from __future__ import annotations

import runpy
import sys
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path

import onnx

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from adapters.common import Task, plain_text, read_task  # noqa: E402 - found by the line above
from harness.formats.counterexample import CounterexampleError, parse_counterexample  # noqa: E402

PROGRAM = Path(sysconfig.get_path("purelib")) / "src" / "main.py"
BATCH = 500
"""Branches in an iteration."""
DECIDED = {"unsat": "unsat", "timeout": "timeout"}
KEPT: list[object] = []
"""What is declared to torch lives as long as the object that declared it."""


def main() -> int:
    """Decides the instance; returns the exit status."""
    task = read_task(sys.argv[1:])
    boxes = [case for case in task.prop.cases if not case.box.is_empty and case.polytopes]
    if not boxes:
        task.say("unsat")
        return 0
    with tempfile.TemporaryDirectory(prefix="lgbench-neuralsat-") as folder:
        word, x = ask(task, Path(folder))
    if x is None or not task.confirmed(x):
        task.say(DECIDED.get(word, "unknown"))
    return 0


def ask(task: Task, folder: Path) -> tuple[str, object]:
    """Returns NeuralSAT's word, and the input of its counterexample.

    Raises:
        SystemExit: with status 1 where it wrote no answer.
    """
    import torch

    net, spec, answer = (folder / name for name in ("network.onnx", "property.vnnlib", "answer.txt"))
    onnx.save(with_full_shapes(onnx.load(task.network)), net)
    spec.write_text(plain_text(task.prop), encoding="ascii")
    settle_torchvision()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options = {"device": device, "batch": BATCH, "timeout": max(task.left(), 1.0), "net": net, "spec": spec}
    sys.argv = [str(PROGRAM), "--export_cex", "--result_file", str(answer)]
    if device == "cpu":
        # One slope for all bounds of a layer: without it the first bounds alone take a processor a minute.
        (folder / "settings.json").write_text('{"share_alphas": true}', encoding="ascii")
        options["setting_file"] = folder / "settings.json"
    sys.argv += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    sys.path.insert(0, str(PROGRAM.parent))
    # It exits with status 0 also where it cannot read a network.
    with suppress(SystemExit):
        runpy.run_path(str(PROGRAM), run_name="__main__")
    if not answer.is_file():
        sys.exit("error: NeuralSAT wrote no answer")
    word, _, witness = answer.read_text(encoding="utf-8").strip().partition("\n")
    if word != "sat":
        return word, None
    try:
        return word, parse_counterexample(witness, task.session.input.size, task.session.output.size).x
    except CounterexampleError as error:
        sys.exit(f"error: NeuralSAT wrote no proper counterexample: {error}")


def with_full_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the same network with constants of as many dimensions as the tensors that they are added to or times.

    Where they have fewer, NeuralSAT cannot keep convolutions as patches, and takes dense matrices of many gigabytes.
    """
    inferred = onnx.shape_inference.infer_shapes(model).graph
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("Add", "Sub", "Mul", "Div"):
            continue
        rank = max((ranks.get(name, 0) for name in node.input if name not in constants), default=0)
        for i, name in enumerate(node.input):
            if name in constants and len(constants[name].dims) < rank:
                wide = f"{name}_{rank}d"
                if wide not in constants:
                    array = onnx.numpy_helper.to_array(constants[name])
                    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
                    constants[wide] = onnx.numpy_helper.from_array(array, wide)
                    model.graph.initializer.append(constants[wide])
                node.input[i] = wide
    return model


def settle_torchvision() -> None:
    """Makes torchvision importable beside a CPU build of torch, where the index gives its CUDA build alone.

    One of its operators is then unknown when a fake of it is registered; nothing here calls it.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        KEPT.append(library)
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


if __name__ == "__main__":
    sys.exit(main())
