"""What a network computes in exact arithmetic: every value is a whole number times a power of two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.verifier.graph import Add, Concat, Conv, Graph, Linear, Pick, Relu, Reshape, Scale, Smooth, Transpose

FLAT = 400
"""From here on sigmoid is 0 or 1 to 170 digits."""
LEAST = -260
"""Values of sigmoid and tanh are rounded to multiples of 2 to this."""
DIGITS = Context(prec=90, Emax=10**15, Emin=-(10**15))


class Exact(NamedTuple):
    """`numbers * 2**exponent`, elementwise."""

    numbers: NDArray[Any]
    """Python's whole numbers."""
    exponent: int


def exact(values: Any) -> Exact:
    """Returns floats as they are."""
    array = np.asarray(values, np.float64)
    mantissa, exponent = np.frexp(array)
    least = int(exponent[array != 0].min(initial=0)) - 53
    whole = [int(m * 2.0**53) << max(int(e) - 53 - least, 0) for m, e in zip(mantissa.flat, exponent.flat, strict=True)]
    return Exact(np.array(whole, dtype=object).reshape(array.shape), least)


def fractions(value: Exact) -> list[Fraction]:
    """Returns the elements, flat."""
    factor = Fraction(2) ** value.exponent
    return [n * factor for n in value.numbers.flat]


def outputs(graph: Graph, x: NDArray[np.floating[Any]]) -> list[Fraction]:
    """Returns the outputs at one point, flat; sigmoid and tanh to 80 digits."""
    values = [exact(np.reshape(x, graph.input_shape))]
    for node in graph.nodes[1:]:
        values.append(_shortened(RULES[type(node.op)](node.op, *(values[i] for i in node.inputs))))
    return fractions(values[-1])


def _shortened(value: Exact) -> Exact:
    """Drops zeros that all numbers end with."""
    ends = [(n & -n).bit_length() - 1 for n in value.numbers.flat if n]
    zeros = min(ends, default=0)
    return Exact(value.numbers >> zeros, value.exponent + zeros) if zeros else value


def _sum(one: Exact, other: Exact) -> Exact:
    low = min(one.exponent, other.exponent)
    return Exact((one.numbers << (one.exponent - low)) + (other.numbers << (other.exponent - low)), low)


def _product(one: Exact, other: Exact) -> Exact:
    return Exact(one.numbers * other.numbers, one.exponent + other.exponent)


def _linear(op: Linear, x: Exact) -> Exact:
    weight = exact(op.weight)
    product = Exact(np.dot(x.numbers, weight.numbers.T), x.exponent + weight.exponent)
    return _sum(product, exact(op.bias))


def _added(op: Add, *values: Exact) -> Exact:
    first, second = (Exact(v.numbers * s, v.exponent) for v, s in zip(values, op.signs, strict=True))
    return _sum(first, second)


def _joined(op: Concat, *values: Exact) -> Exact:
    low = min(v.exponent for v in values)
    return Exact(np.concatenate([v.numbers << (v.exponent - low) for v in values], op.axis), low)


def _relu(op: Relu, x: Exact) -> Exact:
    bent = Exact(np.maximum(x.numbers, 0), x.exponent)
    if op.linear is None:
        return bent
    line = _sum(_product(exact(op.slope), x), exact(op.intercept))
    low = min(line.exponent, bent.exponent)
    parts = (v.numbers << (v.exponent - low) for v in (line, bent))
    return Exact(np.where(op.linear.numpy(), *parts), low)


def _convolution(op: Conv, x: Exact) -> Exact:
    weight, padded = exact(op.weight), _padded(x.numbers, op)
    channels, inner, height, width = op.weight.shape
    rows, columns = (
        (size - (kernel - 1) * dilation - 1) // stride + 1
        for size, kernel, dilation, stride in zip(
            padded.shape[1:], (height, width), op.dilation, op.stride, strict=True
        )
    )
    total, per = np.zeros((channels, rows, columns), dtype=object), channels // op.groups
    for group in range(op.groups):
        part, own = padded[group * inner : (group + 1) * inner], slice(group * per, (group + 1) * per)
        for i in range(height):
            for j in range(width):
                y, z = i * op.dilation[0], j * op.dilation[1]
                seen = part[:, y :: op.stride[0], z :: op.stride[1]][:, :rows, :columns]
                product = np.dot(weight.numbers[own, :, i, j], seen.reshape(inner, -1))
                total[own] += product.reshape(per, rows, columns)
    return _sum(Exact(total, x.exponent + weight.exponent), exact(op.bias.reshape(-1, 1, 1)))


def _padded(numbers: NDArray[Any], op: Conv) -> NDArray[Any]:
    """Returns an image with zeros around it; less than none are cut off."""
    top, left, bottom, right = op.pads
    channels, height, width = numbers.shape
    result = np.zeros((channels, height + top + bottom, width + left + right), dtype=object)
    inner = numbers[:, max(-top, 0) : height - max(-bottom, 0), max(-left, 0) : width - max(-right, 0)]
    y, x = max(top, 0), max(left, 0)
    result[:, y : y + inner.shape[1], x : x + inner.shape[2]] = inner
    return result


def _smooth(op: Smooth, x: Exact) -> Exact:
    whole = [_sigmoid(v) if op.kind == "sigmoid" else 2 * _sigmoid(2 * v) - 2**-LEAST for v in fractions(x)]
    return Exact(np.array(whole, dtype=object).reshape(x.numbers.shape), LEAST)


def _sigmoid(value: Fraction) -> int:
    """Returns the sigmoid, as a multiple of 2^LEAST."""
    if abs(value) > FLAT:
        return int(value > 0) * 2**-LEAST
    number = DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator))
    return round(Fraction(DIGITS.divide(Decimal(1), DIGITS.add(Decimal(1), DIGITS.exp(-number)))) * 2**-LEAST)


RULES: Mapping[type, Callable[..., Exact]] = {
    Linear: _linear,
    Conv: _convolution,
    Scale: lambda op, x: _sum(_product(exact(op.factor), x), exact(op.offset)),
    Add: _added,
    Reshape: lambda op, x: Exact(x.numbers.reshape(op.shape), x.exponent),
    Transpose: lambda op, x: Exact(x.numbers.transpose(op.permutation), x.exponent),
    Pick: lambda op, x: Exact(x.numbers.ravel()[op.index.numpy()].reshape(op.shape), x.exponent),
    Concat: _joined,
    Relu: _relu,
    Smooth: _smooth,
}
