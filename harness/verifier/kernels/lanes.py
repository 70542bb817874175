"""One sparse row times a block of lanes, with the sums in vector registers.

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
    return types.void(values, indices, begin, end, table, out), _generate


def _generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    values, indices, table, out = (
        context.make_array(signature.args[k])(context, builder, value=args[k]).data for k in (0, 1, 4, 5)
    )
    element = signature.args[0].dtype
    vector = ir.VectorType(context.get_data_type(element), LANES)
    word, undefined = ir.IntType(64), ir.Constant(vector, ir.Undefined)
    first, everywhere = ir.Constant(ir.IntType(32), 0), ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    align = element.bitwidth // 8

    def load(address: Any) -> Any:
        loaded = builder.load(builder.bitcast(address, vector.as_pointer()))
        loaded.align = align
        return loaded

    total = cgutils.alloca_once(builder, vector)  # type: ignore[no-untyped-call]
    builder.store(load(out), total)
    step = ir.Constant(args[2].type, 1)
    with cgutils.for_range_slice(builder, args[2], args[3], step) as (i, _):
        row = builder.sext(builder.load(builder.gep(indices, [i])), word)
        lanes = load(builder.gep(table, [builder.mul(row, ir.Constant(word, LANES))]))
        value = builder.insert_element(undefined, builder.load(builder.gep(values, [i])), first)
        spread = builder.shuffle_vector(value, undefined, everywhere)
        product = builder.fmul(spread, lanes, flags=CONTRACT)
        builder.store(builder.fadd(builder.load(total), product, flags=CONTRACT), total)
    stored = builder.store(builder.load(total), builder.bitcast(out, vector.as_pointer()))
    stored.align = align
    return context.get_dummy_value()


# Numba passes the typing context itself, which its annotations do not say.
accumulate: Callable[..., None] = intrinsic(_accumulate)
"""`accumulate(values, indices, begin, end, table, out)`, in compiled code only: adds the sum over i in [begin, end) of
`values[i] * table[indices[i]]` to `out`, all lanes at once.

Shapes: values `(entries,)`, indices `(entries,)` int32, table `(rows, LANES)`, out `(LANES,)`; C-contiguous; values,
table and out of one floating type. Nothing is checked: an index outside the table reads foreign memory.
"""
