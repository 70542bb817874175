"""The ratios of a sweep's table, and that no figure loses its sample size."""

from __future__ import annotations

from typing import Any

import pytest

from harness.analysis.tradeoff import tradeoff


def block(sa: float | None, ra: float | None, va: float | None, **more: Any) -> dict[str, Any]:
    measured = {"SA": {"n": 10000}, "RA": {"n": 9000, "attack": "pgd-100"}, "VA": {"n": 50}, "UNR": {"n": 7}}
    values = {"SA": sa, "RA": ra, "VA": va, "UNR": 15.0, "UNR_nonlinear": 6.0, "measured": measured}
    return values | {"missing": 0, "work_s": 1.5} | more


def summary(**blocks: dict[str, Any]) -> dict[str, Any]:
    return {"variants": blocks, "titles": {"base": "Before"}}


def test_the_thesis_ratios() -> None:
    """CNN-B with the provided mask: SA 74.08, RA 57.2, VA 49.65."""
    (row,) = tradeoff(summary(base=block(74.08, 57.2, 49.65)), {})
    assert row.title == "Before"
    assert row.values["1-RA/SA"] == pytest.approx(100 * (1 - 57.2 / 74.08))
    assert row.values["VA/RA"] == pytest.approx(100 * 49.65 / 57.2)


def test_every_figure_has_its_sample_size() -> None:
    (row,) = tradeoff(summary(p=block(70, 50, 40)), {"p": {"ratio": 0.5}})
    assert row.to_json()["n"] == {
        "SA": 10000, "RA": 9000, "VA": 50, "UNR": 7,
        "1-RA/SA": {"SA": 10000, "RA": 9000}, "VA/RA": {"VA": 50, "RA": 9000},
    }  # fmt: skip
    flat = row.flat()
    assert [flat[f"{name}_n"] for name in ("SA", "RA", "VA", "UNR")] == [10000, 9000, 50, 7]
    assert (flat["ratio"], flat["attack"]) == (0.5, "pgd-100")


@pytest.mark.parametrize(("sa", "ra", "va"), [(None, None, 10.0), (0.0, 0.0, 0.0)])
def test_nothing_is_divided_by_nothing(sa: float | None, ra: float | None, va: float) -> None:
    (row,) = tradeoff(summary(p=block(sa, ra, va)), {})
    assert row.values["1-RA/SA"] is None
    assert row.values["VA/RA"] is None
