"""`lgbench doctor`: what it finds, what it calls a problem, and that no failing part takes the others with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from click.testing import CliRunner

from harness.cli import doctor as module
from harness.cli.doctor import Diagnosis, Engine, TorchBuild, describe, diagnose, doctor, problems
from harness.workflow.device import Machine

CPU = Machine(gpus=(), torch_cuda=None, cores=2)
GPU = Machine(gpus=("NVIDIA H100",), torch_cuda="13.0", cores=16)
CPU_TORCH = TorchBuild("2.13.0+cpu", "CPU", (), 2)
CUDA_TORCH = TorchBuild("2.13.0", "CUDA 13.0", ("NVIDIA H100",), 16)
PACKAGES: dict[str, str | None] = {"torch": "2.13.0", "numpy": "2.4.6", "ray": None}
DATA = {"cifar10": "embedded", "mnist": "embedded"}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine is asked and no GPU is looked for."""
    monkeypatch.setattr(module, "_engine", lambda: Engine(None, "no engine in this test"))
    monkeypatch.setattr(module, "this_machine", lambda: CPU)
    monkeypatch.delenv("LGBENCH_DATA", raising=False)


@pytest.mark.parametrize(
    ("machine", "torch", "word"),
    [
        (CPU, CPU_TORCH, None),
        (GPU, CUDA_TORCH, None),
        (GPU, CPU_TORCH, "CPU build"),
        (GPU, replace(CUDA_TORCH, gpus=()), "driver"),
        (CPU, TorchBuild(None, "", (), 0, "no such library"), "no such library"),
    ],
)
def test_problems_of_torch_and_device(machine: Machine, torch: TorchBuild, word: str | None) -> None:
    found = problems(machine, torch, PACKAGES, DATA)
    assert len(found) == (0 if word is None else 1)
    assert word is None or word in found[0]


def test_a_missing_package_is_a_problem_unless_it_is_optional() -> None:
    (line,) = problems(CPU, CPU_TORCH, {**PACKAGES, "onnx": None}, DATA)
    assert "onnx " in line
    assert "run_benchmark.sh" in line


def test_a_data_folder_is_a_problem_only_where_it_holds_nothing() -> None:
    assert not problems(CPU, CPU_TORCH, PACKAGES, {"cifar10": "full", "mnist": "/d: no MNIST"})
    found = problems(CPU, CPU_TORCH, PACKAGES, {"cifar10": "/d: no CIFAR-10", "mnist": "/d: no MNIST"})
    assert found == ["/d: no CIFAR-10", "/d: no MNIST"]


@pytest.mark.usefixtures("alone")
def test_this_machine_can_do_the_main_job() -> None:
    found = diagnose(None)
    assert found.torch.version == found.packages["torch"]
    assert found.device == "cpu"
    assert found.cores == 2
    assert 0 < found.memory_free_gib <= found.memory_gib
    assert "cifar10_cnnb" in found.benchmarks
    assert found.problems == []


@pytest.mark.usefixtures("alone")
def test_json_is_the_diagnosis() -> None:
    done = CliRunner().invoke(doctor, ["--json"], standalone_mode=False)
    document = json.loads(done.stdout)
    assert done.return_value == 0
    assert document["schema"] == 1
    assert set(document) == set(Diagnosis.__dataclass_fields__)


@pytest.mark.usefixtures("alone")
def test_data_folder_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LGBENCH_DATA", str(tmp_path))
    done = CliRunner().invoke(doctor, [], standalone_mode=False)
    assert f"data       {tmp_path}: " in done.stdout
    assert "problem    " in done.stdout


@pytest.mark.usefixtures("alone")
def test_without_torch_the_exit_code_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "torch_build", lambda: TorchBuild(None, "", (), 0, "libgomp.so.1 is missing"))
    done = CliRunner().invoke(doctor, [], standalone_mode=False)
    assert done.return_value == 1
    assert "libgomp.so.1 is missing" in done.stdout


@pytest.mark.usefixtures("alone")
def test_an_unreachable_engine_is_said_and_is_no_problem() -> None:
    lines = describe(diagnose(None))
    assert "docker     no engine (no engine in this test); only --tool docker:IMAGE needs one" in lines
    assert lines[-1] == "no problems found"


def test_an_engine_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise docker.errors.DockerException("Connection aborted.\n  No such file")

    monkeypatch.setattr(docker, "from_env", refuse)
    assert module._engine() == Engine(None, "Connection aborted. No such file")


def test_of_an_engine_that_is_not_there_the_systems_words_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        inner = RuntimeError("Connection aborted.", FileNotFoundError(2, "No such file or directory"))
        raise docker.errors.DockerException(f"Error while fetching: {inner.args}") from OSError(inner)

    monkeypatch.setattr(docker, "from_env", refuse)
    assert module._engine() == Engine(None, "No such file or directory")
