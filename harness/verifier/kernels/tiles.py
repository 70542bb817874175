"""Sparse rows with one pattern, multiplied together with a block of lanes.

Rows of a convolution that stand at one place, and all rows of a fully connected layer, read the same columns: only
their values differ. A tile is up to `WIDTH` such rows. What it reads is loaded once for all of them, and its sums stay
in vector registers until the tile is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from harness.verifier.kernels.contract import LANES
from harness.verifier.kernels.lanes import CONTRACT

Array = NDArray[Any]

WIDTH = 4
"""Rows of a tile at most: times a part of a block these are eight sums, as many as hide the time of an addition."""
PART_BITS = 512
"""Lanes that are summed together, in bits: two AVX2 registers, one cache line."""


class Tiles(NamedTuple):
    """A sparse matrix in tiles, in the order in which a pass takes them."""

    start: Array
    """`(tiles + 1,)`: tile t reads the columns `column[start[t]:start[t + 1]]`."""
    column: Array
    """int32."""
    width: Array
    """`(tiles,)`: rows of each tile."""
    row: Array
    """`(tiles, WIDTH)` int32: their numbers; -1 behind the last."""
    first: Array
    """`(tiles,)`: where a tile's values begin; those that belong to one column lie together."""
    value: Array


def _gather(
    _context: Any, values: Any, indices: Any, begin: Any, end: Any, first: Any, width: Any, table: Any, sums: Any
) -> tuple[Any, Callable[..., Any]]:
    return types.void(values, indices, begin, end, first, width, table, sums), _generated


def _generated(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    values, indices, table, sums = (
        context.make_array(signature.args[k])(context, builder, value=args[k]).data for k in (0, 1, 6, 7)
    )
    element, (begin, end, first, width) = signature.args[0].dtype, args[2:6]
    part = PART_BITS // element.bitwidth
    done = builder.append_basic_block("tile.done")
    cases = [builder.append_basic_block(f"tile.{rows}") for rows in range(1, WIDTH + 1)]
    chosen = builder.switch(width, done)
    for rows, case in enumerate(cases, 1):
        chosen.add_case(ir.Constant(width.type, rows), case)
        builder.position_at_end(case)
        for lane in range(0, LANES, part):
            _Part(context, builder, element, part, lane).product(rows, values, indices, begin, end, first, table, sums)
        builder.branch(done)
    builder.position_at_end(done)
    return context.get_dummy_value()


class _Part:
    """Some neighbouring lanes of one floating type, while a function is being compiled."""

    def __init__(self, context: Any, builder: Any, element: Any, count: int, first: int) -> None:
        self._builder, self._first, self._word = builder, first, ir.IntType(64)
        self._vector = ir.VectorType(context.get_data_type(element), count)
        self._align = element.bitwidth // 8
        self._undefined = ir.Constant(self._vector, ir.Undefined)
        self._zero = ir.Constant(self._vector, [0.0] * count)
        self._everywhere = ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count)

    def product(
        self, rows: int, values: Any, indices: Any, begin: Any, end: Any, first: Any, table: Any, sums: Any
    ) -> None:
        """Generates the product of a tile of so many rows with these lanes of the table."""
        builder = self._builder
        totals = [cgutils.alloca_once(builder, self._vector) for _ in range(rows)]  # type: ignore[no-untyped-call]
        for total in totals:
            builder.store(self._zero, total)
        with cgutils.for_range_slice(builder, begin, end, ir.Constant(begin.type, 1)) as (i, _):
            lanes = self._load(table, builder.sext(builder.load(builder.gep(indices, [i])), self._word))
            entry = builder.add(first, builder.mul(builder.sub(i, begin), self._number(rows)))
            for m, total in enumerate(totals):
                value = builder.load(builder.gep(values, [builder.add(entry, self._number(m))]))
                product = builder.fmul(self._spread(value), lanes, flags=CONTRACT)
                builder.store(builder.fadd(builder.load(total), product, flags=CONTRACT), total)
        for m, total in enumerate(totals):
            stored = builder.store(builder.load(total), self._address(sums, self._number(m)))
            stored.align = self._align

    def _number(self, n: int) -> Any:
        return ir.Constant(self._word, n)

    def _address(self, table: Any, row: Any) -> Any:
        place = self._builder.add(self._builder.mul(row, self._number(LANES)), self._number(self._first))
        return self._builder.bitcast(self._builder.gep(table, [place]), self._vector.as_pointer())

    def _load(self, table: Any, row: Any) -> Any:
        loaded = self._builder.load(self._address(table, row))
        loaded.align = self._align
        return loaded

    def _spread(self, value: Any) -> Any:
        placed = self._builder.insert_element(self._undefined, value, ir.Constant(ir.IntType(32), 0))
        return self._builder.shuffle_vector(placed, self._undefined, self._everywhere)


# Numba passes the typing context itself, which its annotations do not say.
gather: Callable[..., None] = intrinsic(_gather)
"""`gather(values, index, begin, end, first, width, table, sums)`, in compiled code only: fills row m of `sums` with
the sum over i in [begin, end) of `values[first + (i - begin) * width + m] * table[index[i]]`, all lanes at once.

Products are added in the order of the entries, lane by lane, so no lane's result depends on the others. Nothing is
checked: an index outside the table reads foreign memory.

Shapes: values `(entries,)`, index int32, table `(columns, LANES)`, sums `(WIDTH, LANES)`, not part of the table;
C-contiguous; values, table and sums of one floating type. begin, end, first and width are int64, width in [1, WIDTH].
"""
