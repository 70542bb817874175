"""What branch and bound needs of a kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

LANES = 32
"""Domains that are bounded together; four AVX2 registers of float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Lanes:
    """A block of domains, lanes last; `p` is updated in place by `improve`."""

    spec: NDArray[np.int32]
    """`(lanes,)`: which margin each domain bounds."""
    phase: NDArray[np.int8]
    """`(n, lanes)`: 0 free, 1 split active (z >= 0), -1 split inactive (z <= 0)."""
    p: NDArray[np.float32]
    """`(n, lanes)`: alpha in [0, 1] of a free neuron, beta >= 0 of a split one."""


@dataclass(frozen=True, slots=True, eq=False)
class LaneBounds:
    """What a kernel found for a block."""

    lb: NDArray[np.float32]
    """`(lanes,)`: lower bound of each domain's margin, in float32: for the search only."""
    branch: NDArray[np.int32]
    """`(lanes,)`: the free neuron that costs the bound most; -1 where none is free."""
    corner: NDArray[np.float32]
    """`(d, lanes)`: the input, each entry -1 or 1, at which the last bound's linear function is lowest. Valid until the
    kernel's next call."""


class Kernel(Protocol):
    """Bounds the domains of one folded network. Safe to call from several threads, each with its own kernel."""

    def improve(self, lanes: Lanes, iterations: int, alpha_step: float, beta_step: float) -> LaneBounds:
        """Returns bounds after some steps on alpha and beta; `lanes.p` becomes the best multipliers found.

        Guarantees that a lane's bound is not worse than with the multipliers it came with, and that no lane's result
        depends on the other lanes.
        """

    def certified(self, lanes: Lanes) -> NDArray[np.float64]:
        """Returns proven lower bounds of the margins, `(lanes,)`: one float64 backward pass minus its error radius."""
