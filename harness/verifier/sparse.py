"""A network as one sparse matrix over its inputs and neurons: the form in which the CPU engine bounds it.

Every affine operation of the graph becomes rows; nothing is multiplied out, so the entries are the network's own
weights, exactly:

    z = bias + W [x; h],   h = activation(z),   W strictly lower triangular

Column i < inputs is input i, column inputs + j is the activation h of row j. A row that no activation follows has the
identity as its activation. Reshapes and transpositions vanish into the numbering.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.verifier.graph import (
    Add,
    Concat,
    Conv,
    Graph,
    Input,
    Linear,
    Op,
    Pick,
    Relu,
    Reshape,
    Scale,
    Transpose,
    bias_magnitude,
    size,
)
from harness.verifier.patience import tick

Array = NDArray[Any]

TINY_SIZE = 2e-24
"""Counted as part of a bias for each of a row's terms: at least 10 float32 units of it are granted, which pays for
underflow (`rounding.TINY`)."""
FUSED_ROUNDINGS = 8
"""Roundings granted to every row beyond its own sum: what an evaluator may do when it fuses scales into weights."""


class Segment(NamedTuple):
    """The rows of one graph operation, all of one activation."""

    first: int
    last: int
    """One behind the last row."""
    activation: int | None
    """Graph node of the activation that follows; None: identity."""


@dataclass(frozen=True, slots=True, eq=False)
class SparseNetwork:
    """A network over `inputs` inputs; arrays are float64 unless said otherwise and are never written to."""

    inputs: int
    start: NDArray[np.int64]
    """`(rows + 1,)`: entries of row j are `start[j]:start[j + 1]`."""
    column: NDArray[np.int32]
    value: Array
    bias: Array
    """`(rows,)`."""
    bias_size: Array
    """`(rows,)`: sum of the magnitudes that the bias was summed from, at least `|bias|`."""
    roundings: Array
    """`(rows,)`: roundings that a floating-point evaluation of the row may stack up, in any order of summation."""
    linear: NDArray[np.bool_]
    """`(rows,)`: rows whose activation is `slope z + intercept`: grafted neurons, and rows without activation."""
    slope: Array
    intercept: Array
    rounded: NDArray[np.bool_]
    """`(rows,)`: linear rows whose activation itself rounds (grafted neurons)."""
    segments: tuple[Segment, ...]
    output: NDArray[np.int64]
    """Columns of the flattened output, `(outputs,)`."""

    @property
    def rows(self) -> int:
        """Number of rows: neurons and identity rows."""
        return int(self.bias.size)


class _Rows(NamedTuple):
    """Entries of some rows, sorted by row."""

    length: NDArray[np.int64]
    """Entries of each row."""
    column: Array
    value: Array
    bias: Array
    bias_size: Array
    roundings: Array


def sparse_size(graph: Graph) -> int:
    """Returns how many entries the sparse form has, without building it; at most (borders are not subtracted)."""
    total = 0
    for node in graph.nodes:
        if isinstance(node.op, Conv):
            total += size(node.shape) * int(np.prod(node.op.weight.shape[1:]))
        elif isinstance(node.op, Linear):
            total += int(node.op.weight.numel())
        else:
            total += 2 * size(node.shape)
    return total


def sparse_network(graph: Graph) -> SparseNetwork | None:
    """Returns the sparse form of a graph; None if it has an operation that this form does not know.

    Args:
        graph: the network in float64, on the CPU.
    """
    known = (Input, Conv, Linear, Scale, Add, Concat, Reshape, Transpose, Pick, Relu)
    if not all(isinstance(node.op, known) for node in graph.nodes):
        return None
    return _Builder(graph).build()


class _Builder:
    """Walks a graph and keeps, for every node's value, the columns that hold it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.inputs = size(graph.input_shape)
        self.parts: list[_Rows] = []
        self.segments: list[Segment] = []
        self.linear: list[Array] = []
        self.slope: list[Array] = []
        self.intercept: list[Array] = []
        self.rows = 0
        self.uses = Counter(i for node in graph.nodes for i in node.inputs)
        self.uses[len(graph.nodes) - 1] += 1
        self.owned: dict[int, int] = {}
        """Graph node to the segment whose rows are exactly its value, in order, and which nothing else uses."""

    def build(self) -> SparseNetwork:
        columns: dict[int, Array] = {0: np.arange(self.inputs).reshape(self.graph.input_shape)}
        for k, node in enumerate(self.graph.nodes[1:], start=1):
            tick()
            operands = [columns[i] for i in node.inputs]
            if isinstance(node.op, Relu):
                columns[k] = self._activated(k, node.op, node.inputs[0], operands[0])
            elif isinstance(node.op, Reshape | Transpose | Pick | Concat):
                columns[k] = _moved(node.op, operands)
                if isinstance(node.op, Reshape) and node.inputs[0] in self.owned and self.uses[k] == 1:
                    self.owned[k] = self.owned[node.inputs[0]]
            else:
                columns[k] = self._append(_rows_of(node.op, operands), None).reshape(node.shape)
                if self.uses[k] == 1:
                    self.owned[k] = len(self.segments) - 1
        return self._assembled(columns[len(self.graph.nodes) - 1])

    def _append(self, rows: _Rows, activation: int | None) -> Array:
        count = len(rows.bias)
        self.parts.append(rows)
        self.segments.append(Segment(self.rows, self.rows + count, activation))
        self.linear.append(np.full(count, activation is None))
        self.slope.append(np.ones(count))
        self.intercept.append(np.zeros(count))
        self.rows += count
        return np.arange(self.inputs + self.rows - count, self.inputs + self.rows)

    def _activated(self, k: int, op: Relu, source: int, operand: Array) -> Array:
        """Puts an activation on the rows of its operand; on copies of them where something else uses them too."""
        place = self.owned.get(source)
        if place is None:
            self._append(_copies(operand), None)
            place = len(self.segments) - 1
        segment = self.segments[place]
        self.segments[place] = segment._replace(activation=k)
        if op.linear is None or op.slope is None or op.intercept is None:
            self.linear[place] = np.zeros(segment.last - segment.first, np.bool_)
        else:
            self.linear[place] = op.linear.numpy().ravel().copy()
            self.slope[place] = op.slope.numpy().ravel().astype(np.float64)
            self.intercept[place] = op.intercept.numpy().ravel().astype(np.float64)
        first = self.inputs + segment.first
        return np.arange(first, first + segment.last - segment.first).reshape(operand.shape)

    def _assembled(self, output: Array) -> SparseNetwork:
        def joined(name: str) -> Array:
            tick()
            return np.concatenate([getattr(part, name) for part in self.parts]) if self.parts else np.zeros(0)

        activated = [np.full(s.last - s.first, s.activation is not None) for s in self.segments]
        linear = np.concatenate(self.linear) if self.linear else np.zeros(0, np.bool_)
        return SparseNetwork(
            self.inputs,
            np.concatenate([[0], np.cumsum(joined("length"))]).astype(np.int64),
            joined("column").astype(np.int32),
            joined("value").astype(np.float64),
            joined("bias").astype(np.float64),
            joined("bias_size").astype(np.float64),
            joined("roundings").astype(np.float64),
            linear,
            np.concatenate(self.slope) if self.slope else np.zeros(0),
            np.concatenate(self.intercept) if self.intercept else np.zeros(0),
            linear & np.concatenate(activated) if activated else linear,
            tuple(self.segments),
            output.ravel().astype(np.int64),
        )


