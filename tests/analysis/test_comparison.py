from __future__ import annotations

import pytest

from harness.analysis.comparison import (
    Comparison,
    Entry,
    PairPoint,
    cactus,
    chosen_pairs,
    compare,
    missing_rows,
    pair_points,
    solved_table,
    unique_solves,
)
from harness.domain import Verdict, WitnessVerdict

SAT, UNSAT, TIMEOUT, ERROR = Verdict.SAT, Verdict.UNSAT, Verdict.TIMEOUT, Verdict.ERROR
CORRECT = WitnessVerdict.CORRECT


def entry(
    tool: str,
    key: str,
    verdict: Verdict,
    seconds: float = 1.0,
    witness: WitnessVerdict | None = None,
    said: Verdict | None = None,
    limit_s: float | None = 10.0,
) -> Entry:
    shown = CORRECT if witness is None and verdict is SAT else witness
    return Entry(tool, key, f"name of {key}", verdict, said or verdict, seconds, limit_s, shown)


@pytest.fixture
def three() -> Comparison:
    return compare(
        [
            entry("a", "p", UNSAT, 2.0),
            entry("a", "q", TIMEOUT, 10.0),
            entry("a", "r", UNSAT, 3.0),
            entry("b", "p", UNSAT, 4.0),
            entry("b", "q", SAT, 1.0),
            entry("b", "r", SAT, 5.0),
            entry("c", "p", ERROR, 0.5),
        ],
        ("c", "d"),
    )


def test_the_solved_table(three: Comparison) -> None:
    assert three.tools == ("c", "d", "a", "b")
    lines = {row.tool: row for row in solved_table(three)}
    assert list(lines) == ["b", "a", "c", "d"]
    assert (lines["b"].sat, lines["b"].unsat, lines["b"].solved, lines["b"].seconds) == (2, 1, 3, 10.0)
    assert (lines["a"].unsat, lines["a"].wrong, lines["a"].timeout, lines["a"].seconds) == (1, 1, 1, 2.0)
    assert (lines["c"].error, lines["c"].missing, lines["c"].solved) == (1, 2, 0)
    assert (lines["d"].missing, lines["d"].solved) == (3, 0)
    assert [row.unique for row in solved_table(three)] == [2, 0, 0, 0]


def test_unique_and_missing(three: Comparison) -> None:
    assert unique_solves(three) == {"a": (), "b": ("name of q", "name of r"), "c": (), "d": ()}
    assert missing_rows(three)["c"] == ("name of q", "name of r")
    assert missing_rows(three)["a"] == ()


def test_times_are_of_solved_instances_and_else_the_limits(three: Comparison) -> None:
    assert cactus(three, "b") == [1.0, 4.0, 5.0]
    assert cactus(three, "a") == [2.0]  # the refuted proof is none
    assert pair_points(three, "a", "b") == [
        PairPoint("name of p", 2.0, 4.0, True, True),
        PairPoint("name of q", 10.0, 1.0, False, True),
        PairPoint("name of r", 10.0, 5.0, False, True),
    ]
    unknown = compare([entry("a", "p", TIMEOUT, 70.0, limit_s=None), entry("b", "p", UNSAT, 3.0)])
    assert pair_points(unknown, "b", "a") == [PairPoint("name of p", 3.0, 70.0, True, False)]


def test_a_conflict_says_whose_counterexample_replays(three: Comparison) -> None:
    (found,) = three.conflicts
    assert (found.name, found.unsat_by, found.sat_by, found.proved) == ("name of r", ("a",), {"b": CORRECT}, True)


@pytest.mark.parametrize("witness", [None, *WitnessVerdict])
def test_a_disagreement_is_a_conflict_unless_the_counterexample_is_known_to_prove_nothing(
    witness: WitnessVerdict | None,
) -> None:
    verdict = SAT if witness is CORRECT else ERROR
    both = compare([entry("a", "p", UNSAT), entry("b", "p", verdict, witness=witness, said=SAT)])
    assert len(both.disagreements) == 1
    expected = witness in (None, CORRECT, WitnessVerdict.UNSUPPORTED)
    assert bool(both.conflicts) is expected
    assert both.is_solved("a", "p") is (witness is not CORRECT)


def test_a_late_proof_and_a_clean_check_count_in_a_conflict() -> None:
    late = entry("a", "p", TIMEOUT, said=UNSAT)
    clean = Entry("b", "p", "p", SAT, None, 0.0, 10.0, CORRECT)
    assert compare([late, clean]).conflicts[0].unsat_by == ("a",)


def test_one_tool_contradicts_itself_in_a_second_row_only_by_its_first() -> None:
    assert compare([entry("a", "p", UNSAT), entry("a", "p", SAT)]).disagreements == ()


def test_the_pairs_that_are_drawn() -> None:
    few = compare([entry(tool, "p", UNSAT, k) for k, tool in enumerate("dcba")])
    assert len(chosen_pairs(few)) == 6
    many = compare([entry(tool, "p", UNSAT, k) for k, tool in enumerate("edcba")])
    assert chosen_pairs(many) == [("e", "d"), ("e", "c"), ("e", "b"), ("e", "a")]
