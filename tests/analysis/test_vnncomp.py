from __future__ import annotations

import pytest

from harness.analysis.vnncomp import Answer, ScoredBenchmark, ToolScore, in_time, instance_points, score
from harness.domain import Verdict, WitnessVerdict
from harness.judging.replay import Rules

CORRECT, ON_TOLERANCE = WitnessVerdict.CORRECT, WitnessVerdict.CORRECT_UP_TO_TOLERANCE
WRONG = (
    WitnessVerdict.SPEC_NOT_VIOLATED,
    WitnessVerdict.EXEC_DOESNT_MATCH,
    WitnessVerdict.NO_CE,
    WitnessVerdict.WRONG_SHAPE,
    WitnessVerdict.MALFORMED_CE,
)
SINCE_2025 = (Rules.Y2026, Rules.Y2025_SMALL, Rules.Y2025_ZERO)


def unsat(run_s: float = 1.0) -> Answer:
    return Answer(Verdict.UNSAT, run_s)


def sat(witness: WitnessVerdict | None = CORRECT, run_s: float = 1.0) -> Answer:
    return Answer(Verdict.SAT, run_s, witness)


def said(verdict: Verdict) -> Answer:
    return Answer(verdict, 1.0)


def benchmark(name: str = "b", limit: float | None = None, **answers: list[Answer | None]) -> ScoredBenchmark:
    size = len(next(iter(answers.values())))
    return ScoredBenchmark(name, tuple(f"i{k}" for k in range(size)), answers, [limit] * size)


@pytest.mark.parametrize("rules", SINCE_2025)
@pytest.mark.parametrize(
    ("answers", "points"),
    [
        ({"a": unsat()}, {"a": 10}),
        ({"a": sat()}, {"a": 10}),
        ({"a": unsat(), "b": sat()}, {"a": -150, "b": 10}),
        ({"a": unsat(), "b": sat(ON_TOLERANCE)}, {"a": 10, "b": 10}),
        ({"a": unsat(), "b": sat(ON_TOLERANCE), "c": sat()}, {"a": -150, "b": 10, "c": 10}),
        ({"a": unsat(), "b": sat(WitnessVerdict.UNSUPPORTED)}, {"a": 10, "b": 0}),
        ({"a": unsat(), "b": sat(None)}, {"a": 10, "b": 0}),
        ({"a": sat(), "b": sat(WitnessVerdict.NO_CE)}, {"a": 10, "b": -150}),
        ({"a": said(Verdict.TIMEOUT), "b": said(Verdict.UNKNOWN), "c": said(Verdict.ERROR)}, {"a": 0, "b": 0, "c": 0}),
        *(({"a": unsat(), "b": sat(wrong)}, {"a": 10, "b": -150}) for wrong in WRONG),
    ],
)
def test_points_since_2025(rules: Rules, answers: dict[str, Answer], points: dict[str, int]) -> None:
    assert instance_points(rules, answers) == points


@pytest.mark.parametrize(
    ("answers", "points"),
    [
        ({"a": unsat(), "b": sat()}, {"a": -100, "b": 10}),
        ({"a": unsat(), "b": sat(ON_TOLERANCE)}, {"a": -100, "b": 10}),  # one class in 2022
        ({"a": unsat(), "b": sat(WitnessVerdict.NO_CE)}, {"a": 10, "b": -100}),
        ({"a": sat(WitnessVerdict.NO_CE)}, {"a": 10}),  # looked at in a conflict only
        ({"a": unsat(), "b": sat(), "c": sat(WitnessVerdict.NO_CE)}, {"a": -100, "b": 10, "c": 10}),
        ({"a": sat(None)}, {"a": 0}),
    ],
)
def test_points_of_2022(answers: dict[str, Answer], points: dict[str, int]) -> None:
    assert instance_points(Rules.Y2022, answers) == points


def test_2022_believes_what_nobody_contradicts_where_nothing_was_checked() -> None:
    assert instance_points(Rules.Y2022, {"a": sat(None)}, checked=False) == {"a": 10}
    assert instance_points(Rules.Y2022, {"a": sat(None), "b": unsat()}, checked=False) == {"a": 0, "b": 10}
    assert instance_points(Rules.Y2026, {"a": sat(None)}, checked=False) == {"a": 0}


