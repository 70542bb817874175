"""A Docker image with VNN-COMP's scripts as a tool: one container an instance, without a network, ended with it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from harness.domain import Job, LgBenchError, ToolAnswer, UsageError, Verdict
from harness.files import sha256_bytes
from harness.formats.instances import format_seconds
from harness.tools.contract import Answered, OnProgress, Progress
from harness.tools.result_file import MAX_BYTES, Said, interpret
from harness.tools.script import GRACE_S, INTERFACE, PREPARE, PREPARE_S, RUN, answer_of, instance_stem
from harness.tools.staging import StagedInstance, staged
from harness.tools.supervise import StepReport, ToolBounds, last_line

LABEL = "lgbench.scripts"
"""Label of an image that says where its scripts are."""
SCRIPTS = "/vnncomp_scripts"
"""Where they are without it."""

_INSTANCE = "/lgbench-instance"
_RESULT_FOLDER = "/tmp"  # noqa: S108 - inside the container
_OUTPUT = f"{_RESULT_FOLDER}/lgbench-output.txt"
_RESULT = f"{_RESULT_FOLDER}/lgbench-result.txt"
_KILL_AFTER_S = 0.5
_MARGIN_S = 60.0
_PIDS = 4096
_POLL_S = 0.1
_FIRST_POLL_S = 0.01
_NO_STATUS = 127
_KILLED_STATUS = 137


class DockerTool:
    """Decides one instance at a time in a container of its own.

    The container has no network, its inputs are read-only, and its processes' memory, cores and number are limited by
    the engine; a GPU is there only when asked for. It ends by itself should nobody end it. What goes wrong inside
    becomes an answer as with `ScriptTool`; an engine that fails becomes an error.
    """

    def __init__(
        self,
        image: str,
        log_dir: Path,
        *,
        category: str = "",
        gpu: bool = False,
        bounds: ToolBounds | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Makes the tool; the engine is not asked yet.

        Args:
            image: name or id; it has to be on the engine, nothing is pulled.
            log_dir: logs go to a folder of it.
            category: the benchmark's name, which scripts choose their settings by.
            gpu: whether containers get all GPUs.
            bounds: what a container may use.
            on_progress: told when an instance is begun.
        """
        self._image = image
        self._log_dir = log_dir / f"docker-{image.replace('/', '-').replace(':', '-')}"
        self._category = category
        self._gpu = gpu
        self._bounds = bounds or ToolBounds()
        self._on_progress = on_progress

    @property
    def name(self) -> str:
        """`docker:IMAGE`."""
        return f"docker:{self._image}"

    @property
    def batched(self) -> bool:
        """False: the competition's scripts take one instance."""
        return False

    def identity(self) -> str:
        """Returns a hash of the image's content and of the limits.

        Raises:
            UsageError: the engine cannot be reached, or has no such image.
        """
        with closing(_client()) as client:
            image = self._found(client)
        return sha256_bytes(json.dumps([image.id, self._category, self._gpu, self._bounds.words()]).encode())

    def decide(self, jobs: Sequence[Job]) -> Iterator[Answered]:
        """Yields an answer for each job, in order."""
        import docker

        for job in jobs:
            if self._on_progress is not None:
                self._on_progress(Progress(job.key, "running", 0))
            try:
                with closing(_client()) as client:
                    answer = self._decide(client, job)
            except (LgBenchError, OSError, docker.errors.DockerException) as error:
                answer = ToolAnswer(Verdict.ERROR, 0.0, 0.0, message=f"{self.name}: {' '.join(str(error).split())}")
            yield Answered(job, answer)

    def _found(self, client: Any) -> Any:
        import docker

        try:
            return client.images.get(self._image)
        except docker.errors.ImageNotFound as error:
            raise UsageError(f"--tool {self.name}: the Docker engine has no such image; build or pull it") from error
        except docker.errors.DockerException as error:
            raise UsageError(f"--tool {self.name}: {error}") from error

    def _decide(self, client: Any, job: Job) -> ToolAnswer:
        image = self._found(client)
        scripts = (image.labels or {}).get(LABEL, SCRIPTS).rstrip("/")
        log = self._log_dir / f"{instance_stem(job)}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        limit = job.limits.timeout_s
        with staged(job.instance, self._category) as files, log.open("ab") as stream:
            start = stream.tell()
            for folder in (files.folder.parent, files.folder, files.network.parent, files.property.parent):
                folder.chmod(0o755)
            inner = [
                f"{_INSTANCE}/{path.relative_to(files.folder).as_posix()}" for path in (files.network, files.property)
            ]
            given = [INTERFACE, self._category, *inner]
            container = self._container(client, image, files, PREPARE_S + limit + GRACE_S + _KILL_AFTER_S + _MARGIN_S)
            try:
                container.start()
                runner = _Runner(client, container, stream)
                reports = [runner.run(["bash", f"{scripts}/{PREPARE}", *given], PREPARE_S)]
                if reports[-1].status == 0 and not reports[-1].stopped:
                    command = ["bash", f"{scripts}/{RUN}", *given, _RESULT, format_seconds(limit)]
                    reports.append(runner.run(command, limit + GRACE_S))
                content = _file(container, _RESULT)
            finally:
                _remove(container)
        said = Said(Verdict.ERROR, None, "no result file was written") if content is None else interpret(content)
        log.with_suffix(".result").write_bytes(content or b"")
        return answer_of(reports, said, last_line(log, start), limit)

    def _container(self, client: Any, image: Any, files: StagedInstance, seconds: float) -> Any:
        """Returns a container that only waits, and not for ever: one that nobody removes any more ends by itself."""
        import docker

        memory = self._bounds.memory_bytes
        return client.containers.create(
            image.id,
            entrypoint=["sleep", str(int(seconds) + 1)],
            command=[],
            init=True,
            network_mode="none",
            volumes={str(files.folder): {"bind": _INSTANCE, "mode": "ro"}},
            mem_limit=memory,
            memswap_limit=memory,
            nano_cpus=None if self._bounds.cores is None else self._bounds.cores * 10**9,
            ulimits=_ulimits(self._bounds.cpu_s),
            pids_limit=_PIDS,
            security_opt=["no-new-privileges"],
            device_requests=[docker.types.DeviceRequest(count=-1, capabilities=[["gpu"]])] if self._gpu else None,
            environment=None if self._gpu else {"CUDA_VISIBLE_DEVICES": ""},
            labels={"lgbench.instance": "1"},
            auto_remove=False,
        )


