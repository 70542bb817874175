"""Paired differences: their intervals, their tests, and what is said of them."""

from __future__ import annotations

import itertools
import math

import pytest

from harness.analysis.paired import PairedDifference, differences_of_pairs
from harness.analysis.statistics import holm, least_p, paired_interval
from harness.analysis.table import ResultRow
from harness.domain import Stage, Verdict

GOOD, BAD = Verdict.UNSAT, Verdict.TIMEOUT


def rows_of(both: int, lost: int, gained: int, neither: int, target: str = "b") -> list[ResultRow]:
    kinds = [(GOOD, GOOD)] * both + [(GOOD, BAD)] * lost + [(BAD, GOOD)] * gained + [(BAD, BAD)] * neither
    return [
        ResultRow(name, index, verdict)
        for index, pair in enumerate(kinds)
        for name, verdict in zip(("a", target), pair, strict=True)
    ]


def difference(rows: list[ResultRow], metric: str = "VA") -> PairedDifference:
    (found,) = differences_of_pairs(rows, [("a", "b")], [metric])
    return found


def test_counts_are_over_the_inputs_that_both_have() -> None:
    rows = [*rows_of(3, 1, 2, 4), ResultRow("a", 90, GOOD), ResultRow("b", 91, GOOD), ResultRow("b", 92, BAD)]
    found = difference(rows)
    assert (found.both, found.lost, found.gained, found.n, found.unpaired) == (3, 1, 2, 10, 3)
    assert found.difference == pytest.approx(10.0)


def test_each_figure_counts_its_own_sets() -> None:
    rows = [
        *(ResultRow("a", index, Verdict.UNSAT) for index in range(4)),
        ResultRow("b", 0, Verdict.SAT, Stage.CLEAN),
        ResultRow("b", 1, Verdict.SAT, Stage.ATTACK),
        ResultRow("b", 2, Verdict.TIMEOUT),
        ResultRow("b", 3, Verdict.UNSAT),
    ]
    assert [difference(rows, metric).lost for metric in ("SA", "RA", "VA")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("lost", "gained", "words"),
    [
        (0, 0, "none of 40 inputs changed"),
        (0, 5, "within noise: only 5 of 40 inputs changed, too few to tell"),
        (0, 6, "more than noise (p = 0.031)"),
        (4, 9, "within noise (p = 0.27)"),
    ],
)
def test_words_say_whether_a_change_may_be_chance(lost: int, gained: int, words: str) -> None:
    found = difference(rows_of(10, lost, gained, 30 - lost - gained))
    assert found.words.startswith(words)
    assert found.to_json()["words"] == found.words


def test_no_common_input_is_said() -> None:
    found = difference([ResultRow("a", 0, GOOD), ResultRow("b", 1, GOOD)])
    assert (found.difference, found.interval) == (None, None)
    assert found.words == "no input has a result under both"


def test_more_networks_make_the_test_stricter() -> None:
    rows = rows_of(10, 0, 6, 24)
    third = [ResultRow("c", row.index, row.verdict) for row in rows if row.variant == "b"]
    alone = differences_of_pairs(rows, [("a", "b")], ["VA"])
    assert [one.noise for one in alone] == [False]
    together = differences_of_pairs([*rows, *third], [("a", "b"), ("a", "c")], ["VA"])
    assert [one.p_adjusted for one in together] == [2 * alone[0].p] * 2
    assert [one.noise for one in together] == [True, True]


def test_six_inputs_are_the_least_that_can_tell() -> None:
    assert least_p(5) > 0.05 > least_p(6)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()


@pytest.mark.parametrize(
    ("both", "lost", "gained", "neither"), [(20, 2, 12, 16), (0, 0, 9, 1), (30, 0, 0, 0), (0, 7, 7, 0)]
)
def test_the_interval_holds_the_difference_and_turns_with_the_networks(
    both: int, lost: int, gained: int, neither: int
) -> None:
    n = both + lost + gained + neither
    low, high = paired_interval(both, lost, gained, n)
    assert -100.0 <= low <= 100 * (gained - lost) / n <= high <= 100.0
    assert paired_interval(both, gained, lost, n) == pytest.approx((-high, -low))


@pytest.mark.parametrize("chances", [(0.4, 0.1, 0.3, 0.2), (0.7, 0.05, 0.15, 0.1), (0.25, 0.25, 0.25, 0.25)])
def test_the_interval_covers_the_true_difference_about_as_often_as_it_says(chances: tuple[float, ...]) -> None:
    n, covered = 20, 0.0
    for both, lost, gained in itertools.product(range(n + 1), repeat=3):
        neither = n - both - lost - gained
        if neither < 0:
            continue
        cells = (both, lost, gained, neither)
        ways = math.factorial(n) // math.prod(math.factorial(cell) for cell in cells)
        low, high = paired_interval(both, lost, gained, n)
        if low <= 100 * (chances[2] - chances[1]) <= high:
            covered += ways * math.prod(chance**cell for chance, cell in zip(chances, cells, strict=True))
    assert 0.92 < covered < 0.99


def test_parts_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="no parts of 3 inputs"):
        paired_interval(2, 1, 1, 3)
