"""The image on a real engine: the main job without a network, any user, the volume, and `docker stop`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from containers import docker

pytestmark = pytest.mark.docker

COMPILED = """
import importlib, pkgutil
from harness.verifier import kernels
from harness.verifier.api import warm_up

warm_up()
modules = [importlib.import_module(f"{kernels.__name__}.{m.name}") for m in pkgutil.iter_modules(kernels.__path__)]
found = {value for module in modules for value in vars(module).values() if hasattr(value, "py_func")}
print(*(sum(sum(getattr(value.stats, kind).values()) for value in found) for kind in ("cache_misses", "cache_hits")))
"""
"""Prints how many functions were compiled and how many loaded."""
SETS = ("SK", "AT", "VS", "VF")
ANYONE = "54321:54321"


def test_the_main_job_as_any_user_without_a_network(image: str, results: Path) -> None:
    done = docker(
        "run", "--rm", "--network", "none", "--user", ANYONE, "--volume", f"{results}:/results",
        image, "cifar10_cnnb", "--inputs", "5", "--timeout", "5",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CPU" in done.stdout + done.stderr
    (summary,) = results.glob("*/summary.json")
    variants = json.loads(summary.read_text())["variants"]
    assert len(variants) >= 3
    for name, row in variants.items():
        assert sum(row["sets"][one] for one in SETS) == 5, name
        assert row["errors"] == 0, name
    assert (summary.parent / "report.html").stat().st_size > 0


def test_no_user_is_root_by_default(image: str) -> None:
    assert docker("run", "--rm", image, "sh", "-c", "id -u").stdout.strip() not in ("", "0")


@pytest.mark.parametrize("user", ["1000", ANYONE, "0:0"])
def test_every_user_can_write_results_and_caches(image: str, user: str) -> None:
    script = (
        'touch /results/x && mkdir -p "$MPLCONFIGDIR" "$NUMBA_CACHE_DIR" && python -c "import matplotlib.pyplot, numba"'
    )
    done = docker("run", "--rm", "--user", user, image, "sh", "-c", script)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "options",
    [("--user", ANYONE), ("--user", "0:0"), ("--read-only", "--tmpfs", "/tmp"), ("--env", "NUMBA_CACHE_DIR=/tmp/mine")],
    ids=["any user", "root", "read-only", "a folder of the user's"],
)
def test_the_image_holds_all_compiled_code(image: str, options: tuple[str, ...]) -> None:
    done = docker("run", "--rm", "--network", "none", *options, image, "python", "-c", COMPILED)
    assert done.returncode == 0, done.stderr
    compiled, loaded = map(int, done.stdout.split())
    assert compiled == 0
    assert loaded > 20


def test_doctor_names_build_and_device(image: str) -> None:
    done = docker("run", "--rm", "--network", "none", image, "lgbench", "doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["torch"]["build"]
    assert found["device"] == "cpu"
    assert found["lg_bench"]
    assert set(found["benchmarks"]) >= {"cifar10_cnnb"}


def test_usage_errors_keep_their_exit_code(image: str) -> None:
    done = docker("run", "--rm", image, "no_such_benchmark")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "cifar10_cnnb" in done.stderr


def test_stop_ends_a_run_which_can_then_be_resumed(image: str, results: Path, container: str) -> None:
    job = ("cifar10_cnnb", "--inputs", "3", "--timeout", "5", "--variants", "baseline", "--out", "/results/stopped")
    volume = ("--network", "none", "--volume", f"{results}:/results")
    started = docker("run", "--detach", "--name", container, *volume, image, *job)
    assert started.returncode == 0, started.stderr
    _wait_for(results / "stopped" / "results.db")
    assert docker("stop", "--time", "30", container).returncode == 0
    state = json.loads(docker("inspect", "--format", "{{json .State}}", container).stdout)
    assert state["ExitCode"] in (0, 1), "killed, or ended in a traceback"
    done = docker("run", "--rm", *volume, image, *job, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (results / "stopped" / "summary.json").exists()


def _wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)
    pytest.fail(f"{path.name} did not appear")
