"""What a run was made with, and where its networks come from, as groups of lines for its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.tables import title_of

ORIGIN = ("onnx", "parent", "mask", "grafted_neurons", "parameters", "training", "data", "metrics", "versions")
"""What the page says of a network's manifest."""
Lines = list[tuple[str, str]]


def provenance_groups(summary: Mapping[str, Any], manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, Lines]:
    """Returns group to its lines, pairs of a name and a value; nothing is left out, empty groups are.

    Single values, and the versions and hashes that every reader looks for, stand in the group without a name; settings
    and the origin of each network in groups of their own.

    Args:
        summary: the run.
        manifests: variant to its network's manifest, where it has one.
    """
    recorded: Mapping[str, Any] = summary.get("provenance", {})
    groups: dict[str, Lines] = {"": []}
    for name, value in recorded.items():
        if isinstance(value, Mapping) and name not in _OPEN:
            groups[name if "runs" in summary else name.capitalize()] = flat(value)
        else:
            groups[""] += flat({name: value})
    for variant, manifest in manifests.items():
        groups[f"Network: {title_of(summary, variant)}"] = flat({k: manifest[k] for k in ORIGIN if k in manifest})
    return {name: lines for name, lines in groups.items() if lines}


_OPEN = ("versions", "networks")


def flat(values: Mapping[str, Any], prefix: str = "") -> Lines:
    """Returns nested values as lines, their names joined by slashes."""
    lines: Lines = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines += flat(value, f"{prefix}{name} / ")
        else:
            lines.append((prefix + name, str(value)))
    return lines
