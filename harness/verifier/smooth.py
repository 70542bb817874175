"""Lines that enclose tanh and sigmoid over intervals, in real arithmetic and not only up to rounding.

A slope is chosen freely; what makes a line valid is its offset, the extreme of `tanh(x) - slope x` over the interval.
That lies at an end of the interval or where the derivative equals the slope, which for tanh has a closed form. So a
slope may be off by any amount: the line gets looser, never wrong. Slopes after Zhang et al. 2018: secants where they
enclose, else tangents through the far end, else tangents at the middle.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.verifier.graph import SmoothKind

MARGIN = 16.0
"""Times eps times (1 + |slope x|): the offset's own rounding. tanh is trusted to 4 eps; the product and the difference
round by half an eps of (1 + |slope x|) each, the closed form below by less than 8 eps."""
BISECTIONS = 30
FAR = 40.0
"""No tangent point is farther out: from there the tangent meets tanh at -1e30 or beyond."""


def smooth_lines(kind: SmoothKind, lb: Tensor, ub: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns lower slope, upper slope, lower offset, upper offset, each of the bounds' shape.

    Guarantees `lower_slope x + lower_offset <= f(x) <= upper_slope x + upper_offset` in real arithmetic for every x in
    [lb, ub], provided that torch's tanh is within 4 eps. Slopes are >= 0. Where a bound is infinite or not a number
    the lines are constants that hold everywhere.

    Args:
        kind: the function.
        lb: lower bounds, any shape, float32 or float64.
        ub: upper bounds, `>= lb`.
    """
    if kind == "tanh":
        return _tanh_lines(lb, ub)
    # sigmoid(x) = (1 + tanh(x / 2)) / 2; halves and quarters are exact unless they underflow
    lower, upper, low, high = _tanh_lines(lb / 2, ub / 2)
    slack = 2 * torch.finfo(lb.dtype).eps
    return lower / 4, upper / 4, (1 + low) / 2 - slack, (1 + high) / 2 + slack


def _tanh_lines(lb: Tensor, ub: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    known = torch.isfinite(lb) & torch.isfinite(ub) & (lb <= ub)
    zero = torch.zeros_like(lb)
    low, high = torch.where(known, lb, zero), torch.where(known, ub, zero)
    upper, above = _upper_line(low, high)
    lower, below = _upper_line(-high, -low)  # tanh is odd
    one = torch.full_like(lb, 1.5)
    return (
        torch.where(known, lower, zero),
        torch.where(known, upper, zero),
        torch.where(known, -below, -one),
        torch.where(known, above, one),
    )


def _upper_line(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    slope = _upper_slope(low, high)
    return slope, _upper_offset(slope, low, high)


def _upper_offset(slope: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Returns at least the maximum of `tanh(x) - slope x` over [low, high], whatever the slope."""
    eps = torch.finfo(slope.dtype).eps
    highest = torch.maximum(torch.tanh(low) - slope * low, torch.tanh(high) - slope * high)
    # For 0 < slope < 1 the only local maximum: tanh(x) = root there, and x has no cancellation in this form.
    inner = slope.clamp(torch.finfo(slope.dtype).tiny, 1)
    root = (1 - inner).sqrt()
    x = torch.log1p(root) - inner.log() / 2
    slack = 64 * eps * x + torch.finfo(slope.dtype).tiny
    inside = (slope > 0) & (slope < 1) & (x + slack >= low) & (x - slack <= high)
    highest = torch.where(inside, torch.maximum(highest, root - inner * x), highest)
    # A slope below the smallest normal number was raised to it; the difference is far below the margin.
    size = torch.maximum(low.abs(), high.abs())
    return highest + MARGIN * eps * (1 + slope.abs() * size)


def _upper_slope(low: Tensor, high: Tensor) -> Tensor:
    """Returns the slope of a tight upper line of tanh: a good choice, of which nothing needs to be proved."""
    at_low, middle = torch.tanh(low), low + (high - low) / 2
    width = high - low
    narrow = width <= torch.finfo(low.dtype).eps ** 0.5 * (1 + middle.abs())
    secant = (torch.tanh(high) - at_low) / torch.where(width > 0, width, torch.ones_like(width))
    secant = torch.where(narrow, _derivative(middle), secant)
    encloses = (high <= 0) | (_derivative(high) >= secant)
    tangent = torch.where(low >= 0, middle, _tangent_point(low, at_low, high))
    return torch.where(encloses, secant, _derivative(tangent)).clamp(0, 1)


def _tangent_point(low: Tensor, at_low: Tensor, high: Tensor) -> Tensor:
    """Returns the d > 0 whose tangent passes just above tanh at `low`, by bisection; for `low < 0 < high`."""
    left, right = torch.zeros_like(low), high.clamp(0, FAR)
    for _ in range(BISECTIONS):
        d = (left + right) / 2
        above = torch.tanh(d) - _derivative(d) * (d - low) >= at_low
        left, right = torch.where(above, left, d), torch.where(above, d, right)
    return right


def _derivative(x: Tensor) -> Tensor:
    """Returns the derivative of tanh, without cancellation far out."""
    decay = torch.exp(-2 * x.abs())
    return 4 * decay / (1 + decay) ** 2
