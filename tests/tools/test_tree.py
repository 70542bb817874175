"""Processes below a process, and when their memory is too much."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.tools import tree

PATIENCE_S = 60.0


def python(code: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | environment
    )


def test_descendants_are_all_that_live_below() -> None:
    code = "import subprocess; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); p.wait()"
    with python(code) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        assert {child.pid, grandchild} <= set(tree.descendants(os.getpid()))
        assert tree.descendants(child.pid) == [grandchild]
        psutil.Process(grandchild).kill()
        child.wait()
        assert grandchild not in tree.descendants(os.getpid())
    assert tree.descendants(child.pid) == []


def test_what_waits_to_be_reaped_does_not_live() -> None:
    with python("") as child:
        while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert child.pid not in tree.descendants(os.getpid())


def test_memory_and_processor_time_are_those_of_psutil() -> None:
    own = psutil.Process()
    assert tree.resident_bytes(os.getpid()) == pytest.approx(own.memory_info().rss, rel=0.2)
    assert 0 < tree.proportional_bytes(os.getpid()) <= 1.2 * own.memory_info().rss
    assert tree.cpu_seconds(os.getpid()) == pytest.approx(sum(own.cpu_times()[:4]), abs=0.5)
    assert tree.total_bytes() <= psutil.virtual_memory().total
    assert 0 < tree.free_bytes() <= tree.total_bytes()
    gone = 2**22 + 1
    assert (tree.resident_bytes(gone), tree.proportional_bytes(gone), tree.cpu_seconds(gone)) == (0, 0, 0)


def test_marked_processes_are_found_wherever_they_went_and_ended() -> None:
    code = (
        "import os, signal, sys, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    print(os.getpid(), flush=True); time.sleep(600)\n"
    )
    with python(code, **{tree.MARK: "mine"}) as child:
        assert child.stdout is not None
        orphan = int(child.stdout.readline())
        child.wait()
        assert tree.marked("mine") == [orphan]
        assert tree.marked("somebody's") == []
        tree.end_marked("mine")
        assert tree.marked("mine") == []


def test_more_memory_than_allowed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    own, used = os.getpid(), tree.resident_bytes(os.getpid())
    assert tree.MemoryLimit(used // 2).look([own]).broken == "memory"
    roomy = tree.MemoryLimit(1000 * used)
    assert roomy.look([own]).broken == ""
    assert roomy.peak > 0


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_shared_memory_is_counted_once_while_nobody_can_take_more(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def wait_for(stopped: bool, *pids: int) -> None:
        while any((state(pid) == "T") is not stopped for pid in pids):
            time.sleep(0.001)

    def proportional(pid: int) -> int:
        wait_for(True, pid)
        seen.append(pid)
        return 40

    code = "import time; print(flush=True); time.sleep(600)"
    with python(code) as one, python(code) as two, python(code) as halted:
        pids = [one.pid, two.pid, halted.pid]
        try:
            for child in (one, two, halted):
                assert child.stdout is not None
                child.stdout.readline()
            halted.send_signal(signal.SIGSTOP)
            wait_for(True, halted.pid)
            monkeypatch.setattr(tree, "resident_bytes", lambda _: 60)
            monkeypatch.setattr(tree, "proportional_bytes", proportional)
            assert tree.MemoryLimit(130).look(pids).broken == "", "180, but what they share is counted once"
            assert seen == pids
            wait_for(False, one.pid, two.pid)
            assert state(halted.pid) == "T", "it was not us who stopped it"
            assert tree.MemoryLimit(110).look(pids).broken == "memory"
            wait_for(True, *pids)  # what is to be killed takes nothing more
            seen.clear()
            assert tree.MemoryLimit(50).look(pids).broken == "memory"
            assert not seen, "one of them alone is beyond the limit: nothing to count"
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)


def test_shared_memory_is_counted_again_when_it_may_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    now, resident, counted = [5.0], [60], []

    def proportional(pid: int) -> int:
        counted.append(pid)
        return 40

    monkeypatch.setattr(tree, "monotonic", lambda: now[0])
    monkeypatch.setattr(tree, "resident_bytes", lambda _: resident[0])
    monkeypatch.setattr(tree, "proportional_bytes", proportional)
    monkeypatch.setattr(tree, "_signal", lambda _pid, _number: True)
    limit = tree.MemoryLimit(100)
    for _ in range(3):
        assert limit.look([1, 2]).broken == ""
    assert counted == [1, 2], "nobody is stopped at every look"
    now[0] += 1.0
    assert limit.look([1, 2]).broken == ""
    assert counted == [1, 2] * 2, "pages may be a process's own by now"
    resident[0] = 75
    assert limit.look([1, 2]).broken == ""
    assert counted == [1, 2] * 3, "150 without the 40 that were shared would be too much"
    assert limit.peak == 80


def test_the_nearer_the_limit_the_sooner_is_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 2**30
    pauses = []
    for used in (0, limit // 2, limit * 9 // 10, limit):
        monkeypatch.setattr(tree, "resident_bytes", lambda _, used=used: used)
        pauses.append(tree.MemoryLimit(limit, reserve=0).look([1]).pause_s)
    assert pauses == sorted(pauses, reverse=True)
    # Whatever takes 8 GiB a second is seen before it is a tenth over.
    for used, pause in zip((0, limit // 2, limit * 9 // 10), pauses, strict=False):
        assert used + pause * 8 * 2**30 <= 1.1 * limit


def test_a_machine_without_memory_ends_what_fills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "free_bytes", lambda: 10)
    monkeypatch.setattr(tree, "resident_bytes", lambda _: 50)
    assert tree.MemoryLimit(None, reserve=20).look([1]).broken == "host"
    assert tree.MemoryLimit(None, reserve=5).look([1]).broken == ""
    assert tree.MemoryLimit(None, reserve=100).look([1]).broken == "", "it holds too little to be what fills it"


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    (tmp_path / "memory.current").write_text(f"{2**29}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {2**28}\n")
    assert tree.total_bytes() == 2**30
    assert tree.free_bytes() == 2**30 - 2**28
    assert tree.reserve_bytes() == 2**26
    (tmp_path / "memory.max").write_text("max\n")
    assert tree.total_bytes() > 2**30
