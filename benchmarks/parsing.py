"""How long a property takes to parse: `python -m benchmarks.parsing [--json]`.

CPU seconds, the least of several times: an image of CIFAR-10's size in both versions of VNN-LIB, and two networks on
it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np

from harness.formats.vnnlib import parse_property, robustness_box, write_robustness_property
from harness.formats.vnnlib2_query import parse_query
from harness.formats.vnnlib2_writer import write_difference_query, write_robustness_query

SHAPE, CLASSES, REPEATS = (1, 3, 32, 32), 10, 10


def least_seconds(work: Callable[[], object]) -> float:
    """Returns the least CPU time of several runs."""
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def measure() -> dict[str, float]:
    """Returns name to CPU seconds."""
    image = np.random.default_rng(0).random(int(np.prod(SHAPE)), dtype=np.float32)
    lower, upper = robustness_box(image, 2 / 255)
    first = write_robustness_property(lower, upper, 3, CLASSES)
    second = write_robustness_query(lower, upper, 3, SHAPE, (1, CLASSES))
    pair = write_difference_query(lower, upper, 1.0, SHAPE, (1, CLASSES))
    return {
        "CIFAR-10, VNN-LIB 1.0": least_seconds(lambda: parse_property(first, "first")),
        "CIFAR-10, VNN-LIB 2.0": least_seconds(lambda: parse_property(second, "second")),
        "CIFAR-10, two networks, VNN-LIB 2.0": least_seconds(lambda: parse_query(pair, "pair")),
    }


if __name__ == "__main__":
    figures = measure()
    if "--json" in sys.argv[1:]:
        print(json.dumps(figures, indent=2))
    else:
        for name, seconds in figures.items():
            print(f"{name}: {1000 * seconds:.0f} ms")
