"""A worker as Ray would run it, without Ray: what it says of a chunk."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.domain import Instance, Job, Limits, ToolAnswer, Verdict
from harness.files import sha256_bytes
from harness.run.cluster_protocol import RemoteTool
from harness.run.ray_worker import RayWorker, Said
from harness.tools.contract import Tool
from harness.tools.dummy import DummyTool
from harness.tools.registry import ToolOptions

DUMMY = DummyTool(lambda _job: ToolAnswer(Verdict.UNSAT, 0.1, 0.1))
LIMITS = Limits(20.0)


class Worker(RayWorker):
    """Has a dummy for a tool."""

    def make(self, name: str, options: ToolOptions) -> Tool:
        return DUMMY


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda data: data))
    made = Worker(RemoteTool("dummy", ToolOptions(Path()), DUMMY.identity(), batched=True).to_json(), 1)
    assert made.ready()["problem"] == ""
    return made


def job(key: str, network: bytes, prop: bytes) -> Job:
    instance = Instance(Path("n.onnx"), Path(f"{key}.vnnlib"), 20.0)
    return Job(key, instance, "n", 0, LIMITS, sha256_bytes(network), sha256_bytes(prop))


def test_a_file_that_the_driver_could_not_read_costs_its_job_alone(worker: Worker) -> None:
    files = {sha256_bytes(data): data for data in (b"network", b"first", b"third")}
    jobs = [job("1", b"network", b"first"), job("2", b"network", b"gone"), job("3", b"network", b"third")]
    said = [one for part in worker.decide(jobs, files) for one in part if isinstance(one, Said)]
    assert {one.key: one.verdict for one in said} == {"1": "unsat", "2": "error", "3": "unsat"}
    assert "cannot be read where the run is" in next(one.line for one in said if one.key == "2")
