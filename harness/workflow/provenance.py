"""What a run was made with: versions, revision, hashes."""

from __future__ import annotations

import ast
import itertools
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

from harness.tools.registry import INTERNAL
from harness.workflow.options import RunPlan
from harness.workflow.place import executor_provenance

PACKAGES = ("lg-bench", "torch", "numpy", "onnx", "onnxruntime", "numba")
ENGINE_CONFIG = Path("harness", "verifier", "config.py")
GIT_TIMEOUT_S = 10.0


def provenance(plan: RunPlan, networks: Mapping[str, str], tool_identity: str, source: Path) -> dict[str, Any]:
    """Returns what has to be known to tell two runs apart, as JSON values.

    Args:
        plan: the run.
        networks: variant to the SHA-256 of its network.
        tool_identity: hash of what determines the tool's answers.
        source: folder of this program's code.
    """
    return {
        "device": plan.device.name,
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "system": system_name(),
        "versions": {name: package_version(name) for name in PACKAGES},
        "packages": installed_packages(),
        "git": git_revision(source),
        "tool_identity": tool_identity,
        "networks": dict(networks),
        **({"engine": engine_settings(source)} if plan.tool == INTERNAL else {}),
        **foreign_provenance(plan),
        **executor_provenance(plan),
    }


def engine_settings(source: Path) -> dict[str, str]:
    """Returns our engine's settings by name, of its attacks too, as its source states them; empty without the source.

    They are read and not imported: runs are led where torch is not installed. Seed, device and arithmetic are the run's
    own and told elsewhere.
    """
    path = source / ENGINE_CONFIG
    if not path.is_file():
        return {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bodies = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "EngineConfig"]
    return {
        node.target.id: ast.unparse(node.value)
        for node in itertools.chain(*bodies)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
        if node.target.id not in ("seed", "device", "arithmetic")
    }


def foreign_provenance(plan: RunPlan) -> dict[str, Any]:
    """Returns where a tool of others is and what it may use, as far as either was said; a resume takes it from here."""
    bounds = plan.bounds.words()
    found: dict[str, Any] = {} if plan.tool_dir is None else {"tool_dir": str(plan.tool_dir)}
    return found | ({"tool_bounds": bounds} if any(value is not None for value in bounds.values()) else {})


def installed_packages() -> str:
    """Returns every installed package with its version, sorted, on one line: what an image carries."""
    found = {(one.metadata["Name"] or "?").lower(): one.version for one in distributions()}
    return ", ".join(f"{name} {number}" for name, number in sorted(found.items()))


def system_name() -> str | None:
    """Returns the distribution's name and version; None where the system does not say."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def package_version(name: str) -> str | None:
    """Returns the installed version of a package, with its local part (`+cpu`); None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_revision(folder: Path) -> str | None:
    """Returns the commit that a folder's code stands at, with `-dirty` where tracked files differ from it.

    None where the folder is no checkout or git is not there, as in the container image.
    """
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 and done.stdout.strip() else None
