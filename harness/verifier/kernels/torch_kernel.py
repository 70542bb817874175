"""The kernel in plain torch: sparse matrix products, for where Numba is missing and for the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.verifier.fold import FoldedNetwork
from harness.verifier.kernels.contract import LaneBounds, Lanes


class _Layer(NamedTuple):
    """The unstable neurons of one activation layer."""

    neurons: slice
    M: Tensor
    """Sparse `(layer neurons, d + n)`."""
    M_transposed: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Matrices:
    """A folded network as tensors of one type."""

    inputs: int
    E: Tensor
    slack: Tensor
    e: Tensor
    C: Tensor
    lower: Tensor
    upper: Tensor
    layers: tuple[_Layer, ...]

    @property
    def slope(self) -> Tensor:
        """Slope of the upper line of each unstable neuron, `(n, 1)`."""
        return (self.upper / (self.upper - self.lower))[:, None]

    @property
    def offset(self) -> Tensor:
        """Offset of the upper line, `(n, 1)`."""
        return -self.slope * self.lower[:, None]


class _Backward(NamedTuple):
    A: Tensor
    lb: Tensor
    corner: Tensor


def _matrices(network: FoldedNetwork, dtype: torch.dtype, device: torch.device) -> _Matrices:
    def tensor(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype)

    rows, width = network.by_row, network.inputs + network.neurons
    layers = []
    for first, last in zip(network.layer_start[:-1], network.layer_start[1:], strict=True):
        part = slice(int(rows.start[first]), int(rows.start[last]))
        index = np.repeat(np.arange(last - first), np.diff(rows.start[first : last + 1]))
        place = torch.from_numpy(np.stack([index, rows.column[part].astype(np.int64)])).to(device)
        M = torch.sparse_coo_tensor(place, tensor(rows.value[part]), (int(last - first), width)).coalesce()
        layers.append(_Layer(slice(int(first), int(last)), M.to_sparse_csr(), M.t().coalesce().to_sparse_csr()))
    E, slack, e, C = (tensor(a) for a in (network.E, network.slack, network.e, network.C))
    return _Matrices(network.inputs, E, slack, e, C, tensor(network.lb), tensor(network.ub), tuple(layers))


def _backward(m: _Matrices, spec: Tensor, phase: Tensor, p: Tensor) -> _Backward:
    acc = m.C[:, spec].clone()
    lb = m.e[spec].clone()
    A = torch.zeros_like(p)
    slope, offset = m.slope, m.offset
    for layer in reversed(m.layers):
        own = layer.neurons
        a = acc[m.inputs + own.start : m.inputs + own.stop]
        s, q = phase[own].to(p.dtype), p[own]
        free, negative = phase[own] == 0, a < 0
        lam = torch.where(
            free, torch.where(negative, slope[own], q) * a, torch.where(s > 0, a, torch.zeros_like(a)) - s * q
        )
        gained = torch.where(free & negative, a * offset[own], torch.zeros_like(a))
        A[own] = a
        lb = lb + (lam * m.E[own, None] - lam.abs() * m.slack[own, None] + gained).sum(0)
        acc = acc + layer.M_transposed @ lam
    at_input = acc[: m.inputs]
    corner = torch.where(at_input > 0, -torch.ones_like(at_input), torch.ones_like(at_input))
    return _Backward(A, lb - at_input.abs().sum(0), corner)


def _ascend(m: _Matrices, phase: Tensor, p: Tensor, found: _Backward, alpha_step: float, beta_step: float) -> Tensor:
    point = torch.cat([found.corner, torch.zeros_like(p)])
    stepped = p.clone()
    for layer in m.layers:
        own = layer.neurons
        z = m.E[own, None] + layer.M @ point
        a, s, q = found.A[own], phase[own].to(p.dtype), p[own]
        free, negative = phase[own] == 0, a < 0
        relaxed = torch.where(negative, m.slope[own] * (z - m.lower[own, None]), q * z)
        split = torch.where(s > 0, z, torch.zeros_like(z))
        point[m.inputs + own.start : m.inputs + own.stop] = torch.where(free, relaxed, split)
        alpha = torch.where(negative, q, (q + alpha_step * torch.where(z > 0, 1.0, -1.0)).clamp(0, 1))
        beta = (q + beta_step * a.abs() * torch.where(-s * z > 0, 1.0, -1.0)).clamp(min=0)
        stepped[own] = torch.where(free, alpha, beta)
    return stepped


class TorchKernel:
    """The folded network's kernel on any torch device.

    Args:
        network: the folded network in float64.
        device: where to compute.
    """

    def __init__(self, network: FoldedNetwork, device: torch.device) -> None:
        self._device = device
        self._fast = _matrices(network, torch.float32, device)
        self._exact = _matrices(network, torch.float64, device)

    def improve(self, lanes: Lanes, iterations: int, alpha_step: float, beta_step: float) -> LaneBounds:
        """See `Kernel.improve`."""
        spec, phase, p = self._tensors(lanes, torch.float32)
        found = _backward(self._fast, spec, phase, p)
        best, best_p, trial = found.lb, p, p
        for step in range(iterations):
            shrink = 0.9**step
            trial = _ascend(self._fast, phase, trial, found, alpha_step * shrink, beta_step * shrink)
            found = _backward(self._fast, spec, phase, trial)
            better = found.lb > best
            best = torch.where(better, found.lb, best)
            best_p = torch.where(better, trial, best_p)
        lanes.p[:] = best_p.cpu().numpy()
        branch = self._branch(phase, found.A)
        return LaneBounds(best.cpu().numpy(), branch, found.corner.cpu().numpy())

    def certified(self, lanes: Lanes) -> NDArray[np.float64]:
        """See `Kernel.certified`."""
        found = _backward(self._exact, *self._tensors(lanes, torch.float64))
        bounds: NDArray[np.float64] = found.lb.cpu().numpy()
        return np.where(np.isfinite(bounds), bounds, -np.inf)

    def _tensors(self, lanes: Lanes, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        arrays = (lanes.spec.astype(np.int64), lanes.phase, lanes.p)
        spec, phase, p = (torch.from_numpy(a.copy()).to(self._device) for a in arrays)
        return spec, phase, p.to(dtype)

    def _branch(self, phase: Tensor, A: Tensor) -> NDArray[np.int32]:
        """Returns the free neuron of the largest intercept score; without any, the widest lower line decides."""
        lanes = phase.shape[1]
        if not phase.shape[0]:
            return np.full(lanes, -1, np.int32)
        free, m = phase == 0, self._fast
        score = torch.where(free, (-A * m.offset).clamp(min=0), torch.zeros_like(A))
        width = torch.minimum(m.upper, -m.lower)[:, None]
        fallback = torch.where(free, A.abs() * width, torch.full_like(A, -1.0))
        chosen = torch.where(score.amax(0) > 0, score.argmax(0), fallback.argmax(0))
        chosen = torch.where(free.any(0), chosen, torch.full_like(chosen, -1))
        return chosen.to(torch.int32).cpu().numpy()
