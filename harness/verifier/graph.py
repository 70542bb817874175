"""A network as a small graph of typed operations; the only form in which the engine knows networks.

Every node computes one value from earlier values. Values have no batch dimension in their `shape`; the batch is always
in front. All operations but the activations are affine, which is what bound propagation relies on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Shape: TypeAlias = tuple[int, ...]
SmoothKind: TypeAlias = Literal["sigmoid", "tanh"]


class Pads(NamedTuple):
    """Zero padding of an image's four sides, in pixels; negative values crop."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0


NO_PADS = Pads()


class Gain(NamedTuple):
    """Between what the operations that were taken into a layer multiply its earlier results, in size.

    Taken together, no result that is too small or too large for float32 shows any more: see `rewrite.HARMLESS`.
    """

    least: float = 1.0
    most: float = 1.0


PLAIN = Gain()


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """The network's input."""

    def forward(self, *_values: Tensor) -> Tensor:
        """Never called: the input's value is given."""
        raise AssertionError("an input has no operands")


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """A two-dimensional convolution (ONNX Conv) with zero padding."""

    weight: Tensor
    """`(out channels, in channels / groups, kernel height, kernel width)`."""
    bias: Tensor
    """`(out channels,)`."""
    stride: tuple[int, int] = (1, 1)
    pads: Pads = NO_PADS
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias_size: Tensor | None = None
    """As the bias: the sum of the magnitudes that the bias was summed from. None: `|bias|`."""
    roundings: int = 0
    """Floating-point operations of the original beyond this convolution's own (taken in from scales and the like)."""
    gain: Gain = PLAIN

    def forward(self, *values: Tensor) -> Tensor:
        """Returns the convolution of `(batch, C, H, W)`."""
        top, left, bottom, right = self.pads
        padded = functional.pad(values[0], (left, right, top, bottom))
        return functional.conv2d(
            padded, self.weight, self.bias, self.stride, dilation=self.dilation, groups=self.groups
        )


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A fully connected layer: `weight @ x + bias` over the last dimension."""

    weight: Tensor
    """`(outputs, inputs)`."""
    bias: Tensor
    """`(outputs,)`."""
    bias_size: Tensor | None = None
    """As the bias: the sum of the magnitudes that the bias was summed from. None: `|bias|`."""
    roundings: int = 0
    """Floating-point operations of the original beyond this layer's own (taken in from scales and the like)."""
    gain: Gain = PLAIN

    def forward(self, *values: Tensor) -> Tensor:
        """Returns `(batch, ..., outputs)`."""
        return functional.linear(values[0], self.weight, self.bias)


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """Elementwise `factor * x + offset` with constants of the value's own shape."""

    factor: Tensor
    """The value's shape."""
    offset: Tensor
    """The value's shape."""
    bias_size: Tensor | None = None
    """As the offset: the sum of the magnitudes that the offset was summed from. None: `|offset|`."""
    roundings: int = 2
    """All floating-point operations that the original takes on one element."""
    gain: Gain = PLAIN

    def forward(self, *values: Tensor) -> Tensor:
        """Returns the scaled value, same shape."""
        return self.factor * values[0] + self.offset


@dataclass(frozen=True, slots=True, eq=False)
class Add:
    """The sum of two values of one shape, each with a sign."""

    signs: tuple[int, int] = (1, 1)
    roundings: int = 0
    """Terms of the layers that an evaluator may sum onto the other operand (a residual addition fused into them)."""

    def forward(self, *values: Tensor) -> Tensor:
        """Returns the signed sum."""
        left, right = values
        return self.signs[0] * left + self.signs[1] * right


