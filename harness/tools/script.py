"""A folder with VNN-COMP's scripts as a tool: `prepare_instance.sh` and `run_instance.sh`, one instance at a time.

`install_tool.sh` is never called here: installing is for the user to start.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath

from harness.domain import Job, LgBenchError, ToolAnswer, UsageError, Verdict
from harness.files import sha256_file
from harness.formats.instances import format_seconds
from harness.tools.contract import Answered, OnProgress, Progress
from harness.tools.result_file import MAX_BYTES, Said, read_result_file
from harness.tools.staging import StagedInstance, staged
from harness.tools.supervise import (
    MOST_LOG_BYTES,
    Step,
    StepReport,
    ToolBounds,
    foreign_environment,
    last_line,
    supervise,
)

INTERFACE = "v1"
"""Argument 1 of every script: the interface's version, still this in 2026."""
PREPARE, RUN, INSTALL = "prepare_instance.sh", "run_instance.sh", "install_tool.sh"
PREPARE_S = 600.0
"""Seconds that `prepare_instance.sh` may take (VNN-COMP); they do not count as run time."""
GRACE_S = 1.0
"""Seconds after its limit at which a tool is told to end; an answer from them is late, and a timeout. With the time
between TERM and KILL it is gone within 2 s of its limit."""
TIMEOUT_STATUS = 124
"""What a script that passes on GNU timeout's status exits with."""

_LARGE_FILE_BYTES = 2**20
_GIT_S = 10.0
_NAME_BYTES = 150


@dataclass(frozen=True, slots=True)
class ScriptFolder:
    """Where a tool's scripts are, and what belongs to them."""

    path: Path
    installed: Path | None = None
    """A file that the tool's installation leaves, which says what was installed; None: nothing is known of it."""
    hint: str = ""
    """What to do where that file is missing."""
    sources: Sequence[Path] = ()
    """Further files that determine the answers."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the scripts."""


