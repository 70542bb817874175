"""Paired differences between two networks on the same inputs, and whether they may be chance, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from harness.analysis.statistics import holm, least_p, mcnemar_exact, paired_interval
from harness.analysis.table import ResultRow, by_variant
from harness.domain import ResultSet

LEVEL = 0.05
"""A difference with an adjusted p-value below it is called more than noise."""

PROPERTIES: Mapping[str, frozenset[ResultSet]] = MappingProxyType(
    {
        "SA": frozenset({ResultSet.AT, ResultSet.VS, ResultSet.VF}),
        "RA": frozenset({ResultSet.VS, ResultSet.VF}),
        "VA": frozenset({ResultSet.VS}),
    }
)
"""Figure to the result sets that an input counts for it in; RA is against this run's attack."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """One figure of two networks over the inputs that have a result under both."""

    metric: str
    """A key of `PROPERTIES`."""
    source: str
    target: str
    both: int
    """Inputs that count under both networks."""
    lost: int
    """Inputs that count under `source` only."""
    gained: int
    """Inputs that count under `target` only."""
    n: int
    """Inputs with a result under both networks."""
    unpaired: int
    """Inputs with a result under one of the networks only; they are in no other figure here."""
    adjusted: float | None = None
    """The p-value adjusted for the number of comparisons made together; None: it stands alone."""

    @property
    def p(self) -> float:
        """McNemar's exact two-sided p-value."""
        return mcnemar_exact(self.lost, self.gained)

    @property
    def p_adjusted(self) -> float:
        """The p-value that words go by."""
        return self.p if self.adjusted is None else self.adjusted

    @property
    def difference(self) -> float | None:
        """Target minus source in percentage points; None without a common input."""
        return 100.0 * (self.gained - self.lost) / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The difference's 95 % interval in percentage points; None without a common input."""
        return paired_interval(self.both, self.lost, self.gained, self.n) if self.n else None

    @property
    def noise(self) -> bool:
        """Whether the difference is within noise."""
        return self.p_adjusted >= LEVEL

    @property
    def words(self) -> str:
        """Whether the difference may be chance, as the end of a sentence."""
        changed = self.lost + self.gained
        if not self.n:
            return "no input has a result under both"
        if not changed:
            return f"none of {self.n} inputs changed"
        if not self.noise:
            return f"more than noise ({self._p_in_words})"
        if least_p(changed) >= LEVEL:
            return f"within noise: only {changed} of {self.n} inputs changed, too few to tell ({self._p_in_words})"
        return f"within noise ({self._p_in_words})"

    @property
    def _p_in_words(self) -> str:
        return "p < 0.0001" if self.p_adjusted < 1e-4 else f"p = {self.p_adjusted:.2g}"

    def to_json(self) -> dict[str, Any]:
        """Returns the difference as JSON values, with its interval, its test and its words."""
        return {
            "metric": self.metric,
            "from": self.source,
            "to": self.target,
            "n": self.n,
            "unpaired": self.unpaired,
            "lost": self.lost,
            "gained": self.gained,
            "difference": self.difference,
            "interval": None if self.interval is None else list(self.interval),
            "p": self.p,
            "p_adjusted": self.p_adjusted,
            "noise": self.noise,
            "words": self.words,
        }


def differences_of_pairs(
    rows: Iterable[ResultRow], pairs: Sequence[tuple[str, str]], metrics: Sequence[str] = tuple(PROPERTIES)
) -> tuple[PairedDifference, ...]:
    """Returns the differences of each pair of networks, all figures of one pair together, in order.

    P-values are adjusted over the pairs, for each figure by itself: every further pair that is compared is a further
    chance of a false difference.

    Args:
        rows: at most one row for each variant and input.
        pairs: the network that a difference is from, and the one that it is to; each pair once.
        metrics: keys of `PROPERTIES`.
    """
    table = by_variant(rows)
    found: dict[tuple[str, str, str], PairedDifference] = {}
    for metric in metrics:
        own = [_difference(table.get(a, {}), table.get(b, {}), a, b, metric) for a, b in pairs]
        for one, adjusted in zip(own, holm([one.p for one in own]), strict=True):
            found[one.source, one.target, metric] = replace(one, adjusted=adjusted)
    return tuple(found[a, b, metric] for a, b in pairs for metric in metrics)


def _difference(
    before: Mapping[int, ResultRow], after: Mapping[int, ResultRow], source: str, target: str, metric: str
) -> PairedDifference:
    counts = PROPERTIES[metric]
    common = before.keys() & after.keys()
    first = {index for index in common if before[index].result_set in counts}
    second = {index for index in common if after[index].result_set in counts}
    return PairedDifference(
        metric,
        source,
        target,
        len(first & second),
        len(first - second),
        len(second - first),
        len(common),
        len(before.keys() ^ after.keys()),
    )
