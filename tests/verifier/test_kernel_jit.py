"""Code that several processes compile at once is saved by one of them at a time."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.verifier import kernels

pytest.importorskip("numba")

from harness.verifier.kernels.cache import VARIABLE
from harness.verifier.kernels.jit import compiled

PROGRAM = """
import sys, time
import numpy as np
from harness.verifier.kernels import jit

@jit.compiled
def half(x):
    return x[0] / 2

file = half._cache._cache_file
load_index = file._load_index

def slowly():
    known = load_index()
    time.sleep(1)
    return known

file._load_index = slowly
print("ready", flush=True)
sys.stdin.readline()
print(half(np.array([3], sys.argv[1])), flush=True)
"""


def test_every_kernel_is_saved_by_one_process_at_a_time() -> None:
    seen = 0
    for module in pkgutil.iter_modules([str(Path(kernels.__path__[0]))]):
        for value in vars(importlib.import_module(f"{kernels.__name__}.{module.name}")).values():
            if hasattr(value, "py_func") and value.targetoptions.get("cache", True):
                assert value._cache._cache_file.save.__name__ == "save_alone", value
                seen += 1
    assert seen > 50


def test_processes_that_compile_for_different_types_at_once_do_not_mix_them_up(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    root = str(Path(__file__).resolve().parents[2])
    environ = {"PYTHONPATH": root, VARIABLE: str(tmp_path / "code"), "PATH": "/usr/bin:/bin"}

    def started(kind: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(program), kind]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)

    def answers(kinds: list[str]) -> list[str]:
        processes = [started(kind) for kind in kinds]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [process.communicate(timeout=120)[0].strip() for process in processes]

    kinds = ["float32", "float64", "int64", "int8"]
    assert answers(kinds) == ["1.5"] * 4
    # The second time each finds code on disk, and it has to be that of its own types.
    assert answers(kinds) == ["1.5"] * 4
    assert len(list((tmp_path / "code").glob("*/*/*half*.nbc"))) == len(kinds)


def test_a_function_without_a_cache_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(x: int) -> int:
        return x

    monkeypatch.setattr("numba.njit", lambda **_: lambda function: function)
    assert compiled(plain) is plain