def test_percents_are_of_the_best_and_never_below_zero() -> None:
    scores = score(
        Rules.Y2025_SMALL,
        [
            benchmark("two", a=[unsat(), unsat(), unsat()], b=[unsat(), None, sat(WitnessVerdict.NO_CE)]),
            benchmark("one", a=[unsat(), None, None], b=[unsat(), unsat(), unsat()], c=[None, None, None]),
            benchmark("none", a=[sat(WitnessVerdict.NO_CE)], b=[sat(WitnessVerdict.NO_CE)]),
        ],
    )
    assert list(scores.benchmarks) == ["none", "one", "two"]
    assert scores.benchmarks["two"] == {"a": ToolScore(3, 0, 0, 0, 30, 100.0), "b": ToolScore(1, 0, 0, 1, -140, 0.0)}
    assert scores.benchmarks["one"] == {
        "b": ToolScore(3, 0, 0, 0, 30, 100.0),
        "a": ToolScore(1, 0, 0, 0, 10, pytest.approx(100 / 3)),
    }
    assert [line.percent for line in scores.benchmarks["none"].values()] == [0.0, 0.0]
    assert scores.totals == {"a": pytest.approx(100 + 100 / 3), "b": 100.0, "c": 0.0}


def test_a_benchmark_that_nobody_solves_has_no_table() -> None:
    assert score(Rules.Y2026, [benchmark(a=[said(Verdict.TIMEOUT)])]).benchmarks == {}


def test_late_answers_of_2026_are_timeouts_and_prove_nothing() -> None:
    late = benchmark(limit=5.0, a=[unsat(5.0), unsat(5.1)], b=[sat(CORRECT, 5.1), sat(CORRECT, 1.0)])
    assert [answer and answer.verdict for answer in in_time(late).answers["b"]] == [Verdict.TIMEOUT, Verdict.SAT]
    lines = score(Rules.Y2026, [late]).benchmarks["b"]
    assert (lines["a"].points, lines["b"].points) == (10, 10)
    older = score(Rules.Y2025_SMALL, [late]).benchmarks["b"]
    assert (older["a"].points, older["b"].points) == (-300, 20)


def test_the_bonus_of_2022() -> None:
    times = {"a": 10.0, "b": 10.15, "c": 12.0, "d": 12.1, "e": 30.0}
    scores = score(Rules.Y2022, [benchmark(**{tool: [unsat(seconds)] for tool, seconds in times.items()})])
    line = scores.benchmarks["b"]
    assert {tool: line[tool].points for tool in times} == {"a": 12, "b": 12, "c": 10, "d": 10, "e": 10}
    assert [line[tool].fastest for tool in times] == [1, 1, 0, 0, 0]
    alone = score(Rules.Y2022, [benchmark(a=[unsat(10)], b=[unsat(11)], c=[unsat(11.1)], d=[unsat(11.3)])])
    assert {tool: one.points for tool, one in alone.benchmarks["b"].items()} == {"a": 12, "b": 11, "c": 11, "d": 10}


def test_times_of_2022_are_without_overhead_and_at_least_a_second() -> None:
    answers = benchmark(a=[unsat(9.0)], b=[unsat(0.1)], c=[unsat(1.3)])
    points = score(Rules.Y2022, [answers], {"a": 8.5}).benchmarks["b"]
    assert {tool: line.points for tool, line in points.items()} == {"a": 12, "b": 12, "c": 10}


def test_only_right_answers_are_fast() -> None:
    answers = benchmark(a=[unsat(1.0)], b=[sat(CORRECT, 50.0)], c=[said(Verdict.TIMEOUT)])
    points = score(Rules.Y2022, [answers]).benchmarks["b"]
    assert (points["a"].points, points["b"].points) == (-100, 12)


def test_conflicts_say_whose_counterexample_is_worth_what() -> None:
    answers = benchmark(a=[unsat(), unsat()], b=[unsat(), sat(WitnessVerdict.NO_CE)], c=[sat(), None])
    first, second = score(Rules.Y2026, [answers]).contradictions
    assert (first.id, first.instance, first.unsat_by, first.sat_by) == (0, "i0", ("a", "b"), {"c": CORRECT})
    assert (first.proved, second.proved) == (True, False)
    assert second.sat_by == {"b": WitnessVerdict.NO_CE}
