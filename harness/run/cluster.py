"""A Ray cluster as an executor: the runner's side. Ray itself runs in a child process, see `harness.run.ray_driver`."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.domain import Job, UsageError
from harness.run.cluster_protocol import ClusterOffer, ClusterSettings, RemoteTool, decode_said, encode_job
from harness.run.executors import ExecutorLostError
from harness.tools.contract import Answered, OnProgress, Progress, Tool
from harness.tools.process import ChildEndedError, LineProcess

DRIVER_COMMAND = (sys.executable, "-m", "harness.run.ray_driver")
START_S = 900.0
"""Seconds that the driver may take to connect, and again to have a worker; it gives up by itself before."""
SILENCE_S = 600.0
"""A driver that says nothing for so long while it has jobs is given up; it beats every twenty seconds."""
LOG_NAME = "ray.log"
PACKAGE = Path(__file__).resolve().parents[1]

logger = logging.getLogger(__name__)


class RayCluster:
    """A connection to a Ray cluster, and an executor once a tool is prepared; a context manager that ends both.

    Leaving it ends every worker of this run; a cluster that was running before goes on.
    """

    def __init__(self, settings: ClusterSettings, *, command: Sequence[str] = DRIVER_COMMAND) -> None:
        """Connects.

        Args:
            settings: how the cluster is used.
            command: starts the driver; another one than ours only in tests.

        Raises:
            UsageError: Ray is not installed, or there is no cluster with room for a worker.
        """
        if not has_ray():
            raise UsageError(
                "--executor ray: Ray is not installed; in the checkout, here and on each node: "
                "pip install -c constraints.txt -e '.[ray]'"
            )
        # Nothing is written to the run folder before everything is checked.
        self._scratch = Path(tempfile.mkdtemp(prefix="lgbench-ray-"))
        self._kept: Path | None = None
        self._on_note: Callable[[str], None] = logger.warning
        self._on_progress: OnProgress = lambda _progress: None
        self._child = LineProcess([*command, settings.to_json()], self._scratch / LOG_NAME, cwd=PACKAGE.parent)
        try:
            self.offer = ClusterOffer.from_json(self._await("cluster"))
        except BaseException:
            self.close()
            raise

    def prepare(
        self,
        tool: RemoteTool,
        *,
        log_dir: Path,
        on_progress: OnProgress | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        """Has the nodes make the tool, and returns once one of them has it; called once, before `answers`.

        Args:
            tool: what decides.
            log_dir: gets Ray's log when the connection is closed, if the run folder is there then.
            on_progress: told what the workers work on.
            on_note: told in one line what a person should know, such as a node that is not used.

        Raises:
            UsageError: no node can run the tool, or each has another revision of it.
        """
        self._kept = log_dir
        self._on_note = on_note or self._on_note
        self._on_progress = on_progress or self._on_progress
        self._child.send(json.dumps(tool.to_json()) + "\n")
        self._await("ready")

    def answers(self, jobs: Sequence[Job], tool: Tool) -> Generator[Answered]:  # noqa: ARG002 - the nodes have their own
        """Yields exactly one answer for each job, as they come from the cluster, and closes the connection."""
        missing = {job.key: job for job in jobs}
        try:
            if missing:
                self._child.send(json.dumps({"jobs": len(jobs)}) + "\n" + "".join(map(encode_job, jobs)))
            while missing:
                found = self._news(self._next(SILENCE_S))
                if found is not None and found[0] in missing:
                    yield Answered(missing.pop(found[0]), found[1])
        finally:
            # The nodes are not needed for the report.
            self.close()

    @property
    def pid(self) -> int:
        """Process id of the driver."""
        return self._child.pid

    def close(self) -> None:
        """Ends the workers and the connection; calling it again changes nothing."""
        self._child.end(grace_s=20.0)
        log = self._scratch / LOG_NAME
        if self._kept is not None and self._kept.parent.is_dir() and log.is_file():
            with suppress(OSError):
                self._kept.mkdir(exist_ok=True)
                with (self._kept / LOG_NAME).open("ab") as kept:
                    kept.write(log.read_bytes())
        shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _news(self, event: dict[str, Any]) -> tuple[str, Any] | None:
        match event.get("event"):
            case "answer":
                return decode_said(event)
            case "progress":
                self._on_progress(Progress(str(event["key"]), str(event["stage"]), int(event["domains"])))
            case "note":
                self._on_note(str(event["text"]))
            case "lost" | "done":
                raise ExecutorLostError(f"the Ray cluster: {event.get('reason', 'it left jobs out')}")
        return None

    def _await(self, wanted: str) -> dict[str, Any]:
        """Returns the event of that name.

        Raises:
            UsageError: the driver refuses, ends or hangs.
        """
        while True:
            try:
                event = self._next(START_S)
            except ExecutorLostError as error:
                raise UsageError(f"--executor ray: {error}") from error
            if event.get("event") == "refused":
                raise UsageError(f"--executor ray: {event['reason']}")
            if event.get("event") == wanted:
                return event
            self._news(event)

    def _next(self, timeout_s: float) -> dict[str, Any]:
        try:
            line = self._child.next_line(timeout_s)
        except ChildEndedError as error:
            raise ExecutorLostError(f"the connection to the Ray cluster ended: {error}") from error
        if line is None:
            raise ExecutorLostError(f"the connection to the Ray cluster said nothing for {timeout_s:.0f} s")
        event: dict[str, Any] = json.loads(line.text)
        return event


def has_ray() -> bool:
    """Returns whether Ray is installed; it is not imported."""
    return importlib.util.find_spec("ray") is not None
