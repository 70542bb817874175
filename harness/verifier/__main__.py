"""`python -m harness.verifier serve`: the engine as a child process of the runner."""

from __future__ import annotations

import logging
import os
import sys


def main() -> int:
    """Serves requests from standard input; returns the exit code."""
    if sys.argv[1:] != ["serve"]:
        sys.stderr.write("usage: python -m harness.verifier serve\n")
        return 2
    # Spinning OpenMP threads slow each other down by an order of magnitude on a busy host; read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    from harness.verifier.api import serve

    # Libraries print to standard output now and then: keep the protocol's stream to ourselves.
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin, events)
    return 0


if __name__ == "__main__":
    sys.exit(main())
