"""The image with nothing that it does not need: read-only, no root, no capabilities, no network, few processes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from containers import docker

pytestmark = pytest.mark.docker

LOCKED = (
    "--read-only", "--tmpfs", "/tmp", "--user", "54321:54321", "--cap-drop", "ALL", "--network", "none",
    "--security-opt", "no-new-privileges", "--pids-limit", "256", "--memory", "8g",
)  # fmt: skip
JOB = ("cifar10_cnnb", "--inputs", "4", "--timeout", "600", "--max-domains", "64", "--variants", "baseline,grafted_min")
LARGEST = 3 * 2**30
"""Bytes of the image with torch for the CPU; with CUDA it is several times that."""
LOOK = """
import os, pathlib, socket
lines = pathlib.Path("/proc/self/status").read_text().splitlines()
status = dict(line.split(":\\t", 1) for line in lines if ":\\t" in line)
assert os.getuid() == 54321
assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}, status
assert status["NoNewPrivs"].strip() == "1"
assert os.listdir("/sys/class/net") == ["lo"]
for place in ("/", "/app", "/opt/numba", "/usr/bin", "/vnncomp_scripts"):
    try:
        pathlib.Path(place, "x").touch()
    except OSError:
        continue
    raise AssertionError(place)
pathlib.Path("/tmp/x").touch()
pathlib.Path("/results/x").touch()
"""

FILL = """
import json, sys
from pathlib import Path
from harness.tools import tree
from harness.tools.supervise import Step, supervise
fill = "kept = []\\nwhile True: kept.append(bytearray(b'x') * 2**20)"
(report,) = supervise([Step([sys.executable, "-c", fill], 600.0, Path("/tmp"))], Path("/tmp/log"))
print(json.dumps([report.stopped, report.peak_bytes, tree.total_bytes()]))
"""
"""A tool without a limit of its own takes all memory that there is."""
SMALL = 2 * 2**30


def sets(folder: Path) -> dict[str, dict[str, int]]:
    summary = json.loads((folder / "summary.json").read_text())
    return {name: block["sets"] for name, block in summary["variants"].items()}


def test_only_results_and_tmp_can_be_written(image: str, results: Path) -> None:
    done = docker("run", "--rm", *LOCKED, "--volume", f"{results}:/results", image, "python", "-c", LOOK)
    assert done.returncode == 0, done.stderr


def test_the_image_is_no_larger_than_stated(image: str) -> None:
    assert int(docker("image", "inspect", "--format", "{{.Size}}", image).stdout) < LARGEST


def test_a_tool_is_ended_before_the_machine_has_no_memory_left(image: str) -> None:
    """A container's memory stands for a machine's; beyond it the kernel would end something, whatever it is."""
    memory = ("--memory", str(SMALL), "--memory-swap", str(SMALL))
    done = docker("run", "--rm", *LOCKED, *memory, image, "python", "-c", FILL)
    assert done.returncode == 0, done.stderr
    stopped, peak, total = json.loads(done.stdout)
    assert (stopped, total) == ("host", SMALL)
    assert SMALL / 2 < peak < SMALL


def test_a_stopped_run_is_resumed_to_the_results_of_an_uninterrupted_one(
    image: str, results: Path, container: str
) -> None:
    """`docker stop` once the first result is stored; the report then names the versions of what the image carries."""
    volume = ("--volume", f"{results}:/results")
    whole = docker("run", "--rm", *LOCKED, *volume, image, *JOB, "--out", "/results/whole", timeout=900)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    out = ("--out", "/results/stopped")
    started = docker("run", "--detach", "--name", container, *LOCKED, *volume, image, *JOB, *out)
    assert started.returncode == 0, started.stderr
    for _ in range(3000):
        if (results / "stopped" / "results.db").exists():
            break
        time.sleep(0.1)
    assert docker("stop", "--time", "60", container).returncode == 0
    state = json.loads(docker("inspect", "--format", "{{json .State}}", container).stdout)
    assert state["ExitCode"] in (0, 1), "killed, or ended in a traceback"
    resumed = docker("run", "--rm", *LOCKED, *volume, image, *JOB, *out, "--resume", timeout=900)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert sets(results / "stopped") == sets(results / "whole")
    provenance = json.loads((results / "whole" / "summary.json").read_text())["provenance"]
    page = (results / "whole" / "report.html").read_text()
    assert "numpy" in provenance["packages"]
    assert provenance["packages"] in page
    assert provenance["system"] in page
