"""The runner's side of a cluster, against drivers of a few lines: no Ray is needed here."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import numpy as np
import pytest

from harness.domain import Counterexample, Job, Limits, Stage, ToolAnswer, UsageError, Verdict
from harness.run import cluster
from harness.run.cluster import RayCluster
from harness.run.cluster_protocol import (
    ClusterOffer,
    ClusterSettings,
    RemoteTool,
    decode_job,
    decode_said,
    encode_job,
    encode_said,
)
from harness.run.dispatch import ChunkSizes
from harness.run.executors import ExecutorLostError
from harness.run.machine import Machine
from harness.run.ray_driver import Driver
from harness.tools.dummy import DummyTool
from harness.tools.registry import ToolOptions
from harness.tools.supervise import ToolBounds

MakeJob = Callable[..., Job]
ROOT = Path(__file__).resolve().parents[2]
OFFER = ClusterOffer(Machine(("H100",), "12.8", 4), nodes=2, workers=3)
TOOL = RemoteTool("builtin", ToolOptions(Path("logs")), "identity", batched=True)

DRIVER = """
import json, sys
def tell(**event): print(json.dumps(event), flush=True)
def hear(): return json.loads(sys.stdin.readline())
tell(event="cluster", **json.loads(%r))
tool = hear()
"""


@pytest.fixture(autouse=True)
def _ray_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "has_ray", lambda: True)


def driver(body: str, start: str = DRIVER % json.dumps(OFFER.to_json())) -> Sequence[str]:
    return sys.executable, "-c", start + dedent(body)


def tool() -> DummyTool:
    return DummyTool(lambda _job: ToolAnswer(Verdict.UNKNOWN, 0, 0))


def connect(body: str) -> RayCluster:
    return RayCluster(ClusterSettings(), command=driver(body))


def test_a_job_and_an_answer_survive_the_way(make_job: MakeJob) -> None:
    job = make_job("k", variant="v", index=3, limits=Limits(20.0, "wall", 7))
    back = decode_job(encode_job(job))
    assert back.instance.network == job.instance.network.absolute()
    assert (back.key, back.variant, back.index, back.limits) == ("k", "v", 3, job.limits)
    assert (back.network_sha256, back.property_sha256) == (job.network_sha256, job.property_sha256)
    assert (back.instance.network_name, back.instance.property_name) == ("onnx/v.onnx", "vnnlib/k.vnnlib")
    witness = Counterexample(np.array([0.5], np.float32))
    said = ToolAnswer(Verdict.SAT, 2.0, 1.0, Stage.ATTACK, witness, "why", witness_text="((X_0 0.5))")
    key, answer = decode_said(json.loads(json.dumps(encode_said("k", said))))
    assert (key, answer.verdict, answer.stage, answer.message) == ("k", Verdict.SAT, Stage.ATTACK, "why")
    assert answer.witness_text == "((X_0 0.5))"
    assert answer.counterexample is not None
    assert answer.counterexample.x.tolist() == [0.5]


def test_a_tool_survives_the_way() -> None:
    options = ToolOptions(
        Path("logs"), device="cuda", seed=4, category="mnist", folder=Path("/scripts"), bounds=ToolBounds(2.0, 3, 4.0)
    )
    back = RemoteTool.from_json(
        json.loads(json.dumps(RemoteTool("mine", options, "id", batched=False, jobs=7).to_json()))
    )
    assert (back.name, back.identity, back.batched, back.jobs) == ("mine", "id", False, 7)
    for name in ("device", "seed", "category", "folder", "bounds"):
        assert getattr(back.options, name) == getattr(options, name)


@pytest.mark.parametrize(
    ("settings", "batched", "device", "sizes"),
    [
        (ClusterSettings(), True, "cpu", ChunkSizes(2, 32)),
        (ClusterSettings(), True, "cuda", ChunkSizes(8, 256)),
        (ClusterSettings(), False, "cpu", ChunkSizes(1, 8)),
        (ClusterSettings(chunk=1), True, "cuda", ChunkSizes(1, 1)),
        (ClusterSettings(chunk=500), True, "cpu", ChunkSizes(2, 500)),
    ],
)
def test_chunks_suit_the_device(settings: ClusterSettings, batched: bool, device: str, sizes: ChunkSizes) -> None:
    assert settings.chunk_sizes(batched=batched, device=device) == sizes


def test_answers_come_through_and_the_log_is_kept(make_job: MakeJob, tmp_path: Path) -> None:
    jobs, notes = [make_job(key) for key in "ab"], list[str]()
    said = [encode_said(job.key, ToolAnswer(Verdict.UNSAT, 1.0, 1.0, Stage.BAB)) for job in jobs]
    body = f"""
        tell(event="ready", workers=1)
        count = hear()["jobs"]
        keys = [hear()["key"] for _ in range(count)]
        assert keys == ["a", "b"] and tool["identity"] == "identity"
        said = json.loads({json.dumps(said)!r})
        tell(event="note", text="a node is not used")
        tell(event="progress", key="a", stage="bab", domains=9)
        tell(**said[1]); tell(**said[1]); tell(**said[0])
        print("what Ray says", file=sys.stderr)
        tell(event="done"); sys.stdin.read()
    """
    progress = []
    with connect(body) as found:
        assert found.offer == OFFER
        found.prepare(TOOL, log_dir=tmp_path / "logs", on_progress=progress.append, on_note=notes.append)
        answers = list(found.answers(jobs, tool()))
    assert [(one.job, one.answer.verdict) for one in answers] == [(jobs[1], Verdict.UNSAT), (jobs[0], Verdict.UNSAT)]
    assert [(one.key, one.stage, one.domains) for one in progress] == [("a", "bab", 9)]
    assert notes == ["a node is not used"]
    assert "what Ray says" in (tmp_path / "logs/ray.log").read_text()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("tell(event='lost', reason='no worker')", "no worker"),
        ("tell(event='done')", "left jobs out"),
        ("print('GCS is gone', file=sys.stderr); sys.exit(7)", "exit status 7: GCS is gone"),
    ],
)
def test_a_cluster_that_is_lost_ends_the_run_resumably(
    make_job: MakeJob, tmp_path: Path, body: str, reason: str
) -> None:
    with connect(f"tell(event='ready', workers=1); hear(); {body}; sys.stdin.read()") as found:
        found.prepare(TOOL, log_dir=tmp_path)
        with pytest.raises(ExecutorLostError, match=reason):
            list(found.answers([make_job("a")], tool()))


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ('print(\'{"event": "refused", "reason": "no node has 8 cores"}\')', "no node has 8 cores"),
        ("raise SystemExit('cannot reach 10.0.0.1:6379')", "cannot reach 10.0.0.1:6379"),
    ],
)
def test_a_cluster_that_cannot_be_had_is_a_usage_error(start: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"--executor ray: .*{reason}"):
        RayCluster(ClusterSettings(), command=driver("", start))


def test_nodes_that_cannot_run_the_tool_are_a_usage_error(tmp_path: Path) -> None:
    with (
        connect("tell(event='refused', reason='n1: has another builtin'); sys.stdin.read()") as found,
        pytest.raises(UsageError, match="n1: has another builtin"),
    ):
        found.prepare(TOOL, log_dir=tmp_path / "run/logs")
    assert not (tmp_path / "run").exists()


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "has_ray", lambda: False)
    with pytest.raises(UsageError, match=r"constraints.txt -e '.\[ray\]'"):
        RayCluster(ClusterSettings())


@pytest.mark.parametrize("named", ["option", "variable"])
def test_a_head_that_is_not_there_is_refused_before_ray_tries(named: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environ = {"RAY_ADDRESS": address} if named == "variable" else {}
    ray = SimpleNamespace(exceptions=SimpleNamespace(RayError=KeyError))  # without `init`
    events = io.StringIO()
    settings = ClusterSettings(address if named == "option" else None)
    Driver(ray, settings, io.StringIO(), events, environ=environ).run()
    said = json.loads(events.getvalue())
    assert said["event"] == "refused"
    assert f"nothing answers at {address} (Connection refused); start the head" in said["reason"]


def test_nothing_needs_ray_but_its_driver() -> None:
    modules = "workflow.benchmark", "workflow.instances", "run.cluster", "run.ray_driver", "run.ray_fleet", "cli.run"
    imports = "; ".join(f"import harness.{name}" for name in modules)
    code = f"import sys; sys.modules['ray'] = None; {imports}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--job-cores", "2"], "--job-cores is for --executor ray"),
        (["--chunk", "2"], "--chunk is for --executor ray"),
        (["--ray-address", "h:1", "--executor", "local"], "--ray-address is for --executor ray"),
        (["--executor", "slurm"], "Invalid value for '--executor'"),
    ],
)
def test_options_that_make_no_sense_are_refused_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], complaint: str
) -> None:
    from harness.cli.main import main

    rows = tmp_path / "instances.csv"
    rows.write_text("a.onnx,b.vnnlib,5\n")
    assert main(["run", "--instances", str(rows), "--out", str(tmp_path / "out"), *words]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be chosen here")
def test_workers_of_a_node_claim_different_cores(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core cannot be shared out")
    code = (
        "import os, sys; from pathlib import Path; from harness.run.ray_worker import claim_cores\n"
        "held = claim_cores(Path(sys.argv[1]), 1); print(*os.sched_getaffinity(0), flush=True); sys.stdin.read()"
    )
    taken = []
    started = []
    for _ in range(3):
        one = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "cores")], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert one.stdout is not None
        started.append(one)
        taken.append(one.stdout.readline().split())
        if len(started) == 2:
            started[0].communicate()
    for one in started[1:]:
        one.communicate()
    assert [len(cores) for cores in taken] == [1, 1, 1]
    assert taken[0] != taken[1]
    assert taken[2] == taken[0], "a claim ends with its process"
