"""`python -m harness.recheck serve`: the second verifier as a child process, which speaks the engine's protocol."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Serves requests from standard input; returns the exit code."""
    if sys.argv[1:] != ["serve"]:
        sys.stderr.write("usage: python -m harness.recheck serve\n")
        return 2
    # Read when torch is imported; spinning threads slow each other down on a busy host.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    from harness.recheck.service import serve

    # Libraries print to standard output now and then: keep the protocol's stream to ourselves.
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin, events)
    return 0


if __name__ == "__main__":
    sys.exit(main())
