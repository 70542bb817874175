"""Selection: which neurons are grafted, given how unstable and how significant each one is.

A neuron is a good choice when it is unstable (branch and bound would have to split it) and insignificant. Stages
weigh the two differently: early ones follow instability, the last one significance alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.domain import BoolArray, UsageError
from harness.grafting.ranking import Ranking, rank

DEFAULT_GAMMAS = (2.0, 1.5, 1.0, 0.0)
DEFAULT_RATIO = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The chosen neurons."""

    mask: BoolArray
    """`(neurons,)`: True where the neuron becomes linear."""
    stage_picks: tuple[NDArray[np.int32], ...]
    """For each stage the neurons it picked, best first."""

    @property
    def count(self) -> int:
        """Number of chosen neurons."""
        return int(self.mask.sum())


def select(
    significance: ArrayLike,
    instability: ArrayLike,
    *,
    ranking: Ranking = Ranking.NORANK,
    instability_ranking: Ranking | None = None,
    gammas: Sequence[float] = DEFAULT_GAMMAS,
    ratio: float = DEFAULT_RATIO,
    layer_sizes: Sequence[int] | None = None,
) -> Selection:
    """Returns the neurons to graft: about `ratio` of all, the same share from every stage.

    Stage after stage picks the neurons with the largest `gamma * r_u - r_s` among those not picked yet, where r_u and
    r_s are the ranked instability and significance of the whole network (ranked once, not again after a stage). Ties go
    to the neuron that comes first. Each stage takes `round(ratio / stages * neurons)` neurons, halves to even, so
    that the total can miss `ratio * neurons` by a few: 8,316 of CNN-B's 16,634 at one half.

    Args:
        significance: score of each neuron, `(neurons,)`; low means that it can be grafted without much harm.
        instability: count of inputs for which the neuron is unstable, `(neurons,)`.
        ranking: ranking of the significance, and of the instability unless that has its own.
        instability_ranking: ranking of the instability; None: the same.
        gammas: weight of instability, one a stage; infinity means instability alone.
        ratio: share of neurons to pick, in [0, 1].
        layer_sizes: neurons of each layer, to pick the same share in every layer; None picks in the whole network.

    Raises:
        UsageError: lengths that do not fit, a ratio outside [0, 1], gammas that are negative or missing, scores that
            are not finite.
    """
    r_s = rank(significance, ranking)
    r_u = rank(instability, ranking if instability_ranking is None else instability_ranking)
    if r_s.size != r_u.size:
        raise UsageError(
            f"there are {r_s.size} significance scores but {r_u.size} instability scores; use one network's"
        )
    check_plan(gammas, ratio)
    sizes = (r_s.size,) if layer_sizes is None else tuple(int(size) for size in layer_sizes)
    if sum(sizes) != r_s.size or min(sizes) < 0:
        raise UsageError(f"layers of {'+'.join(map(str, sizes))} neurons do not add up to {r_s.size} scores")
    picked = np.zeros(r_s.size, np.bool_)
    picks: list[list[NDArray[np.int32]]] = [[] for _ in gammas]
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        for stage, chosen in enumerate(_stages(r_s[part], r_u[part], gammas, ratio)):
            picks[stage].append(chosen + np.int32(start))
            picked[picks[stage][-1]] = True
        start += size
    return Selection(picked, tuple(np.concatenate(stage) for stage in picks))


def _stages(
    r_s: NDArray[np.float32], r_u: NDArray[np.float32], gammas: Sequence[float], ratio: float
) -> list[NDArray[np.int32]]:
    size = r_s.size
    quota = round(ratio / len(gammas) * size)
    free = np.ones(size, np.bool_)
    picks = []
    for gamma in gammas:
        benefit = r_u.copy() if math.isinf(gamma) else np.float32(gamma) * r_u - r_s
        benefit[~free] = -np.inf
        # Rounding up in every stage can ask for more than there are, as with 6 neurons, 4 stages and ratio 1.
        count = min(quota, int(free.sum()))
        chosen = _largest(benefit, count).astype(np.int32)
        free[chosen] = False
        picks.append(chosen)
    return picks


def _largest(values: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Returns the places of the `count` largest values, largest first, of equal ones the first: a stable sort's head.

    Only what is above the cut is sorted.
    """
    if not count:
        return np.zeros(0, np.intp)
    cut = np.partition(values, values.size - count)[values.size - count]
    above, tied = np.flatnonzero(values > cut), np.flatnonzero(values == cut)
    order = np.argsort(-values[above], kind="stable")
    return np.concatenate([above[order], tied[: count - above.size]])


def check_plan(gammas: Sequence[float], ratio: float) -> None:
    """Raises UsageError unless the ratio is in [0, 1] and there are gammas, none of them negative."""
    if not 0 <= ratio <= 1:
        raise UsageError(f"the ratio of grafted neurons must be in [0, 1], not {ratio}")
    if not gammas:
        raise UsageError("no gammas were given; name at least one stage, as in 2,1.5,1,0")
    for gamma in gammas:
        if not gamma >= 0:
            raise UsageError(f"a gamma must be a number >= 0, not {gamma}")
