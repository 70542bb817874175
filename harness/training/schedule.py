"""Learning-rate schedules as arithmetic: progress in, factor out."""

from __future__ import annotations

import itertools
import math
from enum import StrEnum


class Schedule(StrEnum):
    """Shape of the learning rate over training."""

    MULTISTEP = "multistep"
    """The published code's baseline: x 0.1 after a half and after three quarters of the epochs (100 and 150 of 200)."""
    ONECYCLE = "onecycle"
    """Linear from 0 to the peak in the first 30 %, then linear to 0; stepped every batch. For short trainings."""
    COSINE = "cosine"
    """The published code's fine-tuning: cosine annealing to 0, stepped every epoch."""
    PIECEWISE = "piecewise"
    """Linear between knots (epoch, factor); two knots at one epoch are a jump. Stepped every batch."""
    CONSTANT = "constant"


ONECYCLE_RISE = 0.3


Knots = tuple[tuple[float, float], ...]


def factor(schedule: Schedule, epoch: int, epochs: int, step: int, steps: int, knots: Knots = ()) -> float:
    """Returns what the peak learning rate is multiplied by at one batch.

    Args:
        schedule: the shape.
        epoch: current epoch, from 0.
        epochs: number of epochs.
        step: current batch of the epoch, from 0.
        steps: batches of an epoch.
        knots: of a piecewise schedule: (epoch, factor), epochs not decreasing.
    """
    if schedule is Schedule.MULTISTEP:
        return 0.1 ** ((epoch >= epochs // 2) + (epoch >= epochs * 3 // 4))
    if schedule is Schedule.COSINE:
        return 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    if schedule is Schedule.ONECYCLE:
        progress = (epoch * steps + step + 0.5) / (epochs * steps)
        return min(progress / ONECYCLE_RISE, (1 - progress) / (1 - ONECYCLE_RISE))
    if schedule is Schedule.PIECEWISE:
        return _interpolated(knots, epoch + (step + 0.5) / steps)
    return 1.0


def _interpolated(knots: Knots, position: float) -> float:
    for (left, low), (right, high) in itertools.pairwise(knots):
        if left <= position < right:
            return low + (high - low) * (position - left) / (right - left)
    return knots[-1][1]
