"""What a person sees of a run: the plan, inputs decided by result set, time left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn

from harness.domain import InstanceResult, Job, ResultSet, Stage, Verdict, plural, result_set
from harness.formats.competition import file_stem
from harness.formats.instances import format_seconds
from harness.workflow.options import Reporter, RunPlan

PLAIN_INTERVAL_S = 10.0
"""Seconds between two lines where the output is no terminal."""
ERRORS_TOLD = 5
"""So many errors are told as they happen; where something is broken, more lines say no more."""
_STAGE_LENGTH = 40


@dataclass(slots=True)
class Tally:
    """Inputs decided by variant and result set, and the pace of the tool."""

    plan: RunPlan
    clock: Callable[[], float] = time.monotonic
    sets: dict[str, Counter[ResultSet]] = field(default_factory=dict)
    by_tool: int = 0
    """Results of this start that the tool was asked for."""
    began: float = 0.0

    def __post_init__(self) -> None:
        self.sets = {variant: Counter() for variant in self.plan.variants}
        self.began = self.clock()

    def earlier(self, sets: Mapping[str, Mapping[ResultSet, int]]) -> None:
        """Counts results that the folder had from before, and starts the clock."""
        for variant, counts in sets.items():
            self.sets[variant].update(counts)
        self.began = self.clock()

    def add(self, result: InstanceResult) -> None:
        """Counts one result; the clock of the tool's pace starts with the last clean check."""
        self.sets[result.job.variant][result_set(result.verdict, result.stage)] += 1
        if result.stage is Stage.CLEAN:
            self.began = self.clock()
        else:
            self.by_tool += 1

    @property
    def decided(self) -> int:
        """Results so far, those from earlier among them."""
        return sum(counts.total() for counts in self.sets.values())

    @property
    def left(self) -> int:
        """Instances without a result."""
        return self.plan.instances - self.decided

    def seconds_left(self) -> tuple[float | None, float]:
        """Returns an estimate from the pace so far (None before the tool's first result), and an upper bound.

        The bound is every open input's whole limit; the estimate is never above it.
        """
        bound = self.left * self.plan.limits.timeout_s
        if not self.by_tool:
            return None, bound
        return min(bound, (self.clock() - self.began) / self.by_tool * self.left), bound

    def words(self, variant: str) -> str:
        """Returns a variant's counts, e.g. `SK 2  AT 7  VS 3  VF 0`."""
        return "  ".join(f"{name.value} {self.sets[variant][name]}" for name in ResultSet)

    def time_words(self) -> str:
        """Returns the time left in words; empty when nothing is."""
        if not self.left:
            return ""
        about, bound = self.seconds_left()
        limit = f"at most {clock_words(bound)}"
        return f"{limit} left" if about is None else f"about {clock_words(about)} left, {limit}"


def clock_words(seconds: float) -> str:
    """Returns a duration as `m:ss`, from an hour on as `h:mm:ss`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def working_words(job: Job, stage: str, domains: int) -> str:
    """Returns what the tool works on in one line, e.g. `cifar10_test_00007: bab, 3,412 domains`."""
    # The stage is the tool's word: nothing in it may move the cursor or fill the screen.
    said = "".join(c for c in stage if c.isprintable())[:_STAGE_LENGTH]
    return f"{_property_stem(job)}: {said}" + (f", {domains:,} domains" if domains else "")


def error_words(result: InstanceResult) -> str:
    """Returns what went wrong with an instance in one line, e.g. `baseline, cifar10_test_00007: error: no answer`."""
    job = result.job
    return f"{job.variant}, {_property_stem(job)}: error: {result.message or 'the tool gave no reason'}"


def _property_stem(job: Job) -> str:
    return file_stem(job.instance.property_name or job.instance.property.name)


def plan_lines(plan: RunPlan, hint: str = "") -> list[str]:
    """Returns the first lines of a run: what runs, on what device, where results go, and `hint`."""
    limit = f"{format_seconds(plan.limits.timeout_s)} s each"
    if plan.limits.max_domains is not None:
        limit += f", {plan.limits.max_domains} domains at most"
    networks = plural(len(plan.variants), "network")
    size = f"{plural(plan.instances, 'instance')} of {networks}"
    if plan.protocol != "instances":
        size = f"{plural(plan.inputs, 'input')} x {networks}"
    lines = [
        f"{plan.benchmark}: {plan.title}" if plan.title != plan.benchmark else plan.benchmark,
        f"protocol {plan.protocol}: {size}, {limit}, on {plan.device.words}; tool {plan.tool}, seed {plan.seed}",
    ]
    return [*lines, *([hint] if hint else []), f"results go to {plan.out}"]


@contextmanager
def console_reporter(out: Console, hint: Callable[[RunPlan], str] | None = None) -> Iterator[Reporter]:
    """Yields a reporter that draws bars on a terminal and writes plain lines elsewhere.

    Args:
        out: where the first lines go; progress goes to standard error.
        hint: a line to add for a plan, empty for none.
    """
    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield PlainReporter(out, screen, hint)
        return
    bars = Progress(*columns(), console=screen)
    reporter = BarReporter(out, bars, hint)
    try:
        yield reporter
    finally:
        with suppress(OSError):
            bars.stop()


def columns() -> tuple[ProgressColumn, ...]:
    """Returns what stands beside each bar; tasks need a field `words`."""
    return (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
    )


@contextmanager
def step_bars(*, transient: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Yields what moves a bar for each step on standard error; nothing is drawn where that is no terminal.

    It takes a step in words, what is done of it, and how much there is.

    Args:
        transient: whether the bars go away at the end.
    """
    screen = Console(stderr=True)
    with Progress(*columns(), console=screen, disable=not screen.is_terminal, transient=transient) as bars:
        tasks: dict[str, TaskID] = {}

        def told(words: str, done: int, total: int) -> None:
            if words not in tasks:
                tasks[words] = bars.add_task(escape(words), total=total, words="")
            bars.update(tasks[words], completed=done, total=total)

        yield told


