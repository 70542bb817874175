"""Answers of one set in, its figures out: pure functions and frozen values."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.cases import Case
from harness.domain import DECIDED, InstanceResult, Verdict


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One case, its judged result, and what the engine's process said beside the answer."""

    case: Case
    result: InstanceResult
    at_s: float
    """When the answer came, in seconds after the imports of the engine's process."""
    seconds: Mapping[str, float] | None = None
    """The instance's seconds of work by stage; None where the engine does not say."""
    multiply_adds: int | None = None
    """Of the branch-and-bound kernel, its padding included; None where the engine does not say."""


@dataclass(frozen=True, slots=True)
class Process:
    """What the engine's process measured of itself."""

    import_s: float
    wall_s: float
    """From the end of the imports to the last answer, files read in between included."""
    cores: int
    cpu_s: float
    peak_bytes: int
    matmul_gflops: float


@dataclass(frozen=True, slots=True)
class SetFigures:
    """Everything that is printed and kept of one set; times in seconds."""

    name: str
    timeout_s: float
    cases: int
    skipped: int
    full: bool
    """Whether set and time limit are those that the targets mean."""
    complete: bool
    """Whether every case was answered, rather than interrupted or lost."""
    verdicts: Mapping[str, int]
    """Judged verdict to count."""
    stages: Mapping[str, int]
    """`stage verdict` to count, decided cases only."""
    right: int
    """Answers that equal a label."""
    before: int
    """Cases that the tool of the labels' file decided."""
    before_solved: int
    """Those of them that are decided here, and not otherwise."""
    before_s: float | None
    """When the last of those answers came, after imports; None where one is missing."""
    wrong: tuple[str, ...]
    """One line for each answer that contradicts a label, and each sat that does not replay."""
    broken: tuple[str, ...]
    """One line for each case that ended in an error."""
    import_s: float
    wall_s: float
    """After imports; reading networks and properties included."""
    engine_s: float
    """The part of it in which instances were decided."""
    work_s: float
    cpu_s: float
    most_s: float
    """The longest work on one input."""
    seconds: Mapping[str, float] | None
    """Stage to seconds of work, summed over inputs."""
    domains: int
    bab_s: float
    """The wall time that was spent in branch and bound; see `bab_wall`."""
    domains_per_s: float | None
    kernel_gflops: float | None
    matmul_gflops: float
    peak_bytes: int
    cores: int
    notes: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """Returns the figures as JSON values."""
        return asdict(self)


def figures(
    name: str,
    answers: Sequence[Answer],
    process: Process,
    *,
    timeout_s: float,
    cases: Sequence[Case],
    skipped: int,
    full: bool,
    notes: Sequence[str] = (),
) -> SetFigures:
    """Returns the figures of one set.

    Args:
        name: of the set.
        answers: one for each case that was answered.
        process: of the engine.
        timeout_s: the limit of each case.
        cases: all that there are; more than answers where the run was cut short.
        skipped: inputs that were left out as misclassified.
        full: whether set and limit are those of the targets.
        notes: what else a reader has to know.
    """
    results = [answer.result for answer in answers]
    engine_s = engine_wall(answers)
    bab_s, domains = bab_wall(answers, engine_s), sum(domains_of(a) for a in answers)
    counted = [a.multiply_adds for a in answers if a.multiply_adds is not None]
    flops = 2 * sum(counted) if counted and len(counted) == len(answers) else None
    before = sum(case.solved_before for case in cases)
    solved = [a for a in answers if a.case.solved_before and a.result.verdict in DECIDED and contradiction(a) is None]
    return SetFigures(
        name=name,
        timeout_s=timeout_s,
        cases=len(cases),
        skipped=skipped,
        full=full,
        complete=len(answers) == len(cases),
        verdicts=dict(Counter(r.verdict.value for r in results)),
        stages=dict(Counter(f"{r.stage} {r.verdict}" for r in results if r.verdict in DECIDED and r.stage)),
        right=sum(a.case.label is not None and a.result.verdict is a.case.label for a in answers),
        before=before,
        before_solved=len(solved),
        before_s=max((a.at_s for a in solved), default=None) if len(solved) == before else None,
        wrong=tuple(line for a in answers if (line := contradiction(a)) is not None),
        broken=tuple(f"{_name(a)}: {a.result.message}" for a in answers if a.result.verdict is Verdict.ERROR),
        import_s=process.import_s,
        wall_s=process.wall_s,
        engine_s=engine_s,
        work_s=sum(r.work_s for r in results),
        cpu_s=process.cpu_s,
        most_s=max((r.work_s for r in results), default=0.0),
        seconds=seconds_by_stage(answers),
        domains=domains,
        bab_s=bab_s,
        domains_per_s=domains / bab_s if bab_s > 0 and domains else None,
        kernel_gflops=flops / bab_s / 1e9 if flops and bab_s > 0 else None,
        matmul_gflops=process.matmul_gflops,
        peak_bytes=process.peak_bytes,
        cores=process.cores,
        notes=tuple(notes),
    )


