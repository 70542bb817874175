"""How far a float64 bound may be off."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RELATIVE_RADIUS = 1e-9
"""Share of a bound's summed magnitudes that is taken off before it counts as proved.

A sum of m products in float64 is off by at most m * 1.1e-16 of its summed magnitudes; the coefficients themselves come
out of a few nested sums of at most 1e4 terms each. 1e-9 leaves a factor of about a hundred over that. It is an
allowance, not yet a per-network derivation; float32 evaluation of the network itself is not covered by it.
"""


def certified_bounds(lb: NDArray[np.float64], magnitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the bounds minus their error radius; what is not finite proves nothing and becomes -inf."""
    proved = lb - RELATIVE_RADIUS * magnitude
    return np.where(np.isfinite(proved), proved, -np.inf)
