"""`manifest.json` of a run: the SHA-256 of everything that determined its results, and of what it left.

`lgbench audit` compares it with what is there; see docs/reliability.md, Trust.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.domain import UsageError, Verdict
from harness.files import sha256_bytes, sha256_file, write_atomically
from harness.report.source import SUMMARY_FILE
from harness.run.outputs import SUFFIX
from harness.run.store import Store
from harness.run.stored import StoredResult

if TYPE_CHECKING:
    from harness.workflow.finish import PlannedRun

MANIFEST_FILE = "manifest.json"
MANIFEST_SCHEMA = 1
MANIFEST_META = "manifest_sha256"
"""Name in the store's meta: hash of the manifest; null while a run has planned and not ended."""
PACKAGE = Path(__file__).resolve().parents[1]
_OUTPUTS = (SUMMARY_FILE, "results.csv", f"counterexamples/*{SUFFIX}")


def leave_manifest(run: PlannedRun, store: Store) -> None:
    """Writes the manifest of a run that has ended, finished or interrupted, and notes its hash in the store."""
    folder = run.plan.out
    text = json.dumps(manifest_of(run, store), indent=1) + "\n"
    write_atomically(folder / MANIFEST_FILE, text)
    store.meta[MANIFEST_META] = sha256_bytes(text.encode())


def manifest_of(run: PlannedRun, store: Store) -> dict[str, Any]:
    """Returns the content of `manifest.json`; see docs/results-schema.md."""
    folder, header = run.plan.out, run.header
    files: dict[tuple[str, str], dict[str, str]] = {}
    for job in run.jobs:
        instance = job.instance
        for role, name, path, sha256 in (
            ("network", instance.network_name, instance.network, job.network_sha256),
            ("property", instance.property_name, instance.property, job.property_sha256),
        ):
            if sha256:
                entry = {"role": role, "name": name or path.name, "path": _shown(path, folder), "sha256": sha256}
                files[role, entry["path"]] = entry
    return {
        "schema": MANIFEST_SCHEMA,
        "benchmark": header.benchmark,
        "command": header.command,
        "tool": header.tool,
        "seed": header.seed,
        "device": header.device,
        "rules": header.rules,
        "arithmetic": header.arithmetic,
        "timeout_on": header.timeout_on,
        "timeout_s": header.timeout_s,
        "max_domains": header.max_domains,
        "provenance": dict(header.provenance),
        "program_sha256": program_sha256(),
        "files": sorted(files.values(), key=lambda entry: (entry["role"], entry["path"])),
        "network_manifests": {name: _sha256_json(content) for name, content in sorted(run.manifests.items())},
        "results": results_sha256(store, store.rows(run.places)),
        "outputs": {path: sha256_file(folder / path) for path in output_paths(folder)},
    }


def read_manifest(folder: Path) -> tuple[dict[str, Any], str] | None:
    """Returns the manifest of a run folder with its hash; None where there is none.

    Raises:
        UsageError: it cannot be read, or is of another form or version.
    """
    path = folder / MANIFEST_FILE
    try:
        data = path.read_bytes()
        raw = json.loads(data)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a readable manifest ({error}); restore it") from error
    if not isinstance(raw, dict) or raw.get("schema") != MANIFEST_SCHEMA:
        raise UsageError(f"{path}: not a manifest of schema {MANIFEST_SCHEMA}; use the program that wrote it")
    forms = {"files": list, "results": dict, "outputs": dict, "provenance": dict}
    named = all(
        isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("role", "name", "path", "sha256"))
        for entry in (raw["files"] if isinstance(raw.get("files"), list) else [None])
    )
    if (not named and raw.get("files") != []) or any(not isinstance(raw.get(key), kind) for key, kind in forms.items()):
        raise UsageError(f"{path}: not a manifest: a part is missing or of another form; restore it")
    return raw, sha256_bytes(data)


def results_sha256(store: Store, rows: Iterable[StoredResult]) -> dict[str, dict[str, Any]]:
    """Returns for each network how many results there are and their SHA-256: verdicts, limits, counterexamples.

    Times are not in it: they are measured, and determine nothing.
    """
    lines: dict[str, list[str]] = {}
    for row in rows:
        witness = None if row.witness is None else row.witness.verdict.value
        counterexample = store.counterexample(row.key) if row.verdict is Verdict.SAT else None
        values = [
            *(row.key, row.index, row.network_name, row.network_sha256, row.property_name, row.property_sha256),
            *(row.tool, row.timeout_s, row.timeout_on, row.max_domains, row.verdict.value, row.tool_verdict, row.stage),
            *(witness, None if counterexample is None else sha256_bytes(counterexample.x.tobytes())),
        ]
        lines.setdefault(row.variant, []).append(json.dumps(values))
    return {
        variant: {"rows": len(found), "sha256": sha256_bytes("\n".join(found).encode())}
        for variant, found in lines.items()
    }


def program_sha256() -> str:
    """Returns the SHA-256 over the names and bytes of this program's Python files."""
    parts = [f"{path.relative_to(PACKAGE).as_posix()} {sha256_file(path)}" for path in sorted(PACKAGE.rglob("*.py"))]
    return sha256_bytes("\n".join(parts).encode())


def output_paths(folder: Path) -> list[str]:
    """Returns the files of a run folder that follow from its results, sorted; what is drawn again is not among them."""
    return sorted(path.relative_to(folder).as_posix() for pattern in _OUTPUTS for path in folder.glob(pattern))


def _shown(path: Path, folder: Path) -> str:
    """Returns a path inside the run folder relative to it, another as an absolute one."""
    absolute, root = path.absolute(), folder.absolute()
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else str(absolute)


def _sha256_json(content: Mapping[str, Any]) -> str:
    return sha256_bytes(json.dumps(content, sort_keys=True).encode())
