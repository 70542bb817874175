"""Random small networks of every supported shape."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from nets import Net, graph_of


def _fully_connected(net: Net) -> str:
    v = net.relu(net.linear("x", 8, 5))
    v = net.relu(net.linear(v, 7, 8))
    return net.linear(v, 3, 7)


def _grafted(net: Net) -> str:
    v = net.random_graft(net.linear("x", 8, 5), (8,), name="a")
    v = net.random_graft(net.linear(v, 7, 8), (7,), name="b")
    return net.linear(v, 3, 7)


def _convolution(net: Net) -> str:
    v = net.relu(net.conv("x", 4, 2, strides=[2, 1], pads=[1, 0, 2, 1]))
    v = net.relu(net.conv(v, 3, 4, kernel=2, pads=[0, 1, 1, 0], strides=[1, 2]))
    v = net.relu(net.conv(v, 3, 3, kernel=3, pads=[1, 1, 1, 1]))
    return net.linear(net.op("Flatten", v), 3, _size(net, v, 3))


def _size(net: Net, value: str, channels: int) -> int:
    """Returns how many elements an image has, by reading the net that ends there."""
    shape = graph_of(net.model(value)).output_shape
    assert shape[0] == channels
    return shape[0] * shape[1] * shape[2]


def _grafted_convolution(net: Net) -> str:
    v = net.random_graft(net.conv("x", 4, 2, pads=[1, 1, 1, 1], strides=[2, 2]), (4, 3, 3), name="a")
    v = net.random_graft(net.conv(v, 3, 4, pads=[1, 1, 1, 1]), (3, 3, 3), 0.3, name="b")
    v = net.random_graft(net.linear(net.op("Flatten", v), 6, 27), (6,), name="c")
    return net.linear(v, 3, 6)


def _residual(net: Net) -> str:
    v = net.relu(net.conv("x", 4, 2, pads=[1, 1, 1, 1]))
    inner = net.conv(net.relu(net.conv(v, 4, 4, pads=[1, 1, 1, 1])), 4, 4, pads=[1, 1, 1, 1])
    short = net.conv(v, 4, 4, kernel=1)
    v = net.relu(net.op("Add", inner, short))
    v = net.relu(net.op("Sub", net.conv(v, 4, 4, pads=[1, 1, 1, 1]), v))
    return net.linear(net.op("Flatten", v), 3, 100)


def _normalised(net: Net) -> str:
    def norm(x: str, channels: int) -> str:
        draw = net.random
        parts = [draw.normal(1, 0.5, channels), *(draw.normal(0, 0.5, channels) for _ in range(2))]
        return net.op("BatchNormalization", x, *(net.constant(p) for p in (*parts, draw.uniform(0.5, 2, channels))))

    v = net.op("Div", net.op("Sub", "x", net.constant([[[0.4]], [[0.6]]])), net.constant([[[0.2]], [[0.3]]]))
    v = net.relu(norm(net.conv(v, 3, 2), 3))
    v = net.relu(norm(net.op("Add", v, v), 3))
    v = net.op("AveragePool", v, kernel_shape=[2, 2], strides=[1, 1])
    return net.linear(net.op("Flatten", v), 3, 12)


def _groups_and_axes(net: Net) -> str:
    v = net.relu(net.conv("x", 4, 2, kernel=2, group=2, dilations=[2, 1]))
    v = net.relu(net.op("Transpose", v, perm=[0, 2, 1, 3]))
    v = net.op("Mul", v, net.constant(net.weights(3, 4, 4)))
    v = net.op("Pad", v, net.constant([0, 0, 1, 0, 0, 0, -1, 1], np.int64))
    v = net.relu(net.conv(v, 2, 3, kernel=2))
    return net.linear(net.op("Flatten", v), 3, 24)


def _odd(net: Net) -> str:
    """ReLU on the input, ReLU of ReLU, one value with three consumers, activations sharing an input, one at the end."""
    v = net.relu(net.relu("x"))
    v = net.linear(v, 6, 5)
    both = net.op("Add", net.relu(v), net.random_graft(v, (6,), name="g"))
    v = net.op("Sub", both, v)
    return net.relu(net.linear(v, 3, 6))


def _affine(net: Net) -> str:
    return net.linear(net.linear("x", 4, 5), 3, 4)


FAMILIES: dict[str, tuple[tuple[int, ...], Callable[[Net], str]]] = {
    "fully connected": ((5,), _fully_connected),
    "grafted": ((5,), _grafted),
    "convolution": ((2, 5, 5), _convolution),
    "grafted convolution": ((2, 5, 5), _grafted_convolution),
    "residual": ((2, 5, 5), _residual),
    "normalised": ((2, 5, 5), _normalised),
    "groups and axes": ((2, 5, 5), _groups_and_axes),
    "odd": ((5,), _odd),
    "affine": ((5,), _affine),
}


def _joined(net: Net) -> str:
    """Values cut apart, picked from, joined by channel and by column, and broadcast."""

    def part(x: str, axis: int, start: int, end: int, step: int = 1) -> str:
        return net.op("Slice", x, *(net.constant([v], np.int64) for v in (start, end, axis, step)))

    v = net.relu(net.op("Concat", net.conv("x", 2, 2, pads=[1, 1, 1, 1]), "x", axis=1))
    v = net.op("Concat", v, net.relu(net.conv(v, 2, 4, kernel=1)), net.op("Neg", part(v, 1, 1, 3)), axis=1)
    v = net.op("Concat", part(v, 3, 0, 2), part(v, 3, 4, 1, -1), axis=3)
    v = net.random_graft(net.conv(part(v, 2, 0, 5, 2), 3, 8, kernel=2), (3, 2, 4))
    v = net.op("Add", v, net.op("ReduceMean", v, axes=[2, 3]))
    v = net.op("MatMul", net.relu(v), net.constant(net.weights(4, 2)))
    return net.linear(net.op("Flatten", v), 3, 12)


def _bent(net: Net) -> str:
    """Leaky and clipped activations, sums of several values, and a matrix on the left."""
    v = net.op("LeakyRelu", net.linear("x", 6, 5), alpha=0.1)
    w = net.op("PRelu", net.linear(v, 6, 6), net.constant(net.random.normal(0, 0.8, 6)))
    v = net.op("Clip", net.op("Sum", v, w, net.linear("x", 6, 5)), net.constant(-0.2), net.constant(0.9))
    v = net.op("Reshape", v, net.constant([6, 1], np.int64))
    v = net.op("Reshape", net.op("MatMul", net.constant(net.weights(4, 6)), v), net.constant([1, -1], np.int64))
    return net.linear(net.relu(v), 3, 4)


MORE_FAMILIES: dict[str, tuple[tuple[int, ...], Callable[[Net], str]]] = {
    "joined": ((2, 5, 5), _joined),
    "bent": ((5,), _bent),
}
"""Piecewise linear too, of operators that the other readers in these tests do not know."""


def _smooth(net: Net) -> str:
    v = net.op("Tanh", net.linear("x", 8, 5))
    v = net.op("Sigmoid", net.linear(v, 7, 8))
    return net.linear(net.relu(net.linear(v, 6, 7)), 3, 6)


def _smooth_convolution(net: Net) -> str:
    v = net.op("Sigmoid", net.conv("x", 3, 2, pads=[1, 1, 1, 1]))
    v = net.op("Add", v, net.op("Tanh", net.conv(v, 3, 3, pads=[1, 1, 1, 1])))
    v = net.op("Tanh", net.conv(net.relu(v), 2, 3, strides=[2, 2]))
    return net.linear(net.op("Flatten", v), 3, 8)


SMOOTH_FAMILIES: dict[str, tuple[tuple[int, ...], Callable[[Net], str]]] = {
    "smooth": ((5,), _smooth),
    "smooth convolution": ((2, 5, 5), _smooth_convolution),
}
"""With sigmoid and tanh, which are bounded but neither folded nor split."""
ALL_FAMILIES = FAMILIES | MORE_FAMILIES | SMOOTH_FAMILIES


def member(family: str, seed: int) -> bytes:
    """Returns a random network of a family; it has 3 outputs."""
    shape, build = ALL_FAMILIES[family]
    net = Net(shape, seed)
    return net.model(build(net))
