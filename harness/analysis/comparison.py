"""Several tools on one list of instances: who solved what, when, alone, and who contradicts whom. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from harness.domain import DECIDED, Verdict, WitnessVerdict
from harness.judging.conflicts import puts_in_question, refutes


@dataclass(frozen=True, slots=True)
class Entry:
    """What one tool's results hold of one instance."""

    tool: str
    key: str
    """What the rows of one instance share, whatever the tool."""
    name: str
    """The instance for readers."""
    verdict: Verdict
    """The judged verdict."""
    said: Verdict | None
    """The tool's own word; None where no tool was asked."""
    seconds: float
    """On the clock of the limit."""
    limit_s: float | None
    """Seconds it had; None: not known."""
    witness: WitnessVerdict | None = None
    """What its counterexample is worth; None: it gave none, or nobody looked at it."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An instance that one tool called unsat and another sat."""

    key: str
    name: str
    unsat_by: tuple[str, ...]
    sat_by: Mapping[str, WitnessVerdict | None]
    """Tool to what its counterexample is worth."""

    @property
    def proved(self) -> bool:
        """Whether a counterexample is correct: an unsat is refuted."""
        return refutes(self.sat_by.values())

    @property
    def conflict(self) -> bool:
        """Whether soundness is in question; see `puts_in_question`."""
        return puts_in_question(self.sat_by.values())


@dataclass(frozen=True, slots=True)
class SolvedRow:
    """A tool's line of the table: how its instances ended."""

    tool: str
    sat: int
    unsat: int
    """Without refuted ones."""
    wrong: int
    """Refuted: called unsat, and another tool's counterexample is correct."""
    unknown: int
    timeout: int
    error: int
    missing: int
    """Instances that another tool has a result of, and this one has not."""
    unique: int
    """Instances that no other tool solved."""
    seconds: float
    """Over the solved instances."""

    @property
    def solved(self) -> int:
        """Instances solved, rightly as far as is known."""
        return self.sat + self.unsat


@dataclass(frozen=True, slots=True)
class PairPoint:
    """One instance in the plot of two tools against each other."""

    name: str
    x: float
    """Seconds of the first tool; its limit where it did not solve the instance."""
    y: float
    """The same of the second."""
    x_solved: bool
    y_solved: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """The results of several tools, aligned by instance."""

    tools: tuple[str, ...]
    names: Mapping[str, str]
    """Key to name of every instance, in the order of their first appearance."""
    entries: Mapping[str, Mapping[str, Entry]]
    """Tool to key to entry."""
    disagreements: tuple[Disagreement, ...]

    @property
    def conflicts(self) -> tuple[Disagreement, ...]:
        """The disagreements that put soundness in question."""
        return tuple(one for one in self.disagreements if one.conflict)

    def is_solved(self, tool: str, key: str) -> bool:
        """Returns whether a tool decided an instance and nobody refutes it."""
        entry = self.entries[tool].get(key)
        return entry is not None and entry.verdict in DECIDED and not self._is_refuted(tool, key)

    def _is_refuted(self, tool: str, key: str) -> bool:
        return any(one.key == key and one.proved and tool in one.unsat_by for one in self.disagreements)


def compare(entries: Iterable[Entry], tools: Iterable[str] = ()) -> Comparison:
    """Returns the results aligned by instance.

    A second entry of one tool on one instance is left out: a list may name an instance twice.

    Args:
        entries: of all tools.
        tools: in their order, those without an entry among them; others follow as they first appear.
    """
    tables: dict[str, dict[str, Entry]] = {tool: {} for tool in tools}
    names: dict[str, str] = {}
    for entry in entries:
        names.setdefault(entry.key, entry.name)
        tables.setdefault(entry.tool, {}).setdefault(entry.key, entry)
    found = (_disagreement(key, name, tables) for key, name in names.items())
    return Comparison(tuple(tables), names, tables, tuple(one for one in found if one is not None))


