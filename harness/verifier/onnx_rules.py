"""Rules for ONNX operators that compute: products, sums, normalisations, averages, activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import onnx
import torch
from torch import Tensor

from harness.verifier.graph import Add, Conv, Linear, Pads, Relu, Shape, Smooth, SmoothKind, size
from harness.verifier.onnx_context import FLOAT, Context, Value, attributes_of, positions
from harness.verifier.onnx_moves import cast_, concat, moved, permuted, reshape, transpose, unchanged

Rule: TypeAlias = Callable[[Context, onnx.NodeProto], Value | Sequence[Value]]

NORMALISATION_ROUNDINGS = 6
"""Of BatchNormalization on one element, in whatever order it is computed: the factor takes an addition, a root and a
division; then the mean is subtracted, the factor multiplied, the bias added (or the first two make up the bias)."""
LARGEST_FLOAT = float(np.finfo(np.float32).max)


class _Window:
    """Strides, dilations and pads of an image's two sides; of a sequence, the second side is 1 wide."""

    def __init__(self, context: Context, x: Value, proto: onnx.NodeProto, kernel: Sequence[int]) -> None:
        self.context, self.rank, attributes = context, len(x.shape) - 2, attributes_of(proto)
        if x.shape[0] != 1 or self.rank not in (1, 2):
            raise context.unsupported(f"one image or sequence is needed, the operand has shape {x.shape}")
        if len(kernel) != self.rank:
            raise context.malformed(f"a kernel of shape {tuple(kernel)} does not fit a value of shape {x.shape}")
        self.image = context.reshaped(x, (*x.shape, 1) if self.rank == 1 else x.shape)
        self.kernel = self._pair(kernel)
        self.stride = self._pair(attributes.get("strides") or [1] * self.rank)
        self.dilation = self._pair(attributes.get("dilations") or [1] * self.rank)
        self.extent = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        self.pads = self._pads(attributes)

    def _pair(self, sides: Sequence[int]) -> tuple[int, int]:
        if len(sides) != self.rank or min(sides) < 1:
            raise self.context.malformed(f"{list(sides)} is nothing for {self.rank} sides")
        return (int(sides[0]), 1 if self.rank == 1 else int(sides[1]))

    def _pads(self, attributes: Mapping[str, Any]) -> Pads:
        auto = attributes.get("auto_pad", b"NOTSET")
        if auto in (b"SAME_UPPER", b"SAME_LOWER"):
            total = [
                (-(-n // s) - 1) * s + e - n
                for n, s, e in zip(self.image.shape[2:], self.stride, self.extent, strict=True)
            ]
            if min(total) < 0:
                raise self.context.unsupported(f"{auto.decode()} where strides leap over a part of the image")
            small, large = [t // 2 for t in total], [t - t // 2 for t in total]
            first, last = (small, large) if auto == b"SAME_UPPER" else (large, small)
            return Pads(first[0], first[1], last[0], last[1])
        if auto not in (b"NOTSET", b"", b"VALID"):
            raise self.context.unsupported(f"auto_pad {auto.decode()} is not supported")
        given = (attributes.get("pads") if auto != b"VALID" else None) or [0] * (2 * self.rank)
        if len(given) != 2 * self.rank or min(given) < 0:
            raise self.context.malformed(f"pads {list(given)} do not fit {self.rank} sides")
        return Pads(given[0], 0, given[1], 0) if self.rank == 1 else Pads(*given)

    def convolved(self, weight: Tensor, bias: Tensor, groups: int, roundings: int = 0) -> Value:
        """Returns the convolution; `weight` is `(out, in / groups, *kernel)`."""
        shape = self.result_shape(len(weight))
        weight = weight.reshape(*weight.shape[:2], *self.kernel)
        op = Conv(weight, bias, self.stride, self.pads, self.dilation, groups, roundings=roundings)
        value = self.context.append(op, (self.image,), shape)
        return self.context.reshaped(value, shape[:-1] if self.rank == 1 else shape)

    def result_shape(self, channels: int) -> Shape:
        """Returns the image's shape behind the window, `(1, channels, height, width)`."""
        before = (self.pads.top + self.pads.bottom, self.pads.left + self.pads.right)
        sides = [
            (n + p - e) // s + 1
            for n, p, e, s in zip(self.image.shape[2:], before, self.extent, self.stride, strict=True)
        ]
        if min(sides) <= 0:
            raise self.context.malformed("the kernel is larger than the image")
        return (1, channels, *sides)


def _conv(context: Context, proto: onnx.NodeProto) -> Value:
    x, weight = context.operand(proto), context.weights(proto, 1)
    groups, bias = attributes_of(proto).get("group", 1), torch.zeros(len(weight), dtype=FLOAT)
    if weight.dim() != len(x.shape) or weight.dim() < 3:
        raise context.malformed(f"a kernel of shape {tuple(weight.shape)} does not fit a value of shape {x.shape}")
    if context.constant(proto, 2) is not None:
        bias = context.weights(proto, 2)
    if groups < 1 or x.shape[1] != weight.shape[1] * groups or len(weight) % groups or bias.shape != (len(weight),):
        raise context.malformed(f"a kernel of shape {tuple(weight.shape)} does not fit a value of shape {x.shape}")
    return _Window(context, x, proto, weight.shape[2:]).convolved(weight, bias, groups)


def _average_pool(context: Context, proto: onnx.NodeProto) -> Value:
    x, attributes = context.operand(proto), attributes_of(proto)
    kernel = x.shape[2:] if proto.op_type == "GlobalAveragePool" else attributes["kernel_shape"]
    if attributes.get("ceil_mode", 0):
        raise context.unsupported("ceil_mode is not supported")
    window = _Window(context, x, proto, kernel)
    channels, area = x.shape[1], size(tuple(kernel))
    zero = torch.zeros(channels, dtype=FLOAT)
    ones = torch.ones(channels, 1, *kernel, dtype=FLOAT)
    if attributes.get("count_include_pad", 0) or not any(window.pads):
        return window.convolved(ones / area, zero, channels, roundings=1)  # the original adds and then divides
    total = window.convolved(ones, zero, channels)
    counter = Conv(ones.reshape(channels, 1, *window.kernel)[:1], zero[:1], window.stride, window.pads, window.dilation)
    count = counter.forward(torch.ones(1, 1, *window.image.shape[2:], dtype=FLOAT))
    if float(count.min()) <= 0:
        raise context.malformed("a window lies in the padding alone")
    return context.scaled(total, 1.0 / count.reshape(1, 1, *total.shape[2:]))


def _pad(context: Context, proto: onnx.NodeProto) -> Value:
    x, attributes = context.operand(proto), attributes_of(proto)
    amounts, rank = attributes.get("pads"), len(x.shape)
    amounts = context.integers(proto, 1) if amounts is None else list(amounts)
    axes = [a % rank for a in context.integers(proto, 3) or range(rank)]
    if amounts is None or len(amounts) != 2 * len(axes):
        raise context.malformed(f"pads {amounts} do not fit the shape {x.shape}")
    sides = [(0, 0)] * rank
    for k, axis in enumerate(axes):
        sides[axis] = (amounts[k], amounts[k + len(axes)])
    if any(n + min(a, 0) + min(b, 0) < 1 for n, (a, b) in zip(x.shape, sides, strict=True)):
        raise context.malformed(f"pads {amounts} cut off all of the shape {x.shape}")
    value = float(attributes.get("value", 0.0))
    if context.constant(proto, 2) is not None:
        value = float(context.weights(proto, 2).flatten()[0])
    mode = attributes.get("mode", b"constant").decode()
    if mode == "constant" and value == 0 and rank == 4 and x.shape[0] == 1 and not any(sides[0] + sides[1]):
        return _padded_image(context, x, Pads(sides[2][0], sides[3][0], sides[2][1], sides[3][1]))
    if mode not in ("constant", "edge", "reflect"):
        raise context.unsupported(f"padding by '{mode}' is not supported")
    return _padded_anywhere(context, x, sides, mode, value)


def _padded_image(context: Context, x: Value, pads: Pads) -> Value:
    channels, height, width = x.shape[1:]
    identity = torch.ones(channels, 1, 1, 1, dtype=FLOAT)
    op = Conv(identity, torch.zeros(channels, dtype=FLOAT), pads=pads, groups=channels)
    return context.append(op, (x,), (1, channels, height + pads.top + pads.bottom, width + pads.left + pads.right))


def _padded_anywhere(context: Context, x: Value, sides: Sequence[tuple[int, int]], mode: str, value: float) -> Value:
    """Pads by picking: elements of the operand, and behind them one more that is the constant."""
    grown = [max(n, 1) + max(a, 0) + max(b, 0) for n, (a, b) in zip(x.shape, sides, strict=True)]
    context.common_shape(tuple(grown))
    cut = tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, sides, strict=True))
    inner, more = positions(x)[cut], [(max(a, 0), max(b, 0)) for a, b in sides]
    if mode != "constant":
        kept: Any = mode
        return context.pick(x, np.pad(inner, more, mode=kept))
    count = size(x.shape)
    index = np.pad(inner, more, constant_values=count)
    flat = context.pick(x, np.minimum(np.arange(count + 1), count - 1))
    factor = torch.ones(count + 1, dtype=FLOAT)
    factor[count] = 0
    return context.pick(context.scaled(flat, factor, (1 - factor) * value, roundings=0), index)


def _times(context: Context, x: Value, weight: Tensor, bias: Tensor | None = None, roundings: int = 0) -> Value:
    """Returns `x @ weight + bias` for x `(..., m, k)` and weight `(k, n)`; bias only where there is one row."""
    shape, outputs = (*x.shape[:-1], weight.shape[1]), weight.shape[1]
    if x.shape[-1:] != weight.shape[:1]:
        raise context.malformed(f"a weight of shape {tuple(weight.shape)} does not fit a value of shape {x.shape}")
    rows = size(x.shape[:-1])
    if rows == 1:
        offset = torch.zeros(outputs, dtype=FLOAT) if bias is None else bias
        flat = context.reshaped(x, (1, x.shape[-1]))
        op = Linear(weight.T.contiguous(), offset, roundings=roundings)
        return context.reshaped(context.append(op, (flat,), (1, outputs)), shape)
    # The same matrix on every row is a convolution with a kernel of one pixel; its channels are the columns.
    columns = permuted(context, context.reshaped(x, (1, rows, x.shape[-1])), (0, 2, 1))
    image = context.reshaped(columns, (*columns.shape, 1))
    kernel, zero = weight.T[:, :, None, None].contiguous(), torch.zeros(outputs, dtype=FLOAT)
    result = context.append(Conv(kernel, zero, roundings=roundings), (image,), (1, outputs, rows, 1))
    return context.reshaped(permuted(context, context.reshaped(result, (1, outputs, rows)), (0, 2, 1)), shape)


def _turned(context: Context, x: Value) -> Value:
    """Returns a value with its last two dimensions swapped."""
    rank = len(x.shape)
    return permuted(context, x, (*range(rank - 2), rank - 1, rank - 2))


def _matrix(context: Context, weight: Tensor) -> Tensor:
    """Returns a constant factor as a matrix; leading dimensions of 1 are dropped."""
    while weight.dim() > 2 and weight.shape[0] == 1:
        weight = weight[0]
    if weight.dim() != 2:
        raise context.unsupported(f"a weight of shape {tuple(weight.shape)} is not a matrix")
    return weight


def _matmul(context: Context, proto: onnx.NodeProto) -> Value:
    if context.is_constant(proto.input[0]):
        x, weight = context.operand(proto, 1), context.weights(proto, 0)
        row, column = weight.dim() == 1, len(x.shape) == 1
        x = context.reshaped(x, (*x.shape, 1)) if column else x
        ranks = max(len(x.shape), weight.dim())
        factor = _matrix(context, weight[None] if row else weight)
        product = _turned(context, _times(context, _turned(context, x), factor.T))
    else:
        x, weight = context.operand(proto, 0), context.weights(proto, 1)
        row, column = len(x.shape) == 1, weight.dim() == 1
        x = context.reshaped(x, (1, *x.shape)) if row else x
        ranks = max(len(x.shape), weight.dim())
        product = _times(context, x, _matrix(context, weight[:, None] if column else weight))
    shape = (*[1] * (ranks - len(product.shape)), *product.shape)
    kept = (*shape[:-2], *(() if row else shape[-2:-1]), *(() if column else shape[-1:]))
    return context.reshaped(product, kept)


def _gemm(context: Context, proto: onnx.NodeProto) -> Value:
    attributes, left = attributes_of(proto), context.is_constant(proto.input[0])
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    x, weight = context.operand(proto, 1 if left else 0), _matrix(context, context.weights(proto, 0 if left else 1))
    if len(x.shape) != 2:
        raise context.malformed(f"a matrix is needed, the operand has shape {x.shape}")
    turned = [bool(attributes.get(name, 0)) for name in ("transA", "transB")]
    weight = weight.T if turned[0 if left else 1] else weight
    # A constant on the left is read as (B' A')', which has the constant on the right.
    x = _turned(context, x) if turned[1 if left else 0] != left else x
    weight = weight.T if left else weight
    name = proto.input[2] if len(proto.input) > 2 else ""
    bias, roundings = None, 0
    shape = (x.shape[0], weight.shape[1])[:: -1 if left else 1]
    if name and context.is_constant(name):
        bias = _bias(context, context.weights(proto, 2) * beta, shape)
        roundings += int(beta != 1)
    one_row = x.shape[0] == 1 and alpha == 1
    product = _times(context, x, weight, None if bias is None or not one_row else bias.flatten(), roundings)
    product = _turned(context, product) if left else product
    # A factor of its own, since it may hide how large or small the product was.
    product = product if alpha == 1 else context.scaled(product, alpha)
    if bias is not None and not one_row:
        return context.scaled(product, 1.0, bias, 1 + int(beta != 1))
    if name and bias is None:
        other = context.operand(proto, 2)
        return _sum(context, product, other if beta == 1 else context.scaled(other, beta), 1)
    return product


def _bias(context: Context, bias: Tensor, shape: Shape) -> Tensor:
    if context.common_shape(tuple(bias.shape), shape) != shape:
        raise context.malformed(f"a bias of shape {tuple(bias.shape)} does not fit {shape}")
    return torch.broadcast_to(bias, shape).clone()


def _sum(context: Context, x: Value, y: Value, sign: int) -> Value:
    shape = context.common_shape(x.shape, y.shape)
    return context.append(Add((1, sign)), (context.broadcast(x, shape), context.broadcast(y, shape)), shape)


def _arithmetic(context: Context, proto: onnx.NodeProto) -> Value:
    left, right = (context.is_constant(name) for name in proto.input[:2])
    kind = proto.op_type
    if not left and not right:
        if kind not in ("Add", "Sub"):
            raise context.unsupported("the product or quotient of two values is not affine")
        return _sum(context, context.operand(proto, 0), context.operand(proto, 1), 1 if kind == "Add" else -1)
    x, constant = context.operand(proto, 1 if left else 0), context.weights(proto, 0 if left else 1)
    if kind == "Add":
        return context.scaled(x, 1.0, constant)
    if kind == "Sub":
        return context.scaled(x, -1.0, constant) if left else context.scaled(x, 1.0, -constant)
    if kind == "Mul":
        return context.scaled(x, constant)
    if left or bool((constant == 0).any()):
        raise context.unsupported("a division by a value or by zero is not affine")
    return context.scaled(x, 1.0 / constant)


def _sum_of_many(context: Context, proto: onnx.NodeProto) -> Value:
    total = context.operand_or_constant(proto, 0)
    for k in range(1, len(proto.input)):
        total = _sum(context, total, context.operand_or_constant(proto, k), 1)
    return total


def _negative(context: Context, proto: onnx.NodeProto) -> Value:
    return context.scaled(context.operand(proto), -1.0, 0.0, roundings=0)


def _reduced(context: Context, proto: onnx.NodeProto) -> Value:
    """ReduceMean and ReduceSum."""
    x, attributes = context.operand(proto), attributes_of(proto)
    rank, given = len(x.shape), attributes.get("axes")
    given = context.integers(proto, 1) if given is None else list(given)
    if not given and attributes.get("noop_with_empty_axes", 0):
        return x
    axes = sorted({a % rank for a in given or range(rank) if -rank <= a < rank})
    if len(axes) != len(given or range(rank)):
        raise context.malformed(f"axes {given} of {rank} are none, or named twice")
    kept = [d for d in range(rank) if d not in axes]
    rows, count = size(tuple(x.shape[d] for d in kept)), size(tuple(x.shape[d] for d in axes))
    mean = proto.op_type == "ReduceMean"
    matrix = context.reshaped(permuted(context, x, [*kept, *axes]), (rows, count))
    weight = torch.full((count, 1), 1.0 / count if mean else 1.0, dtype=FLOAT)
    keep = attributes.get("keepdims", 1)
    shape = [1 if d in axes else n for d, n in enumerate(x.shape) if keep or d not in axes]
    return context.reshaped(_times(context, matrix, weight, roundings=int(mean)), tuple(shape))


def _batch_normalization(context: Context, proto: onnx.NodeProto) -> Value:
    x, attributes = context.operand(proto), attributes_of(proto)
    if attributes.get("training_mode", 0) or not attributes.get("spatial", 1):
        raise context.unsupported("batch normalisation in training mode, or of each pixel, is not a fixed function")
    scale, bias, mean, variance = (context.weights(proto, k) for k in range(1, 5))
    if len(x.shape) < 2 or any(p.shape != (x.shape[1],) for p in (scale, bias, mean, variance)):
        raise context.malformed(f"its constants do not fit a value of shape {x.shape}")
    factor = scale / torch.sqrt(variance + attributes.get("epsilon", 1e-5))
    magnitude = bias.abs() + (mean * factor).abs()
    view = (-1, *([1] * (len(x.shape) - 2)))
    factor, offset, magnitude = (part.view(view) for part in (factor, bias - mean * factor, magnitude))
    return context.scaled(x, factor, offset, NORMALISATION_ROUNDINGS, magnitude)


def _name(proto: onnx.NodeProto) -> str:
    return proto.name or proto.output[0]


def _activation(context: Context, x: Value, name: str, kind: SmoothKind | None = None) -> Value:
    return context.append(Relu(name) if kind is None else Smooth(name, kind), (x,), x.shape)


def _relu(context: Context, proto: onnx.NodeProto) -> Value:
    return _activation(context, context.operand(proto), _name(proto))


def _smooth(context: Context, proto: onnx.NodeProto) -> Value:
    return _activation(
        context, context.operand(proto), _name(proto), "sigmoid" if proto.op_type == "Sigmoid" else "tanh"
    )


def _leaky_relu(context: Context, proto: onnx.NodeProto) -> Value:
    """`a x + (1 - a) relu(x)`, for LeakyRelu and PRelu."""
    x = context.operand(proto)
    slope = torch.tensor(float(attributes_of(proto).get("alpha", 0.01)), dtype=FLOAT)
    if proto.op_type == "PRelu":
        slope = context.weights(proto, 1)
    if context.common_shape(x.shape, tuple(slope.shape)) != x.shape:
        raise context.malformed(f"slopes of shape {tuple(slope.shape)} do not fit {x.shape}")
    bent = context.scaled(_activation(context, x, _name(proto)), 1 - slope)
    return _sum(context, context.scaled(x, slope), bent, 1)


def _clip(context: Context, proto: onnx.NodeProto) -> Value:
    """`max(x, low) = low + relu(x - low)`, then `min(y, high) = high - relu(high - y)`."""
    x, attributes = context.operand(proto), attributes_of(proto)
    low, high = attributes.get("min", -np.inf), attributes.get("max", np.inf)
    for position in (1, 2):
        given = context.constant(proto, position)
        if given is not None and given.size != 1:
            raise context.malformed(f"operand {position} has to be one number")
        if given is not None:
            low, high = (float(given.ravel()[0]), high) if position == 1 else (low, float(given.ravel()[0]))
    if np.isnan(low) or np.isnan(high) or low == np.inf or high == -np.inf:
        raise context.malformed(f"values cannot be clipped to [{low}, {high}]")
    bounded = high < LARGEST_FLOAT
    name = _name(proto)
    if low > -LARGEST_FLOAT:
        x = x if low == 0 else context.scaled(x, 1.0, -low)
        x = _activation(context, x, f"{name}.min" if bounded else name)
        x = x if low == 0 else context.scaled(x, 1.0, low)
    if bounded:
        x = _activation(context, context.scaled(x, -1.0, high), f"{name}.max" if low > -LARGEST_FLOAT else name)
        x = context.scaled(x, -1.0, high)
    return x


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "Add": _arithmetic,
        "AveragePool": _average_pool,
        "BatchNormalization": _batch_normalization,
        "Cast": cast_,
        "Clip": _clip,
        "Concat": concat,
        "Conv": _conv,
        "Div": _arithmetic,
        "Dropout": unchanged,
        "Flatten": reshape,
        "Gemm": _gemm,
        "GlobalAveragePool": _average_pool,
        "Identity": unchanged,
        "LeakyRelu": _leaky_relu,
        "MatMul": _matmul,
        "Mul": _arithmetic,
        "Neg": _negative,
        "PRelu": _leaky_relu,
        "Pad": _pad,
        "ReduceMean": _reduced,
        "ReduceSum": _reduced,
        "Relu": _relu,
        "Reshape": reshape,
        "Sigmoid": _smooth,
        "Squeeze": reshape,
        "Sub": _arithmetic,
        "Sum": _sum_of_many,
        "Tanh": _smooth,
        "Transpose": transpose,
        "Unsqueeze": reshape,
        **dict.fromkeys(("DepthToSpace", "Expand", "Gather", "Slice", "SpaceToDepth", "Split", "Tile"), moved),
    }
)
"""What is read beside constants and shapes; everything else is refused by name."""
