"""Where a search counts what, and how a slice of it ends."""

from __future__ import annotations

COUNT, DOMAINS, ROUNDS, EXHAUSTED, PENDING, FAILED, DEEPEST, CERTIFIED = 0, 1, 2, 3, 4, 5, 6, 7
DEFERRED, DEEPEST_HERE = 8, 9
"""Places in the counters of a search. COUNT domains are open; those below DEFERRED on the stack wait and are not split
here: a frame's own have at least DEEPEST_HERE splits, the others belong to the frames before it."""

DONE, RUNNING, FULL, LIMIT = 0, 1, 2, 3
"""How a slice of a search ended."""
