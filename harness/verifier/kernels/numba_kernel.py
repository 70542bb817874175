"""The kernel in Numba: compiled on first use, cached on disk, no compiler on the user's machine.

Floating-point contraction is allowed, reassociation is not: a lane's result is the same whatever its neighbours are.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from harness.verifier.fold import FoldedNetwork
from harness.verifier.kernels.contract import LANES, LaneBounds, Lanes
from harness.verifier.kernels.lanes import accumulate
from harness.verifier.kernels.rounding import certified_bounds

Array = NDArray[Any]


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def backward(
    inputs: int,
    start: Array,
    row: Array,
    value: Array,
    E: Array,
    e: Array,
    upper_slope: Array,
    upper_offset: Array,
    spec: Array,
    phase: Array,
    p: Array,
    A: Array,
    lam: Array,
    point: Array,
    lb: Array,
    magnitude: Array,
) -> None:
    """Fills A and lam `(n, LANES)`, the lowest corner in `point[:inputs]`, lb and magnitude `(LANES,)`.

    The last rows of `lam` stand for the margins: each lane has a 1 at its own.
    """
    n = E.shape[0]
    at_input = np.empty(LANES, E.dtype)
    lam[n:] = 0
    for k in range(LANES):
        lam[n + spec[k], k] = 1
        lb[k] = e[spec[k]]
        magnitude[k] = abs(e[spec[k]])
    for j in range(n - 1, -1, -1):
        column = inputs + j
        a_row = A[j]
        for k in range(LANES):
            a_row[k] = 0
        accumulate(value, row, start[column], start[column + 1], lam, a_row)
        slope = upper_slope[j]
        offset = upper_offset[j]
        for k in range(LANES):
            a = a_row[k]
            s = phase[j, k]
            negative = a < 0
            free = s == 0
            f = slope if negative else p[j, k]
            split = (a if s > 0 else a * 0) - s * p[j, k]
            out = f * a if free else split
            gained = a * offset if (free and negative) else a * 0
            lam[j, k] = out
            lb[k] += out * E[j] + gained
            magnitude[k] += abs(out * E[j]) + abs(gained)
    for column in range(inputs):
        for k in range(LANES):
            at_input[k] = 0
        accumulate(value, row, start[column], start[column + 1], lam, at_input)
        for k in range(LANES):
            lb[k] -= abs(at_input[k])
            magnitude[k] += abs(at_input[k])
            point[column, k] = -1 if at_input[k] > 0 else 1


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def ascend(
    inputs: int,
    start: Array,
    column: Array,
    value: Array,
    E: Array,
    lower: Array,
    upper_slope: Array,
    phase: Array,
    p: Array,
    A: Array,
    point: Array,
    alpha_step: float,
    beta_step: float,
    stepped: Array,
) -> None:
    """Fills `stepped` with multipliers one sign step up the bound's gradient, by one forward pass from the corner.

    `point[:inputs]` is the corner that `backward` left there; the activations that attain the bound go behind it.
    """
    n = p.shape[0]
    z = np.empty(LANES, E.dtype)
    for j in range(n):
        for k in range(LANES):
            z[k] = E[j]
        accumulate(value, column, start[j], start[j + 1], point, z)
        slope = upper_slope[j]
        for k in range(LANES):
            s = phase[j, k]
            q = p[j, k]
            a = A[j, k]
            relaxed = slope * (z[k] - lower[j]) if a < 0 else q * z[k]
            split = z[k] if s > 0 else z[k] * 0
            point[inputs + j, k] = relaxed if s == 0 else split
            alpha = q if a < 0 else min(max(q + (alpha_step if z[k] > 0 else -alpha_step), 0.0), 1.0)
            move = beta_step * abs(a)
            beta = max(q + (move if -s * z[k] > 0 else -move), 0.0)
            stepped[j, k] = alpha if s == 0 else beta


@numba.njit(nogil=True, cache=True, error_model="numpy")
def choose(phase: Array, A: Array, upper_offset: Array, lower: Array, upper: Array, branch: Array) -> None:
    """Fills `branch` with the free neuron of the largest intercept score; see `LaneBounds.branch`.

    Where no free neuron costs anything through its upper line, the widest lower line decides.
    """
    n = phase.shape[0]
    best = np.zeros(LANES, np.float32)
    second = np.full(LANES, np.float32(-1))
    other = np.full(LANES, -1, np.int32)
    for k in range(LANES):
        branch[k] = -1
    for j in range(n):
        width = min(upper[j], -lower[j])
        for k in range(LANES):
            if phase[j, k] == 0:
                score = -A[j, k] * upper_offset[j]
                if score > best[k]:
                    best[k] = score
                    branch[k] = j
                fallback = abs(A[j, k]) * width
                if fallback > second[k]:
                    second[k] = fallback
                    other[k] = j
    for k in range(LANES):
        if branch[k] < 0:
            branch[k] = other[k]


class NumbaKernel:
    """The fused CPU kernel of one folded network.

    Args:
        network: the folded network in float64; a float32 copy is made for the search.
    """

    def __init__(self, network: FoldedNetwork) -> None:
        self._exact, self._fast = network, network.cast(np.float32)
        self._slope = network.ub / (network.ub - network.lb)
        self._offset = -self._slope * network.lb
        self._slope32, self._offset32 = self._slope.astype(np.float32), self._offset.astype(np.float32)
        n, d = network.neurons, network.inputs
        self._A = np.empty((n, LANES), np.float32)
        self._lam = np.empty((n + len(network.e), LANES), np.float32)
        self._stepped = np.empty((n, LANES), np.float32)
        self._point = np.empty((d + n, LANES), np.float32)

    def improve(self, lanes: Lanes, iterations: int, alpha_step: float, beta_step: float) -> LaneBounds:
        """See `Kernel.improve`."""
        fast = self._fast
        best = self._bounds(lanes.spec, lanes.phase, lanes.p)
        trial = lanes.p
        for step in range(iterations):
            shrink = 0.9**step
            ascend(
                fast.inputs, *fast.by_row, fast.E, fast.lb, self._slope32, lanes.phase, trial, self._A, self._point,
                alpha_step * shrink, beta_step * shrink, self._stepped,
            )  # fmt: skip
            trial = self._stepped.copy()
            lb = self._bounds(lanes.spec, lanes.phase, trial)
            better = lb > best
            best = np.where(better, lb, best)
            np.copyto(lanes.p, trial, where=better)
        branch = np.empty(LANES, np.int32)
        choose(lanes.phase, self._A, self._offset32, fast.lb, fast.ub, branch)
        return LaneBounds(best, branch, self._point[: fast.inputs])

    def _bounds(self, spec: Array, phase: Array, p: Array) -> NDArray[np.float32]:
        fast, lb = self._fast, np.empty(LANES, np.float32)
        backward(
            fast.inputs, *fast.by_column, fast.E, fast.e, self._slope32, self._offset32,
            spec, phase, p, self._A, self._lam, self._point, lb, np.empty(LANES, np.float32),
        )  # fmt: skip
        return lb

    def certified(self, lanes: Lanes) -> NDArray[np.float64]:
        """See `Kernel.certified`."""
        exact, n = self._exact, self._exact.neurons
        lb, magnitude = np.empty(LANES), np.empty(LANES)
        A, lam, point = (np.empty((k, LANES)) for k in (n, n + len(exact.e), exact.inputs))
        backward(
            exact.inputs, *exact.by_column, exact.E, exact.e, self._slope, self._offset,
            lanes.spec, lanes.phase, lanes.p.astype(np.float64), A, lam, point, lb, magnitude,
        )  # fmt: skip
        return certified_bounds(lb, magnitude)