def _tell(console: Console, line: str) -> None:
    """Writes a line; one that cannot be written is left out: a terminal that is gone is no reason to end a run."""
    with suppress(OSError):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Told:
    """What both reporters share: the first lines and the counts."""

    def __init__(self, out: Console, hint: Callable[[RunPlan], str] | None) -> None:
        self._out, self._hint = out, hint
        self._tally: Tally | None = None
        self._errors = 0

    def _count(self, result: InstanceResult, screen: Console) -> None:
        """Counts a result; of one that is an error, the reason is written."""
        self.tally.add(result)
        if result.verdict is Verdict.ERROR:
            self._errors += 1
            if self._errors <= ERRORS_TOLD:
                _tell(screen, error_words(result))

    def _begin(self, plan: RunPlan) -> None:
        self._tally = Tally(plan)
        for line in plan_lines(plan, self._hint(plan) if self._hint else ""):
            _tell(self._out, line)

    @property
    def tally(self) -> Tally:
        """The counts.

        Raises:
            RuntimeError: nothing is planned yet.
        """
        if self._tally is None:
            raise RuntimeError("a run is planned before anything is decided")
        return self._tally


class PlainReporter(_Told):
    """Writes a line for each step, every ten seconds, and when all is decided."""

    def __init__(self, out: Console, screen: Console, hint: Callable[[RunPlan], str] | None = None) -> None:
        super().__init__(out, hint)
        self._screen = screen
        self._last = time.monotonic()

    def planned(self, plan: RunPlan) -> None:
        """Writes the first lines."""
        self._begin(plan)

    def step(self, text: str) -> None:
        """Writes what begins."""
        self._say(text)

    def resumed(self, sets: Mapping[str, Mapping[ResultSet, int]]) -> None:
        """Writes how many results were there, if any."""
        self.tally.earlier(sets)
        if self.tally.decided:
            self._say(f"{self.tally.decided} of {self.tally.plan.instances} were decided earlier")

    def working(self, job: Job, stage: str, domains: int) -> None:
        """Writes a line where nothing was written for a while."""
        if time.monotonic() - self._last >= PLAIN_INTERVAL_S:
            self._tell(f"{job.variant}: working on {working_words(job, stage, domains)}")

    def decided(self, result: InstanceResult) -> None:
        """Writes a line now and then, and one for each of the first errors."""
        self._count(result, self._screen)
        variant = result.job.variant
        if not self.tally.left or time.monotonic() - self._last >= PLAIN_INTERVAL_S:
            self._tell(f"{variant}: {self.tally.words(variant)}")

    def _tell(self, what: str) -> None:
        count = f"{self.tally.decided} of {self.tally.plan.instances} decided"
        self._say("; ".join(part for part in (count, what, self.tally.time_words()) if part))

    def _say(self, text: str) -> None:
        self._last = time.monotonic()
        _tell(self._screen, text)


class BarReporter(_Told):
    """Draws a bar for each network and one for the whole run."""

    def __init__(self, out: Console, bars: Progress, hint: Callable[[RunPlan], str] | None = None) -> None:
        super().__init__(out, hint)
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._whole = TaskID(0)

    def planned(self, plan: RunPlan) -> None:
        """Writes the first lines and draws empty bars."""
        self._begin(plan)
        each = plan.inputs if plan.instances == plan.inputs * len(plan.variants) else None
        for variant in plan.variants:
            self._tasks[variant] = self._bars.add_task(escape(variant), total=each, words="")
        self._whole = self._bars.add_task("all", total=plan.instances, words="")
        self._bars.start()

    def step(self, text: str) -> None:
        """Shows what begins beside the bar of the whole run."""
        self._bars.update(self._whole, words=escape(text))

    def resumed(self, sets: Mapping[str, Mapping[ResultSet, int]]) -> None:
        """Fills the bars with what was there."""
        self.tally.earlier(sets)
        for variant in sets:
            self._draw(variant)

    def working(self, job: Job, stage: str, domains: int) -> None:
        """Shows what the tool works on beside its network's counts, and the time left, which goes on meanwhile."""
        words = f"{self.tally.words(job.variant)}  {escape(working_words(job, stage, domains))}"
        self._bars.update(self._tasks[job.variant], words=words)
        self._bars.update(self._whole, words=self.tally.time_words())

    def decided(self, result: InstanceResult) -> None:
        """Moves the bars; above them stand the first errors."""
        self._count(result, self._bars.console)
        self._draw(result.job.variant)

    def _draw(self, variant: str) -> None:
        done = self.tally.sets[variant].total()
        self._bars.update(self._tasks[variant], completed=done, words=self.tally.words(variant))
        self._bars.update(self._whole, completed=self.tally.decided, words=self.tally.time_words())
