"""The published result files of the thesis' runs, as plain values: index lists, and one row a call of the verifier.

The thesis' program writes pickles; what is read here are the same numbers as JSON and as numpy arrays without objects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.domain import UsageError
from harness.files import read_arrays

COLUMNS = 8
"""Image, lower bound, visited domains, seconds, running index, code, upper bound, PGD margin of the label."""
_IMAGE, _VISITED, _SECONDS, _CODE = 0, 2, 3, 5
_ATTACK = -3
"""Code of the attack's row; -1 is the incomplete stage's, -2 a mixed-integer program's, 0 to 9 a label's."""


@dataclass(frozen=True, slots=True)
class PublishedTimes:
    """What one image took in a published run, in seconds of the machine that it ran on."""

    attack_s: float = 0.0
    """Seconds of the attack before the verifier."""
    verifier_s: float = 0.0
    """Seconds of the incomplete stage and of every label's branch and bound; 0 where the attack succeeded."""
    domains: int = 0
    """Domains visited, over all labels."""
    entered_bab: bool = False
    """Whether a label was given to branch and bound; a label that bounds had proved already is in it as well."""


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """One network's images by what became of them."""

    lists: Mapping[str, tuple[int, ...]]
    """`skipped_examples`, `attack_successes`, `verification_success` and `verification_failure` to image indices."""
    stages: Mapping[int, str]
    """Verified image to the stage that verified it, `incomplete` or `bab`."""


LISTS = ("skipped_examples", "attack_successes", "verification_success", "verification_failure")
"""The lists of a published run; each image is in one of them."""


def read_published(path: Path) -> dict[str, PublishedRun]:
    """Returns network name to its run, as `status_lists` and `stage_that_verified` of a published file state them.

    Raises:
        UsageError: the file is missing or has another form.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): _run(lists, raw["stage_that_verified"][name]) for name, lists in raw["status_lists"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{path}: not a published result file ({type(error).__name__}: {error}); "
            "expected JSON with status_lists and stage_that_verified"
        ) from error


def _run(lists: Mapping[str, Any], stages: Mapping[str, Any]) -> PublishedRun:
    return PublishedRun(
        {name: tuple(int(index) for index in lists[name]) for name in LISTS},
        {int(index): str(stage) for stage, indices in stages.items() for index in indices},
    )


def read_published_times(path: Path) -> dict[str, dict[int, PublishedTimes]]:
    """Returns network name to image index to what it took, of an npz file with one `(rows, 8)` array a network.

    Images that the network misclassifies have no rows, so they are in none of the results.

    Raises:
        UsageError: the file is missing or has another form.
    """
    try:
        return {name: _times(array) for name, array in read_arrays(path).items()}
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: no published times ({type(error).__name__}: {error}); "
            f"expected an npz file with one array of {COLUMNS} columns for each network"
        ) from error


def _times(rows: NDArray[Any]) -> dict[int, PublishedTimes]:
    if rows.ndim != 2 or rows.shape[1] != COLUMNS or rows.dtype.kind != "f":
        raise ValueError(f"an array of {rows.dtype} with shape {rows.shape}")
    found: dict[int, PublishedTimes] = {}
    for image in np.unique(rows[:, _IMAGE]):
        own = rows[rows[:, _IMAGE] == image]
        attack = own[:, _CODE] == _ATTACK
        found[int(image)] = PublishedTimes(
            float(own[attack, _SECONDS].sum()),
            float(own[~attack, _SECONDS].sum()),
            int(own[:, _VISITED].sum()),
            bool((own[:, _CODE] >= 0).any()),
        )
    return found
