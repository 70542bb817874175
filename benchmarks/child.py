"""`python -m benchmarks.child`: the engine in a process of its own, with clocks around it.

Reads one request a line (`harness.formats.engine_protocol`) until standard input ends or a line is empty. Writes
events, one JSON object a line: `ready` (after imports), `answer` (`at_s`: seconds since then), `done`, finally `end`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

MATRIX = 1536
PROBE_S = 0.4


def main() -> int:
    """Serves requests from standard input; returns the exit code."""
    started = time.monotonic()
    # The protocol's stream is ours alone: what libraries print goes to standard error.
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    from harness.domain import ToolAnswer
    from harness.formats.engine_protocol import decode_request, encode_answer
    from harness.verifier.api import available_cores, import_compiled, serve_request, use_cores

    import_compiled()

    ready = time.monotonic()
    _send(events, {"event": "ready", "import_s": ready - started})

    def answered(key: str, answer: ToolAnswer) -> None:
        extra = {"multiply_adds": getattr(answer.record, "multiply_adds", None)}
        extra["seconds"] = dict(getattr(answer.record, "seconds", None) or {}) or None
        _send(events, {**encode_answer(key, answer), **extra, "at_s": time.monotonic() - ready})

    for line in sys.stdin:
        if not line.strip():
            break
        serve_request(decode_request(line), answered)
        _send(events, {"event": "done", "at_s": time.monotonic() - ready})
    peak = peak_bytes()
    cores = available_cores()
    use_cores(cores)
    used = resource.getrusage(resource.RUSAGE_SELF)
    end = {"cores": cores, "cpu_s": used.ru_utime + used.ru_stime, "peak_bytes": peak, "matmul_gflops": matmul_gflops()}
    _send(events, {"event": "end", **end})
    return 0


def _send(events: IO[str], event: Mapping[str, object]) -> None:
    events.write(json.dumps(event) + "\n")
    events.flush()


def peak_bytes() -> int:
    """Returns the most memory that this program has held, in bytes.

    The kernel's own mark of this address space: `ru_maxrss` also remembers the process that started this one.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def matmul_gflops() -> float:
    """Returns the best rate of torch's float32 matrix product in 1e9 operations a second, with torch's threads."""
    import torch

    a, b = torch.rand(MATRIX, MATRIX), torch.rand(MATRIX, MATRIX)
    best, stop = float("inf"), time.perf_counter() + PROBE_S
    while time.perf_counter() < stop:
        before = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - before)
    return 2 * MATRIX**3 / best / 1e9


if __name__ == "__main__":
    sys.exit(main())
