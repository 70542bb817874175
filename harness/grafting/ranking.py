"""Rankings: raw scores of all neurons to comparable numbers in [0, 1], in float32 like the published masks.

The four rankings of the thesis (section 3.4). Float32 matters: in float64 the `ordinal` mask of the published
networks comes out differently, because products of ranks tie in one type and not in the other.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.domain import UsageError


class Ranking(StrEnum):
    """How scores become numbers in [0, 1]."""

    NORANK = "norank"
    """No ranking: scores scaled linearly; distances between scores count."""
    MIN = "min"
    """Competition ranking: ties share the lowest rank of their group, gaps follow."""
    DENSE = "dense"
    """Ties share a rank, and no gap follows."""
    ORDINAL = "ordinal"
    """Every score its own rank; ties in the order of the neurons."""


def rank(scores: ArrayLike, ranking: Ranking) -> NDArray[np.float32]:
    """Returns the ranked scores: float32, the smallest score at 0, the largest at 1, order kept.

    Scores that are all equal are all 0 (but for `ORDINAL`, which always tells neurons apart).

    Args:
        scores: one finite number a neuron, `(neurons,)`; taken as float32. All neurons of the network at once:
            ranking layer by layer is another method.
        ranking: which ranking.

    Raises:
        UsageError: a score is not a finite number, or there is none.
    """
    values = np.asarray(scores, np.float32).ravel()
    if not values.size:
        raise UsageError("there are no scores to rank: the network has no neurons that can be grafted")
    finite = np.isfinite(values)
    if not finite.all():
        raise UsageError(f"score {int(np.argmin(finite))} is not a finite number; compute the scores again")
    if ranking is Ranking.NORANK:
        return _to_unit(values)
    if ranking is Ranking.ORDINAL:
        ranks = np.empty(values.size, np.int64)
        ranks[np.argsort(values, kind="stable")] = np.arange(values.size)
    else:
        _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
        ranks = group if ranking is Ranking.DENSE else (np.cumsum(sizes) - sizes)[group]
    return _to_unit(ranks.astype(np.float32))


def _to_unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted: NDArray[np.float32] = values - values.min()
    top = shifted.max()
    if top > 0:
        shifted /= top
    return shifted
