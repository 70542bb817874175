"""VNN-COMP's scores: points of each tool on each benchmark, percent of the best, and their sums.

The rules are those of the competitions' scoring code: of 2022 (with a bonus for speed), of 2025 and of 2026. What a
witness is worth is decided elsewhere (`harness.judging.replay`); here its verdict is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.domain import CREDITED, DECIDED, Verdict, WitnessVerdict
from harness.judging.conflicts import puts_in_question, refutes
from harness.judging.replay import Rules

_POINTS = 10

_PENALTY = {Rules.Y2026: -150, Rules.Y2025_SMALL: -150, Rules.Y2025_ZERO: -150, Rules.Y2022: -100}
_FASTEST, _SECOND, _TIE_S, _SHORTEST_S = 2, 1, 0.2, 1.0
"""The bonus of 2022: points, seconds within which two times are equal, and the time that no answer is faster than."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool said of an instance of a competition."""

    verdict: Verdict
    """The tool's own word."""
    run_s: float
    """Wall seconds."""
    witness: WitnessVerdict | None = None
    """What its counterexample is worth, where it answered sat; None: not known."""


@dataclass(frozen=True, slots=True)
class ScoredBenchmark:
    """The answers of all tools to the instances of one benchmark."""

    name: str
    """Without a year."""
    instances: tuple[str, ...]
    """Names; the position is the competition's id."""
    answers: Mapping[str, Sequence[Answer | None]]
    """Tool to its answer for each instance; None where its table has no row."""
    limits: Sequence[float | None]
    """Seconds for each instance; None: not known."""


@dataclass(frozen=True, slots=True)
class ToolScore:
    """A line of the competition's table."""

    verified: int
    """Instances credited as unsat."""
    falsified: int
    """Instances credited as sat."""
    fastest: int
    """Instances on which it was the fastest, ties included; 0 where the rules have no bonus."""
    penalty: int
    """Wrong answers."""
    points: int
    percent: float
    """Of the best tool's points, unrounded; never below 0."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """An instance that was answered both ways."""

    benchmark: str
    id: int
    instance: str
    unsat_by: tuple[str, ...]
    sat_by: Mapping[str, WitnessVerdict | None]
    """Tool to what its counterexample is worth."""

    @property
    def proved(self) -> bool:
        """Whether a counterexample is correct: those who answered unsat are wrong."""
        return refutes(self.sat_by.values())

    @property
    def conflict(self) -> bool:
        """Whether soundness is in question; see `puts_in_question`."""
        return puts_in_question(self.sat_by.values())


@dataclass(frozen=True, slots=True)
class Scores:
    """A competition's tables."""

    benchmarks: Mapping[str, Mapping[str, ToolScore]]
    """Benchmark to tool to its line, best first; without tools that solved nothing of it."""
    totals: Mapping[str, float]
    """Tool to the sum of its percents, best first; every tool that has results."""
    contradictions: tuple[Contradiction, ...]


def score(
    rules: Rules,
    benchmarks: Sequence[ScoredBenchmark],
    overheads: Mapping[str, float] | None = None,
    *,
    checked: bool = True,
) -> Scores:
    """Returns the tables of a competition.

    Args:
        rules: whose.
        benchmarks: answers, with tools in any order.
        overheads: tool to the seconds that 2022 takes off its times; None: nothing.
        checked: whether witnesses were checked at all. The rules of 2022 looked at them only in a conflict: without
            verdicts they believe a sat that nobody contradicts. Under all others a sat without a verdict earns 0.
    """
    tables: dict[str, Mapping[str, ToolScore]] = {}
    totals = {tool: 0.0 for benchmark in benchmarks for tool in benchmark.answers}
    contradictions: list[Contradiction] = []
    for benchmark in sorted(benchmarks, key=lambda one: one.name):
        counted = in_time(benchmark) if rules is Rules.Y2026 else benchmark
        counted = _participating(counted)
        if not counted.answers:
            continue
        table = _table(rules, counted, overheads or {}, checked)
        tables[benchmark.name] = table
        contradictions += find_contradictions(counted)
        for tool, line in table.items():
            totals[tool] += line.percent
    ranked = dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))
    return Scores(tables, ranked, tuple(contradictions))


def in_time(benchmark: ScoredBenchmark) -> ScoredBenchmark:
    """Returns the benchmark with every answer that came after its limit a timeout, as the rules of 2026 have it.

    A late answer earns and loses nothing, and a late counterexample proves nothing.
    """

    def judged(answer: Answer | None, limit: float | None) -> Answer | None:
        if answer is None or limit is None or answer.verdict not in DECIDED or answer.run_s <= limit:
            return answer
        return Answer(Verdict.TIMEOUT, answer.run_s)

    answers = {
        tool: tuple(judged(answer, limit) for answer, limit in zip(row, benchmark.limits, strict=True))
        for tool, row in benchmark.answers.items()
    }
    return replace(benchmark, answers=answers)


