"""Everything that is said of a run's results, as one value: what a report draws and a program reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.metrics import RobustBounds, robust_bounds
from harness.analysis.overlaps import SetOverlap, set_overlaps
from harness.analysis.paired import PairedDifference, differences_of_pairs
from harness.analysis.sets import SET_ORDER, set_sizes
from harness.analysis.stages import StageRow, TimeStatistics, decided_over_time, stage_table, times_by_set
from harness.analysis.statistics import Share, wilson
from harness.analysis.subsets import SubsetHypothesis, subset_hypotheses
from harness.analysis.summary import transition_json
from harness.analysis.table import ResultRow, by_variant
from harness.analysis.transfer import Transfer
from harness.analysis.transitions import Transition, transition

ANALYSIS_SCHEMA = 1
"""Raised when a key of `Analysis.to_json` changes its meaning or goes away; keys may be added."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A share in percent with its 95 % interval by Wilson."""

    metric: str
    """SA, RA or VA."""
    percent: float
    low: float
    high: float
    n: int
    """The denominator."""
    measured: Mapping[str, Any]
    """What it was measured under, as `summary.json` states it."""

    def to_json(self) -> dict[str, Any]:
        """Returns the interval as JSON values."""
        return {
            "percent": self.percent,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "measured": dict(self.measured),
        }


@dataclass(frozen=True, slots=True)
class NetworkAnalysis:
    """What is said of one network alone."""

    variant: str
    planned: int
    """Planned inputs, the denominator of VA and of `robust`."""
    missing: tuple[int, ...]
    """Inputs that another network has a result of and this one has not, ascending."""
    sets: Mapping[str, int]
    """Result set to inputs, in `SET_ORDER`."""
    intervals: tuple[Interval, ...]
    """Of SA, RA and VA, as far as they were measured."""
    robust: RobustBounds
    """Between what the true robust accuracy of the run's inputs lies."""
    stages: tuple[StageRow, ...]
    times: Mapping[str, TimeStatistics | None]
    """By group of inputs; see `times_by_set`. In `work_s`, or in `wall_s` where limits are on wall time."""
    decided_s: tuple[float, ...]
    """The seconds after which each decided input was decided, ascending."""

    @property
    def unrecorded(self) -> int:
        """Planned inputs without a result."""
        return self.planned - sum(self.sets.values())

    def to_json(self) -> dict[str, Any]:
        """Returns the network's part as JSON values; shares of sets are over `recorded`, the inputs with a result."""
        recorded = sum(self.sets.values())
        return {
            "planned": self.planned,
            "recorded": recorded,
            "unrecorded": self.unrecorded,
            "missing": list(self.missing),
            "sets": dict(self.sets),
            "percent": {name: Share(count, recorded).percent for name, count in self.sets.items()},
            "intervals": {one.metric: one.to_json() for one in self.intervals},
            "robust": self.robust.to_json(),
            "stages": {row.stage: row.to_json() for row in self.stages},
            "times": {name: None if one is None else one.to_json() for name, one in self.times.items()},
            "decided_s": list(self.decided_s),
        }


@dataclass(frozen=True, slots=True)
class PairAnalysis:
    """What is said of one network against another."""

    transition: Transition
    subsets: tuple[SubsetHypothesis, ...]
    overlaps: tuple[SetOverlap, ...]
    """Of each result set under both, in `SET_ORDER`."""
    differences: tuple[PairedDifference, ...]
    """Of SA, RA and VA over the inputs that both have."""

    def difference(self, metric: str) -> PairedDifference | None:
        """Returns the paired difference of SA, RA or VA; None where the run has no labels."""
        return next((one for one in self.differences if one.metric == metric), None)

    @property
    def source(self) -> str:
        """The network that the pair starts from."""
        return self.transition.source

    @property
    def target(self) -> str:
        """The network that it goes to."""
        return self.transition.target

    def to_json(self) -> dict[str, Any]:
        """Returns the pair's part as JSON values; inputs with a result under one network only are named."""
        return {
            **transition_json(self.transition),
            "missing_in_to": list(self.transition.only_in_source),
            "missing_in_from": list(self.transition.only_in_target),
            "subsets": [one.to_json() for one in self.subsets],
            "overlaps": {one.which.value: one.to_json() for one in self.overlaps},
            "differences": {one.metric: one.to_json() for one in self.differences},
        }