@dataclass(frozen=True, slots=True, eq=False)
class Reshape:
    """The same numbers in another shape, in C order (Flatten, Reshape, Squeeze, Unsqueeze)."""

    shape: Shape

    def forward(self, *values: Tensor) -> Tensor:
        """Returns the value as `(batch, *shape)`."""
        return values[0].reshape(len(values[0]), *self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Transpose:
    """A permutation of the dimensions, the batch dimension staying in front."""

    permutation: tuple[int, ...]
    """Of the value's own dimensions, from 0."""

    def forward(self, *values: Tensor) -> Tensor:
        """Returns the permuted value."""
        return values[0].permute(0, *(d + 1 for d in self.permutation))


@dataclass(frozen=True, slots=True, eq=False)
class Pick:
    """Some elements of a value, in any order and as often as one likes (Slice, Split, Gather, Expand and the like)."""

    index: Tensor
    """Flat index of each element in the operand, `(size of shape,)` int64."""
    shape: Shape

    def forward(self, *values: Tensor) -> Tensor:
        """Returns the elements as `(batch, *shape)`."""
        return values[0].flatten(1)[:, self.index].view(len(values[0]), *self.shape)

    def backward(self, A: Tensor, before: Shape) -> Tensor:
        """Returns the adjoint applied to coefficients.

        Args:
            A: `(rows, *shape)`.
            before: shape of the operand, which the result has behind its rows.
        """
        result = A.new_zeros(len(A), size(before))
        return result.index_add_(1, self.index, A.reshape(len(A), -1)).view(len(A), *before)


@dataclass(frozen=True, slots=True, eq=False)
class Concat:
    """Several values, one behind the other along one dimension."""

    axis: int
    """Of the value's own dimensions, from 0."""

    def forward(self, *values: Tensor) -> Tensor:
        """Returns the joined value."""
        return torch.cat(values, self.axis + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Smooth:
    """A sigmoid or tanh on every element: an activation that is relaxed, but never split."""

    name: str
    """Qualified name of the activation."""
    kind: SmoothKind

    def forward(self, *values: Tensor) -> Tensor:
        """Returns the activations, same shape."""
        return torch.sigmoid(values[0]) if self.kind == "sigmoid" else torch.tanh(values[0])


@dataclass(frozen=True, slots=True, eq=False)
class Relu:
    """An activation: ReLU, except where `linear` is set, where it is `slope * x + intercept` (a grafted neuron)."""

    name: str
    """Qualified name of the activation."""
    linear: Tensor | None = None
    """bool, the value's shape; None: no neuron is grafted."""
    slope: Tensor | None = None
    intercept: Tensor | None = None

    def forward(self, *values: Tensor) -> Tensor:
        """Returns the activations, same shape."""
        x = values[0]
        if self.linear is None or self.slope is None or self.intercept is None:
            return x.clamp(min=0)
        return torch.where(self.linear, self.slope * x + self.intercept, x.clamp(min=0))


Op: TypeAlias = Input | Conv | Linear | Scale | Add | Reshape | Transpose | Pick | Concat | Relu | Smooth


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation of a graph."""

    op: Op
    inputs: tuple[int, ...]
    """Indices of earlier nodes."""
    shape: Shape
    """Of one value, without batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A network with one input and one output, nodes in topological order: node 0 is the input, the last the output."""

    nodes: tuple[Node, ...]
    extreme: bool = False
    """Whether it was read from constants so large that an evaluator which multiplies some of them beforehand may leave
    float32's range: nothing is known of such an evaluation."""

    def __post_init__(self) -> None:
        if not self.nodes or not isinstance(self.nodes[0].op, Input):
            raise ValueError("the first node of a graph is its input")
        if any(i >= k for k, node in enumerate(self.nodes) for i in node.inputs):
            raise ValueError("nodes must stand in topological order")

    @property
    def input_shape(self) -> Shape:
        """Shape of one input."""
        return self.nodes[0].shape

    @property
    def output_shape(self) -> Shape:
        """Shape of one output."""
        return self.nodes[-1].shape

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the weights; float64 where there are none."""
        return next((t.dtype for t in self._tensors()), torch.float64)

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU where there are none."""
        return next((t.device for t in self._tensors()), torch.device("cpu"))

    def _tensors(self) -> Iterator[Tensor]:
        for node in self.nodes:
            if isinstance(node.op, Conv | Linear):
                yield node.op.weight
            elif isinstance(node.op, Scale):
                yield node.op.factor

    def activations(self) -> tuple[int, ...]:
        """Returns the indices of the activation nodes, smooth ones included, in forward order."""
        return tuple(k for k, node in enumerate(self.nodes) if isinstance(node.op, Relu | Smooth))

    @property
    def has_smooth(self) -> bool:
        """Whether some activation is smooth: such a network can be neither folded nor split by neurons."""
        return any(isinstance(node.op, Smooth) for node in self.nodes)

    def activation(self, index: int) -> Relu:
        """Returns the piecewise linear activation at a node index.

        Raises:
            ValueError: there is none; a smooth activation has no linear pieces.
        """
        op = self.nodes[index].op
        if not isinstance(op, Relu):
            raise ValueError(f"node {index} is not a piecewise linear activation")
        return op

    def values(self, x: Tensor) -> list[Tensor]:
        """Returns the value of every node for a batch of inputs.

        Args:
            x: `(batch, *input_shape)`, in the graph's type and on its device.
        """
        values = [x]
        for node in self.nodes[1:]:
            values.append(node.op.forward(*(values[i] for i in node.inputs)))
        return values

    def __call__(self, x: Tensor) -> Tensor:
        """Returns the outputs flattened, `(batch, outputs)`."""
        return self.values(x)[-1].flatten(1)

    def to(self, dtype: torch.dtype, device: torch.device | str | None = None) -> Graph:
        """Returns the graph with its floating constants in another type, and on another device if one is named."""
        target = self.device if device is None else torch.device(device)
        return replace(self, nodes=tuple(replace(node, op=_cast(node.op, dtype, target)) for node in self.nodes))


def bias_magnitude(op: Conv | Linear | Scale) -> Tensor:
    """Returns the sum of the magnitudes that a layer's bias (a scale's offset) was summed from, in its shape.

    An evaluation of the original network in floating point errs in proportion to these, however small their sum is.
    """
    if op.bias_size is not None:
        return op.bias_size
    return op.offset.abs() if isinstance(op, Scale) else op.bias.abs()


def _cast(op: Op, dtype: torch.dtype, device: torch.device) -> Op:
    if isinstance(op, Conv | Linear | Scale):
        size_ = None if op.bias_size is None else op.bias_size.to(device, dtype)
        if isinstance(op, Scale):
            return replace(op, factor=op.factor.to(device, dtype), offset=op.offset.to(device, dtype), bias_size=size_)
        return replace(op, weight=op.weight.to(device, dtype), bias=op.bias.to(device, dtype), bias_size=size_)
    if isinstance(op, Pick):
        return replace(op, index=op.index.to(device))
    if isinstance(op, Relu) and op.linear is not None and op.slope is not None and op.intercept is not None:
        return replace(
            op,
            linear=op.linear.to(device),
            slope=op.slope.to(device, dtype),
            intercept=op.intercept.to(device, dtype),
        )
    return op


def neuron_count(graph: Graph) -> int:
    """Returns the number of activation neurons, grafted ones included."""
    return sum(size(graph.nodes[k].shape) for k in graph.activations())


def size(shape: Sequence[int]) -> int:
    """Returns the number of elements of a shape."""
    product = 1
    for d in shape:
        product *= d
    return product
