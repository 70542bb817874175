"""What the tests of images share: the image, built beforehand as `.ci/run` does, a volume, and a container's name."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import docker

IMAGE = "lg-bench"


@pytest.fixture(scope="session")
def image() -> str:
    """The name of the built image; its absence is a failure, since these tests run on request only."""
    done = docker("image", "inspect", IMAGE)
    if done.returncode != 0:
        pytest.fail(f"no image {IMAGE}: docker build --network host -t {IMAGE} .  ({done.stderr.strip()})")
    return IMAGE


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A host folder that any user of a container may write."""
    folder = tmp_path / "results"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture
def container() -> Iterator[str]:
    """A name for a container, which is removed at the end in whatever state it is."""
    name = f"lg-bench-test-{uuid.uuid4().hex[:12]}"
    yield name
    docker("rm", "--force", "--volumes", name)
