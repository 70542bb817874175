"""Rows of linear coefficients over one value of a graph: whole, or as windows of an image.

A row of a convolutional layer touches only a small window of the image below it. Keeping the windows (the "patches" of
Xu et al. 2020) instead of whole images makes the backward pass through convolutions two orders of magnitude cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from harness.verifier.graph import Conv, Shape


class Origin(NamedTuple):
    """Image coordinates of each row's window: its first row and column, `(rows,)` int64, may lie outside the image."""

    y: Tensor
    x: Tensor


FEW_CHANNELS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Coefficients of some quantities with respect to one value, row by row.

    Invariant: a window's entries that lie outside the image are zero.
    """

    A: Tensor
    """`(rows, *shape)`; with an origin `(rows, C, window height, window width)`."""
    owner: Tensor
    """`(rows,)` int64: which input of the batch a row belongs to."""
    origin: Origin | None = None
    """None: the rows are whole."""

    def __len__(self) -> int:
        return len(self.A)

    def with_coefficients(self, A: Tensor) -> Rows:
        """Returns the same rows with other coefficients of the same form."""
        return replace(self, A=A)

    def gather(self, field: Tensor) -> Tensor:
        """Returns, for each coefficient, the element of `field` that it multiplies; same shape as `A`.

        Args:
            field: `(batch, *shape)`: one value for each input; outside an image it counts as zero.
        """
        if self.origin is None:
            return field[self.owner] if len(field) > 1 else field.expand(len(self), *field.shape[1:])
        height, width = self.A.shape[2:]
        padded, top, left = _padded(field, self.origin, height, width)
        view = padded.unfold(2, height, 1).unfold(3, width, 1).permute(0, 2, 3, 1, 4, 5)
        return view[self.owner, self.origin.y + top, self.origin.x + left]

    def whole(self, shape: Shape) -> Rows:
        """Returns the same rows as whole values.

        Args:
            shape: the value's shape, without batch.
        """
        if self.origin is None:
            return self if self.A.shape[1:] == shape else replace(self, A=self.A.reshape(len(self), *shape))
        channels, rows, columns = shape
        height, width = self.A.shape[2:]
        y = self.origin.y[:, None] + torch.arange(height, device=self.A.device)
        x = self.origin.x[:, None] + torch.arange(width, device=self.A.device)
        inside = ((y >= 0) & (y < rows))[:, None, :, None] & ((x >= 0) & (x < columns))[:, None, None, :]
        position = y.clamp(0, rows - 1)[:, :, None] * columns + x.clamp(0, columns - 1)[:, None, :]
        index = position.view(len(self), 1, -1).expand(-1, channels, -1)
        source = torch.where(inside, self.A, torch.zeros((), dtype=self.A.dtype, device=self.A.device))
        flat = self.A.new_zeros(len(self), channels, rows * columns)
        flat.scatter_add_(2, index, source.reshape(len(self), channels, -1))
        return Rows(flat.view(len(self), *shape), self.owner)

    def __getitem__(self, index: Tensor | slice) -> Rows:
        origin = None if self.origin is None else Origin(self.origin.y[index], self.origin.x[index])
        return Rows(self.A[index], self.owner[index], origin)


def _padded(field: Tensor, origin: Origin, height: int, width: int) -> tuple[Tensor, int, int]:
    """Returns the field with zeros around it so that every window lies inside, and how many on top and left."""
    rows, columns = field.shape[2:]
    top, left = max(0, -int(origin.y.min())), max(0, -int(origin.x.min()))
    bottom = max(0, int(origin.y.max()) + height - rows)
    right = max(0, int(origin.x.max()) + width - columns)
    return functional.pad(field, (left, right, top, bottom)), top, left


def sum_rows(products: Tensor) -> Tensor:
    """Returns the sum over everything but the rows, `(rows,)`."""
    return products.flatten(1).sum(1)


def unit_rows(neurons: Tensor, owner: Tensor, shape: Shape, like: Tensor) -> Rows:
    """Returns rows that each pick one element of a value.

    Args:
        neurons: flat index of each row's element, `(rows,)` int64.
        owner: the input that each row belongs to, `(rows,)`.
        shape: the value's shape; of an image the rows are windows of one pixel.
        like: tensor whose type and device the rows get.
    """
    count = len(neurons)
    if len(shape) == 3:
        channels, height, width = shape
        channel = neurons // (height * width)
        A = like.new_zeros(count, channels, 1, 1)
        A[torch.arange(count, device=like.device), channel] = 1
        pixel = neurons % (height * width)
        return Rows(A, owner, Origin(pixel // width, pixel % width))
    A = like.new_zeros(count, *shape)
    A.view(count, -1)[torch.arange(count, device=like.device), neurons] = 1
    return Rows(A, owner)


def conv_rows(neurons: Tensor, owner: Tensor, op: Conv, output: Shape, before: Shape) -> Rows:
    """Returns rows that each are one element of a convolution's output, with respect to the convolution's input.

    The same as `conv_backward` of `unit_rows`, without the product; for a convolution of one group.

    Args:
        neurons: flat index of each element, `(rows,)`.
        owner: the input that each row belongs to, `(rows,)`.
        op: the convolution.
        output: shape of its output.
        before: shape of its input.
    """
    _, height, width = output
    pixel = neurons % (height * width)
    weight = op.weight[neurons // (height * width)]
    extended = weight.new_zeros(len(weight), weight.shape[1], *_extent(op))
    extended[:, :, :: op.dilation[0], :: op.dilation[1]] = weight
    y, x = (pixel // width) * op.stride[0] - op.pads.top, (pixel % width) * op.stride[1] - op.pads.left
    return _cut_windows(extended, Origin(y, x), owner, before)


def _extent(op: Conv) -> tuple[int, int]:
    height, width = ((k - 1) * d + 1 for k, d in zip(op.weight.shape[2:], op.dilation, strict=True))
    return height, width


def conv_backward(rows: Rows, op: Conv, shape: Shape) -> Rows:
    """Returns the rows with respect to a convolution's input (its constant part is not included).

    Args:
        rows: coefficients of the convolution's output.
        op: the convolution.
        shape: shape of the convolution's input.
    """
    A = transposed_convolution(rows.A, op)
    _, height, width = shape
    if rows.origin is None:
        return Rows(_cut_to_image(A, op, height, width), rows.owner)
    y = rows.origin.y * op.stride[0] - op.pads.top
    x = rows.origin.x * op.stride[1] - op.pads.left
    return _cut_windows(A, Origin(y, x), rows.owner, shape)


def _cut_windows(A: Tensor, origin: Origin, owner: Tensor, shape: Shape) -> Rows:
    """Returns windows with zeros where they lie outside the image."""
    inside_y = _inside(origin.y, A.shape[2], shape[1])
    inside_x = _inside(origin.x, A.shape[3], shape[2])
    if not bool(inside_y.all() and inside_x.all()):
        A = A * (inside_y[:, None, :, None] & inside_x[:, None, None, :])
    return Rows(A, owner, origin)


def transposed_convolution(A: Tensor, op: Conv) -> Tensor:
    """Returns the adjoint of a convolution without padding, applied to each row.

    One matrix product and one strided addition for each kernel element: unlike the library's transposed convolution
    this is as fast in float64 as in float32, and a row's result does not depend on the rows beside it.

    Args:
        A: `(rows, out channels, height, width)`.
        op: the convolution.
    """
    count, channels, height, width = A.shape
    kernel = op.weight.shape[2:]
    groups, inner = op.groups, op.weight.shape[1]
    sides = zip((height, width), op.stride, kernel, op.dilation, strict=True)
    extent = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in sides]
    if groups == 1 and inner < FEW_CHANNELS:
        # With few channels the additions below are too short to be worth their start.
        patches = op.weight.reshape(channels, -1).T @ A.reshape(count, channels, -1)
        return functional.fold(patches, tuple(extent), tuple(kernel), op.dilation, stride=op.stride)
    # The kernel element stands before the channel, so that each addition below runs over contiguous memory.
    weight = op.weight.reshape(groups, channels // groups, inner, -1).transpose(2, 3).flatten(2)
    split = A.permute(0, 2, 3, 1).reshape(-1, groups, channels // groups).transpose(0, 1)
    product = (split @ weight).view(groups, count, height, width, *kernel, inner)
    result = A.new_zeros(groups, count, *extent, inner)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * op.dilation[0], j * op.dilation[1]
            rows = slice(top, top + (height - 1) * op.stride[0] + 1, op.stride[0])
            columns = slice(left, left + (width - 1) * op.stride[1] + 1, op.stride[1])
            result[:, :, rows, columns] += product[:, :, :, :, i, j]
    return result.permute(1, 0, 4, 2, 3).reshape(count, groups * inner, *extent)


def _inside(first: Tensor, extent: int, limit: int) -> Tensor:
    position = first[:, None] + torch.arange(extent, device=first.device)
    return (position >= 0) & (position < limit)


def _cut_to_image(A: Tensor, op: Conv, height: int, width: int) -> Tensor:
    """Returns the part of whole rows that lies on the image; rows and columns that no window reached are zero."""
    top, left = op.pads.top, op.pads.left
    bottom, right = height - (A.shape[2] - top), width - (A.shape[3] - left)
    return functional.pad(A, (-left, right, -top, bottom))
