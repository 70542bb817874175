"""Rankings: the thesis' worked example, ties, and what cannot be ranked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.domain import UsageError
from harness.grafting.ranking import Ranking, rank

# Thesis, table 3.1. It prints 0.4 for the second neuron under norank, which its own formula contradicts: 10/40 = 0.25.
TABLE_3_1 = [10, 20, 20, 50, 50, 50]


@pytest.mark.parametrize(
    ("ranking", "expected"),
    [
        (Ranking.NORANK, [0, 0.25, 0.25, 1, 1, 1]),
        (Ranking.MIN, [0, 1 / 3, 1 / 3, 1, 1, 1]),
        (Ranking.DENSE, [0, 0.5, 0.5, 1, 1, 1]),
        (Ranking.ORDINAL, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    ],
)
def test_table_3_1(ranking: Ranking, expected: list[float]) -> None:
    assert rank(TABLE_3_1, ranking).tolist() == np.array(expected, np.float32).tolist()


@pytest.mark.parametrize("ranking", [Ranking.NORANK, Ranking.MIN, Ranking.DENSE])
def test_equal_scores_are_all_zero(ranking: Ranking) -> None:
    assert rank([3.0, 3.0, 3.0], ranking).tolist() == [0, 0, 0]


@given(scores=st.lists(st.floats(0, 1e6, width=32), min_size=2, max_size=40), ranking=st.sampled_from(Ranking))
def test_ranks_span_the_unit_interval_and_keep_the_order(scores: list[float], ranking: Ranking) -> None:
    ranks = rank(scores, ranking)
    values = np.array(scores, np.float32)
    assert ranks.dtype == np.float32
    assert ranks.min() == 0
    if len(set(values.tolist())) > 1:
        assert ranks.max() == 1
    order = np.argsort(values, kind="stable")
    assert (np.diff(ranks[order]) >= 0).all()
    if ranking is not Ranking.ORDINAL:
        same = values[order][1:] == values[order][:-1]
        assert (np.diff(ranks[order])[same] == 0).all()


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [1.0, float("inf")]])
def test_scores_that_cannot_be_ranked(scores: list[float]) -> None:
    with pytest.raises(UsageError):
        rank(scores, Ranking.MIN)
