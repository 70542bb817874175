"""Checks a finished run again: its hashes, every counterexample, and a random sample of its proofs.

Nothing is believed of the run but what can be computed again; the run folder is only read.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from harness.analysis.summary import RunHeader, build_summary
from harness.analysis.table import rows_from_store
from harness.domain import Instance, Job, LgBenchError, Limits, ToolAnswer, Verdict, WitnessVerdict, result_set
from harness.files import sha256_bytes, sha256_file
from harness.formats.compressed import locate, read_bytes
from harness.judging.conflicts import find_conflicts
from harness.judging.judge import Judge
from harness.judging.replay import Rules
from harness.report.source import HEADER_META, JOBS_META, MANIFESTS_META, STORE_FILE, SUMMARY_FILE, planned_rows
from harness.run.identity import job_key
from harness.run.store import Store
from harness.run.stored import Place as RowPlace
from harness.run.stored import StoredResult
from harness.tools.builtin import BuiltinTool
from harness.tools.contract import Tool
from harness.workflow.folder import BENCHMARK_FOLDER
from harness.workflow.manifest import MANIFEST_FILE, MANIFEST_META, output_paths, read_manifest, results_sha256

AUDIT_SCHEMA = 1
RECHECK_COMMAND = (sys.executable, "-m", "harness.recheck", "serve")
OUTCOMES = ("confirmed", "open", "contradicted", "failed")
"""What may become of a proof that is made again; see `Recheck`."""
_Paths = Mapping[tuple[str, str, str], Path]
"""Role, name and hash of a file to where it is; with an empty hash some file of that name."""
Told = Callable[[str, int, int], None]
"""Is told of a step in words, of what is done, and of how much there is."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Something that is not as the run says."""

    check: str
    """`hash`, `result`, `counterexample` or `unsat`."""
    where: str
    """The file, or network and input."""
    message: str


@dataclass(frozen=True, slots=True)
class Recheck:
    """One answer `unsat` that was decided again."""

    variant: str
    index: int
    property: str
    outcome: str
    """`confirmed`; `open`: not decided in its time; `contradicted`: there is a counterexample; `failed`: an error."""
    seconds: float
    """Wall seconds."""
    message: str = ""


