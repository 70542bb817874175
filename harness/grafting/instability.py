"""Instability: for how many inputs a neuron's bounds straddle zero, and the share of such neurons (UNR)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from harness.domain import EngineRecord, UsageError


class InstabilitySource(StrEnum):
    """Which inputs a neuron's instability is counted over."""

    BAB = "bab"
    """Those that entered branch and bound, as published: one has to attack and bound the network's properties first."""
    CROWN = "crown"
    """All rightly classified ones; CROWN bounds suffice."""


@dataclass(frozen=True, slots=True, eq=False)
class Instability:
    """Counts over some inputs; see `InstabilitySource` for which."""

    counts: Mapping[str, NDArray[np.int64]]
    """Activation name to how many inputs leave each neuron unstable at the root, `(neurons,)`."""
    inputs: int
    """Number of inputs counted."""

    @property
    def unr(self) -> float:
        """Unstable neuron ratio in percent: unstable neurons over all neurons, mean over the inputs counted.

        Grafted neurons with bounds on both sides of zero count too, as in the published figures.
        """
        neurons = sum(layer.size for layer in self.counts.values())
        return 100.0 * sum(int(layer.sum()) for layer in self.counts.values()) / (self.inputs * neurons)


def instability(records: Iterable[EngineRecord]) -> Instability:
    """Returns the counts over those records whose input entered branch and bound and that hold its masks.

    Inputs that were misclassified, attacked or proved at the root add nothing, as in the published code.

    Args:
        records: one a verified input, all of one network.

    Raises:
        UsageError: no input entered branch and bound, or the records are of different networks.
    """
    counts: dict[str, NDArray[np.int64]] = {}
    inputs = 0
    for record in records:
        if not record.entered_bab or record.unstable is None:
            continue
        masks = {name: np.asarray(mask, np.bool_).ravel() for name, mask in record.unstable.items()}
        if not counts:
            counts = {name: np.zeros(mask.size, np.int64) for name, mask in masks.items()}
        if {n: m.size for n, m in masks.items()} != {n: c.size for n, c in counts.items()}:
            raise UsageError("the records are of different networks: their activations differ")
        for name, mask in masks.items():
            counts[name] += mask
        inputs += 1
    if not inputs:
        raise UsageError("no input entered branch and bound, so no neuron's instability is known; verify more inputs")
    return Instability(counts, inputs)
