"""From a sparse matrix to the tiles that compiled passes take: rows that read the same columns, put together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.verifier.kernels.tiles import WIDTH, Tiles

Array = NDArray[Any]


class _Order(NamedTuple):
    """Rows in the order of their tiles."""

    row: Array
    """The rows' numbers."""
    fresh: Array
    """Whether each begins a tile."""


def tiled(start: Array, index: Array, value: Array, turn: Array) -> Tiles:
    """Returns a sparse matrix in tiles.

    Guarantees that the rows of a tile have one turn and read exactly the same columns, and that tiles come by turn:
    a pass may rely on all rows of earlier turns being done.

    Args:
        start: `(rows + 1,)`: entries of row r are `start[r]:start[r + 1]`.
        index: columns of the entries, the same order for equal rows.
        value: the entries.
        turn: `(rows,)`: when a pass takes each row; rows of one turn do not read each other.
    """
    rows, fresh = _in_order(start, index, turn)
    first_of = np.flatnonzero(fresh)
    tile = np.cumsum(fresh) - 1
    width = np.diff(np.append(first_of, len(rows)))
    member = np.arange(len(rows)) - first_of[tile]
    length = np.diff(start)[rows]
    row = np.full((len(first_of), WIDTH), -1, np.int32)
    row[tile, member] = rows
    tile_length = length[first_of]
    first = np.concatenate([[0], np.cumsum(tile_length * width)])[:-1].astype(np.int64)
    values = np.empty(len(index), value.dtype)
    inside = _counting(length)
    values[np.repeat(first[tile] + member, length) + inside * np.repeat(width[tile], length)] = value[
        np.repeat(start[rows], length) + inside
    ]
    starts = np.concatenate([[0], np.cumsum(tile_length)]).astype(np.int64)
    inside = _counting(tile_length)
    return Tiles(
        starts,
        index[np.repeat(start[rows[first_of]], tile_length) + inside],
        width.astype(np.int64),
        row,
        first,
        values,
    )


def _in_order(start: Array, index: Array, turn: Array) -> _Order:
    """Sorts rows by turn and pattern; patterns with neighbouring first columns are neighbours."""
    length, rows = np.diff(start), len(turn)
    # A sum of random numbers tells patterns apart but for accidents, which the comparison below finds.
    number = np.random.default_rng(0).integers(0, 2**63, int(index.max(initial=-1)) + 1, np.uint64)
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(number[index])])
    pattern = total[start[1:]] - total[start[:-1]]
    lead = np.append(index, 0)[np.minimum(start[:-1], len(index))]
    order = np.lexsort((np.arange(rows), pattern, length, lead, turn))
    same = np.zeros(rows, np.bool_)
    one, other = order[:-1], order[1:]
    keys = (turn, length, pattern, lead)
    same[1:] = np.all([key[one] == key[other] for key in keys], axis=0)
    _tell_apart(start, index, order, same)
    begins = np.flatnonzero(~same)
    rank = np.arange(rows) - np.repeat(begins, np.diff(np.append(begins, rows)))
    return _Order(order, rank % WIDTH == 0)


def _tell_apart(start: Array, index: Array, order: Array, same: Array) -> None:
    """Clears `same` for rows that do not read exactly what the row before them in the order reads."""
    at = np.flatnonzero(same)
    length = np.diff(start)[order[at]]
    inside = _counting(length)
    mine = index[np.repeat(start[order[at]], length) + inside]
    before = index[np.repeat(start[order[at - 1]], length) + inside]
    same[np.repeat(at, length)[mine != before]] = False


def _counting(lengths: Array) -> Array:
    """Returns 0, 1, ..., length - 1 for each of the lengths, one after the other."""
    ends: Array = np.cumsum(lengths)
    numbers: Array = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
    return numbers