class ScriptTool:
    """Decides one instance at a time with a folder of VNN-COMP scripts, in processes that do not outlive their answer.

    The scripts get unzipped copies of network and property, no input, and an environment without our own packages. All
    that they print is appended to a log for each instance, and the result file stands beside it. Run time is that of
    `run_instance.sh` alone. What a script does wrong becomes an answer: an exit status other than 0, a result file
    without a known word and a broken memory limit are errors, and whatever comes after the limit is a timeout.
    """

    def __init__(
        self,
        name: str,
        folder: ScriptFolder,
        log_dir: Path,
        *,
        category: str = "",
        device: str = "cpu",
        bounds: ToolBounds | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Makes the tool; nothing is started and nothing looked for yet.

        Args:
            name: what the tool is called in results.
            folder: the scripts.
            log_dir: logs go to a folder of the tool's name in it.
            category: the benchmark's name, which scripts choose their settings by.
            device: `cpu` hides all CUDA devices from the scripts.
            bounds: what the scripts may use.
            on_progress: told when an instance is begun.
        """
        self._name = name
        self._folder = folder
        self._log_dir = log_dir / name
        self._category = category
        self._device = device
        self._bounds = bounds or ToolBounds()
        self._on_progress = on_progress

    @property
    def name(self) -> str:
        """As given."""
        return self._name

    @property
    def batched(self) -> bool:
        """False: the competition's scripts take one instance."""
        return False

    def identity(self) -> str:
        """Returns a hash of the scripts' folder, of what is installed or the checkout's revision, and of the limits.

        Raises:
            UsageError: a script is missing, or the tool is not installed.
        """
        self.check()
        folder = self._folder
        digest = sha256()
        files = [*sorted(path for path in folder.path.iterdir() if path.is_file()), *folder.sources]
        for path in files:
            digest.update(f"{path.name}:{path.stat().st_size}:".encode())
            # A program that is built anew often has the size of the one before.
            is_large = path.stat().st_size > _LARGE_FILE_BYTES
            digest.update(sha256_file(path).encode() if is_large else path.read_bytes())
        version = _revision(folder.path) if folder.installed is None else folder.installed.read_text(encoding="utf-8")
        rest = [version, self._category, self._device, self._bounds.words(), dict(folder.settings)]
        digest.update(json.dumps(rest).encode())
        return digest.hexdigest()

    def check(self) -> None:
        """Checks that the tool can be started.

        Raises:
            UsageError: a script is missing, or the tool is not installed.
        """
        check_scripts(self._folder.path)
        installed = self._folder.installed
        if installed is not None and not installed.is_file():
            raise UsageError(f"{self._name}: is not installed ({installed} is missing); {self._folder.hint}")

    def decide(self, jobs: Sequence[Job]) -> Iterator[Answered]:
        """Yields an answer for each job, in order."""
        for job in jobs:
            if self._on_progress is not None:
                self._on_progress(Progress(job.key, "running", 0))
            try:
                answer = self._decide(job)
            except (LgBenchError, OSError) as error:
                answer = ToolAnswer(Verdict.ERROR, 0.0, 0.0, message=str(error))
            yield Answered(job, answer)

    def _decide(self, job: Job) -> ToolAnswer:
        log = self._log_dir / f"{instance_stem(job)}.log"
        limit = job.limits.timeout_s
        with staged(job.instance, self._category) as files:
            log.parent.mkdir(parents=True, exist_ok=True)
            start = log.stat().st_size if log.exists() else 0
            steps = [
                Step(self._command(PREPARE, files), PREPARE_S, self._folder.path),
                Step(
                    self._command(RUN, files, str(files.result), format_seconds(limit)), limit + GRACE_S, files.folder
                ),
            ]
            settings = {**({"CUDA_VISIBLE_DEVICES": ""} if self._device == "cpu" else {}), **self._folder.settings}
            environment = foreign_environment(settings)
            reports = supervise(steps, log, self._bounds, environment=environment)
            said = read_result_file(files.result)
            _keep(files.result, log.with_suffix(".result"))
        last = last_line(log, start)
        with log.open("a", encoding="utf-8") as stream:
            stream.writelines(
                f"== {name}: {report.words()}\n" for name, report in zip((PREPARE, RUN), reports, strict=False)
            )
        return answer_of(reports, said, last, limit)

    def _command(self, script: str, files: StagedInstance, *more: str) -> list[str]:
        # Through bash, as the competition does: scripts lose their executable bit in archives.
        path = str(self._folder.path.absolute() / script)
        return ["bash", path, INTERFACE, self._category, str(files.network), str(files.property), *more]


def check_scripts(folder: Path) -> None:
    """Checks that a folder has the scripts that are needed to run a tool.

    Raises:
        UsageError: it has not.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; --tool-dir names the one that holds {RUN}")
    for name in (PREPARE, RUN):
        if not (folder / name).is_file():
            raise UsageError(f"{folder}: has no {name}; --tool-dir names a folder with {PREPARE} and {RUN}")


def instance_stem(job: Job) -> str:
    """Returns the name of a job's logs: the stems of its network and property, and the first digits of its key."""
    network = job.instance.network_name or job.instance.network.name
    # A list of several networks is no path.
    files = (job.variant if network.startswith("[") else network, job.instance.property_name)
    stems = [PurePosixPath(name).name.removesuffix(".gz") for name in files if name]
    name = "_".join(stem.removesuffix(".onnx").removesuffix(".vnnlib") for stem in stems)
    return f"{name.encode()[:_NAME_BYTES].decode(errors='ignore')}-{job.key[:12]}"


def answer_of(reports: Sequence[StepReport], said: Said, last: str, limit_s: float) -> ToolAnswer:
    """Returns what became of one instance.

    Args:
        reports: of `prepare_instance.sh`, and of `run_instance.sh` where it was begun.
        said: what the result file says; it counts only where `run_instance.sh` ended with status 0.
        last: the last line that the scripts printed, for the reason.
        limit_s: the instance's limit.
    """
    prepared = len(reports) > 1
    report, script = reports[-1], RUN if prepared else PREPARE
    seconds, prepare_s = (report.seconds if prepared else 0.0), reports[0].seconds

    def answer(verdict: Verdict, reason: str) -> ToolAnswer:
        return ToolAnswer(verdict, seconds, seconds, message=reason, prepare_s=prepare_s)

    if report.stopped == "wall":
        after = f"{limit_s:g} s" if prepared else f"{PREPARE_S:g} s"
        return answer(Verdict.TIMEOUT, f"{script} did not end after {after} and was killed")
    if report.stopped == "cpu":
        return answer(Verdict.TIMEOUT, f"{script} was killed: it used {report.cpu_s:.1f} s of processor time")
    used = f"{report.peak_bytes / 2**30:.2f} GiB of"
    killed = {
        "memory": f"it used {used} memory",
        "host": f"the machine ran out of memory, and it held {used} it",
        "output": f"it printed more than {MOST_LOG_BYTES / 2**20:g} MiB",
    }
    if report.stopped in killed:
        return answer(Verdict.ERROR, f"{script} was killed: {killed[report.stopped]}")
    if report.stopped:
        return answer(Verdict.ERROR, f"{script} was told to end")
    if report.status == TIMEOUT_STATUS:
        return answer(Verdict.TIMEOUT, f"{script} ended with exit status {TIMEOUT_STATUS}")
    if report.status != 0 or not prepared:
        return answer(Verdict.ERROR, f"{script}: {report.how()}{f': {last}' if last else ''}")
    return replace(answer(said.verdict, said.message), witness_text=said.witness)


def _keep(result: Path, kept: Path) -> None:
    """Leaves the result file of the last attempt beside the log; none where it wrote none that could be read."""
    kept.unlink(missing_ok=True)
    # Its content: what a link of the tool's names is removed with the tool's folder.
    if result.is_file() and result.stat().st_size <= MAX_BYTES:
        shutil.copyfile(result, kept)


def _revision(folder: Path) -> str:
    """Returns the commit that the folder's checkout stands at; empty where it is none, or git is not there."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
