"""Instances that real arithmetic satisfies and ONNX Runtime's float32 evaluation violates, each with its witness.

They are searched, not assumed: an instance is only made where ONNX Runtime was seen to compute a lower value than the
real minimum, at a float32 point of the box.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from families import FAMILIES
from nets import Array, Net, graph_of, property_of, region
from numpy.typing import NDArray

from harness.domain import Property
from harness.formats.onnx_file import open_session
from harness.verifier.crown import margins, root_bounds
from harness.verifier.interval import Box

Float32 = NDArray[np.float32]
Ends = tuple[Float32, Float32]
"""Lower and upper ends of a box, in the input's shape."""


@dataclass(frozen=True, slots=True, eq=False)
class Trap:
    """A property `y > rhs` that holds in real arithmetic over its box, and does not in float32."""

    model: bytes
    prop: Property
    witness: Float32
    """Flat; the box holds it, and ONNX Runtime computes a value of at most `rhs` there."""
    computed: float
    """That value."""
    real: float
    """The minimum in real arithmetic, up to float64 rounding; above `rhs`."""


def evaluated(model: bytes, points: Float32) -> Array:
    """Returns what ONNX Runtime computes at each of `(points, *input_shape)`, one at a time, `(points, outputs)`."""
    session = open_session(model)
    name = session.input.name
    return np.stack([session.runtime.run(None, {name: p[None]})[0].ravel() for p in points])


def float32_points(lower: Float32, upper: Float32, count: int, random: np.random.Generator) -> Float32:
    """Returns float32 points of a box: corners and their neighbours a few units in the last place inwards, then any."""
    shape = (count, *lower.shape)
    points = np.where(random.random(shape) < 0.5, lower, upper)
    third = count // 3
    for _ in range(3):
        inwards = np.where(points[:third] == lower, np.nextafter(points[:third], upper), points[:third])
        inwards = np.where(points[:third] == upper, np.nextafter(points[:third], lower), inwards)
        points[:third] = np.where(random.random(inwards.shape) < 0.5, inwards, points[:third])
    points[2 * third :] = random.uniform(lower, upper, (count - 2 * third, *lower.shape)).astype(np.float32)
    clipped: Float32 = np.clip(points, lower, upper)
    return clipped


def ends_around(centre: Array, radius: float) -> Ends:
    return (centre - radius).astype(np.float32), (centre + radius).astype(np.float32)


def trap_between(model: bytes, ends: Ends, real: float, points: Float32, strict: bool) -> Trap | None:
    """Returns the trap whose right-hand side is the lowest value computed, or None if that is not below the real one.

    Args:
        model: has one output.
        ends: of the box.
        real: the minimum of the output over the box.
        points: where to look.
        strict: whether the violation is `y < rhs` instead of `y <= rhs`.
    """
    computed = evaluated(model, points).astype(np.float64)[:, 0]
    k = int(computed.argmin())
    rhs = float(np.nextafter(computed[k], np.inf)) if strict else float(computed[k])
    if not rhs < real:
        return None
    prop = property_of(*ends, region([1.0], rhs, strict))
    return Trap(model, prop, points[k].ravel(), float(computed[k]), real)


def with_flat_head(family: str, seed: int, scale: float) -> tuple[bytes, float]:
    """Returns a network that is a constant in real arithmetic, over a random network of a family; and the constant.

    `w h - 1 (diag(w) h) + c`: both products are the same number, summed in two ways.
    """
    shape, build = FAMILIES[family]
    net = Net(shape, seed)
    v = build(net)
    draw = net.random.normal
    wide = net.constant(draw(0, scale, (16, 3)))
    h = net.relu(net.op("Gemm", v, wide, net.constant(draw(0, scale, 16)), transB=1))
    w = draw(0, 1, 16).astype(np.float32)
    nothing = net.constant([0.0])
    at_once = net.op("Gemm", h, net.constant(w[None]), nothing, transB=1)
    terms = net.op("Gemm", h, net.constant(np.diag(w)), net.constant(np.zeros(16)), transB=1)
    in_turn = net.op("Gemm", terms, net.constant(np.ones((1, 16))), nothing, transB=1)
    c = float(np.float32(draw(0, 1)))
    return net.model(net.op("Add", net.op("Sub", at_once, in_turn), net.constant([c]))), c


def flat_trap(family: str, seed: int, points: int = 1200) -> Trap | None:
    """Returns a trap whose network is flat, so that its violations lie scattered where rounding happens to fall."""
    random = np.random.default_rng(seed)
    model, c = with_flat_head(family, seed, 10.0 ** random.integers(0, 3))
    ends = ends_around(random.uniform(0, 1, graph_of(model).input_shape), 0.1)
    return trap_between(model, ends, c, float32_points(*ends, points, random), bool(seed % 2))


