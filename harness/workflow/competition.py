"""A competition's result folders, read into what can be scored: answers by instance, limits, witness verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from harness.analysis.vnncomp import Answer, ScoredBenchmark
from harness.domain import DECIDED, Instance, Job, Limits, UsageError, Verdict, WitnessCheck, WitnessVerdict
from harness.formats.competition import (
    CompetitionRow,
    ListedLimit,
    StatedVerdict,
    inside_benchmark,
    network_paths,
    read_limits,
    read_results,
    read_verdicts,
    without_year,
)
from harness.formats.compressed import locate, read_text
from harness.formats.several import Joiner
from harness.judging.judge import Judge
from harness.judging.replay import Rules
from harness.judging.replay_several import replay_several

_Row = TypeVar("_Row", CompetitionRow, ListedLimit)

RESULTS, INSTANCES, WITNESS = "results.csv", "instances.csv", ".counterexample"
_VERSIONS = ("1.0", "2.0", "")
_REPLAY_LIMIT_S = 1.0
"""A job needs some limit; a replay is not measured against it."""

Place = tuple[str, int]
"""An instance's name and which of its rows it is: VNN-COMP lists some instances twice."""


@dataclass(frozen=True, slots=True)
class Competition:
    """Everything of a results folder that scores are made from."""

    benchmarks: tuple[ScoredBenchmark, ...]
    overheads: Mapping[str, float]
    """Tool to its shortest time of a solved row, probes included: what 2022 took for its start-up."""
    checked: bool
    """Whether anything says what witnesses are worth."""
    notes: tuple[str, ...]
    """What a reader of the scores has to know, one line each."""


@dataclass(frozen=True, slots=True)
class _Table:
    """One tool's results on one benchmark."""

    tool: str
    folder: Path
    benchmark: str
    rows: Mapping[Place, CompetitionRow]
    overhead_s: float | None


@dataclass(slots=True)
class _Witnesses:
    """Where the verdict on a sat answer comes from: the replay of its witness, else the table of verdicts."""

    stated: Mapping[tuple[str, int, str], StatedVerdict]
    judge: Judge
    rules: Rules
    progress: Callable[[int], None]
    """Told how many sat answers were looked at."""
    seen: int = 0
    replayed: int = 0
    notes: list[str] = field(default_factory=list)
    joiner: Joiner = field(default_factory=Joiner)

    def verdict(self, table: _Table, index: int, row: CompetitionRow, listed: _Listed | None) -> WitnessVerdict | None:
        """Returns the verdict on the witness of a sat row; None where nothing is known of it."""
        self.seen += 1
        self.progress(self.seen)
        file = locate(table.folder / f"{row.name}{WITNESS}")
        if file is not None and listed is not None:
            self.replayed += 1
            check = self._replay(row, file, listed)
            if check.verdict is WitnessVerdict.UNSUPPORTED:
                self.notes.append(f"{row.where}: its witness cannot be replayed ({check.message})")
            return check.verdict
        stated = self.stated.get((table.benchmark, index, table.tool))
        if stated is not None:
            return stated.verdict
        # A folder with witnesses has one for each sat; where it has none at all, they are not at hand.
        at_hand = listed is not None and not self.stated and any(table.folder.glob(f"*{WITNESS}*"))
        return WitnessVerdict.NO_CE if at_hand else None

    def _replay(self, row: CompetitionRow, file: Path, listed: _Listed) -> WitnessCheck:
        try:
            text = read_text(file)
        except UsageError as error:
            return WitnessCheck(WitnessVerdict.MALFORMED_CE, str(error))
        networks = [
            (name, listed.folder / inside_benchmark(path, "onnx"))
            for name, path in network_paths(row.network, row.where)
        ]
        prop = listed.folder / inside_benchmark(row.prop, "vnnlib")
        if len(networks) > 1:
            return replay_several(networks, prop, text, self.rules, self.joiner).check
        job = Job("", Instance(networks[0][1], prop, _REPLAY_LIMIT_S), row.name, 0, Limits(_REPLAY_LIMIT_S))
        return self.judge.replay_text(job, text).check


