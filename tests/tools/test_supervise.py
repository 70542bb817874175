"""Programs of others under limits; nothing that they start outlives them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.tools import supervise as supervise_module
from harness.tools.supervise import (
    Step,
    StepReport,
    SupervisionError,
    ToolBounds,
    foreign_environment,
    last_line,
    supervise,
)

LONG_S = 60.0
PACKAGE = Path(supervise_module.__file__).parents[1]


def bash(code: str, wall_s: float = LONG_S) -> Step:
    return Step(["bash", "-c", code], wall_s, Path("/"))


def run(tmp_path: Path, *steps: Step, bounds: ToolBounds | None = None, kill_after_s: float = 5.0) -> list[StepReport]:
    return supervise(steps, tmp_path / "logs" / "x.log", bounds, kill_after_s=kill_after_s)


def sleepers(mark: str) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if mark in (p.info["cmdline"] or [])]


@pytest.fixture
def mark() -> str:
    """A duration for `sleep` that no other process has."""
    return f"86{os.getpid()}{time.monotonic_ns() % 10**6}"


def test_output_is_kept_and_input_is_empty(tmp_path: Path) -> None:
    for _ in range(2):
        (report,) = run(tmp_path, bash("cat; echo out; echo err >&2; pwd"))
    assert (report.status, report.stopped, report.left_behind) == (0, "", 0)
    assert (tmp_path / "logs" / "x.log").read_text() == "out\nerr\n/\n" * 2


def test_a_step_follows_only_on_success(tmp_path: Path) -> None:
    assert [r.status for r in run(tmp_path, bash("true"), bash("exit 3"))] == [0, 3]
    assert [r.status for r in run(tmp_path, bash("exit 4"), bash("echo never"))] == [4]
    assert "never" not in (tmp_path / "logs" / "x.log").read_text()


def test_how_a_program_ended_is_said(tmp_path: Path) -> None:
    (killed,) = run(tmp_path, bash("kill -9 $$"))
    assert killed.how() == "killed by SIGKILL"
    (missing,) = run(tmp_path, Step(["/no/such/program"], LONG_S, Path("/")))
    assert missing.how() == "exit status 127"
    assert "/no/such/program: No such file" in last_line(tmp_path / "logs" / "x.log")


def test_what_is_left_behind_is_killed_even_in_a_session_of_its_own(tmp_path: Path, mark: str) -> None:
    (report,) = run(tmp_path, bash(f"(setsid sleep {mark} &) ; sleep 0.3"))
    assert (report.status, report.left_behind) == (0, 1)
    assert not sleepers(mark)


def test_what_a_step_leaves_is_there_for_the_next_one(tmp_path: Path, mark: str) -> None:
    _, second = run(tmp_path, bash(f"setsid sleep {mark} & sleep 0.2"), bash(f"pgrep -f 'sleep {mark}'"))
    assert second.status == 0
    assert not sleepers(mark)


def test_a_program_that_ignores_term_is_killed_with_all_its_children(tmp_path: Path, mark: str) -> None:
    deaf = f"setsid bash -c \"trap '' TERM; sleep {mark} & wait; sleep {mark}\""
    code = f"trap '' TERM; {deaf} & while :; do sleep 0.1; done"
    (report,) = run(tmp_path, bash(code, wall_s=0.8), kill_after_s=0.3)
    assert (report.stopped, report.status) == ("wall", -9)
    assert report.seconds >= 0.8
    assert not sleepers(mark)


def test_term_gives_time_to_clean_up(tmp_path: Path) -> None:
    code = f"trap 'echo cleaned > {tmp_path}/file; exit 5' TERM; while :; do sleep 0.05; done"
    (report,) = run(tmp_path, bash(code, wall_s=0.5), kill_after_s=LONG_S)
    assert (report.stopped, report.status) == ("wall", 5)
    assert (tmp_path / "file").read_text() == "cleaned\n"


def test_memory_is_counted_over_all_processes(tmp_path: Path) -> None:
    fill = f"{sys.executable} -c 'import time; x = bytearray(b\"x\") * (60 * 2**20); time.sleep({LONG_S})'"
    (report,) = run(tmp_path, bash(f"{fill} & {fill} & wait"), bounds=ToolBounds(memory_gib=0.1))
    assert report.stopped == "memory"
    assert report.peak_bytes > 0.1 * 2**30


def test_one_that_prints_for_ever_is_killed_before_the_disk_is_full(
    tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise_module, "MOST_LOG_BYTES", 1000)
    quiet = bash("head -c 900 /dev/zero")
    # What earlier steps and attempts have printed does not count.
    assert [report.stopped for report in run(tmp_path, quiet, quiet)] == ["", ""]
    printing = f"trap '' TERM; while true; do echo {'x' * 99}; sleep 0.01; done & sleep {mark}"
    (report,) = run(tmp_path, bash(printing))
    assert (report.stopped, report.status) == ("output", -9)
    assert sleepers(mark) == []


def test_the_supervisor_is_of_this_package_and_not_of_another_that_is_installed(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    for root in (own, other):
        (root / "harness/tools").mkdir(parents=True)
        for name in ("__init__.py", "tools/__init__.py", "tools/keeper.py"):
            (root / "harness" / name).write_text((PACKAGE / name).read_text())
        (root / "harness/tools/tree.py").write_text(f"print({root.name!r})\nraise SystemExit\n")
    start = f"import runpy, sys; sys.path.insert(0, {str(other)!r}); runpy.run_path(sys.argv[1], run_name='__main__')"
    command = [sys.executable, "-I", "-c", start, str(own / "harness/tools/keeper.py")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "own\n"


def test_a_tool_has_the_priority_that_it_would_have_without_a_supervisor(tmp_path: Path) -> None:
    (report,) = run(tmp_path, bash("ps -o ni= -p $$"))
    assert report.status == 0
    assert int((tmp_path / "logs" / "x.log").read_text()) == os.getpriority(os.PRIO_PROCESS, 0)


def test_processor_time_is_counted_over_all_processes(tmp_path: Path) -> None:
    code = f"for i in 1 2 3; do timeout {LONG_S} bash -c 'while :; do :; done' & done; wait"
    (report,) = run(tmp_path, bash(code), bounds=ToolBounds(cpu_s=0.5))
    assert report.stopped == "cpu"
    assert report.cpu_s > 0.5


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores can be chosen on Linux only")
def test_cores_are_limited(tmp_path: Path) -> None:
    run(tmp_path, bash("nproc"), bounds=ToolBounds(cores=1))
    assert (tmp_path / "logs" / "x.log").read_text() == "1\n"


def test_the_end_of_the_waiting_process_ends_the_program(tmp_path: Path, mark: str) -> None:
    code = (
        "from pathlib import Path; from harness.tools.supervise import *\n"
        f"supervise([Step(['sleep', '{mark}'], 1e6, Path('/'))], Path({str(tmp_path / 'log')!r}))"
    )
    with psutil.Popen([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2]) as parent:
        deadline = time.monotonic() + LONG_S
        while not sleepers(mark) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert sleepers(mark)
        parent.kill()
    deadline = time.monotonic() + LONG_S
    while sleepers(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not sleepers(mark)


def test_a_killed_supervisor_is_an_error_and_takes_the_program_with_it(tmp_path: Path, mark: str) -> None:
    with pytest.raises(SupervisionError, match="ended early"):
        run(tmp_path, bash(f"kill -9 $PPID; sleep {mark}"))
    deadline = time.monotonic() + LONG_S
    while sleepers(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [p for p in sleepers(mark) if p.ppid() == 1 and p.name() == "bash"]
    for left in sleepers(mark):
        left.kill()


def test_a_stopped_supervisor_is_an_error_and_no_hang(
    tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise_module, "_LATE_S", 0.5)
    with pytest.raises(SupervisionError, match="ended early"):
        run(tmp_path, bash(f"kill -STOP $PPID; sleep {mark}", wall_s=0.5))
    assert sleepers(mark) == []


def test_programs_do_not_get_our_packages_or_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "LGBENCH_RUN_TIMEOUT"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setattr(sys, "prefix", "/ours")
    monkeypatch.setenv("PATH", f"/ours/bin{os.pathsep}/usr/bin")
    found = foreign_environment({"MORE": "1"})
    assert not {"PYTHONPATH", "VIRTUAL_ENV", "LGBENCH_RUN_TIMEOUT"} & found.keys()
    assert found["PATH"] == "/usr/bin"
    assert found["MORE"] == "1"


def test_the_last_line_is_of_this_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("earlier\n")
    assert last_line(log) == "earlier"
    assert last_line(log, log.stat().st_size) == ""
