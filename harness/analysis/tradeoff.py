"""What a sweep shows: the accuracies of each point, and what they cost each other (thesis, chapter 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIGURES = ("SA", "RA", "VA", "UNR", "UNR_nonlinear")
"""Figures of `summary.json`, in percent."""
ATTACK_LOSS = "1-RA/SA"
"""Percent of the correctly classified inputs that an attack turns."""
VERIFIED_SHARE = "VA/RA"
"""Percent of the robust accuracy that the verifier proves; over 100 where both are of different inputs."""
_SAMPLES = ("SA", "RA", "VA", "UNR")


@dataclass(frozen=True, slots=True)
class TradeoffRow:
    """The figures of one network of a sweep."""

    variant: str
    title: str
    axes: Mapping[str, Any]
    """The point's choices; empty for the network before grafting."""
    values: Mapping[str, float | None]
    """`FIGURES`, `ATTACK_LOSS` and `VERIFIED_SHARE` to percent; None where there was nothing to measure."""
    n: Mapping[str, int | None]
    """SA, RA, VA and UNR to the number of inputs that each is over."""
    attack: str
    """What RA was measured under."""
    missing: int
    """Inputs without a result."""
    work_s: float

    def to_json(self) -> dict[str, Any]:
        """Returns the row as JSON values; a ratio states the sample sizes of both its parts."""
        samples = dict(self.n) | {
            ATTACK_LOSS: {name: self.n[name] for name in ("SA", "RA")},
            VERIFIED_SHARE: {name: self.n[name] for name in ("VA", "RA")},
        }
        return {
            "variant": self.variant,
            "title": self.title,
            "axes": dict(self.axes),
            **self.values,
            "n": samples,
            "attack": self.attack,
            "missing": self.missing,
            "work_s": self.work_s,
        }

    def flat(self) -> dict[str, Any]:
        """Returns the row as one line of a table: axes, figures, sample sizes as `SA_n`; None where empty."""
        counts = {f"{name}_n": self.n[name] for name in _SAMPLES}
        own = {"attack": self.attack, "missing": self.missing, "work_s": self.work_s}
        return {"variant": self.variant, **self.axes, **self.values, **counts, **own}


def tradeoff(summary: Mapping[str, Any], axes: Mapping[str, Mapping[str, Any]]) -> list[TradeoffRow]:
    """Returns a row for each network of a run, in its order.

    Args:
        summary: content of `summary.json`, finished or not.
        axes: variant to the choices of its point.
    """
    rows = []
    for name, block in summary["variants"].items():
        measured = block["measured"]
        values = {key: block[key] for key in FIGURES}
        values[ATTACK_LOSS] = _complement(_percent_of(block["RA"], block["SA"]))
        values[VERIFIED_SHARE] = _percent_of(block["VA"], block["RA"])
        rows.append(
            TradeoffRow(
                name,
                str(summary.get("titles", {}).get(name) or name),
                dict(axes.get(name, {})),
                values,
                {key: measured.get(key, {}).get("n") for key in _SAMPLES},
                str(measured.get("RA", {}).get("attack", "")),
                int(block["missing"]),
                float(block["work_s"]),
            )
        )
    return rows


def _percent_of(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else 100.0 * part / whole


def _complement(percent: float | None) -> float | None:
    return None if percent is None else 100.0 - percent