@dataclass(slots=True)
class _Runner:
    """Runs scripts in a started container."""

    client: Any
    container: Any
    log: Any

    def run(self, command: list[str], wall_s: float) -> StepReport:
        """Returns how a command ended; at its limit everything in the container is ended, TERM before KILL."""
        api = self.client.api
        # Into a file of the container: a stream would go on as long as any child holds it.
        redirected = ["bash", "-c", f'exec "$@" >{_OUTPUT} 2>&1 </dev/null', "bash", *command]
        execution = api.exec_create(self.container.id, redirected, stdin=False)["Id"]
        began = monotonic()
        api.exec_start(execution, detach=True)
        stopped = "wall" if self._running(execution, began + wall_s) else ""
        seconds = monotonic() - began
        if stopped:
            self._end(execution)
        self.log.write(_file(self.container, _OUTPUT) or b"")
        self.log.flush()
        state = api.inspect_container(self.container.id)["State"]
        status = api.exec_inspect(execution)["ExitCode"]
        # The engine notes it of a container's first process alone; nobody here sent KILL.
        if not stopped and (state.get("OOMKilled") or (status == _KILLED_STATUS and self._memory())):
            stopped = "memory"
        return StepReport(_NO_STATUS if status is None else int(status), seconds, 0.0, self._memory(), stopped, 0)

    def _running(self, execution: str, end: float) -> bool:
        """Returns whether a command still runs at `end`; its output may go on longer, by a child that holds it."""
        pause = _FIRST_POLL_S
        while self.client.api.exec_inspect(execution)["Running"]:
            left = end - monotonic()
            if left <= 0:
                return True
            sleep(min(pause, left))
            pause = min(2 * pause, _POLL_S)
        return False

    def _end(self, execution: str) -> None:
        """Ends everything that was started in the container, TERM before KILL; its first process stays."""
        self.container.exec_run(["sh", "-c", "kill -TERM -1"], detach=True)
        if self._running(execution, monotonic() + _KILL_AFTER_S):
            self.container.exec_run(["sh", "-c", "kill -KILL -1"], detach=True)

    def _memory(self) -> int:
        return int(self.container.attrs.get("HostConfig", {}).get("Memory") or 0)


def _client() -> Any:
    """Returns a connection to the engine that the environment names.

    Raises:
        UsageError: there is none.
    """
    import docker

    try:
        return docker.from_env()
    except docker.errors.DockerException as error:
        reason = engine_reason(error)
        raise UsageError(f"the Docker engine cannot be reached ({reason}); start it, or set DOCKER_HOST") from error


def engine_reason(error: BaseException) -> str:
    """Returns in one line why the engine does not answer: the system's words where a cause has them, else the SDK's."""
    # The SDK prints what its libraries raised within each other; causes are also kept as arguments.
    causes, seen = [error], set[int]()
    while causes:
        cause = causes.pop()
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        seen.add(id(cause))
        inner = (cause.__cause__, cause.__context__, *cause.args)
        causes += [one for one in inner if isinstance(one, BaseException) and id(one) not in seen]
    return " ".join(str(error).split())


def _ulimits(cpu_s: float | None) -> list[Any]:
    """Returns the limit on processor seconds, which the kernel counts for each process by itself."""
    import docker

    return [] if cpu_s is None else [docker.types.Ulimit(name="cpu", soft=int(cpu_s) + 1, hard=int(cpu_s) + 1)]


def _file(container: Any, path: str) -> bytes | None:
    """Returns the content of a file in a container; None where there is none, or it is no plain file."""
    import docker

    try:
        chunks, stat = container.get_archive(path)
    except docker.errors.NotFound:
        return None
    if stat["size"] > MAX_BYTES:
        return b"(too long)"
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        member = archive.next()
        stream = None if member is None or not member.isfile() else archive.extractfile(member)
        return None if stream is None else stream.read()


def _remove(container: Any) -> None:
    import docker

    with suppress(docker.errors.DockerException):
        container.remove(force=True, v=True)
