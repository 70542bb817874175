"""What each room may import, shown on the running interpreter and by import-linter's contracts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "pandas", "plotly", "matplotlib", "numba", "onnxruntime", "docker")

# Chosen at run time where their library is installed; nothing else may need them.
KERNELS = (
    "jit lanes tiles passes domains stack search alpha boxes boxes_climb boxes_clip boxes_lanes boxes_network"
    " boxes_search"
)
ENGINES = "sparse_bounds sparse_fold sparse_root tiling compiled_search team_search refine"
OPTIONAL = [
    *(f"harness.verifier.kernels.{name}" for name in KERNELS.split()),
    *(f"harness.verifier.{name}" for name in ENGINES.split()),
]

LEAN_PROBE = """
import importlib, pkgutil, sys

BLOCKED = set(sys.argv[2].split(","))
OPTIONAL = set(sys.argv[3:])
sys.modules.update(dict.fromkeys(BLOCKED))
room = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
    if not module.name.endswith(".__main__") and module.name not in OPTIONAL:
        importlib.import_module(module.name)
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def imported_by(statement: str) -> set[str]:
    """Returns the top-level modules that are loaded after a statement in a fresh interpreter."""
    done = python("-c", f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))")
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_the_command_starts_without_heavy_libraries() -> None:
    assert not imported_by("import harness.cli.main") & {*HEAVY, "pydantic", "rich", "yaml"}


def test_help_imports_no_command() -> None:
    loaded = imported_by("from harness.cli.main import main; main(['--help'])")
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("room", ["verifier", "networks", "training", "grafting", "formats", "data"])
def test_the_core_imports_where_little_is_installed(room: str) -> None:
    blocked = "click,docker,jinja2,matplotlib,numba,onnx2pytorch,pandas,plotly,psutil,pydantic,ray,rich,vnnlib,yaml"
    done = python("-c", LEAN_PROBE, f"harness.{room}", blocked, *OPTIONAL)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", ["run", "judging", "tools", "analysis", "report", "formats", "data"])
def test_the_harness_imports_without_torch(room: str) -> None:
    done = python("-c", LEAN_PROBE, f"harness.{room}", "torch,torchvision")
    assert done.returncode == 0, done.stderr


def test_what_is_left_out_of_the_probe_is_there_and_needs_numba() -> None:
    """A name that no longer fits would hide the next module of that name."""
    probe = """
import importlib, sys
sys.modules["numba"] = None
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        assert error.name == "numba", error
    else:
        raise AssertionError(name + " does not need numba")
"""
    done = python("-c", probe, *OPTIONAL)
    assert done.returncode == 0, done.stderr


def test_the_probe_fails_where_a_room_needs_what_is_blocked() -> None:
    assert python("-c", LEAN_PROBE, "harness.networks", "torch").returncode != 0


def test_import_contracts_hold() -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command, "import-linter is not installed; start ./run_tests.sh, which installs it"
    done = subprocess.run([command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
