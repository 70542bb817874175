"""Limits of a tool's process: on memory within a tenth, on time within two seconds, children included."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path

import pytest

from harness.tools import script
from harness.tools.builtin import Patience
from harness.tools.process import ChildEndedError, LineProcess
from harness.tools.supervise import Step, ToolBounds, supervise

MIB = 2**20
LIMIT_MIB = 1000
LEAK = """
import mmap, os, struct, sys, time
path, children = sys.argv[1], int(sys.argv[2])
with open(path, "w+b") as file:
    file.truncate(8 * (children + 1))
    taken = mmap.mmap(file.fileno(), 0)
    number = 0
    for child in range(children):
        if os.fork() == 0:
            number = child + 1
            os.setsid()
            break
    kept = []
    while True:
        kept.append(bytearray(b"x") * 2**20)
        taken[8 * number : 8 * number + 8] = struct.pack("q", len(kept) * 2**20)
        time.sleep(0.001)
"""
"""Fills up to 1 GiB a second, in children of sessions of their own too, and says how much is filled.

As fast as it can is `python -m benchmarks.limits`: how far that goes depends on what else the host does.
"""


def leaked(path: Path) -> int:
    data = path.read_bytes()
    return sum(int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8))


@pytest.mark.nightly  # whoever supervises has to get the processor in time, which a busy host does not promise
@pytest.mark.parametrize("children", [0, 3])
def test_memory_is_limited_within_a_tenth_children_included(tmp_path: Path, children: int) -> None:
    path = tmp_path / "leaked"
    command = [sys.executable, "-I", "-S", "-c", LEAK, str(path), str(children)]
    (report,) = supervise([Step(command, 600.0, tmp_path)], tmp_path / "log", ToolBounds(memory_gib=LIMIT_MIB / 1024))
    assert (report.stopped, report.status) == ("memory", -9)
    assert LIMIT_MIB * MIB < report.peak_bytes <= 1.1 * LIMIT_MIB * MIB
    assert 0.5 * LIMIT_MIB * MIB < leaked(path) <= 1.1 * LIMIT_MIB * MIB


@pytest.mark.nightly
def test_memory_of_a_child_that_talks_in_lines_is_limited_within_a_tenth(tmp_path: Path) -> None:
    path = tmp_path / "leaked"
    command = [sys.executable, "-I", "-S", "-c", LEAK, str(path), "2"]
    complaint = r"out of memory: it used .* 0\.98 GiB are allowed"
    with (
        LineProcess(command, tmp_path / "log", memory_bytes=LIMIT_MIB * MIB) as child,
        pytest.raises(ChildEndedError, match=complaint),
    ):
        child.next_line(600.0)
    assert leaked(path) <= 1.1 * LIMIT_MIB * MIB


def test_a_tool_is_gone_within_two_seconds_of_its_limit_by_its_settings() -> None:
    kill_after_s = inspect.signature(supervise).parameters["kill_after_s"].default
    assert script.GRACE_S + kill_after_s < 2
    assert Patience().late_s + 0.4 < 2


def test_nothing_is_written_after_the_end_of_a_deaf_tool_with_deaf_children(tmp_path: Path) -> None:
    code = (
        "trap '' TERM INT HUP; for i in 1 2 3; do (setsid bash -c \"trap '' TERM INT HUP; "
        f'while :; do echo x >> {tmp_path}/written; sleep 0.05; done" &) ; done; while :; do sleep 0.05; done'
    )
    (report,) = supervise([Step(["bash", "-c", code], 1.0, tmp_path)], tmp_path / "log")
    assert report.stopped == "wall"
    size = (tmp_path / "written").stat().st_size
    os.sync()
    assert size > 0
    assert (tmp_path / "written").stat().st_size == size
