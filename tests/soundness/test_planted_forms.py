"""Tiny planted violations in convolutional, residual, grafted and five-input networks are never proved away.

Away from the spike the gradient is that of a small random network, which leads no attack to it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from nets import INPUTS, NEURONS, Array, Net, decide_all, property_of, region, run_onnx

from harness.domain import Limits, Property, PropertyCase, Verdict
from harness.verifier.config import EngineConfig

HEIGHT = 1.0
NOISE = 0.05
"""Size of the random network beside the spike."""
WIDTHS = (1e-2, 1e-4)
"""The violating region's radius in the 1-norm, as a share of the box's radius 1."""
CHANNELS, SIDE = 2, 4
IMAGE = (CHANNELS, SIDE, SIDE)

Distance = Callable[[Net, Array], str]
"""Adds nodes for elementwise abs(x - centre), flattened."""


def by_two_neurons(net: Net, centre: Array) -> str:
    """relu(z) + relu(-z), fully connected."""
    d = len(centre)
    v = net.op("Gemm", "x", net.constant(np.r_[np.eye(d), -np.eye(d)]), net.constant(np.r_[-centre, centre]), transB=1)
    return net.op("Gemm", net.relu(v), net.constant(np.c_[np.eye(d), np.eye(d)]), net.constant([0.0]), transB=1)


def by_convolution(net: Net, centre: Array) -> str:
    """A convolution makes z and -z in channels of their own, another one adds their ReLUs."""
    z = net.op("Sub", "x", net.constant(centre))
    kernel, eye = np.zeros((2 * CHANNELS, CHANNELS, 3, 3)), np.eye(CHANNELS)
    kernel[:, :, 1, 1] = np.r_[eye, -eye]
    v = net.relu(net.op("Conv", z, net.constant(kernel), net.constant(np.zeros(2 * CHANNELS)), pads=[1, 1, 1, 1]))
    both = net.constant(np.c_[eye, eye][:, :, None, None])
    return net.op("Flatten", net.op("Conv", v, both, net.constant(np.zeros(CHANNELS))))


def by_residual(net: Net, centre: Array) -> str:
    """2 relu(z) - z: the ReLU's branch and the one around it."""
    z = net.op("Sub", "x", net.constant(centre))
    twice = net.constant(2 * np.eye(CHANNELS)[:, :, None, None])
    v = net.op("Conv", net.relu(z), twice, net.constant(np.zeros(CHANNELS)))
    return net.op("Flatten", net.op("Sub", v, z))


def by_grafts(net: Net, centre: Array) -> str:
    """relu(2 z) + g(z), where the grafted g has slope -1 and an intercept that its other half takes off again."""
    z = net.op("Flatten", net.op("Sub", "x", net.constant(centre)))
    d = centre.size
    both = net.op("Gemm", z, net.constant(np.r_[2 * np.eye(d), np.eye(d)]), net.constant(np.zeros(2 * d)), transB=1)
    mask = np.arange(2 * d) >= d
    v = net.grafted(both, mask, np.full(2 * d, -1.0), np.full(2 * d, 0.5), name="graft")
    return net.op("Gemm", v, net.constant(np.c_[np.eye(d), np.eye(d)]), net.constant(np.full(d, -0.5)), transB=1)


FORMS: dict[str, tuple[tuple[int, ...], Distance]] = {
    "five inputs": ((5,), by_two_neurons),
    "convolution": (IMAGE, by_convolution),
    "residual": (IMAGE, by_residual),
    "grafted": (IMAGE, by_grafts),
}
SEARCHES = [pytest.param(form, NEURONS, id=f"{form}, by neurons") for form in FORMS]
SEARCHES += [pytest.param("five inputs", INPUTS, id="five inputs, by input")]
"""Images have too many inputs to be split by input."""


