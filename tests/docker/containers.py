"""Docker's command line."""

from __future__ import annotations

import subprocess


def docker(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Runs `docker`; how it ends is for the caller to look at."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=timeout)
