"""What the engine is to reach, as data; and how far a measurement is from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.figures import SetFigures
from benchmarks.startup import StartupFigures

GIB = 2**30


class Standing(StrEnum):
    """How a figure stands to its target."""

    REACHED = "reached"
    MISSED = "missed"
    NOT_MEASURED = "-"
    """Its set was not run, was cut short, or ran shorter than the target means."""


@dataclass(frozen=True, slots=True)
class Target:
    """One row of the table of targets."""

    set: str
    what: str
    unit: str
    at_least: float | None
    at_most: float | None
    value: Callable[[SetFigures], float | None]
    aim: float | None = None
    """Better than what has to be reached."""
    full_only: bool = True
    """Whether a shorter run cannot miss it; a count that a shorter run reaches is reached."""

    @property
    def bound(self) -> str:
        """The target in words, e.g. `>= 43`."""
        words = f">= {self.at_least:,g}" if self.at_least is not None else f"<= {self.at_most:,g}"
        return words if self.aim is None else f"{words} (aim {self.aim:,g})"

    def reached_by(self, value: float) -> bool:
        """Returns whether a value keeps to the target."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True, slots=True)
class TargetRow:
    """A target with what was measured."""

    set: str
    what: str
    target: str
    value: float | None
    unit: str
    standing: Standing


def _verdict(name: str) -> Callable[[SetFigures], float]:
    return lambda figures: float(figures.verdicts.get(name, 0))


def _least(
    name: str, what: str, unit: str, least: float, value: Callable[[SetFigures], float | None], aim: float | None = None
) -> Target:
    return Target(name, what, unit, least, None, value, aim)


def _most(name: str, what: str, unit: str, most: float, value: Callable[[SetFigures], float | None]) -> Target:
    return Target(name, what, unit, None, most, value)


def _rate(name: str, least: float) -> Target:
    return Target(
        name, "branch and bound", "domains/s", least, None, lambda figures: figures.domains_per_s, full_only=False
    )


TARGETS: Sequence[Target] = (
    _most("cnn_a", "the 94 that alpha,beta-CROWN solves", "s after imports", 5, lambda f: f.before_s),
    _least("cnn_a", "proved", "unsat", 43, _verdict("unsat"), aim=47),
    _rate("cnn_a", 20_000),
    _least("acasxu", "right answers", "instances", 186, lambda f: float(f.right)),
    _most("acasxu", "all of it", "s", 600, lambda f: f.import_s + f.wall_s),
    _least("mnistfc", "falsified", "sat", 20, _verdict("sat")),
    _least("mnistfc", "proved", "unsat", 36, _verdict("unsat"), aim=45),
    _least("oval21", "falsified", "sat", 3, _verdict("sat")),
    _least("oval21", "proved", "unsat", 10, _verdict("unsat"), aim=17),
    _rate("cnnb", 2_000),
    _most("cnnb", "peak memory", "GiB", 4, lambda f: f.peak_bytes / GIB if f.peak_bytes else None),
)
"""The targets of the sets; those of start-up and of wrong answers are made by `compare`."""

STARTUP_RATIO = 1.3
"""Most that one trivial instance may take, start to end of its process, as a multiple of the imports alone."""


def compare(figures: Mapping[str, SetFigures], startup: StartupFigures | None) -> list[TargetRow]:
    """Returns every target with its value and standing, in the order of the table.

    Args:
        figures: of the sets that were run, by name.
        startup: None where it was not measured.
    """
    rows = [_row(target, figures.get(target.set)) for target in TARGETS]
    ratio = None if startup is None else startup.sat_ratio
    standing = Standing.NOT_MEASURED
    if ratio is not None:
        standing = Standing.REACHED if ratio <= STARTUP_RATIO else Standing.MISSED
    words = "one trivial instance, whole process"
    rows.append(TargetRow("startup", words, f"<= {STARTUP_RATIO:g}", ratio, "x the imports", standing))
    if figures:
        wrong = sum(len(f.wrong) for f in figures.values()) + (0 if startup is None else len(startup.wrong))
        standing = Standing.MISSED if wrong else Standing.REACHED
        rows.append(TargetRow("all run", "wrong answers", "<= 0", float(wrong), "answers", standing))
    return rows


def _row(target: Target, figures: SetFigures | None) -> TargetRow:
    value, standing = None, Standing.NOT_MEASURED
    if figures is not None:
        value = target.value(figures)
        # Counts only grow with the limit and the number of inputs.
        counted = target.at_least is not None and value is not None and target.reached_by(value)
        if counted or not target.full_only or (figures.full and figures.complete):
            # A full run without the figure, e.g. because one of the 94 was not solved, has missed it.
            standing = Standing.REACHED if value is not None and target.reached_by(value) else Standing.MISSED
            if value is None and not (figures.full and figures.complete):
                standing = Standing.NOT_MEASURED
    return TargetRow(target.set, target.what, target.bound, value, target.unit, standing)