def find_contradictions(benchmark: ScoredBenchmark) -> list[Contradiction]:
    """Returns the instances that one tool answered sat and another unsat, in their order."""
    found = []
    for index, name in enumerate(benchmark.instances):
        answers = _of_instance(benchmark, index)
        unsat = tuple(sorted(tool for tool, answer in answers.items() if answer.verdict is Verdict.UNSAT))
        sat = {tool: answer.witness for tool, answer in sorted(answers.items()) if answer.verdict is Verdict.SAT}
        if unsat and sat:
            found.append(Contradiction(benchmark.name, index, name, unsat, sat))
    return found


def instance_points(rules: Rules, answers: Mapping[str, Answer], *, checked: bool = True) -> dict[str, int]:
    """Returns each tool's points for one instance, without a bonus for speed.

    Args:
        rules: whose.
        answers: tool to answer, late ones already timeouts.
        checked: as in `score`.
    """
    return {tool: _points(rules, tool, answers, checked) for tool in answers}


def _points(rules: Rules, tool: str, answers: Mapping[str, Answer], checked: bool) -> int:
    answer = answers[tool]
    if answer.verdict not in DECIDED:
        return 0
    witnesses = [other.witness for other in answers.values() if other.verdict is Verdict.SAT]
    if rules is Rules.Y2022:
        refuted = any(witness in CREDITED for witness in witnesses)
    else:
        refuted = refutes(witnesses)
    if answer.verdict is Verdict.UNSAT:
        return _PENALTY[rules] if refuted else _POINTS
    unchecked_2022 = rules is Rules.Y2022 and not checked
    if answer.witness is WitnessVerdict.UNSUPPORTED or (answer.witness is None and not unchecked_2022):
        return 0
    if rules is Rules.Y2022:
        # Witnesses were looked at in a conflict only, and there a valid one spoke for everyone who answered sat.
        contradicted = any(other.verdict is Verdict.UNSAT for other in answers.values())
        if answer.witness is None and contradicted:
            return 0
        return _PENALTY[rules] if contradicted and not refuted else _POINTS
    return _POINTS if answer.witness in CREDITED else _PENALTY[rules]


def _bonuses(
    answers: Mapping[str, Answer], points: Mapping[str, int], overheads: Mapping[str, float]
) -> dict[str, int]:
    """Returns the bonus of 2022 for speed: 2 for the fastest with the same answer, 1 for the second, ties included."""
    seconds = {tool: max(_SHORTEST_S, answers[tool].run_s - overheads.get(tool, 0.0)) for tool in answers}
    bonuses = dict.fromkeys(answers, 0)
    for verdict in DECIDED:
        times = sorted(seconds[tool] for tool, answer in answers.items() if answer.verdict is verdict)
        for tool, answer in answers.items():
            if answer.verdict is not verdict or points[tool] <= 0:
                continue
            if seconds[tool] < times[0] + _TIE_S:
                bonuses[tool] = _FASTEST
            elif seconds[tool] < times[1] + _TIE_S:
                bonuses[tool] = _SECOND
    return bonuses


def _table(
    rules: Rules, benchmark: ScoredBenchmark, overheads: Mapping[str, float], checked: bool
) -> dict[str, ToolScore]:
    lines = {tool: ToolScore(0, 0, 0, 0, 0, 0.0) for tool in benchmark.answers}
    for index in range(len(benchmark.instances)):
        answers = _of_instance(benchmark, index)
        points = instance_points(rules, answers, checked=checked)
        bonuses = _bonuses(answers, points, overheads) if rules is Rules.Y2022 else dict.fromkeys(answers, 0)
        for tool, answer in answers.items():
            line, credited = lines[tool], points[tool] > 0
            lines[tool] = replace(
                line,
                verified=line.verified + (credited and answer.verdict is Verdict.UNSAT),
                falsified=line.falsified + (credited and answer.verdict is Verdict.SAT),
                fastest=line.fastest + (bonuses[tool] == _FASTEST),
                penalty=line.penalty + (points[tool] < 0),
                points=line.points + points[tool] + bonuses[tool],
            )
    best = max(line.points for line in lines.values())
    ranked = sorted(lines.items(), key=lambda item: (-item[1].points, item[0]))
    return {
        tool: replace(line, percent=max(0.0, 100.0 * line.points / best) if best > 0 else 0.0) for tool, line in ranked
    }


def _participating(benchmark: ScoredBenchmark) -> ScoredBenchmark:
    """Returns the benchmark without the tools that solved nothing of it."""
    answers = {
        tool: row
        for tool, row in benchmark.answers.items()
        if any(answer is not None and answer.verdict in DECIDED for answer in row)
    }
    return replace(benchmark, answers=answers)


def _of_instance(benchmark: ScoredBenchmark, index: int) -> dict[str, Answer]:
    return {tool: answer for tool, row in benchmark.answers.items() if (answer := row[index]) is not None}