@dataclass(frozen=True, slots=True)
class Analysis:
    """A run's results, analysed; made by `analyse`."""

    benchmark: str
    baseline: str | None
    clock: str
    """Which time the limits and the time statistics are on: `work` or `wall`."""
    networks: tuple[NetworkAnalysis, ...]
    """In the order of the run's tables."""
    pairs: tuple[PairAnalysis, ...]
    """The baseline against each other network, of several runs what `transitions` of their summary compares; empty
    where nothing is compared."""
    overlaps: tuple[SetOverlap, ...]
    """Of each result set under all networks, in `SET_ORDER`; empty where the run compares nothing."""
    transfers: tuple[Transfer, ...]
    """What counterexamples of one network do to another, as far as that was measured."""

    def pair(self, source: str, target: str) -> PairAnalysis:
        """Returns what is said of one network against another.

        Raises:
            KeyError: the run does not compare them.
        """
        for one in self.pairs:
            if (one.source, one.target) == (source, target):
                return one
        raise KeyError((source, target))

    def network(self, variant: str) -> NetworkAnalysis:
        """Returns what is said of one network.

        Raises:
            KeyError: the run has no such network.
        """
        for one in self.networks:
            if one.variant == variant:
                return one
        raise KeyError(variant)

    def to_json(self) -> dict[str, Any]:
        """Returns the analysis as JSON values: percentages in percent, times in seconds, nothing rounded."""
        return {
            "schema": ANALYSIS_SCHEMA,
            "benchmark": self.benchmark,
            "baseline": self.baseline,
            "clock": self.clock,
            "order": [name.value for name in SET_ORDER],
            "networks": {one.variant: one.to_json() for one in self.networks},
            "pairs": [one.to_json() for one in self.pairs],
            "overlaps": {one.which.value: one.to_json() for one in self.overlaps},
            "transfers": [one.to_json() for one in self.transfers],
        }


def analyse(rows: Sequence[ResultRow], summary: Mapping[str, Any], transfers: Sequence[Transfer] = ()) -> Analysis:
    """Returns the analysis of a run, finished or not.

    Nothing is dropped in silence: what lacks a result is named for each network and each pair.

    Args:
        rows: at most one row for each variant and input.
        summary: the content of `summary.json` for the same rows.
        transfers: what was measured of examples shown to other networks.
    """
    table = by_variant(rows)
    variants, baseline = tuple(summary["variants"]), summary["baseline"]
    everywhere: frozenset[int] = frozenset()
    if baseline:
        # Of a plain list an index is a row of the list, so networks have no indices in common.
        everywhere = frozenset(index for own in table.values() for index in own)
    networks = tuple(
        _network(name, list(table.get(name, {}).values()), summary, everywhere - table.get(name, {}).keys())
        for name in variants
    )
    compared = [(str(moved["from"]), str(moved["to"])) for moved in summary["transitions"]]
    differences = differences_of_pairs(rows, compared) if summary["labelled"] else ()
    return Analysis(
        str(summary["benchmark"]),
        baseline,
        str(summary["timeout_on"]),
        networks,
        tuple(_pair(rows, source, target, differences) for source, target in compared),
        set_overlaps(rows, variants) if compared else (),
        tuple(transfers),
    )


def _network(
    variant: str, rows: Sequence[ResultRow], summary: Mapping[str, Any], missing: frozenset[int]
) -> NetworkAnalysis:
    planned = int(summary["inputs_of"].get(variant, summary["inputs"]))
    clock = str(summary["timeout_on"])
    return NetworkAnalysis(
        variant,
        planned,
        tuple(sorted(missing)),
        set_sizes(rows),
        accuracy_intervals(summary["variants"][variant]),
        robust_bounds(rows, planned),
        stage_table(rows),
        times_by_set(rows, clock),
        decided_over_time(rows, clock),
    )


def _pair(rows: Sequence[ResultRow], source: str, target: str, differences: Sequence[PairedDifference]) -> PairAnalysis:
    return PairAnalysis(
        transition(rows, source, target),
        subset_hypotheses(rows, source, target),
        set_overlaps(rows, (source, target)),
        tuple(one for one in differences if (one.source, one.target) == (source, target)),
    )


def accuracy_intervals(block: Mapping[str, Any]) -> tuple[Interval, ...]:
    """Returns the intervals of SA, RA and VA; a figure without a value or denominator has none and is left out.

    Args:
        block: a variant's block of `summary.json`.
    """
    found = []
    for metric in ("SA", "RA", "VA"):
        percent, measured = block[metric], block["measured"].get(metric, {})
        n = int(measured.get("n", 0))
        if percent is not None and n:
            low, high = wilson(percent * n / 100, n)
            found.append(Interval(metric, float(percent), low, high, n, measured))
    return tuple(found)
