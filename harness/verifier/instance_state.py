"""Where one instance stands while the engine decides it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from harness.domain import EngineRecord, Stage
from harness.verifier.problem import Problem, Region
from harness.verifier.root import Root


class Effort(Enum):
    """How far a tree is searched before it is another instance's turn."""

    TINY = auto()
    SMALL = auto()
    FULL = auto()
    """To the end; with a longer attack and better bounds first."""


@dataclass(slots=True, eq=False)
class CaseState:
    """One problem of an instance, and how far it is."""

    problem: Problem
    regions: list[Region] = field(default_factory=list)
    """Regions that are not excluded yet."""
    rows: list[int] = field(default_factory=list)
    """For each open region the row with the best root bound."""
    found: Root | None = None


@dataclass(slots=True, eq=False)
class InstanceState:
    """Where one instance stands."""

    key: str
    cases: list[CaseState]
    started: float
    work_s: float = 0.0
    stage: Stage = Stage.INCOMPLETE
    """The stage that decides if nothing more is needed."""
    root_margins: list[NDArray[np.float64]] = field(default_factory=list)
    open_share: float | None = None
    """Of its trees, when they were searched last; above 1 where there are several."""
    domains: int = 0
    entered_bab: bool = False
    unstable: dict[str, NDArray[np.bool_]] | None = None
    unstable_nonlinear: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    multiply_adds: int = 0

    @property
    def hardness(self) -> float:
        """How hard the instance seems: by its trees, and while there are none, harder, by its bounds."""
        if self.open_share is not None:
            return self.open_share
        return max(1.0, 1.0 - min((float(m.min()) for m in self.root_margins), default=0.0))

    def record(self, neurons: int) -> EngineRecord:
        """Returns what is kept of the instance beside its answer, for a network of so many neurons."""
        return EngineRecord(
            np.concatenate(self.root_margins) if self.root_margins else None,
            self.domains,
            self.unstable,
            self.entered_bab,
            neurons,
            self.unstable_nonlinear,
            self.seconds,
            self.multiply_adds,
        )


@contextmanager
def work_of(instances: Sequence[InstanceState], stage: str) -> Iterator[None]:
    """Shares the time of the block among the instances, as work of a stage."""
    before = time.monotonic()
    try:
        yield
    finally:
        share = (time.monotonic() - before) / max(len(instances), 1)
        for instance in instances:
            instance.work_s += share
            instance.seconds[stage] = instance.seconds.get(stage, 0.0) + share
