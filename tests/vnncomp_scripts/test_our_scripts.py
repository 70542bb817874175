"""Our verifier as a VNN-COMP tool: exit codes, result files, witnesses of both versions, and the end by TERM."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from harness.domain import Instance, Job, Limits, WitnessVerdict
from harness.formats.compressed import gzip_bytes
from harness.formats.vnnlib2_writer import write_difference_query, write_robustness_query
from harness.judging.judge import Judge
from harness.judging.replay_several import replay_several
from harness.tools import toy_networks

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "vnncomp_scripts"
PATIENT = 250
"""Seconds of limit where the answer counts: a busy host may need many."""
NAMES = ("install_tool.sh", "prepare_instance.sh", "run_instance.sh", "python.sh")


@pytest.fixture
def instance(tmp_path: Path) -> tuple[Path, Path]:
    """|x_0| + |x_1| against x_0 on [0.5, 1]^2 reaches 1.4: a network and its property, the network gzipped."""
    network, prop = tmp_path / "some where" / "onnx" / "net.onnx", tmp_path / "some where" / "vnnlib" / "p.vnnlib"
    for path in (network, prop):
        path.parent.mkdir(parents=True)
    network.with_name("net.onnx.gz").write_bytes(gzip_bytes(toy_networks.absolute_sum()))
    prop.write_text(toy_networks.prop(2, 2, [(toy_networks.box([(0.5, 1.0)] * 2), toy_networks.at_least(1.4))]))
    return network, prop


def call(script: str, *arguments: object, cwd: Path = ROOT, folder: Path = SCRIPTS) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LGBENCH_VENV": sys.prefix, "LGBENCH_VERIFY_JSON": "1"}
    return subprocess.run(
        ["bash", str(folder / script), *map(str, arguments)],
        cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def checked(network: Path, prop: Path, result: Path) -> WitnessVerdict:
    job = Job("k", Instance(network, prop, 60.0), "net", 0, Limits(60.0))
    return Judge().replay_text(job, result.read_text()).check.verdict


@pytest.mark.parametrize("name", NAMES)
def test_syntax(name: str) -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPTS / name)], check=False).returncode == 0


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("install_tool.sh", ["v2"]),
        ("prepare_instance.sh", ["v1", "toys"]),
        ("run_instance.sh", ["v1", "toys", "a.onnx", "b.vnnlib", "r"]),
    ],
)
def test_wrong_calls_are_refused(script: str, arguments: list[str]) -> None:
    done = call(script, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"usage: {script} v1")


def test_preparation_looks_for_the_files(instance: tuple[Path, Path]) -> None:
    network, prop = instance
    assert call("prepare_instance.sh", "v1", "toys", network, prop).returncode == 0
    assert call("prepare_instance.sh", "v1", "toys", f"[('f', '{network}')]", prop).returncode == 0
    missing = call("prepare_instance.sh", "v1", "toys", network, prop.with_name("nix"))
    assert missing.returncode == 1
    assert "nix: no such file" in missing.stderr


def test_a_witness_of_version_1_from_any_folder(tmp_path: Path, instance: tuple[Path, Path]) -> None:
    network, prop = instance
    moved = tmp_path / "a link"
    moved.symlink_to(SCRIPTS)
    done = call("run_instance.sh", "v1", "toys", network, prop, "r.txt", "60", cwd=tmp_path, folder=moved)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.txt").read_text().startswith("sat\n((X_0 ")
    assert checked(network, prop, tmp_path / "r.txt") is WitnessVerdict.CORRECT


def test_a_witness_of_version_2_and_a_list_of_one_network(tmp_path: Path, instance: tuple[Path, Path]) -> None:
    network, prop = instance
    lower, upper = np.full(2, 0.5, np.float32), np.ones(2, np.float32)
    prop.write_text(write_robustness_query(lower, upper, 1, (1, 2), (1, 2)))
    result = tmp_path / "r.txt"
    done = call("run_instance.sh", "v1", "toys", f"[('net', '{network}')]", prop, result, PATIENT)
    assert done.returncode == 0, done.stderr
    lines = result.read_text().splitlines()
    assert lines[:2] == ["sat", "X float32 [1,2]"]
    assert lines[4] == "Y float32 [1,2]"
    assert not [line for line in lines if "e-" in line]
    assert checked(network, prop, result) is WitnessVerdict.CORRECT


def test_several_networks_on_one_input_are_decided(tmp_path: Path, instance: tuple[Path, Path]) -> None:
    network, prop = instance
    other, result = tmp_path / "grafted.onnx", tmp_path / "r.txt"
    other.write_bytes(toy_networks.grafted())
    named = f"[('base', '{network}'), ('graft', '{other}')]"
    lower, upper = np.full(2, 0.5, np.float32), np.ones(2, np.float32)
    # An output of one is at most 0.75 from the other's on the box, and 0.25 at (0.5, 0.5).
    for delta, word in ((1.5, "unsat"), (0.125, "sat")):
        prop.write_text(write_difference_query(lower, upper, delta, (1, 2), (1, 2)))
        done = call("run_instance.sh", "v1", "toys", named, prop, result, PATIENT)
        assert done.returncode == 0, done.stderr
        assert result.read_text().splitlines()[0] == word
    pairs = [("base", network), ("graft", other)]
    assert replay_several(pairs, prop, result.read_text()).check.verdict is WitnessVerdict.CORRECT
    assert [line.split()[0] for line in result.read_text().splitlines() if "float32" in line] == ["A", "P", "B", "Q"]
    prop.write_text(prop.read_text().replace("(assert (== B[0,1] A[0,1]))\n", ""))
    assert call("run_instance.sh", "v1", "toys", named, prop, result, PATIENT).returncode == 0
    assert result.read_text() == "unknown\n"


def test_broken_files_are_an_exit_code(tmp_path: Path, instance: tuple[Path, Path]) -> None:
    _, prop = instance
    result = tmp_path / "r.txt"
    several = call("run_instance.sh", "v1", "toys", "[('f', 'a.onnx'), ('g', 'b.onnx')]", prop, result, "60")
    assert several.returncode != 0
    assert call("run_instance.sh", "v1", "toys", tmp_path / "nix.onnx", prop, result, "60").returncode != 0
    assert call("run_instance.sh", "v1", "toys", "[nonsense", prop, result, "60").returncode != 0


@pytest.mark.parametrize("wait", [0.3, 6.0])
def test_term_ends_it_at_once_with_a_valid_result(tmp_path: Path, wait: float) -> None:
    network, prop, result = tmp_path / "twins.onnx", tmp_path / "p.vnnlib", tmp_path / "r.txt"
    network.write_bytes(toy_networks.twins())
    box = toy_networks.box([(-1.0, 1.0)] * toy_networks.TWIN_INPUTS)
    prop.write_text(toy_networks.prop(toy_networks.TWIN_INPUTS, 2, [(box, toy_networks.at_least(0.5))]))
    command = ["bash", str(SCRIPTS / "run_instance.sh"), "v1", "toys", str(network), str(prop), str(result), "600"]
    with subprocess.Popen(
        command, env={**os.environ, "LGBENCH_VENV": sys.prefix}, stderr=subprocess.DEVNULL, start_new_session=True
    ) as child:
        deadline = time.monotonic() + 60
        while not result.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(wait)
        child.send_signal(signal.SIGTERM)
        child.wait(30)
    assert result.read_text() == "timeout\n"
    assert list(tmp_path.glob(".r.txt*")) == []


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck() -> None:
    scripts = [*SCRIPTS.glob("*.sh"), *(ROOT / "adapters").glob("*/*.sh"), ROOT / "adapters" / "environment.sh"]
    done = subprocess.run(
        ["shellcheck", "--external-sources", "--source-path=SCRIPTDIR", *map(str, scripts)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
