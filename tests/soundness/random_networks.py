"""Random small networks of everything that the engine reads, with weights of every size that a float holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from nets import Array, Net
from numpy.typing import NDArray

OUTPUTS = 3
EXTREMES = (0.0, 1e-45, 1e-40, 1e-38, 1e-30, 1e-20, 1e-10, 1e10, 1e19, 1e30, 3e38)
"""Sizes that weights have now and then: zero, subnormal, tiny, huge."""


class Drawn(NamedTuple):
    """A random network; its input is named `x`, its output has `OUTPUTS` values."""

    model: bytes
    shape: tuple[int, ...]
    """Of the input, without batch."""
    family: str
    dtype: type


class RandomNet(Net):
    """A network that grows block by block behind the value `v` of shape `at` (without batch)."""

    def __init__(self, seed: int, shape: Sequence[int], sizes: str, dtype: type) -> None:
        super().__init__(shape, seed, dtype=dtype)
        self.v, self.at, self.sizes = "x", tuple(shape), sizes

    # Numbers.

    def number(self, shape: Sequence[int], scale: float) -> Array:
        """Returns random constants of this network's kind."""
        draw, shape = self.random, tuple(shape)
        if self.sizes == "whole":
            return np.asarray(draw.integers(-2, 3, shape), self.dtype)
        values = draw.normal(0, scale, shape)
        if self.sizes == "sparse":
            values *= draw.random(shape) < 0.4
        elif self.sizes == "scaled":
            values *= 10.0 ** int(draw.integers(-25, 26))
        elif self.sizes == "mixed":
            values *= 10.0 ** draw.integers(-6, 7, shape)
        elif self.sizes == "extreme" and draw.random() < 0.4:
            values = np.where(draw.random(shape) < 0.5, values, draw.choice(EXTREMES, shape) * np.sign(values))
        return values.astype(self.dtype)

    def chance(self, p: float) -> bool:
        return bool(self.random.random() < p)

    def push(self, v: str, shape: Sequence[int] | None = None) -> None:
        self.v, self.at = v, self.at if shape is None else tuple(shape)

    # Blocks of vectors and images.

    def activation(self) -> None:
        kinds = ["relu", "graft", "graft", "relu", "clip", "leaky", "prelu"]
        # ONNX Runtime has no others of doubles.
        kind = self.random.choice(kinds if self.dtype is np.float32 else kinds[:5])
        if kind == "relu":
            self.push(self.relu(self.v))
        elif kind == "graft":
            mask = self.random.random(self.at) < self.random.choice([0.2, 0.5, 0.9, 1.0])
            self.push(self.grafted(self.v, mask, self.number(self.at, 0.7), self.number(self.at, 0.3)))
        elif kind == "leaky":
            self.push(self.op("LeakyRelu", self.v, alpha=float(self.random.choice([-0.5, 0.01, 0.3, 1.5]))))
        elif kind == "prelu":
            self.push(self.op("PRelu", self.v, self.constant(self.number(self.at, 0.5))))
        else:
            low, high = self.number((), 0.5), self.number((), 1.0)
            ends = [self.constant(low) if self.chance(0.8) else "", self.constant(high) if self.chance(0.6) else ""]
            self.push(self.op("Clip", self.v, *ends))

    def arithmetic(self) -> None:
        shape = self.at if self.chance(0.5) else (self.at[0], *([1] * (len(self.at) - 1)))
        kind = str(self.random.choice(["Sub", "Mul", "Div", "Add", "chain"]))
        if kind == "chain":
            for factor in self.random.choice([1e-30, 1e-20, 1e-4, 0.5, 1e4, 1e20, 1e30], self.random.integers(2, 5)):
                self.push(self.op("Mul", self.v, self.constant(factor)))
            return
        values = self.number(shape, 1.0)
        if kind == "Div":
            values = np.where(values == 0, self.dtype(1), values)
        names = [self.v, self.constant(values)]
        self.push(self.op(kind, *(names if kind == "Div" or self.chance(0.7) else names[::-1])))

    def normalised(self) -> None:
        parts = (self.number((self.at[0],), 1.0), self.number((self.at[0],), 0.5), self.number((self.at[0],), 0.5))
        spread = np.abs(self.number((self.at[0],), 1.0)) + self.dtype(self.random.choice([0.0, 0.5]))
        self.push(self.op("BatchNormalization", self.v, *(self.constant(p) for p in (*parts, spread))))

    def parted(self) -> None:
        """Cuts the value along its first dimension, joins it again in another order."""
        n = self.at[0]
        cut = int(self.random.integers(1, n)) if n > 1 else 0
        whole = [(0, cut), (cut, n)] if cut else [(0, n)]
        parts = [self.sliced(a, b) for a, b in whole[::-1]]
        if self.chance(0.5):
            parts.append(self.op("Neg", parts[0]))
        grown = n + (whole[-1][1] - whole[-1][0] if len(parts) > len(whole) else 0)
        self.push(self.op("Concat", *parts, axis=1), (grown, *self.at[1:]))

    def sliced(self, start: int, end: int) -> str:
        places = (self.constant([k], np.int64) for k in (start, end, 1))
        return self.op("Slice", self.v, *places)

    def residual(self, inner: Callable[[], None]) -> None:
        before, shape = self.v, self.at
        inner()
        if self.at == shape:
            self.push(self.op(str(self.random.choice(["Add", "Sub"])), self.v, before))

    # Blocks of vectors.

    def dense(self, outputs: int | None = None) -> None:
        n = self.at[0]
        m = int(self.random.integers(1, 8)) if outputs is None else outputs
        weight, bias = self.number((m, n), 1.4 / np.sqrt(n)), self.number((m,), 0.3)
        kind = self.random.choice(["Gemm", "alpha", "MatMul", "Gemm"])
        if kind == "MatMul":
            self.push(self.op("MatMul", self.v, self.constant(weight.T)), (m,))
            self.push(self.op("Add", self.v, self.constant(bias)))
            return
        more: dict[str, Any] = {"alpha": float(self.number((), 1.0)) or 0.5, "beta": 0.5} if kind == "alpha" else {}
        self.push(self.op("Gemm", self.v, self.constant(weight), self.constant(bias), transB=1, **more), (m,))

    # Blocks of images.

    def convolution(self, same: bool = False) -> None:
        channels, height, width = self.at
        draw = self.random
        kernel = (3, 3) if same else tuple(int(k) for k in draw.integers(1, min(3, height, width) + 1, 2))
        stride, dilation = ((1, 1), (1, 1)) if same else (tuple(draw.integers(1, 3, 2)), (1, 1))
        pads = (1, 1, 1, 1) if same else tuple(int(p) for p in draw.integers(0, 2, 4))
        groups = channels if self.chance(0.25) else 1
        out = channels if same else groups * int(draw.integers(1, 3))
        weight = self.number(
            (out, channels // groups, *kernel), 1.4 / np.sqrt(kernel[0] * kernel[1] * channels / groups)
        )
        names = [self.v, self.constant(weight)]
        if self.chance(0.8):
            names.append(self.constant(self.number((out,), 0.3)))
        strides = [int(s) for s in stride]
        more = {"strides": strides, "pads": list(pads), "dilations": list(dilation), "group": groups}
        sides = [(n + pads[k] + pads[k + 2] - kernel[k]) // strides[k] + 1 for k, n in enumerate((height, width))]
        self.push(self.op("Conv", *names, **more), (out, *sides))

    def pooled(self) -> None:
        if self.dtype is not np.float32:
            return
        channels, height, width = self.at
        kernel = [min(2, height), min(2, width)]
        pads = [0, 0, 0, 0] if self.chance(0.5) else [kernel[0] - 1, 0, 0, kernel[1] - 1]
        sides = [n + pads[k] + pads[k + 2] - kernel[k] + 1 for k, n in enumerate((height, width))]
        include = int(self.chance(0.5))
        self.push(
            self.op("AveragePool", self.v, kernel_shape=kernel, pads=pads, count_include_pad=include),
            (channels, *sides),
        )

    def turned(self) -> None:
        order = self.random.permutation(3)
        self.push(self.op("Transpose", self.v, perm=[0, *(int(d) + 1 for d in order)]), [self.at[d] for d in order])

    def padded(self) -> None:
        amounts = [int(p) for p in self.random.integers(0, 2, 4)]
        pads = [0, 0, amounts[0], amounts[1], 0, 0, amounts[2], amounts[3]]
        value = self.constant(self.number((), 1.0) if self.chance(0.5) else 0.0)
        shape = (self.at[0], self.at[1] + amounts[0] + amounts[2], self.at[2] + amounts[1] + amounts[3])
        self.push(self.op("Pad", self.v, self.constant(pads, np.int64), value), shape)

    def flat(self) -> None:
        self.push(self.op("Flatten", self.v), (int(np.prod(self.at)),))


def _vectors(net: RandomNet) -> None:
    if net.chance(0.3):
        net.arithmetic()
    for _ in range(int(net.random.integers(1, 4))):
        if net.chance(0.25):
            net.residual(lambda: (net.dense(net.at[0]), net.activation()))
        else:
            net.dense()
            if net.chance(0.2):
                net.normalised()
            if net.chance(0.15):
                net.arithmetic()
            net.activation()
        if net.chance(0.15):
            net.parted()
    net.dense(OUTPUTS)


def _images(net: RandomNet) -> None:
    if net.chance(0.4):
        net.arithmetic()
    blocks: dict[str, Callable[[], None]] = {
        "conv": lambda: (net.convolution(), net.activation()),
        "normalised": lambda: (net.convolution(), net.normalised(), net.activation()),
        "residual": lambda: net.residual(
            lambda: (net.convolution(same=True), net.activation(), net.convolution(same=True))
        ),
        "residual, activated": lambda: net.residual(lambda: (net.convolution(same=True), net.activation())),
        "pool": net.pooled,
        "parted": net.parted,
        "turned": net.turned,
        "padded": net.padded,
        "arithmetic": net.arithmetic,
    }
    for _ in range(int(net.random.integers(1, 4))):
        blocks[str(net.random.choice(list(blocks)))]()
        if int(np.prod(net.at)) > 60:
            net.convolution()
    net.activation()
    net.flat()
    net.dense(OUTPUTS)


def _smooth(net: RandomNet) -> None:
    for _ in range(int(net.random.integers(1, 3))):
        net.dense()
        if net.chance(0.7):
            net.push(net.op(str(net.random.choice(["Sigmoid", "Tanh"])), net.v))
        else:
            net.activation()
    net.dense(OUTPUTS)


def _copies(net: RandomNet) -> None:
    """Outputs that are inputs, or little more."""
    for _ in range(int(net.random.integers(0, 3))):
        net.push(net.relu(net.v) if net.chance(0.5) else net.op("Neg", net.v))
    if net.chance(0.5):
        net.parted()
    net.push(net.sliced(0, OUTPUTS), (OUTPUTS,))


def _deep(net: RandomNet) -> None:
    """Many layers of few neurons."""
    for _ in range(int(net.random.integers(3, 7))):
        net.dense(int(net.random.integers(2, 5)))
        net.activation()
    net.dense(OUTPUTS)


FAMILIES: dict[str, tuple[Sequence[tuple[int, ...]], Callable[[RandomNet], None]]] = {
    "vectors": (((1,), (2,), (3,), (5,)), _vectors),
    "many inputs": (((20,),), _vectors),
    "images": (((1, 3, 3), (2, 4, 4), (3, 4, 3), (2, 5, 5)), _images),
    "smooth": (((2,), (4,), (20,)), _smooth),
    "copies": (((3,), (4,)), _copies),
    "deep": (((2,), (3,)), _deep),
}
SIZES = ("plain", "plain", "whole", "sparse", "scaled", "mixed", "extreme", "extreme")


def draw_network(seed: int) -> Drawn:
    """Returns the network of a seed; rarely one that ONNX Runtime or the engine refuses."""
    random = np.random.default_rng(seed)
    family = str(random.choice(list(FAMILIES)))
    shapes, build = FAMILIES[family]
    shape = shapes[int(random.integers(len(shapes)))]
    sizes, dtype = str(random.choice(SIZES)), np.float64 if random.random() < 0.15 else np.float32
    net = RandomNet(seed + 1, shape, sizes, dtype)
    with np.errstate(over="ignore", under="ignore"):
        build(net)
    return Drawn(net.model(net.v), shape, f"{family}, {sizes}", dtype)


def finite(values: NDArray[Any]) -> bool:
    """Returns whether all values are numbers."""
    return bool(np.isfinite(values).all())
