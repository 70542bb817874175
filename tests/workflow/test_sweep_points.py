"""A grid becomes points: all combinations, each once, with names that do not depend on the other points."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import REPOSITORY, find_spec
from harness.domain import UsageError
from harness.sweep_config import SweepSpec, find_sweep, load_sweep
from harness.workflow.sweep import MAX_NAME, point_titles, sweep_points

BASE = find_spec("cifar10_cnnb", [REPOSITORY])
HEAD = "name: s\ntitle: S\nbenchmark: cifar10_cnnb\nverification: {inputs: 5, timeout_s: 1}\n"


def sweep(folder: Path, grid: str) -> SweepSpec:
    path = folder / "s.yaml"
    path.write_text(f"{HEAD}grid: {grid}\n")
    return load_sweep(path)


def test_all_combinations_with_the_benchmarks_values(tmp_path: Path) -> None:
    points = sweep_points(
        sweep(tmp_path, "{heuristic: [GAP, SAP], ranking: [min, dense], retrain: [true, false], seed: [1, 2]}"), BASE
    )
    assert len(points) == 16
    assert {point.gammas for point in points} == {(2.0, 1.5, 1.0, 0.0)}
    assert {point.ratio for point in points} == {0.5}
    assert points[1].axes() == {
        "heuristic": "GAP", "ranking": "min", "instability_ranking": "min", "gammas": "2,1.5,1,0", "ratio": 0.5,
        "scope": "network", "method": "graft", "retrain": True, "seed": 2,
    }  # fmt: skip


def test_the_same_ranking_by_two_names_is_one_point(tmp_path: Path) -> None:
    found = sweep(tmp_path, "{heuristic: [GAP], ranking: [min], instability_ranking: [same, min, dense]}")
    assert [point.instability_ranking for point in sweep_points(found, BASE)] == ["min", "dense"]


def test_names_are_distinct_short_and_stay_when_an_axis_is_added(tmp_path: Path) -> None:
    small = sweep_points(sweep(tmp_path, "{heuristic: [GAP], ranking: [min]}"), BASE)
    grid = (
        "{heuristic: [GAP, random], ranking: [min], gammas: [[2, 1.5, 1, 0], [inf]], ratio: [1/3, 0.5], seed: [1, 2],"
    )
    large = sweep_points(sweep(tmp_path, grid + " scope: [network, layer], method: [graft, prune]}"), BASE)
    names = [point.name for point in large]
    assert len(set(names)) == len(names) == 64
    assert small[0].name in names
    assert max(map(len, names)) <= MAX_NAME
    # A random mask depends on the seed, any other does not.
    assert len({point.mask_name for point in large}) == 8 + 16


def test_a_long_list_of_gammas_still_has_a_name(tmp_path: Path) -> None:
    gammas = ", ".join(f"{k}.25" for k in range(30))
    grids = [f"{{heuristic: [GAP], ranking: [min], gammas: [[{gammas}, {last}]]}}" for last in (1, 2)]
    names = {point.name for grid in grids for point in sweep_points(sweep(tmp_path, grid), BASE)}
    assert len(names) == 2
    assert max(map(len, names)) <= MAX_NAME


def test_titles_say_where_points_differ(tmp_path: Path) -> None:
    points = sweep_points(
        sweep(tmp_path, "{heuristic: [GAP], ranking: [min], ratio: [0.25, 0.5], retrain: [false, true]}"), BASE
    )
    assert list(point_titles(points).values()) == [
        "ratio 0.25, weights kept", "ratio 0.25, retrained", "ratio 0.5, weights kept", "ratio 0.5, retrained"
    ]  # fmt: skip


def test_a_benchmark_that_is_not_trained_cannot_be_swept(tmp_path: Path) -> None:
    bare = BASE.model_copy(update={"grafting": None})
    with pytest.raises(UsageError, match="no 'training' and 'grafting'"):
        sweep_points(sweep(tmp_path, "{heuristic: [GAP], ranking: [min]}"), bare)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "specs/sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_committed_sweeps(path: Path) -> None:
    found = find_sweep(path.stem, [REPOSITORY])
    assert found.name == path.stem
    assert len(sweep_points(found, find_spec(found.benchmark, [REPOSITORY]))) > 1