@dataclass(frozen=True, slots=True)
class _Listed:
    """A benchmark's instances.csv."""

    folder: Path
    limits: Mapping[Place, ListedLimit]
    needed: bool
    """Whether every instance has to have a limit."""


def _silent(_done: int, _total: int) -> None:
    """Takes a progress that nobody watches."""


def load_competition(
    folder: Path,
    rules: Rules,
    verdicts: Path | None = None,
    instances: Path | None = None,
    progress: Callable[[int, int], None] = _silent,
) -> Competition:
    """Returns the answers in `<tool>/<year>_<benchmark>/results.csv[.gz]`, aligned by instance.

    Ids are positions in the longest table of a benchmark, probes left out. A witness beside a results.csv is replayed
    where the benchmark's files are at hand (`instances`); otherwise `verdicts` says what it is worth.

    Args:
        folder: the results; folders without a results.csv are ignored.
        rules: of the replay.
        verdicts: a CSV with the columns benchmark,id,tool,verdict.
        instances: benchmark folders by name, with their instances.csv and files, or one such folder.
        progress: told how many of how many sat answers have been looked at.

    Raises:
        UsageError: no results, or a mistake in one of the files, with file and line.
    """
    tables = [_table(tool, results) for tool, results in _result_files(folder)]
    if not tables:
        raise UsageError(f"{folder}: holds no TOOL/YEAR_BENCHMARK/{RESULTS}; name the folder above the tools' folders")
    stated = [] if verdicts is None else read_verdicts(verdicts)
    total = sum(row.verdict is Verdict.SAT for table in tables for row in table.rows.values())
    by_answer = {(one.benchmark, one.id, one.tool): one for one in stated}
    sources = _Witnesses(by_answer, Judge(rules, networks=16), rules, lambda done: progress(done, total))
    benchmarks: list[ScoredBenchmark] = []
    notes: list[str] = []
    for name in sorted({table.benchmark for table in tables}):
        taking_part = [table for table in tables if table.benchmark == name]
        listed = None if instances is None else _listed(instances, name, taking_part, rules is Rules.Y2026)
        benchmark = _benchmark(name, taking_part, stated, sources, listed)
        benchmarks.append(benchmark)
        notes += _notes(benchmark)
    if rules is Rules.Y2026 and instances is None:
        notes.append("the limits are not known without --instances, so no answer is taken as late")
    checked = bool(stated or sources.replayed)
    return Competition(tuple(benchmarks), _overheads(tables), checked, (*notes, *sources.notes))


def _benchmark(
    name: str,
    tables: Sequence[_Table],
    stated: Sequence[StatedVerdict],
    sources: _Witnesses,
    listed: _Listed | None,
) -> ScoredBenchmark:
    order = _order(tables)
    _check_stated(name, stated, tables, order)
    answers = {
        table.tool: [_answer(table, k, place, sources, listed) for k, place in enumerate(order)] for table in tables
    }
    limits = [_limit_of(place, tables, listed) for place in order]
    return ScoredBenchmark(name, tuple(instance for instance, _ in order), answers, limits)


def _notes(benchmark: ScoredBenchmark) -> Iterator[str]:
    """Yields what a reader has to know of a benchmark's answers: rows that are missing, witnesses nobody looked at."""
    for tool, row in benchmark.answers.items():
        missing = sum(one is None for one in row)
        if missing:
            yield f"{benchmark.name}: {tool} has no row for {missing} of {len(row)} instances"
        unknown = sum(one is not None and one.verdict is Verdict.SAT and one.witness is None for one in row)
        if unknown:
            yield f"{benchmark.name}: nothing is known of {unknown} counterexamples of {tool}"


def _result_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yields tool and results file, in the order of their names."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; name the one above the tools' folders")
    for tool in sorted(path for path in folder.iterdir() if path.is_dir()):
        for benchmark in sorted(path for path in tool.iterdir() if path.is_dir()):
            found = locate(benchmark / RESULTS)
            if found is not None:
                yield tool.name, found


def _table(tool: str, results: Path) -> _Table:
    rows = read_results(results)
    placed = dict(_placed([row for row in rows if not row.is_probe]))
    solved = [row.run_s for row in rows if row.verdict in DECIDED]
    folder = results.parent
    return _Table(tool, folder, without_year(folder.name), placed, min(solved, default=None))