def _moved(op: Reshape | Transpose | Pick | Concat, operands: list[Array]) -> Array:
    """Returns the columns of an operation that only moves values."""
    if isinstance(op, Concat):
        return np.concatenate(operands, axis=op.axis)
    if isinstance(op, Reshape):
        return operands[0].reshape(op.shape)
    if isinstance(op, Transpose):
        return operands[0].transpose(op.permutation)
    return np.reshape(operands[0].ravel()[op.index.numpy()], op.shape)


def _copies(operand: Array) -> _Rows:
    """Rows that each are one column, exactly: a copy is no arithmetic."""
    count = operand.size
    zero = np.zeros(count)
    return _Rows(np.ones(count, np.int64), operand.ravel(), np.ones(count), zero, zero, zero)


def _rows_of(op: Op, operands: list[Array]) -> _Rows:
    """Returns the rows of an affine operation over the columns that hold its operands."""
    if isinstance(op, Conv):
        return _conv_rows(op, operands[0])
    if isinstance(op, Linear):
        outputs, inputs = op.weight.shape
        vectors = operands[0].reshape(-1, inputs)
        count = np.full(len(vectors) * outputs, inputs, np.int64)
        column = np.repeat(vectors, outputs, axis=0).ravel()
        value, bias = np.tile(op.weight.numpy().ravel(), len(vectors)), np.tile(op.bias.numpy(), len(vectors))
        return _without_zeros(count, column, value, _constants(op, bias, count))
    if isinstance(op, Scale):
        count = np.ones(op.factor.numel(), np.int64)
        factor, offset = op.factor.numpy().ravel(), op.offset.numpy().ravel()
        return _without_zeros(count, operands[0].ravel(), factor, _constants(op, offset, count))
    if isinstance(op, Add):
        columns = np.stack([np.broadcast_to(o, operands[0].shape).ravel() for o in operands], axis=1)
        count = np.full(len(columns), 2, np.int64)
        zero = np.zeros(len(columns))
        values = np.tile(np.array(op.signs, np.float64), len(columns))
        return _Rows(
            count, columns.ravel(), values, zero, zero + 2 * TINY_SIZE, zero + 2 + op.roundings + FUSED_ROUNDINGS
        )
    raise TypeError(f"no sparse form of {type(op).__name__}")


