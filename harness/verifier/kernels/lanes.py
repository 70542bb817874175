"""One sparse row times a block of lanes, in vector registers: summed over the row, or spread to its columns.

Numba's own loop vectoriser keeps such sums in memory, which costs a factor of three. Here the loop is written in LLVM's
vector types; LLVM maps a block of lanes onto whatever registers the processor has. Products are added in the order of
the entries, lane by lane, so no lane's result depends on the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from harness.verifier.kernels.contract import LANES

CONTRACT = ("contract",)
"""Allows a fused multiply-add, which rounds less; nothing else is relaxed."""


def _accumulate(
    _typing: Any, values: Any, indices: Any, begin: Any, end: Any, table: Any, out: Any
) -> tuple[Any, Callable[..., Any]]:
    return types.void(values, indices, begin, end, table, out), _gathered


def _scatter(
    _typing: Any, values: Any, indices: Any, begin: Any, end: Any, table: Any, lam: Any
) -> tuple[Any, Callable[..., Any]]:
    return types.void(values, indices, begin, end, table, lam), _scattered


class _Block:
    """Blocks of lanes of one floating type, while a function is being compiled."""

    def __init__(self, context: Any, builder: Any, element: Any) -> None:
        self._builder = builder
        self.vector = ir.VectorType(context.get_data_type(element), LANES)
        self._align = element.bitwidth // 8
        self._undefined = ir.Constant(self.vector, ir.Undefined)
        self._first = ir.Constant(ir.IntType(32), 0)
        self._everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)

    def load(self, address: Any) -> Any:
        loaded = self._builder.load(self._builder.bitcast(address, self.vector.as_pointer()))
        loaded.align = self._align
        return loaded

    def store(self, block: Any, address: Any) -> None:
        stored = self._builder.store(block, self._builder.bitcast(address, self.vector.as_pointer()))
        stored.align = self._align

    def row(self, table: Any, indices: Any, i: Any) -> Any:
        """Returns the address of the row of `table` that `indices[i]` names."""
        word = ir.IntType(64)
        row = self._builder.sext(self._builder.load(self._builder.gep(indices, [i])), word)
        return self._builder.gep(table, [self._builder.mul(row, ir.Constant(word, LANES))])

    def plus_product(self, total: Any, scalar: Any, block: Any) -> Any:
        """Returns `total + scalar * block`."""
        value = self._builder.insert_element(self._undefined, scalar, self._first)
        spread = self._builder.shuffle_vector(value, self._undefined, self._everywhere)
        product = self._builder.fmul(spread, block, flags=CONTRACT)
        return self._builder.fadd(total, product, flags=CONTRACT)


def _pointers(context: Any, builder: Any, signature: Any, args: Any) -> list[Any]:
    return [context.make_array(signature.args[k])(context, builder, value=args[k]).data for k in (0, 1, 4, 5)]


def _gathered(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    values, indices, table, out = _pointers(context, builder, signature, args)
    block = _Block(context, builder, signature.args[0].dtype)
    total = cgutils.alloca_once(builder, block.vector)  # type: ignore[no-untyped-call]
    builder.store(block.load(out), total)
    with cgutils.for_range_slice(builder, args[2], args[3], ir.Constant(args[2].type, 1)) as (i, _):
        lanes, value = block.load(block.row(table, indices, i)), builder.load(builder.gep(values, [i]))
        builder.store(block.plus_product(builder.load(total), value, lanes), total)
    block.store(builder.load(total), out)
    return context.get_dummy_value()


def _scattered(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    values, indices, table, lam = _pointers(context, builder, signature, args)
    block = _Block(context, builder, signature.args[0].dtype)
    lanes = block.load(lam)
    with cgutils.for_range_slice(builder, args[2], args[3], ir.Constant(args[2].type, 1)) as (i, _):
        address, value = block.row(table, indices, i), builder.load(builder.gep(values, [i]))
        block.store(block.plus_product(block.load(address), value, lanes), address)
    return context.get_dummy_value()


# Numba passes the typing context itself, which its annotations do not say.
accumulate: Callable[..., None] = intrinsic(_accumulate)
"""`accumulate(values, indices, begin, end, table, out)`, in compiled code only: adds the sum over i in [begin, end) of
`values[i] * table[indices[i]]` to `out`, all lanes at once.

Shapes: values `(entries,)`, indices `(entries,)` int32, table `(rows, LANES)`, out `(LANES,)`; C-contiguous; values,
table and out of one floating type. Nothing is checked: an index outside the table reads foreign memory.
"""

scatter: Callable[..., None] = intrinsic(_scatter)
"""`scatter(values, indices, begin, end, table, lam)`, in compiled code only: adds `values[i] * lam` to
`table[indices[i]]` for every i in [begin, end), all lanes at once.

Shapes as for `accumulate`, lam `(LANES,)`, which must not be part of the table. Nothing is checked: an index outside
the table writes to foreign memory.
"""
