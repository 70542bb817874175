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
    C: Array,
    upper_slope: Array,
    upper_offset: Array,
    spec: Array,
    phase: Array,
    p: Array,
    A: Array,
    lam: Array,
    lb: Array,
    magnitude: Array,
    corner: Array,
) -> None:
    """Fills A, lam `(n, lanes)`, lb, magnitude `(lanes,)` and corner `(d, lanes)` for one block of domains."""
    n = E.shape[0]
    lanes = spec.shape[0]
    acc = np.empty(lanes, E.dtype)
    for k in range(lanes):
        lb[k] = e[spec[k]]
        magnitude[k] = abs(e[spec[k]])
    for j in range(n - 1, -1, -1):
        column = inputs + j
        for k in range(lanes):
            acc[k] = C[column, spec[k]]
        for i in range(start[column], start[column + 1]):
            v = value[i]
            r = row[i]
            for k in range(lanes):
                acc[k] += v * lam[r, k]
        slope = upper_slope[j]
        offset = upper_offset[j]
        for k in range(lanes):
            a = acc[k]
            s = phase[j, k]
            negative = a < 0
            free = s == 0
            f = slope if negative else p[j, k]
            split = (a if s > 0 else a * 0) - s * p[j, k]
            out = f * a if free else split
            gained = a * offset if (free and negative) else a * 0
            A[j, k] = a
            lam[j, k] = out
            lb[k] += out * E[j] + gained
            magnitude[k] += abs(out * E[j]) + abs(gained)
    for column in range(inputs):
        for k in range(lanes):
            acc[k] = C[column, spec[k]]
        for i in range(start[column], start[column + 1]):
            v = value[i]
            r = row[i]
            for k in range(lanes):
                acc[k] += v * lam[r, k]
        for k in range(lanes):
            lb[k] -= abs(acc[k])
            magnitude[k] += abs(acc[k])
            corner[column, k] = -1 if acc[k] > 0 else 1


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
    corner: Array,
    alpha_step: float,
    beta_step: float,
    h: Array,
    stepped: Array,
) -> None:
    """Fills `stepped` with multipliers one sign step up the bound's gradient, by one forward pass at the corner."""
    n, lanes = p.shape
    z = np.empty(lanes, E.dtype)
    for j in range(n):
        for k in range(lanes):
            z[k] = E[j]
        for i in range(start[j], start[j + 1]):
            v = value[i]
            c = column[i]
            if c < inputs:
                for k in range(lanes):
                    z[k] += v * corner[c, k]
            else:
                for k in range(lanes):
                    z[k] += v * h[c - inputs, k]
        slope = upper_slope[j]
        for k in range(lanes):
            s = phase[j, k]
            q = p[j, k]
            a = A[j, k]
            if s == 0:
                if a < 0:
                    h[j, k] = slope * (z[k] - lower[j])
                    stepped[j, k] = q
                else:
                    h[j, k] = q * z[k]
                    move = alpha_step if z[k] > 0 else -alpha_step
                    stepped[j, k] = min(max(q + move, 0.0), 1.0)
            else:
                h[j, k] = z[k] if s > 0 else z[k] * 0
                gain = -s * z[k]
                move = beta_step * abs(a)
                stepped[j, k] = max(q + (move if gain > 0 else -move), 0.0)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def choose(phase: Array, A: Array, upper_offset: Array, lower: Array, upper: Array, branch: Array) -> None:
    """Fills `branch` with the free neuron of the largest intercept score; see `LaneBounds.branch`.

    Where no free neuron costs anything through its upper line, the widest lower line decides.
    """
    n, lanes = phase.shape
    best = np.zeros(lanes, np.float32)
    second = np.full(lanes, np.float32(-1))
    other = np.full(lanes, -1, np.int32)
    for k in range(lanes):
        branch[k] = -1
    for j in range(n):
        width = min(upper[j], -lower[j])
        for k in range(lanes):
            if phase[j, k] == 0:
                score = -A[j, k] * upper_offset[j]
                if score > best[k]:
                    best[k] = score
                    branch[k] = j
                fallback = abs(A[j, k]) * width
                if fallback > second[k]:
                    second[k] = fallback
                    other[k] = j
    for k in range(lanes):
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
        self._lam = np.empty((n, LANES), np.float32)
        self._h = np.empty((n, LANES), np.float32)
        self._stepped = np.empty((n, LANES), np.float32)
        self._corner = np.empty((d, LANES), np.int8)

    def improve(self, lanes: Lanes, iterations: int, alpha_step: float, beta_step: float) -> LaneBounds:
        """See `Kernel.improve`."""
        fast = self._fast
        lb, corner = self._bounds(lanes.spec, lanes.phase, lanes.p)
        best, best_corner = lb, corner
        trial = lanes.p
        A = self._A
        for step in range(iterations):
            shrink = 0.9**step
            ascend(
                fast.inputs, *fast.by_row, fast.E, fast.lb, self._slope32, lanes.phase, trial, A, corner,
                alpha_step * shrink, beta_step * shrink, self._h, self._stepped,
            )  # fmt: skip
            trial = self._stepped.copy()
            lb, corner = self._bounds(lanes.spec, lanes.phase, trial)
            better = lb > best
            best = np.where(better, lb, best)
            lanes.p[:, better] = trial[:, better]
            best_corner = np.where(better, corner, best_corner)
        branch = np.empty(len(lanes.spec), np.int32)
        choose(lanes.phase, A, self._offset32, fast.lb, fast.ub, branch)
        return LaneBounds(best, branch, best_corner)

    def _bounds(self, spec: Array, phase: Array, p: Array) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        fast, lb = self._fast, np.empty(LANES, np.float32)
        backward(
            fast.inputs, *fast.by_column, fast.E, fast.e, fast.C, self._slope32, self._offset32,
            spec, phase, p, self._A, self._lam, lb, np.empty(LANES, np.float32), self._corner,
        )  # fmt: skip
        return lb, self._corner.copy()

    def certified(self, lanes: Lanes) -> NDArray[np.float64]:
        """See `Kernel.certified`."""
        exact, n, d = self._exact, self._exact.neurons, self._exact.inputs
        lb, magnitude = np.empty(LANES), np.empty(LANES)
        backward(
            d, *exact.by_column, exact.E, exact.e, exact.C, self._slope, self._offset,
            lanes.spec, lanes.phase, lanes.p.astype(np.float64), np.empty((n, LANES)), np.empty((n, LANES)),
            lb, magnitude, np.empty((d, LANES), np.int8),
        )  # fmt: skip
        return certified_bounds(lb, magnitude)