def contradiction(answer: Answer) -> str | None:
    """Returns why an answer is wrong; None where nothing speaks against it.

    What the engine said counts, also where it came too late to be credited. A replayed counterexample overrules a
    label; it is reported all the same, because one of the two has to be looked into.
    """
    result, label = answer.result, answer.case.label
    if result.tool_verdict is Verdict.UNSAT and label is Verdict.SAT:
        return f"{_name(answer)}: unsat, but the label is sat"
    if result.tool_verdict is not Verdict.SAT:
        return None
    if result.witness is None or not result.witness.counts:
        reason = "no replay" if result.witness is None else f"{result.witness.verdict}: {result.witness.message}"
        return f"{_name(answer)}: sat, but the counterexample does not replay ({reason})"
    if label is Verdict.UNSAT:
        return f"{_name(answer)}: sat, but the label is unsat (the counterexample replays: {result.witness.verdict})"
    return None


def engine_wall(answers: Sequence[Answer]) -> float:
    """Returns the wall time in which the engine decided: of each network the time to its last answer, summed.

    The engine's clock of an instance starts when all properties of its network are read.
    """
    last: defaultdict[object, float] = defaultdict(float)
    for answer in answers:
        network = answer.case.job.instance.network
        last[network] = max(last[network], answer.result.wall_s)
    return sum(last.values())


def bab_wall(answers: Sequence[Answer], wall_s: float) -> float:
    """Returns the part of `wall_s` that went into branch and bound: its share of all work, times that.

    Searches of several inputs run side by side, so their seconds do not add up to wall time; the shares do. Where the
    engine does not say its seconds by stage, all the work of an input that entered branch and bound is taken for it.
    """
    total = sum(a.result.work_s for a in answers)
    spent = 0.0
    for answer in answers:
        record = answer.result.record
        if answer.seconds is not None:
            spent += answer.seconds.get("bab", 0.0)
        elif record is not None and record.entered_bab:
            spent += answer.result.work_s
    return wall_s * min(spent / total, 1.0) if total > 0 else 0.0


def seconds_by_stage(answers: Sequence[Answer]) -> dict[str, float] | None:
    """Returns seconds of work by stage over all inputs; None where the engine does not say for any."""
    total: defaultdict[str, float] = defaultdict(float)
    for answer in answers:
        for stage, seconds in (answer.seconds or {}).items():
            total[stage] += seconds
    return dict(total) or None


def domains_of(answer: Answer) -> int:
    """Returns the branch-and-bound domains of an answer, 0 where none were counted."""
    return 0 if answer.result.record is None else answer.result.record.domains


def _name(answer: Answer) -> str:
    instance = answer.case.job.instance
    return f"{instance.network.name} {instance.property.name}"