def _disagreement(key: str, name: str, tables: Mapping[str, Mapping[str, Entry]]) -> Disagreement | None:
    given = {tool: table[key] for tool, table in tables.items() if key in table}
    unsat = tuple(tool for tool, entry in given.items() if Verdict.UNSAT in (entry.said, entry.verdict))
    # The unperturbed input of a clean check is a counterexample that no tool was asked for.
    sat = {tool: entry.witness for tool, entry in given.items() if Verdict.SAT in (entry.said, entry.verdict)}
    return Disagreement(key, name, unsat, sat) if unsat and sat else None


def solved_table(comparison: Comparison) -> list[SolvedRow]:
    """Returns a line for each tool, those that solved most first, the faster ones before the others."""
    unique = unique_solves(comparison)
    rows = []
    for tool in comparison.tools:
        table = comparison.entries[tool]
        solved = [entry for key, entry in table.items() if comparison.is_solved(tool, key)]
        ended = {verdict: sum(entry.verdict is verdict for entry in table.values()) for verdict in Verdict}
        proved = sum(entry.verdict is Verdict.UNSAT for entry in solved)
        rows.append(
            SolvedRow(
                tool,
                sum(entry.verdict is Verdict.SAT for entry in solved),
                proved,
                ended[Verdict.UNSAT] - proved,
                ended[Verdict.UNKNOWN],
                ended[Verdict.TIMEOUT],
                ended[Verdict.ERROR],
                len(comparison.names) - len(table),
                len(unique[tool]),
                sum(entry.seconds for entry in solved),
            )
        )
    return sorted(rows, key=lambda row: (-row.solved, row.seconds, row.tool))


def unique_solves(comparison: Comparison) -> dict[str, tuple[str, ...]]:
    """Returns for each tool the names of the instances that it alone solved."""
    unique: dict[str, list[str]] = {tool: [] for tool in comparison.tools}
    for key, name in comparison.names.items():
        solvers = [tool for tool in comparison.tools if comparison.is_solved(tool, key)]
        if len(solvers) == 1:
            unique[solvers[0]].append(name)
    return {tool: tuple(names) for tool, names in unique.items()}


def missing_rows(comparison: Comparison) -> dict[str, tuple[str, ...]]:
    """Returns for each tool the names of the instances that only other tools have a result of."""
    return {
        tool: tuple(name for key, name in comparison.names.items() if key not in comparison.entries[tool])
        for tool in comparison.tools
    }


def cactus(comparison: Comparison, tool: str) -> list[float]:
    """Returns the seconds of the instances that a tool solved, ascending: the k-th is the time that solves k."""
    table = comparison.entries[tool]
    return sorted(entry.seconds for key, entry in table.items() if comparison.is_solved(tool, key))


def pair_points(comparison: Comparison, first: str, second: str) -> list[PairPoint]:
    """Returns the instances that both tools have a result of and at least one solved.

    Where a tool did not solve one, its time is its limit; where that is not known, the longest time of either tool.
    """
    tables = comparison.entries[first], comparison.entries[second]
    longest = max((entry.seconds for table in tables for entry in table.values()), default=0.0)
    points = []
    for key in (key for key in comparison.names if key in tables[0] and key in tables[1]):
        solved = [comparison.is_solved(tool, key) for tool in (first, second)]
        if any(solved):
            both = (tables[0][key], tables[1][key])
            limits = [longest if entry.limit_s is None else entry.limit_s for entry in both]
            seconds = [
                entry.seconds if done else limits[k] for k, (entry, done) in enumerate(zip(both, solved, strict=True))
            ]
            points.append(PairPoint(comparison.names[key], seconds[0], seconds[1], solved[0], solved[1]))
    return points


def chosen_pairs(comparison: Comparison, most: int = 6) -> list[tuple[str, str]]:
    """Returns the pairs of tools that are drawn: all, or where those are more than `most`, the best with each other."""
    ranked = [row.tool for row in solved_table(comparison)]
    pairs = list(combinations(ranked, 2))
    return pairs if len(pairs) <= most else [(ranked[0], other) for other in ranked[1:]]
