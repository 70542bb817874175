"""What a job is: a hash of network bytes, property bytes, tool identity and limits.

The same key follows from a planned job and from a stored result, so that resuming is a difference of sets. Only what
can change an answer is hashed: file names, the variant's name, the position in a list and times are not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.domain import Instance, Job, Limits
from harness.files import sha256_bytes
from harness.formats.compressed import read_bytes

KEY_RECIPE = 1
"""Version of the recipe below; raised when the same inputs would have to get other keys."""


def job_key(network_sha256: str, property_sha256: str, tool_identity: str, limits: Limits) -> str:
    """Returns the SHA-256 (hex) that identifies a job.

    Args:
        network_sha256: of the network's uncompressed bytes, as `content_sha256` returns it.
        property_sha256: the same of the property.
        tool_identity: what `Tool.identity()` returned.
        limits: all fields enter; 20 and 20.0 seconds are the same limit.
    """
    recipe: dict[str, Any] = {
        "recipe": KEY_RECIPE,
        "network": network_sha256,
        "property": property_sha256,
        "tool": tool_identity,
        "timeout_s": float(limits.timeout_s),
        "timeout_on": limits.timeout_on,
        "max_domains": limits.max_domains,
    }
    return sha256_bytes(json.dumps(recipe, sort_keys=True).encode("ascii"))


def content_sha256(path: Path) -> str:
    """Returns the SHA-256 (hex) of a file's content, decompressed when the file is gzipped.

    So a network and its gzipped copy are the same network. A file that is missing is looked for with `.gz` added, as
    instances.csv names it.

    Raises:
        UsageError: there is no such file, it cannot be read, or its gzip data is damaged.
    """
    return sha256_bytes(read_bytes(path))


class JobPlanner:
    """Makes jobs for one tool; each file is read and hashed once."""

    def __init__(self, tool_identity: str) -> None:
        self._tool_identity = tool_identity
        self._hashes: dict[Path, str] = {}

    def plan(self, instance: Instance, variant: str, index: int, limits: Limits) -> Job:
        """Returns the job of an instance under limits.

        Raises:
            UsageError: the network or the property cannot be read.
        """
        network, prop = self._hash(instance.network), self._hash(instance.property)
        key = job_key(network, prop, self._tool_identity, limits)
        return Job(key, instance, variant, index, limits, network, prop)

    def know(self, path: Path, sha256: str) -> None:
        """Takes the hash of a file's uncompressed content, for a file that is not written yet."""
        self._hashes[path] = sha256

    def unreadable(self, instance: Instance, variant: str, index: int, limits: Limits) -> Job:
        """Returns the job of an instance whose files cannot be read: it names a row, and there is nothing to decide.

        Its key is that of no content, so a result under it is never taken for one of the files, once they are there.
        """
        network, prop = f"unreadable:{instance.network}", f"unreadable:{instance.property}"
        return Job(job_key(network, prop, self._tool_identity, limits), instance, variant, index, limits)

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            self._hashes[path] = content_sha256(path)
        return self._hashes[path]
