"""One compacted sparse column times a table of bound rows, with the sums in vector registers.

Like `lanes.accumulate`, for three widths: the rows that a backward pass bounds together are its lanes, and a box has
few or many of them. A narrow pass keeps several partial sums, so that it is not held up by the latency of an addition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WIDEST = 32
"""Rows of the widest pass: eight AVX2 registers of float64."""
CONTRACT = ("contract",)


def _accumulate(width: int) -> Callable[..., None]:
    """Returns the intrinsic for tables of `width` lanes."""
    sums = WIDEST // width

    def typed(
        _typing: Any, values: Any, indices: Any, begin: Any, end: Any, table: Any, out: Any, place: Any
    ) -> tuple[Any, Callable[..., Any]]:
        return types.void(values, indices, begin, end, table, out, place), generate

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values, indices, table, out = (
            context.make_array(signature.args[k])(context, builder, value=args[k]).data for k in (0, 1, 4, 5)
        )
        element = signature.args[0].dtype
        vector, word = ir.VectorType(context.get_data_type(element), width), ir.IntType(64)
        undefined, first = ir.Constant(vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
        align, lanes_per_row = element.bitwidth // 8, ir.Constant(word, width)

        def vector_at(base: Any, row: Any) -> Any:
            address = builder.gep(base, [builder.mul(row, lanes_per_row)])
            return builder.bitcast(address, vector.as_pointer())

        def load(address: Any) -> Any:
            loaded = builder.load(address)
            loaded.align = align
            return loaded

        def add(total: Any, i: Any) -> None:
            row = builder.sext(builder.load(builder.gep(indices, [i])), word)
            value = builder.insert_element(undefined, builder.load(builder.gep(values, [i])), first)
            spread = builder.shuffle_vector(value, undefined, everywhere)
            product = builder.fmul(spread, load(vector_at(table, row)), flags=CONTRACT)
            builder.store(builder.fadd(builder.load(total), product, flags=CONTRACT), total)

        target = vector_at(out, builder.sext(args[6], word) if args[6].type.width < 64 else args[6])
        totals = [cgutils.alloca_once(builder, vector) for _ in range(sums)]  # type: ignore[no-untyped-call]
        builder.store(load(target), totals[0])
        for total in totals[1:]:
            builder.store(ir.Constant(vector, [0.0] * width), total)
        begin, end = args[2], args[3]
        span = ir.Constant(begin.type, sums)
        full = builder.add(begin, builder.mul(builder.sdiv(builder.sub(end, begin), span), span))
        with cgutils.for_range_slice(builder, begin, full, span) as (i, _):
            for k, total in enumerate(totals):
                add(total, builder.add(i, ir.Constant(begin.type, k)))
        with cgutils.for_range_slice(builder, full, end, ir.Constant(begin.type, 1)) as (i, _):
            add(totals[0], i)
        result = builder.load(totals[0])
        for total in totals[1:]:
            result = builder.fadd(result, builder.load(total))
        stored = builder.store(result, target)
        stored.align = align
        return context.get_dummy_value()

    # Numba passes the typing context itself, which its annotations do not say.
    made: Callable[..., None] = intrinsic(typed)
    return made


accumulate_8 = _accumulate(8)
"""`accumulate_8(values, indices, begin, end, table, out, place)`, in compiled code only: adds the sum over i in
[begin, end) of `values[i] * table[indices[i]]` to `out[place]`, 8 lanes at once.

Shapes: values `(entries,)`, indices `(entries,)` int32, table and out flat, 8 to a row; float64, C-contiguous. Nothing
is checked: an index outside the table reads foreign memory.
"""
accumulate_16 = _accumulate(16)
"""As `accumulate_8` with 16 lanes to a row."""
accumulate_32 = _accumulate(32)
"""As `accumulate_8` with 32 lanes to a row."""
