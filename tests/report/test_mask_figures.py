"""Figures of masks and sweeps: what their CSV says, that drawings repeat, and the geometry of Venn diagrams."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis.masks import overlap
from harness.analysis.tradeoff import TradeoffRow
from harness.domain import UsageError
from harness.grafting.ranking import Ranking, rank
from harness.grafting.selection import select
from harness.report.mask_figures import write_overlap, write_score_histograms, write_selection
from harness.report.sweep_figures import write_tradeoff_figures
from harness.report.venn import centre_distance, label_places, layout, lens_area

RANDOM = np.random.default_rng(0)


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


def masks(count: int, neurons: int = 200) -> dict[str, Any]:
    return {f"m{k}": np.random.default_rng(k).random(neurons) < 0.5 for k in range(count)}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_an_overlap_has_every_region_in_its_table(tmp_path: Path, count: int) -> None:
    found = overlap(masks(count))
    paths = write_overlap(found, "Title", tmp_path, "overlap")
    assert [path.suffix for path in paths] == [".png", ".svg", ".csv"]
    rows = table(paths[2])
    assert {row["region"]: int(row["neurons"]) for row in rows} == dict(found.regions)
    assert [row["m1"] for row in rows] == [key[1] for key in found.regions]
    text = paths[1].read_text()
    assert "Title" in text
    assert all(f">{n}<" in text for n in found.regions.values() if n)


def test_the_same_numbers_give_the_same_files(tmp_path: Path) -> None:
    first, second = (write_overlap(overlap(masks(3)), "T", tmp_path / name, "o") for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_one_mask_has_no_overlap(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least two"):
        write_overlap(overlap(masks(1)), "T", tmp_path, "o")
    assert not list(tmp_path.iterdir())


def test_selection_says_which_stage_took_each_neuron(tmp_path: Path) -> None:
    unstable, values = RANDOM.random(100), RANDOM.random(100)
    chosen = select(values, unstable, ranking=Ranking.MIN, gammas=(2.0, math.inf, 0.0), ratio=0.6)
    ranked = rank(unstable, Ranking.MIN), rank(values, Ranking.MIN)
    paths = write_selection(ranked, chosen.stage_picks, (2.0, math.inf, 0.0), "T", tmp_path, "s")
    rows = table(paths[2])
    assert [int(row["neuron"]) for row in rows if row["stage"] == "2"] == sorted(chosen.stage_picks[1].tolist())
    assert sum(row["stage"] != "0" for row in rows) == chosen.count
    assert float(rows[7]["r_u"]) == pytest.approx(float(ranked[0][7]))


def test_histograms_count_every_neuron_once(tmp_path: Path) -> None:
    values = {ranking.value: rank(RANDOM.random(300), ranking) for ranking in Ranking}
    rows = table(write_score_histograms(values, values, "T", tmp_path, "h")[2])
    for ranking in Ranking:
        for kind in ("significance", "instability"):
            assert sum(int(r["neurons"]) for r in rows if (r["ranking"], r["score"]) == (ranking, kind)) == 300


@pytest.mark.parametrize(("first", "second"), [(3.0, 3.0), (3.0, 1.0)])
def test_circles_overlap_by_the_area_asked_for(first: float, second: float) -> None:
    whole = math.pi * second**2
    for share in (0.0, 0.1, 0.5, 0.9):
        assert lens_area(first, second, centre_distance(first, second, share * whole)) == pytest.approx(share * whole)
    assert centre_distance(first, second, whole) == first - second
    # By counting: a lens has the points that lie in both circles.
    x, y = np.meshgrid(np.linspace(-3, 3, 1500), np.linspace(-3, 3, 1500))
    both = (x**2 + y**2 <= first**2) & ((x - 2.2) ** 2 + y**2 <= second**2)
    assert lens_area(first, second, 2.2) == pytest.approx(both.mean() * 36, rel=5e-3) or first == second


def test_labels_stand_in_their_regions() -> None:
    found = overlap(masks(3))
    radii = [math.sqrt(size / math.pi) for size in found.sizes]
    centres = layout(radii, found)
    places, hidden = label_places(centres, radii, found.regions)
    assert not hidden
    for key, (x, y) in places.items():
        inside = [math.hypot(x - cx, y - cy) <= r for (cx, cy), r in zip(centres, radii, strict=True)]
        assert inside == [digit == "1" for digit in key]


def test_a_region_without_room_is_named() -> None:
    _, hidden = label_places([(0.0, 0.0), (9.0, 0.0)], [1.0, 1.0], {"10": 3, "01": 3, "11": 2})
    assert hidden == ["11"]


def row(name: str, sa: float | None, **axes: Any) -> TradeoffRow:
    values = {"SA": sa, "RA": 50.0, "VA": 40.0}
    return TradeoffRow(name, name, axes, values, {"SA": 100, "RA": 100, "VA": 20, "UNR": None}, "pgd-100", 0, 1.0)


def test_a_tradeoff_runs_along_the_ratio_in_lines_of_the_other_choices(tmp_path: Path) -> None:
    rows = [row("before", 80.0)]
    rows += [row(f"{m}{r}", 70 - r, ratio=r, method=m, seed=1) for m in ("graft", "prune") for r in (0.5, 0.25)]
    write_tradeoff_figures(rows, "T", tmp_path)
    lines = table(tmp_path / "tradeoff.csv")
    assert list(lines[0]) == ["series", "ratio", "metric", "percent", "low", "high", "n"]
    along = [float(line["ratio"]) for line in lines if (line["series"], line["metric"]) == ("graft", "SA")]
    assert along == [0.25, 0.5]
    (verified,) = (line for line in lines if (line["series"], line["ratio"], line["metric"]) == ("prune", "0.5", "VA"))
    assert float(verified["low"]) < 40 < float(verified["high"])
    assert len(table(tmp_path / "tradeoff_plane.csv")) == 5


@pytest.mark.parametrize("axes", [{"gammas": "2,1"}, {"ranking": "min"}])
def test_a_tradeoff_without_ratios_or_values_is_drawn_too(tmp_path: Path, axes: dict[str, Any]) -> None:
    rows = [row("a", None, **axes), row("b", 60.0, **dict.fromkeys(axes, "1"))]
    paths = write_tradeoff_figures(rows, "T", tmp_path)
    assert all(path.stat().st_size for path in paths)
    assert {line["percent"] for line in table(tmp_path / "tradeoff.csv") if line["metric"] == "SA"} == {"", "60.0"}
