"""Makes the networks of the engine's own tests, and the independent references, available here."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / room) for room in ("verifier", "oracles")]
