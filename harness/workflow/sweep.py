"""A sweep's points: every combination of its axes, named the same on every machine. Nothing is computed here."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from harness.config import BenchmarkSpec
from harness.domain import UsageError
from harness.files import sha256_bytes
from harness.sweep_config import SweepSpec

MAX_NAME = 64
"""Characters of a variant's name."""


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One recipe of the grid, every choice made."""

    heuristic: str
    ranking: str
    instability_ranking: str
    gammas: tuple[float, ...]
    ratio: float
    scope: str
    """`network` or `layer`."""
    method: str
    """`graft`, or `prune`: slope and intercept are 0 and stay so."""
    retrain: bool
    seed: int

    @property
    def mask_name(self) -> str:
        """What the mask's file is called: everything that the mask depends on."""
        parts = [self.heuristic.lower(), self.ranking]
        if self.instability_ranking != self.ranking:
            parts.append(f"i{self.instability_ranking}")
        parts += [f"g{_numbers(self.gammas)}", f"r{_numbers((self.ratio,))}"]
        if self.scope != "network":
            parts.append(self.scope)
        if self.heuristic.lower() == "random":
            parts.append(f"s{self.seed}")
        return "-".join(parts)

    @property
    def name(self) -> str:
        """The variant's name: every choice, so that an axis that is added later renames nothing."""
        name = f"{self.mask_name}-{self.method}-{'wrt' if self.retrain else 'nwrt'}-s{self.seed}"
        if len(name) <= MAX_NAME:
            return name
        return f"{name[: MAX_NAME - 9]}-{sha256_bytes(name.encode())[:8]}"

    def axes(self) -> dict[str, Any]:
        """Returns every choice as a JSON value; gammas as text, `2,1.5,1,0`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"gammas": gammas_text(self.gammas)}


def sweep_points(sweep: SweepSpec, base: BenchmarkSpec) -> tuple[SweepPoint, ...]:
    """Returns the points of a sweep in the grid's order, each once.

    Args:
        sweep: the grid.
        base: gives gammas, ratio and seed where the grid names none.

    Raises:
        UsageError: the base benchmark does not say how it is trained or grafted.
    """
    if base.grafting is None or base.training is None:
        raise UsageError(
            f"{sweep.source}: the benchmark {base.name} has no 'training' and 'grafting' sections to start from; "
            "name another benchmark, or add them"
        )
    grid = sweep.grid
    axes = (
        grid.heuristic,
        grid.ranking,
        grid.instability_ranking,
        grid.gammas or (base.grafting.gammas,),
        grid.ratio or (base.grafting.ratio,),
        grid.scope,
        grid.method,
        grid.retrain,
        grid.seed or (base.training.seed,),
    )
    points = []
    for heuristic, ranking, other, gammas, ratio, scope, method, retrain, seed in itertools.product(*axes):
        instability = ranking if other == "same" else other
        points.append(SweepPoint(heuristic, ranking, instability, gammas, ratio, scope, method, retrain, seed))
    # `same` and a ranking's own name are one point.
    return tuple(dict.fromkeys(points))


def point_titles(points: Sequence[SweepPoint]) -> dict[str, str]:
    """Returns each point's name and its title for tables: the choices in which the points differ."""
    varying = [field.name for field in fields(SweepPoint) if len({getattr(point, field.name) for point in points}) > 1]
    return {point.name: ", ".join(_words(point, axis) for axis in varying) or point.name for point in points}


def gammas_text(gammas: Sequence[float]) -> str:
    """Returns gammas as the command line takes them: `2,1.5,1,0`."""
    return ",".join(f"{gamma:g}" for gamma in gammas)


def _words(point: SweepPoint, axis: str) -> str:
    value = getattr(point, axis)
    if axis == "retrain":
        return "retrained" if value else "weights kept"
    if axis == "gammas":
        return f"gamma {gammas_text(value)}"
    if axis == "instability_ranking":
        return f"instability {value}"
    if axis in ("ratio", "seed"):
        return f"{axis} {value:g}"
    return {"network": "global", "layer": "local", "graft": "grafted", "prune": "pruned"}.get(value, str(value))


def _numbers(values: Sequence[float]) -> str:
    return "_".join(f"{value:g}" for value in values).replace(".", "p").replace("+", "")
