"""Windows are a cheaper form of whole rows: every operation gives the same in both."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from harness.verifier.graph import Conv, Pads
from harness.verifier.rows import Rows, conv_backward, transposed_convolution, unit_rows

DOUBLE = torch.float64


def convolution(seed: int, stride: tuple[int, int], pads: Pads, dilation: tuple[int, int], groups: int) -> Conv:
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 4 // groups, 3, 2, generator=random, dtype=DOUBLE)
    return Conv(weight, torch.randn(6, generator=random, dtype=DOUBLE), stride, pads, dilation, groups)


CONVOLUTIONS = {
    "plain": convolution(0, (1, 1), Pads(), (1, 1), 1),
    "pads": convolution(1, (1, 1), Pads(2, 1, 0, 3), (1, 1), 1),
    "stride": convolution(2, (2, 3), Pads(1, 1, 1, 1), (1, 1), 1),
    "dilation": convolution(3, (1, 2), Pads(2, 0, 2, 1), (2, 3), 1),
    "groups": convolution(4, (2, 1), Pads(0, 1, 1, 0), (1, 1), 2),
    "crop": convolution(5, (1, 1), Pads(-1, 0, 0, -2), (1, 1), 1),
}
SHAPE = (4, 7, 8)


def output_shape(op: Conv) -> tuple[int, ...]:
    return tuple(op.forward(torch.zeros(1, *SHAPE, dtype=DOUBLE)).shape[1:])


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("windowed", [True, False])
def test_rows_of_a_convolution_are_its_jacobian(name: str, windowed: bool) -> None:
    op = CONVOLUTIONS[name]
    shape = output_shape(op)
    count = shape[0] * shape[1] * shape[2]
    neurons = torch.arange(count)
    rows = unit_rows(neurons, torch.zeros_like(neurons), shape, torch.zeros(1, dtype=DOUBLE))
    rows = rows if windowed else rows.whole(shape)
    assert (rows.origin is not None) == windowed
    found = conv_backward(rows, op, SHAPE).whole(SHAPE).A
    x = torch.zeros(SHAPE, dtype=DOUBLE)
    expected = torch.func.jacrev(lambda v: op.forward(v[None]).flatten())(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_windows_have_nothing_outside_the_image(name: str) -> None:
    op = CONVOLUTIONS[name]
    shape = output_shape(op)
    neurons = torch.arange(shape[0] * shape[1] * shape[2])
    rows = conv_backward(unit_rows(neurons, torch.zeros_like(neurons), shape, op.weight), op, SHAPE)
    assert rows.origin is not None
    height, width = rows.A.shape[2:]
    y = rows.origin.y[:, None] + torch.arange(height)
    x = rows.origin.x[:, None] + torch.arange(width)
    outside = ((y < 0) | (y >= SHAPE[1]))[:, :, None] | ((x < 0) | (x >= SHAPE[2]))[:, None, :]
    assert not bool((rows.A != 0).any(1)[outside].any())


def test_gathering_a_field_is_the_same_in_both_forms() -> None:
    op = CONVOLUTIONS["pads"]
    shape = output_shape(op)
    neurons = torch.arange(0, shape[0] * shape[1] * shape[2], 3)
    owner = neurons % 3
    rows = conv_backward(unit_rows(neurons, owner, shape, op.weight), op, SHAPE)
    field = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    products = (rows.A * rows.gather(field)).flatten(1).sum(1)
    whole = rows.whole(SHAPE)
    torch.testing.assert_close(products, (whole.A * whole.gather(field)).flatten(1).sum(1), rtol=1e-12, atol=1e-12)


def test_a_part_of_the_rows_keeps_its_windows_and_owners() -> None:
    neurons = torch.arange(24)
    rows = unit_rows(neurons, neurons % 2, (2, 3, 4), torch.zeros(1, dtype=DOUBLE))
    part = rows[5:9]
    torch.testing.assert_close(part.whole((2, 3, 4)).A, rows.whole((2, 3, 4)).A[5:9])
    assert part.owner.tolist() == [1, 0, 1, 0]


def test_unit_rows_of_a_vector_pick_its_elements() -> None:
    neurons = torch.tensor([3, 0, 3])
    rows = unit_rows(neurons, torch.zeros_like(neurons), (5,), torch.zeros(1, dtype=DOUBLE))
    assert rows.A.argmax(1).tolist() == [3, 0, 3]
    assert float(rows.A.abs().sum()) == 3


@pytest.mark.parametrize("name", ["plain", "stride", "dilation", "groups"])
def test_the_transposed_convolution_is_the_library_s(name: str) -> None:
    op = CONVOLUTIONS[name]
    A = torch.randn(5, 6, 3, 4, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    expected = functional.conv_transpose2d(A, op.weight, stride=op.stride, dilation=op.dilation, groups=op.groups)
    torch.testing.assert_close(transposed_convolution(A, op), expected, rtol=1e-12, atol=1e-12)


def test_whole_rows_in_another_shape_are_reshaped() -> None:
    rows = Rows(torch.arange(12.0).view(2, 6), torch.zeros(2, dtype=torch.int64))
    assert rows.whole((2, 3)).A.shape == (2, 2, 3)
