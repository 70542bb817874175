"""Tiles are the matrix that they are made of, and their products are its products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.verifier import tiling
from harness.verifier.kernels.contract import LANES
from harness.verifier.kernels.jit import compiled
from harness.verifier.kernels.tiles import WIDTH, Tiles, gather

Array = NDArray[Any]


def by_rows(dense: Array) -> tuple[Array, Array, Array]:
    rows, columns = np.nonzero(dense)
    start = np.concatenate([[0], np.cumsum((dense != 0).sum(1))]).astype(np.int64)
    return start, columns.astype(np.int32), dense[rows, columns]


def back(tiles: Tiles, shape: tuple[int, int]) -> Array:
    dense = np.zeros(shape)
    for t, width in enumerate(tiles.width):
        read = tiles.column[tiles.start[t] : tiles.start[t + 1]]
        values = tiles.value[tiles.first[t] : tiles.first[t] + len(read) * width].reshape(-1, width)
        for m in range(width):
            dense[tiles.row[t, m], read] = values[:, m]
        assert (tiles.row[t, width:] == -1).all()
    return dense


def matrix(rows: int, columns: int, patterns: int, seed: int) -> Array:
    """Rows that share a few patterns, one of which is empty."""
    random = np.random.default_rng(seed)
    mask = random.random((patterns, columns)) < 0.4
    mask[0] = False
    return np.where(mask[random.integers(0, patterns, rows)], random.normal(size=(rows, columns)), 0.0)


@compiled
def products(tiles: Tiles, table: Array, out: Array) -> None:
    sums = np.empty((WIDTH, LANES), out.dtype)
    for t in range(len(tiles.width)):
        gather(
            tiles.value, tiles.column, tiles.start[t], tiles.start[t + 1], tiles.first[t], tiles.width[t], table, sums
        )  # fmt: skip
        for m in range(tiles.width[t]):
            out[tiles.row[t, m]] = sums[m]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("patterns", [1, 3, 40])
def test_tiles_are_the_matrix_in_the_order_of_turns(seed: int, patterns: int) -> None:
    dense = matrix(37, 23, patterns, seed)
    turn = np.random.default_rng(seed).integers(0, 4, len(dense))
    tiles = tiling.tiled(*by_rows(dense), turn)
    assert (back(tiles, dense.shape) == dense).all()
    rows = tiles.row[tiles.row >= 0]
    assert sorted(rows) == list(range(37))
    assert (np.diff(turn[rows]) >= 0).all()


def test_equal_patterns_of_one_turn_share_tiles() -> None:
    dense = np.ones((10, 5))
    tiles = tiling.tiled(*by_rows(dense), np.repeat([0, 1], [7, 3]))
    assert tiles.width.tolist() == [4, 3, 3]


def test_patterns_that_look_alike_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sum of numbers is the same here, so only the comparison of columns can tell."""

    class Same:
        def integers(self, _low: int, _high: int, count: int, kind: type[np.uint64]) -> Array:
            return np.ones(count, kind)

    dense = matrix(60, 9, 12, 3)
    monkeypatch.setattr(np.random, "default_rng", lambda _seed: Same())
    assert (back(tiling.tiled(*by_rows(dense), np.zeros(60, np.int64)), dense.shape) == dense).all()


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (5, 4)])
def test_a_matrix_without_entries(shape: tuple[int, int]) -> None:
    tiles = tiling.tiled(*by_rows(np.zeros(shape)), np.zeros(shape[0], np.int64))
    assert sorted(tiles.row[tiles.row >= 0]) == list(range(shape[0]))
    assert len(tiles.value) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(3))
def test_products_are_those_of_the_dense_matrix(dtype: type[np.floating], seed: int) -> None:
    dense = matrix(50, 31, 6, seed)
    tiles = tiling.tiled(*by_rows(dense), np.zeros(50, np.int64))
    tiles = tiles._replace(value=tiles.value.astype(dtype))
    table = np.random.default_rng(seed).normal(size=(31, LANES)).astype(dtype)
    out = np.full((50, LANES), np.nan, dtype)
    products(tiles, table, out)
    assert np.abs(out - dense @ table).max() <= 64 * 31 * float(np.finfo(dtype).eps)
