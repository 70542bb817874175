"""Images as verifiers on a real engine: our own, and one that misbehaves as it is told."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.domain import Instance, Job, Limits, ToolAnswer, UsageError, Verdict
from harness.judging.judge import Judge
from harness.tools import script, toy_networks
from harness.tools.conformance import check_tool, conforms
from harness.tools.docker_tool import DockerTool
from harness.tools.supervise import ToolBounds

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[2]
DUMMY = "lg-bench-test-dummy"
DOCKERFILE = """
FROM {image}
COPY dummy /somewhere/else
COPY told.json /told.json
ENV LGBENCH_DUMMY=/told.json
LABEL lgbench.scripts=/somewhere/else
"""


def built(context: Path, image: str, told: dict[str, Any]) -> str:
    """Builds an image whose verifier answers what it is told."""
    context.mkdir()
    subprocess.run(["cp", "-r", str(ROOT / "adapters" / "dummy"), str(context / "dummy")], check=True)
    (context / "told.json").write_text(json.dumps(told))
    (context / "Dockerfile").write_text(DOCKERFILE.format(image=image))
    subprocess.run(["docker", "build", "--quiet", "--tag", DUMMY, str(context)], check=True, capture_output=True)
    return DUMMY


@pytest.fixture(scope="session", autouse=True)
def _cleaned() -> Iterator[None]:
    yield
    subprocess.run(["docker", "rmi", "--force", DUMMY], check=False, capture_output=True)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    network, prop = tmp_path / "net.onnx", tmp_path / "p.vnnlib"
    network.write_bytes(toy_networks.absolute_sum())
    prop.write_text(toy_networks.prop(2, 2, [(toy_networks.box([(0.5, 1.0)] * 2), toy_networks.at_least(1.4))]))
    return Job("k" * 64, Instance(network, prop, 60.0, "onnx/net.onnx", "vnnlib/p.vnnlib"), "net", 0, Limits(60.0))


def answer(tool: DockerTool, job: Job) -> ToolAnswer:
    ((_, said),) = tool.decide([job])
    return said


def containers() -> str:
    command = ["docker", "ps", "--all", "--quiet", "--filter", "label=lgbench.instance"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_our_own_image_conforms(image: str, tmp_path: Path) -> None:
    tool = DockerTool(image, tmp_path / "logs", bounds=ToolBounds(memory_gib=8, cores=2))
    outcomes = list(check_tool(tool, Judge().judge, tmp_path, 120.0))
    assert conforms(outcomes), [(one.case.name, one.status, one.message) for one in outcomes]
    assert containers() == ""


def test_a_counterexample_comes_out(image: str, tmp_path: Path, job: Job) -> None:
    tool = DockerTool(built(tmp_path / "c", image, {"verdict": "sat", "witness": "center"}), tmp_path / "logs")
    assert Judge().judge(job, answer(tool, job)).verdict is Verdict.SAT


@pytest.mark.parametrize(
    ("told", "verdict", "reason"),
    [
        ({"nothing": True}, Verdict.ERROR, "no result file was written"),
        ({"garbage": "what?"}, Verdict.ERROR, "'what?' is no result word"),
        ({"exit": 9, "print": "it broke"}, Verdict.ERROR, "run_instance.sh: exit status 9: it broke"),
        ({"memory_mib": 400, "delay": 30}, Verdict.ERROR, "run_instance.sh was killed: it used 0.10 GiB of memory"),
    ],
)
def test_failures_inside(
    image: str, tmp_path: Path, job: Job, told: dict[str, Any], verdict: Verdict, reason: str
) -> None:
    tool = DockerTool(built(tmp_path / "c", image, told), tmp_path / "logs", bounds=ToolBounds(memory_gib=0.1))
    said = answer(tool, job)
    assert (said.verdict, said.message) == (verdict, reason)
    assert containers() == ""


def test_one_that_ignores_the_limit_and_term_is_killed(
    image: str, tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.tools.docker_tool.GRACE_S", 0.5)
    told = {"verdict": "unsat", "delay": 600, "ignore_term": True, "fork": 600}
    tool = DockerTool(built(tmp_path / "c", image, told), tmp_path / "logs")
    short = Job(job.key, job.instance, job.variant, job.index, Limits(1.0))
    said = answer(tool, short)
    assert said.verdict is Verdict.TIMEOUT
    assert f"{script.RUN} did not end" in said.message
    assert containers() == ""


def test_there_is_no_network_and_inputs_are_read_only(image: str, tmp_path: Path, job: Job) -> None:
    context = tmp_path / "c"
    context.mkdir()
    look = 'ls /sys/class/net; touch "$4" || echo locked; echo unsat > "$5"\n'
    (context / "run_instance.sh").write_text(look)
    (context / "prepare_instance.sh").write_text("")
    (context / "Dockerfile").write_text(f"FROM {image}\nCOPY *.sh /vnncomp_scripts/\n")
    subprocess.run(["docker", "build", "--quiet", "--tag", DUMMY, str(context)], check=True, capture_output=True)
    assert answer(DockerTool(DUMMY, tmp_path / "logs"), job).verdict is Verdict.UNSAT
    (log,) = (tmp_path / "logs").rglob("*.log")
    lines = log.read_text().split("\n")
    assert lines[0] == "lo"
    assert "locked" in lines


def test_an_image_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such image"):
        DockerTool("lg-bench-no-such-image", tmp_path).identity()
