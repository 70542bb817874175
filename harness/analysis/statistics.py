"""Shares with their confidence intervals, and the exact test of a paired difference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `n`; the denominator never gets lost."""

    count: int
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.count <= self.n:
            raise ValueError(f"{self.count} of {self.n} is no share")

    @property
    def percent(self) -> float | None:
        """The share in percent; None of nothing."""
        return 100.0 * self.count / self.n if self.n else None


def wilson(count: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns Wilson's score interval of a binomial share, in percent, within [0, 100].

    Unlike the normal approximation it stays inside the range and keeps its coverage for small n and for shares near 0
    or 1 (Wilson 1927; Brown, Cai, DasGupta 2001).

    Args:
        count: successes; a fraction is accepted, for shares that were published rounded.
        n: trials, at least 1.
        confidence: coverage, between 0 and 1.
    """
    if n < 1 or not 0 <= count <= n or not 0 < confidence < 1:
        raise ValueError(f"no interval of {count} out of {n} at {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = count / n
    scale = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    radius = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    # The ends are exact at 0 and n successes; rounding must not push them past the share itself.
    low = 0.0 if count == 0 else centre - radius
    high = 1.0 if count == n else centre + radius
    return 100.0 * low, 100.0 * high


def mcnemar_exact(left: int, entered: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test for a paired difference.

    Args:
        left: inputs with the property under the first network only.
        entered: inputs with the property under the second network only.

    Under the null hypothesis each discordant input falls on either side with probability 1/2 (McNemar 1947); inputs
    that agree carry no information.
    """
    if left < 0 or entered < 0:
        raise ValueError(f"counts cannot be negative: {left}, {entered}")
    n = left + entered
    tail = sum(math.comb(n, k) for k in range(min(left, entered) + 1))
    return float(min(1.0, 2 * tail / (1 << n)))