def _placed(rows: Sequence[_Row]) -> Iterator[tuple[Place, _Row]]:
    seen: Counter[str] = Counter()
    for row in rows:
        yield (row.name, seen[row.name]), row
        seen[row.name] += 1


def _order(tables: Sequence[_Table]) -> list[Place]:
    """Returns the instances in the order of the longest table; others may have fewer, but none that it has not."""
    owners = Counter(table.tool for table in tables)
    twice = next((tool for tool, count in owners.items() if count > 1), None)
    if twice is not None:
        folders = ", ".join(table.folder.name for table in tables if table.tool == twice)
        raise UsageError(f"{tables[0].folder.parent}: the folders {folders} are one benchmark; score each year alone")
    longest = max(tables, key=lambda table: len(table.rows))
    for table in tables:
        stray = next((row for place, row in table.rows.items() if place not in longest.rows), None)
        if stray is not None:
            where = f"{longest.tool}'s {RESULTS}"
            raise UsageError(f"{stray.where}: the instance '{stray.name}' is not in {where}; score results of one list")
    return list(longest.rows)


def _check_stated(name: str, stated: Sequence[StatedVerdict], tables: Sequence[_Table], order: Sequence[Place]) -> None:
    """Raises where a table of verdicts does not fit the answers; rows of other tools and benchmarks are left alone."""
    by_tool = {table.tool: table for table in tables}
    for one in stated:
        if one.benchmark != name or one.tool not in by_tool:
            continue
        if one.id >= len(order):
            raise UsageError(f"{one.where}: '{name}' has {len(order)} instances, ids end at {len(order) - 1}")
        row = by_tool[one.tool].rows.get(order[one.id])
        if row is None or row.verdict is not Verdict.SAT:
            said = "nothing" if row is None else f"'{row.word}'"
            raise UsageError(f"{one.where}: {one.tool} answered {said} there, not sat; verdicts belong to sat answers")


def _answer(table: _Table, index: int, place: Place, sources: _Witnesses, listed: _Listed | None) -> Answer | None:
    row = table.rows.get(place)
    if row is None:
        return None
    witness = sources.verdict(table, index, row, listed) if row.verdict is Verdict.SAT else None
    return Answer(row.verdict, row.run_s, witness)


def _listed(instances: Path, name: str, tables: Sequence[_Table], needed: bool) -> _Listed | None:
    """Returns the instances.csv of a benchmark; None where there is none.

    Of a benchmark in two versions the one that the results were made with is taken: their paths name it.
    """
    path = next((row.network for table in tables for row in table.rows.values()), "")
    versions = sorted(_VERSIONS, key=lambda version: f"/{version}/" not in path)
    names = (name, *sorted({table.folder.name for table in tables}))
    folders = [instances / inner / each for inner in ("", "benchmarks") for each in names]
    candidates = [folder / version for folder in (*folders, instances) for version in versions]
    found = next((folder for folder in candidates if locate(folder / INSTANCES) is not None), None)
    if found is not None:
        return _Listed(found, dict(_placed(read_limits(found / INSTANCES))), needed)
    if needed:
        raise UsageError(f"{instances}: has no {name}/{INSTANCES}, which the limits are read from; add it")
    return None


def _limit_of(place: Place, tables: Sequence[_Table], listed: _Listed | None) -> float | None:
    if listed is None:
        return None
    limit = listed.limits.get(place) or listed.limits.get((place[0], 0))
    if limit is None and not listed.needed:
        return None
    if limit is None:
        where = next(table.rows[place].where for table in tables if place in table.rows)
        raise UsageError(f"{where}: the instance '{place[0]}' is not in {listed.folder / INSTANCES}; it has no limit")
    return limit.timeout_s


def _overheads(tables: Sequence[_Table]) -> dict[str, float]:
    overheads: dict[str, float] = {}
    for table in tables:
        if table.overhead_s is not None:
            overheads[table.tool] = min(table.overhead_s, overheads.get(table.tool, table.overhead_s))
    return overheads
