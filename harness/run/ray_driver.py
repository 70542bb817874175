"""`python -m harness.run.ray_driver SETTINGS`: hands a run's jobs to a Ray cluster; a child process of the runner.

A process of its own, because Ray takes over signals and standard output, and ends its process where the cluster's head
is lost; the runner must survive that. See `harness.run.cluster_protocol` for what is said on standard input and output.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import IO, Any

from harness.domain import Job, LgBenchError, ToolAnswer, Verdict
from harness.formats.compressed import locate
from harness.judging.judge import one_line
from harness.run.cluster_protocol import ClusterOffer, ClusterSettings, RemoteTool, decode_job, encode_said
from harness.run.dispatch import Chunk, Dispatch
from harness.run.machine import Machine, this_machine
from harness.run.ray_fleet import Fleet, Heard, cores_of, room
from harness.run.ray_worker import RayWorker, Said
from harness.tools.contract import Answered

START_S = 300.0
"""Seconds that the first worker may take to be ready."""
NODES_S = 120.0
"""Seconds without any worker, after which the run is given up; it can be resumed."""
BEAT_S = 20.0
REACH_S = 20.0
"""Seconds that the cluster's head may take to answer at all."""
_TICK_S = 1.0

logger = logging.getLogger(__name__)


class Driver:
    """One run: what the runner says in, what the workers say out.

    Args:
        ray: the module, not yet connected.
        settings: how the cluster is used.
        requests: from the runner.
        events: to it.
        worker: what runs on the nodes.
        environ: where Ray looks for an address that the settings leave open.
    """

    def __init__(
        self,
        ray: Any,
        settings: ClusterSettings,
        requests: IO[str],
        events: IO[str],
        worker: type[RayWorker] = RayWorker,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._environ = environ
        self._ray, self._settings, self._requests, self._events, self._worker = ray, settings, requests, events, worker
        self._networks: dict[str, Any] = {}
        self._lines: dict[str, str] = {}
        self._beat = monotonic()
        self._without = monotonic()

    def run(self) -> None:
        """Serves the runner until it hangs up."""
        try:
            self._connect()
            offer = self._offer()
        except (LgBenchError, ConnectionError, RuntimeError, ValueError, self._ray.exceptions.RayError) as error:
            self._tell({"event": "refused", "reason": one_line(str(error))})
            return
        self._tell({"event": "cluster", **offer.to_json()})
        line = self._requests.readline()
        if not line:
            return
        tool = RemoteTool.from_json(json.loads(line))
        fleet = Fleet(self._ray, self._settings, tool, self._remark, self._worker)
        try:
            if self._assemble(fleet, min(offer.workers, self._wanted(tool, tool.jobs))):
                line = self._requests.readline()
                if line:
                    self._decide(fleet, tool, self._jobs(json.loads(line)["jobs"]))
                    # What runs must not end before the runner has read what was said.
                    self._requests.read()
        finally:
            fleet.end()

    def _connect(self) -> None:
        address = self._settings.address
        _reach(address or self._environ.get("RAY_ADDRESS", ""))
        options = {"log_to_driver": False, "configure_logging": False}
        if address is not None:
            self._ray.init(address=address, **options)
        else:
            try:
                self._ray.init(address="auto", **options)
            except ConnectionError:
                self._ray.init(address="local", include_dashboard=False, **options)
        # Ray has put its own handler there.
        signal.signal(signal.SIGTERM, _end)

    def _offer(self) -> ClusterOffer:
        """Returns what the cluster has, and what a node looks like from inside that jobs will run on."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        fitting = {device: [n for n in nodes if room(self._settings, n, device)] for device in ("cuda", "cpu")}
        device = "cuda" if fitting["cuda"] else "cpu"
        if not fitting[device]:
            wanted = f"{self._settings.job_cores} cores" if self._settings.job_cores else "a core"
            raise LgBenchError(f"no node has {wanted}; lower --job-cores, or add nodes")
        cores = cores_of(self._settings, fitting[device][0])
        probe = self._ray.remote(_look).options(num_cpus=cores, num_gpus=1 if device == "cuda" else 0)
        try:
            found: Machine = self._ray.get(probe.remote(), timeout=START_S)
        except self._ray.exceptions.GetTimeoutError as error:
            raise LgBenchError(f"no node had room for {START_S:.0f} s; is the cluster busy with other work?") from error
        machine = Machine(found.gpus[:1], found.torch_cuda, cores)
        return ClusterOffer(machine, len(nodes), sum(room(self._settings, n, device) for n in nodes))

    def _wanted(self, tool: RemoteTool, jobs: int) -> int:
        """Returns how many workers so many jobs keep busy."""
        sizes = self._settings.chunk_sizes(batched=tool.batched, device=tool.options.device)
        return max(math.ceil(jobs / sizes.least), 1)

    def _assemble(self, fleet: Fleet, workers: int) -> bool:
        """Waits for the first worker; the runner is told whether there is one."""
        began = monotonic()
        while not fleet.is_ready:
            fleet.recruit(workers)
            for _ in fleet.hear(_TICK_S):
                pass
            reason = fleet.problem if not len(fleet) else ""
            if not reason and monotonic() - began > START_S:
                reason = f"no worker was ready after {START_S:.0f} s; is the cluster busy with other work?"
            if reason:
                self._tell({"event": "refused", "reason": reason})
                return False
        self._tell({"event": "ready", "workers": len(fleet)})
        return True

    def _jobs(self, count: int) -> list[Job]:
        return [decode_job(self._requests.readline()) for _ in range(count)]

    def _decide(self, fleet: Fleet, tool: RemoteTool, jobs: Sequence[Job]) -> None:
        sizes = self._settings.chunk_sizes(batched=tool.batched, device=tool.options.device)
        dispatch = Dispatch(jobs, batched=tool.batched, sizes=sizes)
        while dispatch.open:
            fleet.recruit(self._wanted(tool, dispatch.open))
            for member in fleet.idle:
                chunk = dispatch.take(len(fleet), monotonic())
                if chunk is None:
                    break
                files = self._files_of(chunk, dispatch)
                fleet.hand_over(member, chunk, files)
            for heard in fleet.hear(_TICK_S):
                self._note(heard, dispatch)
            for chunk in fleet.dismiss(dispatch.is_needed):
                dispatch.ended(chunk, "it was not needed any more")
            if self._is_over(fleet):
                return
        self._tell({"event": "done"})

    def _note(self, heard: Heard, dispatch: Dispatch) -> None:
        for said in heard.messages:
            if not isinstance(said, Said):
                self._say(said.line)
                continue
            self._lines[said.key] = said.line
            self._answer(dispatch.answered(heard.chunk, said.key, ToolAnswer(Verdict(said.verdict), 0.0, 0.0)))
        if heard.over:
            reason = heard.reason or "the worker left it out"
            for found in dispatch.ended(heard.chunk, reason):
                self._answer(found)

    def _answer(self, found: Answered | None) -> None:
        """Passes on an answer that counts, in the worker's own words where it has said any."""
        if found is not None:
            line = self._lines.pop(found.job.key, None)
            self._say(line if line is not None else json.dumps(encode_said(found.job.key, found.answer)) + "\n")

    def _files_of(self, chunk: Chunk, dispatch: Dispatch) -> Mapping[str, Any]:
        """Puts the files of a chunk where the nodes can get them; a job whose file cannot be read is an error."""
        files: dict[str, Any] = {}
        for job in chunk.jobs:
            try:
                network = self._networks.get(job.network_sha256) or self._put(job.instance.network)
                self._networks[job.network_sha256] = files[job.network_sha256] = network
                if job.property_sha256 not in files:
                    files[job.property_sha256] = self._put(job.instance.property)
            except (OSError, LgBenchError) as error:
                message = one_line(f"a file cannot be read: {error}")
                self._answer(dispatch.answered(chunk, job.key, ToolAnswer(Verdict.ERROR, 0.0, 0.0, message=message)))
        return files

    def _put(self, path: Path) -> Any:
        found = locate(path)
        if found is None:
            raise LgBenchError(f"{path}: is not there any more")
        return self._ray.put(found.read_bytes())

    def _is_over(self, fleet: Fleet) -> bool:
        """Tells that the driver lives; returns whether there has been nobody to work for too long."""
        now = monotonic()
        if now - self._beat > BEAT_S:
            self._tell({"event": "beat"})
        if fleet.is_ready:
            self._without = now
        if now - self._without <= NODES_S:
            return False
        reason = f": {fleet.problem}" if fleet.problem else ""
        self._tell({"event": "lost", "reason": f"no worker for {NODES_S:.0f} s{reason}"})
        return True

    def _remark(self, text: str) -> None:
        self._tell({"event": "note", "text": text})

    def _tell(self, event: Mapping[str, object]) -> None:
        self._say(json.dumps(event) + "\n")

    def _say(self, line: str) -> None:
        self._events.write(line)
        self._events.flush()
        self._beat = monotonic()


def _look() -> Machine:
    return this_machine()


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _reach(address: str) -> None:
    """Raises where nothing listens at `host:port`; Ray itself tries for a quarter of an hour. Other addresses pass."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
    except (OSError, OverflowError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise LgBenchError(
            f"nothing answers at {address} ({reason}); start the head, or correct --ray-address or RAY_ADDRESS"
        ) from error


def main(worker: type[RayWorker] = RayWorker) -> int:
    """Connects, serves the runner, and leaves; returns the exit code.

    Args:
        worker: what runs on the nodes.
    """
    settings = ClusterSettings.from_json(sys.argv[1])
    # Ray prints to standard output now and then: keep the protocol's stream to ourselves.
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    # What is run where is nobody else's affair.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    try:
        Driver(ray, settings, sys.stdin, events, worker).run()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
