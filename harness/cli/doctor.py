"""`lgbench doctor`: what this machine and this installation offer, and what to do about what is missing."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from harness.config import find_spec, known_benchmarks
from harness.data.datasets import DATASETS, load_images
from harness.domain import UsageError
from harness.tools.docker_tool import engine_reason
from harness.workflow.device import Machine, choose_device, this_machine

SCHEMA = 1
PACKAGES = (
    "torch", "numpy", "onnx", "onnxruntime", "numba", "onnx2pytorch", "vnnlib", "pydantic", "pandas", "matplotlib",
    "plotly", "docker", "ray",
)  # fmt: skip
OPTIONAL = frozenset({"ray"})
GIB = 2**30


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """The installed torch, tried by importing it."""

    version: str | None
    """None where it cannot be imported."""
    build: str
    """`CPU`, `CUDA 13.0`, `ROCm 7.0`; empty where torch cannot be imported."""
    gpus: tuple[str, ...]
    """The devices that torch itself can use."""
    threads: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Engine:
    """The Docker engine that this user can reach."""

    version: str | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that `lgbench doctor` says; with `--json` these fields are the document."""

    schema: int
    lg_bench: str | None
    python: str
    system: str
    packages: dict[str, str | None]
    """Name to version; None where it is not installed."""
    torch: TorchBuild
    device: str
    """What `--device auto` runs on: `cpu` or `cuda`."""
    device_words: str
    cores: int
    """Cores that this process may use."""
    memory_gib: float
    memory_free_gib: float
    numba: str
    """Version that compiles here, or why it does not."""
    data_folder: str | None
    datasets: dict[str, str]
    """Data set to `full` (in the data folder), `embedded` (no folder is named: the shipped samples) or why not."""
    docker: Engine
    benchmarks: dict[str, list[str]]
    """Benchmark to those of its networks that are here."""
    problems: list[str]
    """One line each: what does not work and what to do. Empty on a machine where everything does."""


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="LGBENCH_DATA", help="Folder with full data sets.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def doctor(data: Path | None, as_json: bool) -> int:
    """Say what this machine offers, and what to do about what is missing.

    Exit code 1 where the main job cannot run here.
    """
    found = diagnose(data)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        for line in describe(found):
            click.echo(line)
    return 0 if found.torch.version and not _missing(found.packages) else 1


def diagnose(data: Path | None) -> Diagnosis:
    """Returns what is found on this machine; nothing is changed and no failure of a part raises.

    Args:
        data: the folder of full data sets; None where none is named.
    """
    import psutil

    machine, torch, numba = this_machine(), torch_build(), _numba()
    memory = psutil.virtual_memory()
    packages = {name: _version(name) for name in PACKAGES}
    datasets = {name: _dataset(name, data) for name in DATASETS}
    benchmarks, broken = _benchmarks()
    device = choose_device("auto", machine)
    return Diagnosis(
        schema=SCHEMA,
        lg_bench=_version("lg-bench"),
        python=platform.python_version(),
        system=platform.platform(),
        packages=packages,
        torch=torch,
        device=device.name,
        device_words=device.words,
        cores=machine.cores,
        memory_gib=round(memory.total / GIB, 1),
        memory_free_gib=round(memory.available / GIB, 1),
        numba=numba,
        data_folder=None if data is None else str(data),
        datasets=datasets,
        docker=_engine(),
        benchmarks=benchmarks,
        problems=[*problems(machine, torch, packages, datasets), *broken],
    )


def problems(
    machine: Machine, torch: TorchBuild, packages: dict[str, str | None], datasets: dict[str, str]
) -> list[str]:
    """Returns one line for each thing that does not work, with what to do about it."""
    install = "start ./run_benchmark.sh, which installs it"
    found = [f"the package {name} is not installed; {install}" for name in _missing(packages)]
    if torch.version is None:
        found.append(f"torch cannot be imported ({torch.error}); {install}")
    elif machine.gpus and torch.build == "CPU":
        found.append("a GPU is here but torch is a CPU build; install the CUDA build of the same version")
    elif machine.gpus and not torch.gpus:
        found.append(f"torch ({torch.build}) cannot use the GPU; update the driver to one of that CUDA version")
    # A folder may hold the one data set that is wanted; one that holds none is a mistake.
    if datasets and not set(datasets.values()) & {"full", "embedded"}:
        found += datasets.values()
    return found


def describe(found: Diagnosis) -> list[str]:
    """Returns the lines that `lgbench doctor` prints for people."""
    torch = f"{found.torch.version} ({found.torch.build} build, {found.torch.threads} threads)"
    shown = {name: number for name, number in found.packages.items() if name != "torch"}
    lines = [
        f"lg-bench   {found.lg_bench or 'not installed'}, Python {found.python}, {found.system}",
        f"torch      {torch if found.torch.version else 'none'}",
        f"device     {found.device_words}",
        f"memory     {found.memory_free_gib:g} of {found.memory_gib:g} GiB free",
        f"numba      {found.numba}",
        f"packages   {_pairs((name, number or '(none)') for name, number in shown.items())}",
        f"data       {found.data_folder or 'no folder named (LGBENCH_DATA)'}: {_pairs(found.datasets.items())}",
        f"docker     {found.docker.version or f'no engine ({found.docker.error}); only --tool docker:IMAGE needs one'}",
    ]
    lines += [f"benchmark  {name}: {', '.join(here) or 'no networks'}" for name, here in found.benchmarks.items()]
    lines += [f"problem    {problem}" for problem in found.problems] or ["no problems found"]
    return lines


def torch_build() -> TorchBuild:
    """Returns what the installed torch is and can use, found by importing it."""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library that torch is linked with is missing
        return TorchBuild(None, "", (), 0, _line(error))
    if torch.version.cuda:
        build = f"CUDA {torch.version.cuda}"
    else:
        build = f"ROCm {torch.version.hip}" if torch.version.hip else "CPU"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = tuple(torch.cuda.get_device_name(ordinal) for ordinal in range(count))
    return TorchBuild(str(torch.__version__), build, names, torch.get_num_threads())


def _numba() -> str:
    try:
        import numba
    except (ImportError, OSError) as error:
        return f"none ({_line(error)})"
    return str(numba.__version__)


def _engine() -> Engine:
    try:
        import docker
    except ImportError as error:
        return Engine(None, _line(error))
    try:
        client = docker.from_env(timeout=5)
        try:
            return Engine(str(client.version()["Version"]))
        finally:
            client.close()
    except (docker.errors.DockerException, OSError) as error:
        return Engine(None, engine_reason(error))


def _dataset(name: str, root: Path | None) -> str:
    if root is None:
        return "embedded"
    try:
        load_images(name, "test", root, 1)
    except UsageError as error:
        return _line(error)
    return "full"


def _benchmarks() -> tuple[dict[str, list[str]], list[str]]:
    found: dict[str, list[str]] = {}
    broken: list[str] = []
    for name in known_benchmarks():
        try:
            spec = find_spec(name)
        except UsageError as error:
            broken.append(_line(error))
            continue
        found[name] = [variant for variant in spec.variant_names if spec.network_path(variant).is_file()]
    return found, broken


def _missing(packages: dict[str, str | None]) -> list[str]:
    return [name for name, number in packages.items() if number is None and name not in OPTIONAL]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _pairs(items: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {state}" for name, state in items)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(doctor())
