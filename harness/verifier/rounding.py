"""How far a floating-point evaluation of one operation may be from the exact value.

The standard model: every addition, multiplication and division is off by at most `unit` of its result, sums are taken
in any order (Higham 2002, chapter 3). `docs/design/003-rounding.md` derives what bound propagation makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor

from harness.verifier.graph import Add, Conv, Linear, Op, Relu, Scale, Smooth, bias_magnitude
from harness.verifier.interval import Bounds, Box

FLOAT32_UNIT = 2.0**-24
REAL_UNIT = 2.0**-33
"""For answers about exact arithmetic: what bounds computed in float64 need for their own rounding (design note 003)."""
UNITS: Mapping[str, float] = MappingProxyType({"float32": FLOAT32_UNIT, "real": REAL_UNIT})
"""Unit roundoff of the evaluations that an answer speaks of, by `EngineConfig.arithmetic`."""
FUSED_ROUNDINGS = 8
"""Roundings granted to every value beyond its own sum: what an evaluator may do when it fuses scales into weights."""
TINY = 1e-30
"""More than one float32 operation loses where it underflows, operands up to 1e15 included whose factor underflowed when
it was multiplied with another one beforehand."""
SMOOTH_ROUNDING = 2.0**-20
"""Granted to sigmoid and tanh, whose float32 forms no standard bounds: ONNX Runtime's were seen off by up to 3.2e-7."""
LARGEST_SLACK = 1e25
"""A slack is at least 9 float32 units of what the sums of one sign reach: below this no float32 sum can overflow, nor
one of those that were taken together, which may have been 2^20 times as large (`rewrite.HARMLESS`)."""
INPUT_SLACK = 2.0**-44
"""Share of an input's magnitude that pays for float64 rounding where a backward pass meets the box."""
SUM_ROUNDING = 2.0**-50
"""More than one float64 addition may be off, of the sizes added."""


def rounding_slack(op: Op, operands: list[Bounds], unit: float) -> Tensor | None:
    """Returns how far an operation's computed value may be from the exact one, elementwise; None where it is exact.

    Guarantees this for operands within their bounds, in the standard model with unit roundoff `unit`.

    Args:
        op: the operation.
        operands: bounds of its computed operands.
        unit: `FLOAT32_UNIT`, or `REAL_UNIT` for exact values, of which bounds in float64 are to hold.
    """
    if isinstance(op, Conv | Linear):
        terms = op.weight[0].numel()
        bias = bias_magnitude(op)
        total = replace(op, weight=op.weight.abs(), bias=bias).forward(magnitude(operands[0]))
        return _grown(terms + op.roundings + FUSED_ROUNDINGS, unit) * total + terms * TINY
    if isinstance(op, Scale):
        total = op.factor.abs() * magnitude(operands[0]) + bias_magnitude(op)
        return _grown(1 + op.roundings + FUSED_ROUNDINGS, unit) * total + TINY
    if isinstance(op, Add):
        total = magnitude(operands[0]) + magnitude(operands[1])
        return _grown(2 + op.roundings + FUSED_ROUNDINGS, unit) * total + TINY
    if isinstance(op, Relu) and op.slope is not None and op.linear is not None and op.intercept is not None:
        total = op.slope.abs() * magnitude(operands[0]) + op.intercept.abs()
        return torch.where(op.linear, _grown(3, unit) * total + 3 * TINY, torch.zeros_like(total))
    if isinstance(op, Smooth):
        return torch.full_like(operands[0].lb, SMOOTH_ROUNDING * unit / FLOAT32_UNIT)
    return None


def _grown(roundings: int, unit: float) -> float:
    """Returns `roundings * unit`, enlarged for second order and for our own float64 arithmetic."""
    return roundings * unit * (1.001 + 2.0 * roundings * unit)


def magnitude(bounds: Bounds) -> Tensor:
    """Returns the largest size within bounds, elementwise."""
    return torch.maximum(bounds.lb.abs(), bounds.ub.abs())


def input_slack(box: Box) -> Tensor:
    """Returns the inputs' share, `(batch, *input_shape)`."""
    return INPUT_SLACK * torch.maximum(box.lower.abs(), box.upper.abs())


def sum_share(outputs: int) -> float:
    """Returns the share of `|C| |y|` that pays for summing up the coefficients of a margin `C y` over so many outputs.

    Outputs may be copies of one value; its coefficient is then a sum, which may round more than what is left of it.
    """
    return (outputs + FUSED_ROUNDINGS) * SUM_ROUNDING


def widened(bounds: Bounds, slack: Tensor | None) -> Bounds:
    """Returns bounds of the computed value from bounds of the exact one."""
    return bounds if slack is None else Bounds(bounds.lb - slack, bounds.ub + slack)
