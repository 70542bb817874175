"""What the page shows of single inputs and layers beside the table of results: margins, masks, counterexamples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.domain import FloatArray, ResultSet
from harness.run.store import Store
from harness.run.stored import StoredResult

Place = tuple[str, int]
"""Variant and input."""


@dataclass(frozen=True, slots=True)
class LayerShare:
    """How many neurons of one layer are unstable at the root, on average."""

    variant: str
    layer: str
    neurons: int
    percent: float
    """Of the layer's neurons, grafted ones counted, averaged over `inputs`."""
    inputs: int
    """Inputs that entered branch and bound and of which a mask was recorded."""


@dataclass(frozen=True, slots=True, eq=False)
class Details:
    """Everything of a run that is not in its rows; each part may be empty."""

    margins: Mapping[Place, float] = field(default_factory=dict)
    """The lowest margin at the root of each input that has one; above 0 where the root proves the input."""
    layers: tuple[LayerShare, ...] = ()
    """By variant, layers in the network's order."""
    attacks: Mapping[Place, FloatArray] = field(default_factory=dict)
    """The flat counterexample of each input in the set AT."""
    manifests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Variant to its network's manifest, where it has one."""


def read_details(store: Store, results: Iterable[StoredResult], manifests: Mapping[str, Mapping[str, Any]]) -> Details:
    """Returns the details of those results; what a tool did not record is left out.

    Args:
        store: open, for reading.
        results: the planned rows of the run, in their order; of several rows of one place the last holds.
        manifests: variant to its network's manifest.
    """
    margins: dict[Place, float] = {}
    attacks: dict[Place, FloatArray] = {}
    sums: dict[tuple[str, str], tuple[int, float, int]] = {}
    for result in results:
        place = (result.variant, result.index)
        if result.result_set is ResultSet.AT:
            counterexample = store.counterexample(result.key)
            if counterexample is not None:
                attacks[place] = counterexample.x
        record = store.record(result.key)
        if record is None:
            continue
        if record.root_margins is not None and record.root_margins.size:
            margins[place] = float(np.min(record.root_margins))
        for name, mask in (record.unstable or {}).items():
            _, share, inputs = sums.get((result.variant, name), (0, 0.0, 0))
            sums[result.variant, name] = (mask.size, share + float(mask.mean()), inputs + 1)
    layers = tuple(LayerShare(v, name, n, 100 * s / k, k) for (v, name), (n, s, k) in sums.items())
    return Details(margins, layers, attacks, manifests)
