"""Intervals and the paired test, against figures from the literature and from brute force."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.statistics import Share, mcnemar_exact, wilson


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [
        (81, 263, 25.53, 36.62),  # Newcombe 1998, table I, method 3
        (15, 148, 6.24, 16.05),
        (0, 20, 0.0, 16.11),
        (1, 29, 0.61, 17.18),
    ],
)
def test_wilson_agrees_with_newcombe(count: int, n: int, low: float, high: float) -> None:
    assert wilson(count, n) == pytest.approx((low, high), abs=0.006)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_within_the_range(case: tuple[int, int]) -> None:
    count, n = case
    low, high = wilson(count, n)
    assert 0.0 <= low <= 100.0 * count / n <= high <= 100.0
    mirrored = wilson(n - count, n)
    assert mirrored == pytest.approx((100 - high, 100 - low), abs=1e-9)


def test_wilson_narrows_with_more_inputs_and_widens_with_confidence() -> None:
    few, many, sure = wilson(40, 100), wilson(4000, 10000), wilson(40, 100, 0.99)
    assert many[1] - many[0] < few[1] - few[0] < sure[1] - sure[0]


@pytest.mark.parametrize(("count", "n", "confidence"), [(0, 0, 0.95), (5, 4, 0.95), (-1, 4, 0.95), (1, 4, 1.0)])
def test_wilson_refuses_what_is_no_share(count: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="no interval"):
        wilson(count, n, confidence)


@pytest.mark.parametrize(("left", "entered"), list(itertools.product(range(5), range(5))))
def test_mcnemar_equals_the_sum_over_all_assignments(left: int, entered: int) -> None:
    n = left + entered
    extreme = abs(left - entered)
    as_far = sum(abs(2 * sum(signs) - n) >= extreme for signs in itertools.product((0, 1), repeat=n))
    assert mcnemar_exact(left, entered) == pytest.approx(as_far / 2**n)


def test_mcnemar_of_large_counts_is_a_probability() -> None:
    assert 0.0 <= mcnemar_exact(25, 163) < 1e-20
    assert mcnemar_exact(5000, 5000) == 1.0


def test_a_share_of_nothing_has_no_percentage() -> None:
    assert Share(0, 0).percent is None
    assert Share(1, 4).percent == 25.0
    with pytest.raises(ValueError, match="no share"):
        Share(2, 1)
