"""Shares with their confidence intervals, and the exact test of a paired difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
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

    Under the null hypothesis each discordant input falls on either side with probability 1/2 (McNemar 1947); inputs
    that agree carry no information.

    Args:
        left: inputs with the property under the first network only.
        entered: inputs with the property under the second network only.
    """
    if left < 0 or entered < 0:
        raise ValueError(f"counts cannot be negative: {left}, {entered}")
    n = left + entered
    tail = sum(math.comb(n, k) for k in range(min(left, entered) + 1))
    return float(min(1.0, 2 * tail / (1 << n)))


def least_p(discordant: int) -> float:
    """Returns the smallest p-value that McNemar's exact test can give with so many discordant inputs.

    With fewer than six it is above 0.05, however the inputs fall: nothing can be concluded then.
    """
    return mcnemar_exact(0, discordant)


def paired_interval(both: int, left: int, entered: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns an interval of a paired difference of shares, second minus first, in percentage points.

    Wilson's intervals of both shares are combined under the pairs' correlation (Newcombe 1998, paired data, method 10),
    so it stays within [-100, 100] and also makes sense where few inputs differ. It need not agree with McNemar's exact
    test in every close case: that one conditions on the discordant inputs.

    Args:
        both: inputs with the property under both networks.
        left: inputs with it under the first network only.
        entered: inputs with it under the second network only.
        n: all inputs with a result under both, at least 1.
        confidence: coverage, between 0 and 1.
    """
    neither = n - both - left - entered
    if min(both, left, entered, neither) < 0:
        raise ValueError(f"{both}, {left} and {entered} are no parts of {n} inputs")
    first, second = 100.0 * (both + left) / n, 100.0 * (both + entered) / n
    low1, high1 = wilson(both + left, n, confidence)
    low2, high2 = wilson(both + entered, n, confidence)
    phi = _correlation(both, left, entered, neither)

    def reach(up: float, down: float) -> float:
        return math.sqrt(max(0.0, up * up - 2 * phi * up * down + down * down))

    difference = second - first
    return difference - reach(high1 - first, second - low2), difference + reach(first - low1, high2 - second)


def _correlation(both: int, left: int, entered: int, neither: int) -> float:
    """Returns Newcombe's continuity-corrected estimate of the pairs' correlation; 0 where a margin is empty."""
    margins = (both + left) * (entered + neither) * (both + entered) * (left + neither)
    if not margins:
        return 0.0
    product = float(both * neither - left * entered)
    if product > 0:
        product = max(product - (both + left + entered + neither) / 2, 0.0)
    return product / math.sqrt(margins)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Returns the p-values adjusted for their number, in the same order (Holm 1979).

    To call a difference real where its adjusted value is below 0.05 errs in at most 5 % of all families of tests,
    whatever their dependence.
    """
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    adjusted = [1.0] * len(p_values)
    worst = 0.0
    for rank, k in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[k]))
        adjusted[k] = worst
    return tuple(adjusted)