@dataclass(slots=True)
class Audit:
    """What an audit found."""

    run: str
    manifest: str = "present"
    """`present`; `missing`; `outdated`: the run was planned again and has not ended."""
    files: int = 0
    """Networks and properties whose hashes were compared."""
    results: int = 0
    """Planned results."""
    counterexamples: int = 0
    """How many were replayed."""
    counterexamples_confirmed: int = 0
    unsat: int = 0
    """Answers `unsat` of the run."""
    rechecked: list[Recheck] = field(default_factory=list)
    disagreements: list[Disagreement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be checked, and what a reader should know."""

    def disagree(self, check: str, where: str, message: str) -> None:
        """Notes a disagreement."""
        self.disagreements.append(Disagreement(check, where, message))

    def count(self, outcome: str) -> int:
        """Returns how many answers of the sample had an outcome."""
        return sum(one.outcome == outcome for one in self.rechecked)

    def to_json(self) -> dict[str, Any]:
        """Returns the audit as JSON values, as `lgbench audit --json` prints it."""
        return {
            "schema": AUDIT_SCHEMA,
            "run": self.run,
            "agrees": not self.disagreements,
            "manifest": self.manifest,
            "files": self.files,
            "results": self.results,
            "counterexamples": {"replayed": self.counterexamples, "confirmed": self.counterexamples_confirmed},
            "unsat": {
                "answers": self.unsat,
                "sampled": len(self.rechecked),
                **{outcome: self.count(outcome) for outcome in OUTCOMES},
                "instances": [asdict(one) for one in self.rechecked],
            },
            "disagreements": [asdict(one) for one in self.disagreements],
            "notes": list(self.notes),
        }


def audit_run(
    folder: Path,
    sample: int = 10,
    seed: int = 0,
    timeout_s: float = 60.0,
    told: Told | None = None,
    tool: Tool | None = None,
) -> Audit:
    """Returns what is and what is not as a run says.

    Args:
        folder: the run folder.
        sample: answers `unsat` that are decided again, chosen at random.
        seed: of the choice, and of the samples that the second verifier takes.
        timeout_s: wall seconds that it has for each.
        told: is told of the progress.
        tool: decides them; None: `harness.recheck` in a process of its own.

    Raises:
        UsageError: no run there, or its store or manifest cannot be read.
    """
    tell = told or (lambda _words, _done, _total: None)
    found = Audit(str(folder))
    with Store.read(folder / STORE_FILE) as store:
        changed, values = store.edited()
        for variant, index in changed:
            found.disagree("result", f"{variant} {index}", "was changed in the store since it was written")
        for name in values:
            found.disagree("result", f"{STORE_FILE}, {name}", "was changed in the store since it was written")
        if values:
            found.notes.append("what the run says of itself was changed, so nothing more can be compared")
            return found
        rows = planned_rows(store)
        header = RunHeader.from_json(store.meta.get(HEADER_META) or {})
        missing = len(store.meta.get(JOBS_META) or ()) - len(rows)
        if missing > 0:
            found.notes.append(f"{missing} of the planned inputs have no result")
        found.results, found.unsat = len(rows), sum(row.verdict is Verdict.UNSAT for row in rows)
        paths = _manifest(folder, store, rows, found, tell)
        _results(folder, store, rows, header, found)
        jobs = {row.place: _job(row, folder, paths) for row in rows}
        if not header.labelled:
            rows = _with_known_files(rows, jobs, paths, found)
        _files([jobs[row.place] for row in rows], found, tell)
        judge = Judge(Rules(header.rules), properties=256)
        claimed = [row for row in rows if row.verdict is Verdict.SAT]
        for done, row in enumerate(claimed):
            _replay(row, jobs[row.place], store, judge, found)
            tell("replaying counterexamples", done + 1, len(claimed))
    chosen = _sample(rows, sample, seed)
    with tempfile.TemporaryDirectory(prefix="lgbench-audit-") as scratch:
        second = tool or BuiltinTool(Path(scratch), seed=seed, arithmetic=header.arithmetic, command=RECHECK_COMMAND)
        _recheck([(row, jobs[row.place]) for row in chosen], timeout_s, second, judge, found, tell)
    return found


def _manifest(folder: Path, store: Store, rows: Sequence[StoredResult], found: Audit, tell: Told) -> _Paths:
    """Compares the manifest with the folder; returns role, name and hash of each file to its path."""
    read, noted = read_manifest(folder), store.meta.get(MANIFEST_META)
    if read is None:
        found.manifest = "missing"
        if noted:
            found.disagree("hash", MANIFEST_FILE, "the run left one, and it is gone")
        else:
            found.notes.append("there is no manifest: the run has not ended, or is of an older version")
        return {}
    manifest, sha256 = read
    # Instances of several networks may share a name where what was made of them differs.
    paths = {(e["role"], e["name"], e["sha256"]): folder / e["path"] for e in manifest["files"]}
    paths = {(role, name, ""): path for (role, name, _), path in paths.items()} | paths
    if noted is None:
        found.manifest = "outdated"
        found.notes.append("the manifest is of before the run was resumed, and is not compared; finish the run")
        return paths
    if sha256 != noted:
        found.disagree("hash", MANIFEST_FILE, "is not the one that the run left")
    for name, stated in manifest["outputs"].items():
        path = folder / name
        if ".." in Path(name).parts or not path.is_file():
            found.disagree("hash", name, "is gone")
        elif sha256_file(path) != stated:
            found.disagree("hash", name, "was changed since the run ended")
    for name in sorted(set(output_paths(folder)) - set(manifest["outputs"])):
        found.disagree("hash", name, "is not of this run")
    now = results_sha256(store, rows)
    for variant in sorted(now.keys() | manifest["results"].keys()):
        if now.get(variant) != manifest["results"].get(variant):
            found.disagree("result", variant, "the results in the store are not those that the run ended with")
    tell("comparing hashes", 1, 1)
    return paths


def _results(folder: Path, store: Store, rows: Sequence[StoredResult], header: RunHeader, found: Audit) -> None:
    """Checks that results fit each other: keys, sets, the summary, conflicts."""
    identity = str(header.provenance.get("tool_identity", ""))
    for row in rows:
        where = f"{row.variant} {row.index}"
        limits = Limits(row.timeout_s, row.timeout_on, row.max_domains)
        hashed = bool(row.network_sha256 and row.property_sha256)
        if hashed and row.key != job_key(row.network_sha256, row.property_sha256, identity, limits):
            found.disagree("result", where, "its key is not the one of its network, property, tool and limits")
        if row.result_set is not result_set(row.verdict, row.stage):
            found.disagree("result", where, f"{row.verdict} and stage {row.stage} are not in the set {row.result_set}")
    for conflict in find_conflicts(row.claim for row in store.rows()):
        message = f"unsat by {', '.join(conflict.unsat_by)}, with a counterexample by {', '.join(conflict.sat_by)}"
        found.disagree("result", f"property {conflict.property_sha256[:12]}", message)
    conflicts = [asdict(conflict) for conflict in find_conflicts(row.claim for row in store.rows())]
    summary = build_summary(rows_from_store(rows), header, store.meta.get(MANIFESTS_META) or {}, conflicts)
    if found.manifest == "present" and not _holds(folder / SUMMARY_FILE, summary):
        found.disagree("result", SUMMARY_FILE, "is not what follows from the results")


def _holds(path: Path, content: Mapping[str, Any]) -> bool:
    """Returns whether a JSON file holds `content`, as it reads after being written; False where it cannot be read."""
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")) == json.loads(json.dumps(content)))
    except (OSError, ValueError, RecursionError):
        return False


def _stated(row: StoredResult) -> list[tuple[str, str, str]]:
    """Returns role, name and hash of a result's files."""
    return [
        ("network", row.network_name, row.network_sha256),
        ("property", row.property_name, row.property_sha256),
    ]


def _job(row: StoredResult, folder: Path, paths: _Paths) -> Job:
    files = [
        paths.get((role, name, sha256)) or paths.get((role, name, "")) or folder / BENCHMARK_FOLDER / name
        for role, name, sha256 in _stated(row)
    ]
    limits = Limits(row.timeout_s, row.timeout_on, row.max_domains)
    instance = Instance(files[0], files[1], row.timeout_s, row.network_name, row.property_name)
    return Job(row.key, instance, row.variant, row.index, limits, row.network_sha256, row.property_sha256)


def _with_known_files(
    rows: Sequence[StoredResult], jobs: Mapping[RowPlace, Job], paths: _Paths, found: Audit
) -> list[StoredResult]:
    """Returns the results of a plain list whose files can be found; without a manifest nothing says where they are."""

    def is_known(row: StoredResult) -> bool:
        files = jobs[row.place].instance.network, jobs[row.place].instance.property
        return all(
            not sha256 or (role, name, "") in paths or locate(file) is not None
            for (role, name, sha256), file in zip(_stated(row), files, strict=True)
        )

    known = [row for row in rows if is_known(row)]
    if len(known) < len(rows):
        found.notes.append(f"the files of {len(rows) - len(known)} results are in no manifest, and are not compared")
    return known


def _files(jobs: Iterable[Job], found: Audit, tell: Told) -> None:
    """Compares each network and property with the hash that its results have."""
    stated: dict[tuple[Path, str], None] = {}
    for job in jobs:
        stated[job.instance.network, job.network_sha256] = None
        stated[job.instance.property, job.property_sha256] = None
    checked = [(path, sha256) for path, sha256 in stated if sha256]
    for done, (path, sha256) in enumerate(checked):
        try:
            if sha256_bytes(read_bytes(path)) != sha256:
                found.disagree("hash", str(path), "is not the file that the results are of")
        except LgBenchError as error:
            found.disagree("hash", str(path), str(error))
        tell("comparing files", done + 1, len(checked))
    found.files = len(checked)


def _replay(row: StoredResult, job: Job, store: Store, judge: Judge, found: Audit) -> None:
    found.counterexamples += 1
    replayed = judge.replay(job, store.counterexample(row.key)).check
    if replayed.verdict is WitnessVerdict.CORRECT:
        found.counterexamples_confirmed += 1
    else:
        reason = f"{replayed.verdict.value}: {replayed.message}" if replayed.message else replayed.verdict.value
        found.disagree("counterexample", f"{row.variant} {row.index}", f"sat, but the replay says {reason}")


def _sample(rows: Sequence[StoredResult], count: int, seed: int) -> list[StoredResult]:
    """Returns a random choice of the answers `unsat`, ordered by network; the same content is chosen once."""
    proved = {row.key: row for row in reversed(rows) if row.verdict is Verdict.UNSAT}
    rows = sorted(proved.values(), key=lambda row: (row.variant, row.index, row.key))
    chosen = random.Random(seed).sample(rows, min(count, len(rows)))
    return sorted(chosen, key=lambda row: (row.network_sha256, row.variant, row.index))


def _recheck(
    chosen: Sequence[tuple[StoredResult, Job]], timeout_s: float, tool: Tool, judge: Judge, found: Audit, tell: Told
) -> None:
    limits = Limits(timeout_s, "wall")
    by_place = {job.key: row for row, job in chosen}
    for _, group in groupby((job for _, job in chosen), key=lambda job: job.instance.network):
        asked = [
            Job(job.key, job.instance, job.variant, job.index, limits, job.network_sha256, job.property_sha256)
            for job in group
        ]
        for answered in tool.decide(asked):
            row = by_place[answered.job.key]
            outcome, message = _outcome(answered.job, answered.answer, judge)
            seconds = round(answered.answer.wall_s, 3)
            found.rechecked.append(Recheck(row.variant, row.index, row.property_name, outcome, seconds, message))
            if outcome == "contradicted":
                found.disagree("unsat", f"{row.variant} {row.index}", f"unsat, but {message}")
            tell("proving again", len(found.rechecked), len(chosen))


def _outcome(job: Job, answer: ToolAnswer, judge: Judge) -> tuple[str, str]:
    """Returns the outcome of an answer of the second verifier, and why."""
    result = judge.judge(job, answer)
    if answer.verdict is Verdict.SAT and result.verdict is Verdict.SAT:
        return "contradicted", "the second verifier has a counterexample, which ONNX Runtime confirms"
    if answer.verdict is Verdict.UNSAT and result.verdict is Verdict.UNSAT:
        return "confirmed", ""
    if result.verdict is Verdict.ERROR:
        return "failed", result.message
    return "open", result.message
