"""auto_LiRPA's bounds as a verifier of VNN-COMP's interface: `solve.py CATEGORY ONNX VNNLIB RESULT SECONDS`.

It proves with CROWN, then with alpha-CROWN, and searches nothing: `unsat` or `unknown`. Everything is computed in
float64. Release 0.3 and the current one are both understood.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from adapters.common import Task, read_task  # noqa: E402 - found by the line above
from harness.domain import InputBox, OutputPolytope  # noqa: E402

# Its release 0.3 has to be given what newer versions of torch have moved, and that is private there.
# ruff: noqa: SLF001

METHODS = ("CROWN", "CROWN-Optimized")
"""From cheap to tight; the second is alpha-CROWN's name in both releases."""
MARGIN = 1e-7
"""A bound has to clear its threshold by so much, relative to its own size, for rounding."""


def load() -> Any:
    """Returns the module auto_LiRPA, with the limit on recursion and the warning filters as they were.

    It raises the limit to a million, past what the stack holds, and sets filters of its own while it is imported.
    """
    put_back()
    limit = sys.getrecursionlimit()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importlib.import_module("auto_LiRPA")
    finally:
        sys.setrecursionlimit(limit)
    return module


def put_back() -> None:
    """Puts back what release 0.3 uses and numpy 2 and torch 2 have moved; the current release uses none of it."""
    import torch
    import torch.onnx.symbolic_helper as helper

    moved = types.ModuleType("numpy.lib.arraysetops")
    moved.isin = np.isin  # type: ignore[attr-defined]
    sys.modules.setdefault("numpy.lib.arraysetops", moved)
    if not hasattr(helper, "_set_opset_version"):
        from torch.onnx._internal.torchscript_exporter._globals import GLOBALS

        helper._set_opset_version = lambda version: setattr(GLOBALS, "export_onnx_opset_version", version)
    if not hasattr(torch._C.Node, "__getitem__"):
        torch._C.Node.__getitem__ = lambda node, name: getattr(node, node.kindOf(name))(name)


def bounded(task: Task) -> Any:
    """Returns the network as auto_LiRPA bounds it, in float64."""
    import torch

    from harness.formats.onnx_file import load_model_bytes
    from harness.networks.from_onnx import network_from_onnx

    lirpa = load()
    lirpa.BoundedModule._named_members = _named_members
    shape = task.session.input.shape
    network = network_from_onnx(load_model_bytes(task.network)).double().eval()
    spell_out(network)
    torch.set_default_dtype(torch.float64)
    return lirpa.BoundedModule(network, torch.zeros(shape), bound_opts={"conv_mode": "matrix"}, verbose=False)


def spell_out(network: Any) -> None:
    """Replaces grafted activations by the sum that they are, of operators that bounds are known for."""
    import torch

    from harness.networks.grafted import GraftedReLU

    class Sum(torch.nn.Module):
        def __init__(self, grafted: GraftedReLU) -> None:
            super().__init__()
            linear = grafted.mask.double()
            parts = {"slope": grafted.slope * linear, "intercept": grafted.intercept * linear, "keep": 1 - linear}
            for name, value in parts.items():
                self.register_parameter(name, torch.nn.Parameter(value.detach(), requires_grad=False))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.slope + self.intercept + torch.relu(x) * self.keep

    for name, module in list(network.named_modules()):
        if isinstance(module, GraftedReLU):
            network.set_submodule(name, Sum(module))


def proves(net: Any, task: Task, box: InputBox, polytopes: tuple[OutputPolytope, ...], method: str) -> bool:
    """Returns whether bounds show that no input of the box has an output in one of the regions."""
    import torch

    lirpa = load()
    shape = task.session.input.shape
    lower, upper = (torch.tensor(np.array(bound)).reshape(shape) for bound in (box.lower, box.upper))
    within = lirpa.PerturbationLpNorm(norm=float("inf"), x_L=lower, x_U=upper)
    x = lirpa.BoundedTensor((lower + upper) / 2, within)
    rows = torch.tensor(np.concatenate([polytope.coefficients for polytope in polytopes]))
    bound, _ = net.compute_bounds(x=(x,), C=rows[None], method=method, bound_upper=False)
    values, start = bound.detach().numpy().ravel(), 0
    for polytope in polytopes:
        # One row that never holds is enough.
        part = values[start : start + polytope.rhs.size]
        start += polytope.rhs.size
        if not (part - polytope.rhs > MARGIN * (1 + np.abs(part))).any():
            return False
    return True


def main() -> int:
    """Decides the instance; returns the exit status."""
    task = read_task(sys.argv[1:])
    open_cases = [case for case in task.prop.cases if not case.box.is_empty and case.polytopes]
    net = bounded(task) if open_cases else None
    for method in METHODS:
        open_cases = [case for case in open_cases if not proves(net, task, case.box, case.polytopes, method)]
    task.say("unknown" if open_cases else "unsat")
    return 0


def _named_members(module: Any, members: Any, prefix: str = "", recurse: bool = True, **_newer: object) -> Any:
    from torch import nn

    return nn.Module._named_members(module, members, prefix, recurse)


if __name__ == "__main__":
    sys.exit(main())
