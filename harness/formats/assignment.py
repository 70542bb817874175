"""Counterexamples as VNN-LIB 2.0 writes them: each variable as a line `name type [dims]`, then a number a line.

All inputs and outputs of a network stand in the order of their declaration, numbers in C order (standard, 5.3.1).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from harness.domain import Counterexample, FloatArray, UnsupportedPropertyError
from harness.formats.counterexample import (
    MalformedCounterexampleError,
    MissingCounterexampleError,
    WrongShapeError,
    format_counterexample,
)
from harness.formats.vnnlib2_query import parse_query
from harness.formats.vnnlib2_text import is_version_2

_HEADER = re.compile(r"([A-Za-z][A-Za-z0-9_]*)\s+([a-z]+[0-9]*)\s+\[([0-9,\s]*)\]")
_TYPES = ("float16", "float32", "float64", "bfloat16", "real")


def format_witness(counterexample: Counterexample, written: str, source: str) -> str:
    """Returns the text of a counterexample in the form of its property's version.

    Of a property of several networks it is the counterexample of the joined one (`harness.formats.several`): all get
    the same input, and the outputs are theirs one after another.

    Args:
        counterexample: inputs, and outputs, which 2.0 wants.
        written: the property's text.
        source: what errors call it.

    Raises:
        UsageError: the property cannot be parsed.
        UnsupportedPropertyError: a network has more than one input and one output.
        ValueError: the counterexample has another size, a value is not finite, or a 2.0 property's outputs are missing.
    """
    if not is_version_2(written):
        return format_counterexample(counterexample)
    networks = parse_query(written, source).networks
    if any((len(network.inputs), len(network.outputs)) != (1, 1) for network in networks):
        raise UnsupportedPropertyError(f"{source}: no witness is written for more than one input and one output")
    x, y = counterexample.x, counterexample.y
    if y is None:
        raise ValueError("a witness of VNN-LIB 2.0 has outputs")
    variables = []
    for network in networks:
        (given,), (wanted,) = network.inputs, network.outputs
        own, y = y[: wanted.size], y[wanted.size :]
        for tensor, values in ((given, x), (wanted, own)):
            variables.append((tensor.name, tensor.dtype, tensor.shape, values))
    if y.size:
        raise ValueError(f"{y.size} outputs more than the property declares")
    return format_assignment(variables)


def format_assignment(variables: Sequence[tuple[str, str, tuple[int, ...], FloatArray]]) -> str:
    """Returns the text of an assignment; every value is a plain decimal that reads back bit-equal in its own type.

    Args:
        variables: name, element type, shape and flat values of each declared variable, in order.

    Raises:
        ValueError: a variable has another number of values than its shape, or one that is not finite.
    """
    lines = []
    for name, dtype, shape, values in variables:
        if values.size != math.prod(shape) or not np.isfinite(values).all():
            raise ValueError(f"'{name}' needs {math.prod(shape)} finite values")
        lines.append(f"{name} {dtype} [{','.join(map(str, shape))}]")
        # Without an exponent: not every reader of the competition's files knows one.
        lines += [np.format_float_positional(value, unique=True, trim="0") for value in values.ravel()]
    return "\n".join(lines) + "\n"


def parse_assignment(text: str, variables: Sequence[tuple[str, tuple[int, ...]]]) -> list[FloatArray]:
    """Returns the values of each variable, flat, as float64.

    Args:
        text: the witness without the verdict's line.
        variables: name and shape of each declared variable, in order.

    Raises:
        MissingCounterexampleError: the text is empty.
        MalformedCounterexampleError: a variable is missing, has another name or type, or a value is no finite number.
        WrongShapeError: a variable has another shape, or another number of values than its shape.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise MissingCounterexampleError("there is no counterexample text")
    starts = [k for k, line in enumerate(lines) if _HEADER.fullmatch(line)]
    if not starts or starts[0] != 0:
        raise MalformedCounterexampleError(f"expected 'name type [dims]' at '{lines[0][:30]}'")
    blocks = [lines[a:b] for a, b in zip(starts, [*starts[1:], len(lines)], strict=True)]
    if len(blocks) != len(variables):
        names = ", ".join(name for name, _ in variables)
        raise MalformedCounterexampleError(f"{len(blocks)} variables; the property declares {names}")
    return [_values(block, *variable) for block, variable in zip(blocks, variables, strict=True)]


def _values(block: Sequence[str], name: str, shape: tuple[int, ...]) -> FloatArray:
    header = _HEADER.fullmatch(block[0])
    if header is None or header[1] != name or header[2] not in _TYPES:
        raise MalformedCounterexampleError(f"'{block[0][:60]}' stands where '{name}' and its floating type should")
    try:
        dims = tuple(int(part) for part in header[3].split(",")) if header[3].strip() else ()
        values = [float(line) for line in block[1:]]
    except ValueError as error:
        raise MalformedCounterexampleError(f"the values of '{name}' are not one number a line ({error})") from error
    if not all(map(math.isfinite, values)):
        raise MalformedCounterexampleError(f"'{name}' has a value that is not finite")
    if dims != shape or len(values) != math.prod(shape):
        raise WrongShapeError(
            f"'{name}' has {len(values)} values and the shape {list(dims)}, declared is {list(shape)}"
        )
    return np.array(values, np.float64)
