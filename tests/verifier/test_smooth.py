"""Lines around tanh and sigmoid hold in real arithmetic on every kind of interval, and are tight where known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from harness.verifier.graph import SmoothKind
from harness.verifier.smooth import smooth_lines

KINDS: tuple[SmoothKind, ...] = ("tanh", "sigmoid")
ENDS = [0.0, 5e-324, 1e-300, 1e-30, 1e-17, 1e-9, 1e-4, 0.1, 0.5, 0.66, 1.0, 2.0, 3.5, 9.0, 18.0, 19.0, 37.0, 40.0, 60.0,
        400.0, 710.0, 750.0, 1e5, 1e15, 1e30]  # fmt: skip
LONG = np.longdouble
needs_long = pytest.mark.skipif(
    bool(np.finfo(LONG).eps > 1e-18), reason="this machine has no floating-point numbers longer than double"
)


def intervals() -> tuple[torch.Tensor, torch.Tensor]:
    """Returns all intervals between the ends of either sign, narrow ones at each end, and random ones."""
    signed = np.unique([sign * end for end in ENDS for sign in (-1, 1)])
    low, high = np.meshgrid(signed, signed)
    random = np.random.default_rng(0)
    drawn = np.sort(random.normal(0, 1, (2, 500)) * 10 ** random.uniform(-3, 3, 500), axis=0)
    narrow = random.normal(0, 5, 300)
    widths = 10.0 ** random.uniform(-17, -6, 300)
    pairs = [
        np.stack([low, high])[:, low <= high],
        drawn,
        np.stack([signed, np.nextafter(signed, np.inf)]),
        np.stack([narrow, narrow + widths]),
    ]
    both = torch.from_numpy(np.concatenate(pairs, 1))
    return both[0], both[1]


def exact(kind: SmoothKind, x: NDArray[np.longdouble]) -> NDArray[np.longdouble]:
    result: NDArray[np.longdouble] = np.tanh(x) if kind == "tanh" else (1 + np.tanh(x / 2)) / 2
    return result


def points(low: NDArray[np.longdouble], high: NDArray[np.longdouble]) -> NDArray[np.longdouble]:
    """Returns points of each interval, `(points, intervals)`: evenly spread, close to its ends, and close to zero."""
    even = low + (high - low) * np.linspace(0, 1, 61, dtype=LONG)[:, None]
    steps = np.concatenate([[0], 10.0 ** np.linspace(-20, 4, 49)]).astype(LONG)[:, None]
    near = np.concatenate([low + steps, high - steps, steps + 0 * low, 0 * low - steps])
    clipped: NDArray[np.longdouble] = np.clip(np.concatenate([even, near]), low, high)
    return clipped


@needs_long
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_lines_enclose_the_function(kind: SmoothKind, dtype: torch.dtype) -> None:
    low, high = (end.to(dtype) for end in intervals())
    lines = smooth_lines(kind, low, high)
    assert all(bool(torch.isfinite(part).all()) for part in lines)
    assert all(part.dtype == dtype for part in lines)
    lower, upper, below, above = (part.double().numpy().astype(LONG) for part in lines)
    x = points(low.double().numpy().astype(LONG), high.double().numpy().astype(LONG))
    y = exact(kind, x)
    # Of the comparison's own rounding (2^-64) nothing is left beside the margin of 16 eps.
    assert float((lower * x + below - y).max()) <= 0
    assert float((y - upper * x - above).max()) <= 0


@needs_long
@pytest.mark.parametrize("kind", KINDS)
def test_the_function_itself_is_as_exact_as_it_is_trusted_to_be(kind: SmoothKind) -> None:
    x = torch.from_numpy(np.random.default_rng(1).normal(0, 1, 200_000) * 10 ** np.random.default_rng(2).uniform(-6, 3))
    value = (torch.tanh(x) if kind == "tanh" else torch.sigmoid(x)).numpy().astype(LONG)
    assert float(np.abs(value - exact(kind, x.numpy().astype(LONG))).max()) <= 1.0 * np.finfo(np.float64).eps


@pytest.mark.parametrize("kind", KINDS)
def test_the_lines_are_tight(kind: SmoothKind) -> None:
    """The gap between the lines is that of the best secants and tangents, from a search over slopes."""
    function = torch.tanh if kind == "tanh" else torch.sigmoid
    for low, high in ((-1.0, 2.0), (-3.0, 0.5), (0.2, 3.0), (-4.0, -1.0), (-0.1, 0.1), (-1e30, 1e30), (-30.0, 1.0)):
        a, b = torch.tensor([low]).double(), torch.tensor([high]).double()
        lower, upper, below, above = smooth_lines(kind, a, b)
        x = torch.cat([torch.linspace(low, high, 20_001).double(), torch.linspace(-60, 60, 20_001).double()]).clamp(
            low, high
        )
        y = function(x)
        touching = float((upper * x + above - y).min()), float((y - lower * x - below).min())
        assert max(touching) < 1e-6
        # Through the far end or, where the function is bent one way only, at two ends or a point inside.
        ends = torch.cat([a, b])
        gaps = (upper * ends + above - function(ends)).abs().min(), (function(ends) - lower * ends - below).abs().min()
        if low < 0 < high:
            assert float(max(gaps)) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_an_interval_that_is_not_known_gets_lines_that_hold_everywhere(kind: SmoothKind) -> None:
    ends = torch.tensor([-torch.inf, -torch.inf, 0.0, torch.nan, 0.0, 1.0], dtype=torch.float64)
    others = torch.tensor([torch.inf, 1.0, torch.inf, 1.0, torch.nan, 0.0], dtype=torch.float64)
    lower, upper, below, above = smooth_lines(kind, ends, others)
    assert not bool(lower.any() or upper.any())
    assert bool((below <= (-1 if kind == "tanh" else 0)).all())
    assert bool((above >= 1).all())