def spiked(form: str, seed: int, width: float) -> tuple[bytes, Array]:
    """Returns y = HEIGHT/2 - relu(HEIGHT - HEIGHT/width sum abs(x - centre)) + a little noise, and the centre."""
    shape, distance = FORMS[form]
    net = Net(shape, seed)
    centre = net.random.uniform(-0.9, 0.9, shape).astype(np.float32)
    d = centre.size
    slope = net.constant(np.full((1, d), -HEIGHT / width))
    peak = net.relu(net.op("Gemm", distance(net, centre), slope, net.constant([HEIGHT]), transB=1))
    flat = net.op("Flatten", "x") if len(shape) > 1 else "x"
    hidden = net.relu(net.linear(flat, 4, d))
    noise = net.op("Gemm", hidden, net.constant(NOISE * net.weights(1, 4)), net.constant([HEIGHT / 2]), transB=1)
    return net.model(net.op("Sub", noise, peak)), centre


def box_of(centre: Array, free: int, seed: int) -> tuple[Array, Array]:
    """Returns a box of radius 1 around 0 in some inputs; the others are fixed at the centre."""
    chosen = np.random.default_rng(seed).choice(centre.size, free, replace=False)
    lower, upper = centre.ravel().copy(), centre.ravel().copy()
    lower[chosen], upper[chosen] = -1, 1
    return lower, upper


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("form", "config"), SEARCHES)
def test_a_spike_is_never_proved_away(form: str, width: float, config: EngineConfig) -> None:
    for seed in range(2):
        model, centre = spiked(form, seed, width)
        assert run_onnx(model, centre[None])[0, 0] < 0
        properties = {
            f"{free} free": property_of(*box_of(centre, free, seed), region([1.0], 0.0)) for free in (1, 2, centre.size)
        }
        answers = decide_all(model, properties, Limits(30, "work", 60), config)
        assert not [key for key, answer in answers.items() if answer.verdict is Verdict.UNSAT]


@pytest.mark.parametrize("form", FORMS)
def test_beside_the_spike_and_below_its_foot_there_is_nothing(form: str) -> None:
    """The same networks are provable where nothing is planted, so `unknown` is no habit."""
    for seed in range(2):
        model, centre = spiked(form, seed, 1e-2)
        lower, upper = box_of(centre, 1, seed)
        free, c = lower < upper, centre.ravel()
        properties = {
            "beside": property_of(
                np.where(free & (c < 0), c + 0.05, lower),
                np.where(free & (c >= 0), c - 0.05, upper),
                region([1.0], 0.0),
            ),
            "below": property_of(lower, upper, region([1.0], -HEIGHT)),
        }
        answers = decide_all(model, properties, Limits(30, "work", 500))
        assert {key: a.verdict for key, a in answers.items()} == dict.fromkeys(properties, Verdict.UNSAT)


@pytest.mark.parametrize(("form", "config"), SEARCHES)
def test_a_spike_in_one_row_box_and_region_of_many_is_not_lost(form: str, config: EngineConfig) -> None:
    """A union of boxes of which the last holds the spike, and a conjunction whose other row is always violated."""
    model, centre = spiked(form, 7, 1e-4)
    lower, upper = box_of(centre, 1, 7)
    cuts = np.linspace(-1, 1, 5)
    free = int(np.flatnonzero(lower < upper)[0])
    order = sorted(range(4), key=lambda k: cuts[k] <= centre.ravel()[free] <= cuts[k + 1])
    cases: list[PropertyCase] = []
    for k in order:
        low, high = lower.copy(), upper.copy()
        low[free], high[free] = cuts[k], cuts[k + 1]
        both = region([[1.0], [1.0]], [0.0, 10.0])
        never = region([1.0], -100.0)
        cases += property_of(low, high, never, both).cases
    prop = Property(tuple(cases), centre.size, 1)
    answer = decide_all(model, {"all": prop}, Limits(30, "work", 60), config)["all"]
    assert answer.verdict is not Verdict.UNSAT
