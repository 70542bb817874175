"""SA, RA, VA and UNR of one network, each with its denominator and with what it was measured under.

Standard and robust accuracy belong to the whole test set: where the network's manifest states them they are taken from
there. Otherwise the run's own inputs give them, and `measured` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.statistics import Share
from harness.analysis.table import ResultRow
from harness.domain import ResultSet, UsageError


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure in percent and what it was measured under."""

    value: float | None
    """Percent, unrounded; None where there was nothing to measure."""
    measured: Mapping[str, Any]
    """At least `n`, the denominator; JSON values."""


@dataclass(frozen=True, slots=True)
class UnstableRatio:
    """The share of unstable neurons, averaged over the inputs that entered branch and bound, as the thesis has it."""

    all: float | None
    """Percent, grafted neurons counted as well; None when no input entered branch and bound."""
    nonlinear: float | None
    """Percent, grafted neurons left out of the count but not of the denominator."""
    inputs: int
    """Inputs averaged over."""
    unrecorded: int
    """Inputs that entered branch and bound but whose tool recorded no mask; they are left out."""


@dataclass(frozen=True, slots=True)
class RobustBounds:
    """Between what the true robust accuracy of a run's inputs lies: VS are robust, VF may be."""

    verified: int
    """Inputs that are proved robust."""
    undecided: int
    """Inputs in VF: neither proved nor refuted."""
    missing: int
    """Inputs without a result, about which nothing is known either."""
    n: int
    """All planned inputs."""

    @property
    def low(self) -> float | None:
        """Percent that are robust for certain; None of no inputs."""
        return Share(self.verified, self.n).percent

    @property
    def high(self) -> float | None:
        """Percent that may be robust: VS, VF and inputs without a result; None of no inputs."""
        return Share(self.verified + self.undecided + self.missing, self.n).percent

    def to_json(self) -> dict[str, Any]:
        """Returns the bounds as JSON values, in percent, with what they are made from."""
        return {
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "verified": self.verified,
            "undecided": self.undecided,
            "missing": self.missing,
        }


def robust_bounds(rows: Sequence[ResultRow], inputs: int) -> RobustBounds:
    """Returns bounds of the true robust accuracy of the run's `inputs`: VS to VS + VF (+ those without a result).

    They are certain for these inputs at the run's radius, as no attack's figure is; for other inputs see the intervals.

    Args:
        rows: the results of one network, at most one an input.
        inputs: planned inputs, at least as many.
    """
    verified = sum(row.result_set is ResultSet.VS for row in rows)
    undecided = sum(row.result_set is ResultSet.VF for row in rows)
    return RobustBounds(verified, undecided, inputs - len(rows), inputs)


def standard_accuracy(rows: Sequence[ResultRow], inputs: int, manifest: Mapping[str, Any] | None) -> Metric:
    """Returns SA: the manifest's figure where it has one, else the correctly classified share of the run's `inputs`.

    The latter is None while inputs have no result: misclassified ones are stored first, so a part is no sample.
    """
    stated = _stated("SA", manifest)
    if stated is not None:
        return stated
    return _of_run(sum(row.result_set is not ResultSet.SK for row in rows), len(rows), inputs)


def robust_accuracy(rows: Sequence[ResultRow], inputs: int, manifest: Mapping[str, Any] | None) -> Metric:
    """Returns RA: the manifest's figure where it has one, else the share of `inputs` neither skipped nor attacked.

    The latter is None while inputs have no result. It bounds the true robust accuracy from above, as any attack's does,
    but the attack is the verifier's: it is not comparable with PGD-100 of the whole test set, and `measured` names it.
    """
    stated = _stated("RA", manifest)
    if stated is not None:
        return stated
    robust = sum(row.result_set not in (ResultSet.SK, ResultSet.AT) for row in rows)
    metric = _of_run(robust, len(rows), inputs)
    return Metric(metric.value, {**metric.measured, "attack": "this run's"})


def verified_accuracy(rows: Sequence[ResultRow], inputs: int) -> Metric:
    """Returns VA: the share of the run's `inputs` that are proved robust; an input without a result is not proved."""
    verified = sum(row.result_set is ResultSet.VS for row in rows)
    return Metric(Share(verified, inputs).percent, {"n": inputs})


def unstable_ratio(rows: Sequence[ResultRow]) -> UnstableRatio:
    """Returns UNR over the rows that entered branch and bound, whatever became of them."""
    entered = [row for row in rows if row.entered_bab]
    every: list[float] = []
    nonlinear: list[float] = []
    for row in entered:
        if row.neurons and row.unstable is not None and row.unstable_nonlinear is not None:
            every.append(row.unstable / row.neurons)
            nonlinear.append(row.unstable_nonlinear / row.neurons)
    return UnstableRatio(_mean_percent(every), _mean_percent(nonlinear), len(every), len(entered) - len(every))


def _mean_percent(shares: Sequence[float]) -> float | None:
    return 100.0 * sum(shares) / len(shares) if shares else None


def _of_run(count: int, known: int, n: int) -> Metric:
    return Metric(Share(count, n).percent if known == n else None, {"n": n, "inputs": "this run's"})


def _stated(name: str, manifest: Mapping[str, Any] | None) -> Metric | None:
    stated = ((manifest or {}).get("metrics") or {}).get(name)
    if stated is None:
        return None
    try:
        value, n = float(stated["value"]), int(stated["n"])
    except (KeyError, TypeError, ValueError) as error:
        variant = (manifest or {}).get("variant", "?")
        raise UsageError(
            f"the manifest of '{variant}' states {name} without a value in percent and its n; write the manifest again"
        ) from error
    return Metric(value, {"n": n} | {key: v for key, v in stated.items() if key not in ("value", "n")})
