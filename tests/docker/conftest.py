"""The image that the tests look at: built beforehand, as `.ci/run` does."""

from __future__ import annotations

import subprocess

import pytest

IMAGE = "lg-bench"


@pytest.fixture(scope="session")
def image() -> str:
    """The name of the built image; its absence is a failure, since these tests run on request only."""
    done = subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"no image {IMAGE}: docker build --network host -t {IMAGE} .  ({done.stderr.strip()})")
    return IMAGE
