"""auto_LiRPA 0.3, the field's reference implementation of interval and CROWN bounds, made to run on today's PyTorch.

The release on the package index pins torch < 1.13; `scripts/environment.sh` installs it without its pins for the tests.
Three things that it uses have moved since; `load` puts them back before the first import. Nothing else is changed.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from onnx_torch import OnnxModule
from torch import Tensor

Pair = tuple[Tensor, Tensor]
"""Lower and upper bounds."""


@cache
def load() -> Any:
    """Returns the module auto_LiRPA; skips the test where it is not installed, and fails it there when CI=true."""
    missing = [name for name in ("auto_LiRPA", "appdirs", "tqdm") if importlib.util.find_spec(name) is None]
    if missing:
        reason = f"not installed: {', '.join(missing)} (./run_tests.sh installs it)"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    _patch()
    module = _imported()
    module.BoundedModule._named_members = _named_members
    return module


def _imported() -> Any:
    limit = sys.getrecursionlimit()
    try:
        # Recorded and dropped rather than ignored: it sets filters of its own while it is imported.
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            return importlib.import_module("auto_LiRPA")
    finally:
        # It raises the limit to a million, past what the stack holds: deep input would end the process.
        sys.setrecursionlimit(limit)


def _patch() -> None:
    """Puts back what numpy 2 and torch 2 have removed."""
    moved = types.ModuleType("numpy.lib.arraysetops")
    moved.isin = np.isin  # type: ignore[attr-defined]
    sys.modules.setdefault("numpy.lib.arraysetops", moved)
    import torch.onnx.symbolic_helper as helper

    if not hasattr(helper, "_set_opset_version"):
        helper._set_opset_version = _set_opset  # type: ignore[attr-defined]
    if not hasattr(torch._C.Node, "__getitem__"):
        torch._C.Node.__getitem__ = _attribute  # type: ignore[method-assign]


def _set_opset(version: int) -> None:
    from torch.onnx._internal.torchscript_exporter._globals import GLOBALS

    GLOBALS.export_onnx_opset_version = version


def _named_members(module: Any, members: Any, prefix: str = "", recurse: bool = True, **_newer: object) -> Any:
    return torch.nn.Module._named_members(module, members, prefix, recurse)


def _attribute(node: Any, name: str) -> Any:
    return getattr(node, node.kindOf(name))(name)


@dataclass(slots=True, eq=False)
class Reference:
    """auto_LiRPA's bounds of one network over one box, in float64.

    Its lower slope of an unstable neuron is 1 where `ub > -lb` and else 0, as ours.

    Args:
        model_bytes: the network as ONNX.
        lower: `(1, *input_shape)`.
        upper: `(1, *input_shape)`.
    """

    model_bytes: bytes
    lower: Tensor
    upper: Tensor
    _net: Any = field(init=False, repr=False)
    _x: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        lirpa = load()
        with _as_it_expects():
            self._net = lirpa.BoundedModule(
                OnnxModule(self.model_bytes),
                self.lower,
                bound_opts={"conv_mode": "matrix", "sparse_intermediate_bounds": False},
                verbose=False,
            )
            within = lirpa.PerturbationLpNorm(norm=float("inf"), x_L=self.lower, x_U=self.upper)
            self._x = lirpa.BoundedTensor((self.lower + self.upper) / 2, within)

    def output(self, method: str, C: Tensor | None = None, hidden: Mapping[str, Pair] | None = None) -> Pair:
        """Returns bounds of `C y`, each `(rows,)`.

        Args:
            method: `IBP` or `CROWN`.
            C: `(rows, outputs)`; None: the outputs themselves.
            hidden: bounds of values, by the names of `activations`, to take instead of its own.
        """
        with _as_it_expects():
            lb, ub = self._net.compute_bounds(
                x=(self._x,), method=method, C=None if C is None else C[None], intermediate_layer_bounds=hidden
            )
        return lb.flatten().detach(), ub.flatten().detach()

    def activations(self, x: Tensor) -> dict[str, Tensor]:
        """Returns the value at x of every activation's input, by name."""
        with _as_it_expects():
            self._net(x)
            nodes = [node.inputs[0] for node in self._net.optimizable_activations]
        return {node.name: node.forward_value.detach() for node in nodes}

    def hidden(self, name: str, method: str, known: Mapping[str, Pair]) -> Pair:
        """Returns bounds of one activation's input, given those of others."""
        self.output(method, hidden=known)
        node = self._net[name]
        return node.lower.detach(), node.upper.detach()


@contextmanager
def _as_it_expects() -> Iterator[None]:
    """It makes its tensors in the default type, and warns of what it will not live to see."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_default_dtype(before)