def corner_trap(family: str, seed: int, points: int = 800) -> Trap | None:
    """Returns a trap on a box of a few units in the last place, around the corner where the network is lowest.

    None where a neuron stays unstable, so that the real minimum is not known.
    """
    random = np.random.default_rng(seed)
    shape, build = FAMILIES[family]
    net = Net(shape, seed)
    v = build(net)
    row, bias = net.random.normal(0, 30, (1, 3)), net.random.normal(0, 30, 1)
    model = net.model(net.op("Gemm", v, net.constant(row), net.constant(bias), transB=1))
    ends = ends_around(random.uniform(0, 1, shape), 1e-6)
    found = attained_minimum(model, ends)
    if found is None:
        return None
    real, corner = found
    looked_at = float32_points(*ends, points, random)
    half = looked_at[: points // 2]
    half[:] = np.where(random.random(half.shape) < 0.3, half, corner)
    return trap_between(model, ends, real, looked_at, bool(seed % 2))


def attained_minimum(model: bytes, ends: Ends) -> tuple[float, Float32] | None:
    """Returns the real minimum of a single output over a box and its corner, where a lower bound is attained there."""
    graph = graph_of(model)
    box = Box(*(torch.from_numpy(end.astype(np.float64))[None] for end in ends))
    one, first = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    low = float(margins(graph, one, first, root_bounds(graph, box, 0.0))[0])
    x = box.centre.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(graph(x).sum(), x)
    corner = torch.where(gradient > 0, box.lower, box.upper)
    value = float(graph(corner)[0, 0])
    return (value, corner[0].numpy().astype(np.float32)) if value - low <= 1e-11 * (1 + abs(low)) else None


def absorbed(seed: int) -> Trap | None:
    """Returns `(big x + small) - big x + c`: the small number is lost in the big one, or grows, by rounding."""
    random = np.random.default_rng(seed)
    big, small, c = (np.float32(v) for v in (10.0 ** random.uniform(5, 7), random.uniform(0.1, 1), random.normal()))
    net = Net((1,))
    h = net.relu(net.op("Gemm", "x", net.constant([[big], [big]]), net.constant([small, 0.0]), transB=1))
    model = net.model(net.op("Gemm", h, net.constant([[1.0, -1.0]]), net.constant([c]), transB=1))
    ends = np.array([1.0], np.float32), np.array([2.0], np.float32)
    return trap_between(model, ends, float(small) + float(c), float32_points(*ends, 2000, random), bool(seed % 2))


def long_sum(seed: int) -> Trap | None:
    """Returns a sum of many large terms that cancel exactly in pairs far apart, and a constant."""
    random = np.random.default_rng(seed)
    count = 150
    first = random.normal(0, 10.0 ** random.uniform(1, 4), (count, 3)).astype(np.float32)
    net = Net((3,))
    v = net.op("Gemm", "x", net.constant(np.concatenate([first, first])), net.constant(np.zeros(2 * count)), transB=1)
    order = random.permutation(2 * count)
    signs = np.repeat([1.0, -1.0], count)
    shuffled = net.op("Gemm", net.relu(v), net.constant(np.eye(2 * count)[order]), net.constant([0.0]), transB=1)
    c = np.float32(random.normal())
    model = net.model(net.op("Gemm", shuffled, net.constant(signs[order][None]), net.constant([c]), transB=1))
    ends = ends_around(random.uniform(0, 1, 3), 0.05)
    return trap_between(model, ends, float(c), float32_points(*ends, 1000, random), bool(seed % 2))


def deep_chain(seed: int, depth: int = 14) -> Trap | None:
    """Returns a chain of steps `relu(a z - b)`, each of which multiplies the rounding of the ones before it."""
    random = np.random.default_rng(seed)
    net, v, z = Net((1,)), "x", Fraction(float(np.float32(random.uniform(0.5, 1.0))))
    lower = np.array([float(z)], np.float32)
    for k in range(depth):
        a = np.float32(random.uniform(1.5, 3.0))
        b = np.float32(float(Fraction(float(a)) * z) - random.uniform(0.5, 1.0))
        v = net.op("Gemm", v, net.constant([[a]]), net.constant([-b]), transB=1)
        z = Fraction(float(a)) * z - Fraction(float(b))
        v = net.relu(v) if k < depth - 1 else v
    upper = np.array([float(lower[0]) + 1e-6], np.float32)
    # Rising and active everywhere, so the minimum is at the lower end; no unit above it is computed lower by much.
    points = np.array([lower + np.float32(6e-8 * k) for k in range(3)], np.float32)
    return trap_between(net.model(v), (lower, upper), float(z), points, bool(seed % 2))


MADE_BY_HAND: dict[str, Callable[[int], Trap | None]] = {
    "absorbed": absorbed,
    "long sum": long_sum,
    "deep chain": deep_chain,
}
