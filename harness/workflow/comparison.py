"""Reads what several tools answered: run folders, and competition results, as entries that can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.comparison import Entry
from harness.analysis.summary import RunHeader
from harness.analysis.vnncomp import ScoredBenchmark, in_time, instance_points
from harness.domain import UsageError, Verdict, WitnessVerdict
from harness.formats.competition import instance_name
from harness.judging.replay import Rules
from harness.report.source import STORE_FILE, planned_rows, read_header
from harness.run.store import Store
from harness.run.stored import StoredResult
from harness.workflow.competition import load_competition


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a tool's times were measured under."""

    tool: str
    source: str
    """The folder."""
    machine: str
    """The device in words; empty where the results do not say."""
    limits: str
    """The time limits in words."""
    clock: str
    """What times and limits are of: `work` or `wall`."""


@dataclass(frozen=True, slots=True)
class Answers:
    """All entries of some folders, and what they were measured under."""

    title: str
    entries: tuple[Entry, ...]
    conditions: tuple[Conditions, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _RunFolder:
    folder: Path
    header: RunHeader
    rows: tuple[StoredResult, ...]


def load_answers(
    folders: Sequence[Path],
    *,
    benchmark: str | None = None,
    rules: Rules = Rules.Y2026,
    verdicts: Path | None = None,
    instances: Path | None = None,
) -> Answers:
    """Returns what the tools of some folders answered.

    Rows of run folders belong together where network and property have the same content; as soon as competition
    results are among them, where their names are the same, for those results have no content.

    Args:
        folders: run folders, or folders with `<tool>/<year>_<benchmark>/results.csv`.
        benchmark: which benchmark of competition results; needed where they have several.
        rules: of a competition's scores; run folders are judged already.
        verdicts: as `load_competition` takes them.
        instances: likewise.

    Raises:
        UsageError: a folder is neither, or has not the benchmark; or as `load_competition`.
    """
    runs = [_run(folder) for folder in folders if (folder / STORE_FILE).is_file()]
    others = [folder for folder in folders if not (folder / STORE_FILE).is_file()]
    entries: list[Entry] = []
    conditions: list[Conditions] = []
    notes: list[str] = []
    for run, label in zip(runs, _labels(runs), strict=True):
        entries += _run_entries(run, label, by_name=bool(others))
        conditions.append(_run_conditions(run, label))
    for folder in others:
        loaded = load_competition(folder, rules, verdicts, instances)
        one = _chosen(folder, loaded.benchmarks, benchmark)
        counted = in_time(one) if rules is Rules.Y2026 else one
        entries += _competition_entries(counted, rules, loaded.checked)
        limits = limit_words(limit for limit in one.limits if limit is not None)
        conditions += [Conditions(tool, str(folder / tool), "", limits, "wall") for tool in one.answers]
        notes += loaded.notes
        benchmark = one.name
    names = {run.header.benchmark for run in runs} | ({benchmark} if others and benchmark else set())
    if len({one.clock for one in conditions}) > 1:
        notes.append("some times are wall time and others shares of work: do not compare them")
    _check_tools(conditions)
    return Answers(", ".join(sorted(names)), tuple(entries), tuple(conditions), tuple(notes))


def limit_words(limits: Iterator[float]) -> str:
    """Returns time limits in words: one, a range, or that none is known."""
    known = sorted(set(limits))
    if not known:
        return "limit not known"
    return f"{known[0]:g} s" if len(known) == 1 else f"{known[0]:g} to {known[-1]:g} s"


def _run(folder: Path) -> _RunFolder:
    with Store.read(folder / STORE_FILE) as store:
        return _RunFolder(folder, read_header(store, folder), tuple(planned_rows(store)))


def _labels(runs: Sequence[_RunFolder]) -> list[str]:
    """Returns a name for each run: its tool's, with the folder's where two runs are of one tool."""
    tools = Counter(run.header.tool for run in runs)
    names = Counter((run.header.tool, run.folder.name) for run in runs)
    labels = []
    for run in runs:
        tool, name = run.header.tool or "unknown tool", run.folder.resolve().name
        place = name if names[run.header.tool, run.folder.name] == 1 else str(run.folder)
        labels.append(tool if tools[run.header.tool] == 1 else f"{tool} ({place})")
    return labels


def _run_entries(run: _RunFolder, label: str, *, by_name: bool) -> Iterator[Entry]:
    for row in run.rows:
        name = instance_name(row.network_name, row.property_name, str(run.folder))
        hashes = row.network_sha256, row.property_sha256
        yield Entry(
            label,
            name if by_name or not all(hashes) else " ".join(hashes),
            name,
            row.verdict,
            row.tool_verdict,
            row.wall_s if row.timeout_on == "wall" else row.work_s,
            row.timeout_s,
            None if row.witness is None else row.witness.verdict,
        )


def _run_conditions(run: _RunFolder, label: str) -> Conditions:
    limits = limit_words(row.timeout_s for row in run.rows)
    domains = run.header.max_domains
    if domains is not None:
        limits += f", {domains} domains"
    return Conditions(label, str(run.folder), run.header.device, limits, run.header.timeout_on)


def _chosen(folder: Path, benchmarks: Sequence[ScoredBenchmark], name: str | None) -> ScoredBenchmark:
    known = ", ".join(one.name for one in benchmarks)
    if name is None and len(benchmarks) > 1:
        raise UsageError(f"{folder}: has several benchmarks; choose one with --benchmark: {known}")
    found = next((one for one in benchmarks if name in (None, one.name)), None)
    if found is None:
        raise UsageError(f"{folder}: has no results of '{name}'; known: {known}")
    return found


def _competition_entries(benchmark: ScoredBenchmark, rules: Rules, checked: bool) -> Iterator[Entry]:
    """Yields the answers as judged: a sat that earns nothing is unknown, one that is penalised an error."""
    rows: dict[str, list[Entry]] = {tool: [] for tool in benchmark.answers}
    seen: Counter[str] = Counter()
    for index, name in enumerate(benchmark.instances):
        seen[name] += 1
        key = name if seen[name] == 1 else f"{name} ({seen[name]})"
        answers = {tool: one for tool, row in benchmark.answers.items() if (one := row[index]) is not None}
        points = instance_points(rules, answers, checked=checked)
        for tool, answer in answers.items():
            verdict = answer.verdict
            if verdict is Verdict.SAT and points[tool] <= 0:
                verdict = Verdict.ERROR if points[tool] < 0 else Verdict.UNKNOWN
            limit = benchmark.limits[index]
            entry = Entry(tool, key, key, verdict, answer.verdict, answer.run_s, limit, _proof(rules, answer.witness))
            rows[tool].append(entry)
    for tool in benchmark.answers:
        yield from rows[tool]


def _proof(rules: Rules, witness: WitnessVerdict | None) -> WitnessVerdict | None:
    """Returns the verdict on a witness; the rules of 2022 have one class of valid ones."""
    on_tolerance = rules is Rules.Y2022 and witness is WitnessVerdict.CORRECT_UP_TO_TOLERANCE
    return WitnessVerdict.CORRECT if on_tolerance else witness


def _check_tools(conditions: Sequence[Conditions]) -> None:
    if len(conditions) < 2:
        raise UsageError("there is one tool only; name the folders of at least two tools' results")
    twice = next((tool for tool, count in Counter(one.tool for one in conditions).items() if count > 1), None)
    if twice is not None:
        raise UsageError(f"two folders have results of '{twice}'; name one of them")