def _constants(op: Conv | Linear | Scale, bias: Array, count: Array) -> tuple[Array, Array, Array]:
    """Returns bias, its size and the number of roundings, for each row."""
    magnitude = bias_magnitude(op).numpy().ravel()
    return (
        bias,
        np.tile(magnitude, len(bias) // len(magnitude)) + TINY_SIZE * count,
        count + float(op.roundings + FUSED_ROUNDINGS),
    )


def _without_zeros(count: Array, column: Array, value: Array, constants: tuple[Array, Array, Array]) -> _Rows:
    """Drops zero weights; the number of roundings still counts them, since an evaluator adds them up."""
    kept = value != 0
    if not kept.all():
        row = np.repeat(np.arange(len(count)), count)[kept]
        count = np.bincount(row, minlength=len(count)).astype(np.int64)
        column, value = column[kept], value[kept]
    return _Rows(count, column, value, *constants)


def _conv_rows(op: Conv, operand: Array) -> _Rows:
    """Returns the rows of a convolution, output channel by output channel, padding left out."""
    channels, height, width = operand.shape
    weight = op.weight.numpy()
    outputs, inner, kernel_y, kernel_x = weight.shape
    rows_out = (height + op.pads.top + op.pads.bottom - (kernel_y - 1) * op.dilation[0] - 1) // op.stride[0] + 1
    columns_out = (width + op.pads.left + op.pads.right - (kernel_x - 1) * op.dilation[1] - 1) // op.stride[1] + 1
    y = (np.arange(rows_out) * op.stride[0] - op.pads.top)[:, None] + np.arange(kernel_y) * op.dilation[0]
    x = (np.arange(columns_out) * op.stride[1] - op.pads.left)[:, None] + np.arange(kernel_x) * op.dilation[1]
    inside = ((y >= 0) & (y < height))[:, None, :, None] & ((x >= 0) & (x < width))[None, :, None, :]
    pixel = y.clip(0, height - 1)[:, None, :, None] * width + x.clip(0, width - 1)[None, :, None, :]
    # (pixels out, inner channel, kernel element)
    flat, valid = pixel.reshape(rows_out * columns_out, 1, -1), inside.reshape(rows_out * columns_out, 1, -1)
    valid = np.broadcast_to(valid, (len(flat), inner, valid.shape[2]))
    counts, parts, values = [], [], []
    per_group = outputs // op.groups
    table = operand.reshape(channels, -1)
    for group in range(op.groups):
        source = table[group * inner : (group + 1) * inner]
        column = source[np.arange(inner)[None, :, None], np.broadcast_to(flat, valid.shape)][valid]
        each = valid.reshape(len(flat), -1).sum(1)
        for channel in range(group * per_group, (group + 1) * per_group):
            own = np.broadcast_to(weight[channel].reshape(1, inner, -1), valid.shape)[valid]
            counts.append(each)
            parts.append(column)
            values.append(own)
    count = np.concatenate(counts).astype(np.int64)
    pixels = rows_out * columns_out
    bias = np.repeat(op.bias.numpy(), pixels)
    terms = np.full(len(count), weight[0].size + float(op.roundings + FUSED_ROUNDINGS))
    constants = (bias, np.repeat(bias_magnitude(op).numpy(), pixels) + TINY_SIZE * weight[0].size, terms)
    return _without_zeros(count, np.concatenate(parts), np.concatenate(values), constants)
