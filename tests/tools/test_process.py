from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.tools.process import ChildEndedError, LineProcess

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0


def python(tmp_path: Path, code: str, **options: object) -> LineProcess:
    return LineProcess([sys.executable, "-u", "-c", code], tmp_path / "child.log", **options)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(pid: int) -> bool:
    """Waits for a process that is not our child; says whether it ended."""
    deadline = time.monotonic() + PATIENCE_S
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_lines_go_in_and_come_out(tmp_path: Path) -> None:
    with python(tmp_path, "import sys\nfor line in sys.stdin: print(line.upper(), end='')") as child:
        child.send("first\n")
        child.send("zweite Zeile: ü\n")
        texts = [line.text for line in (child.next_line(PATIENCE_S), child.next_line(PATIENCE_S)) if line]
    assert texts == ["FIRST", "ZWEITE ZEILE: Ü"]


def test_no_line_in_time_is_none(tmp_path: Path) -> None:
    with python(tmp_path, "import time; time.sleep(600)") as child:
        assert child.next_line(0.05) is None
        assert child.next_line(-1.0) is None


def test_lines_are_dated_when_they_come_not_when_they_are_asked_for(tmp_path: Path) -> None:
    with python(tmp_path, "import time; print('a'); print('b'); time.sleep(600)") as child:
        first = child.next_line(PATIENCE_S)
        time.sleep(1.0)
        asked = time.monotonic()
        second = child.next_line(PATIENCE_S)
    assert first is not None
    assert second is not None
    assert second.at < asked


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import sys; sys.exit(4)", "exit status 4"),
        ("import sys; sys.exit('out of luck')", "exit status 1: out of luck"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
    ],
)
def test_the_end_of_a_child_says_how(tmp_path: Path, code: str, how: str) -> None:
    with python(tmp_path, code) as child:
        for _ in range(2):  # and it stays ended
            with pytest.raises(ChildEndedError) as ended:
                child.next_line(PATIENCE_S)
            assert str(ended.value) == how


def test_a_program_that_cannot_be_started_says_so(tmp_path: Path) -> None:
    reason = "exit status 127: /no/such/program: No such file"
    with LineProcess(["/no/such/program"], tmp_path / "log") as child, pytest.raises(ChildEndedError, match=reason):
        child.next_line(PATIENCE_S)


def test_only_the_childs_own_log_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "child.log").write_text("an earlier child's last words\n")
    with python(tmp_path, "raise SystemExit(4)") as child, pytest.raises(ChildEndedError) as ended:
        child.next_line(PATIENCE_S)
    assert str(ended.value) == "exit status 4"
    assert (tmp_path / "child.log").read_text() == "an earlier child's last words\n"


def test_settings_reach_the_child_and_not_this_process(tmp_path: Path) -> None:
    code = "import os; print(os.environ['LG_TEST'], os.getcwd())"
    with python(tmp_path, code, settings={"LG_TEST": "a=b c"}, cwd=tmp_path) as child:
        line = child.next_line(PATIENCE_S)
    assert line is not None
    assert line.text == f"a=b c {tmp_path}"
    assert "LG_TEST" not in os.environ


def test_end_lets_a_child_clean_up(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "def stop(*_): open('cleaned', 'w').close(); sys.exit(5)\n"
        "signal.signal(signal.SIGTERM, stop); print('ready'); time.sleep(600)"
    )
    child = python(tmp_path, code, cwd=tmp_path)
    child.next_line(PATIENCE_S)
    assert child.end(PATIENCE_S) == 5
    assert (tmp_path / "cleaned").exists()
    assert child.end() == 5


def test_end_kills_the_whole_group_even_when_it_ignores_term(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen(['sleep', '600']).pid); time.sleep(600)"
    )
    child = python(tmp_path, code)
    line = child.next_line(PATIENCE_S)
    assert line is not None
    assert child.end(0.1) == -signal.SIGKILL
    assert not alive(child.pid)
    assert gone(int(line.text))


def test_end_kills_what_an_exited_child_left_behind(tmp_path: Path) -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL).pid)"
    child = python(tmp_path, code)
    line = child.next_line(PATIENCE_S)
    assert line is not None
    with pytest.raises(ChildEndedError):
        child.next_line(PATIENCE_S)
    assert alive(int(line.text))
    assert child.end(PATIENCE_S) == 0
    assert gone(int(line.text))


def test_a_child_that_never_reads_does_not_block_the_sender(tmp_path: Path) -> None:
    child = python(tmp_path, "import time; time.sleep(600)")
    child.send("x" * 1_000_000 + "\n")  # far more than a pipe holds
    child.send("y\n")
    assert child.end(0.1) == -signal.SIGTERM


def test_a_child_that_floods_can_be_ended(tmp_path: Path) -> None:
    child = python(tmp_path, "while True: print('flood')")
    assert child.next_line(PATIENCE_S) is not None
    child.end(0.1)
    assert not alive(child.pid)


def test_a_line_that_never_ends_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.tools.process.MAX_LINE", 1000)
    code = "import sys, time; sys.stdout.write('x' * 5000); sys.stdout.flush(); time.sleep(600)"
    with python(tmp_path, code) as child, pytest.raises(ChildEndedError, match="did not exit"):
        child.next_line(PATIENCE_S)


def test_a_ctrl_c_in_the_terminal_does_not_reach_the_child(tmp_path: Path) -> None:
    with python(tmp_path, "print('ready'); import time; time.sleep(600)") as child:
        child.next_line(PATIENCE_S)
        assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
        assert os.getsid(child.pid) == child.pid


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help exists on Linux only")
def test_the_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from harness.tools.process import LineProcess\n"
        f"child = LineProcess(['sleep', '600'], Path({str(tmp_path / 'log')!r}))\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        # The child is past its leash once it is the program itself.
        while psutil.Process(pid).name() != "sleep":
            time.sleep(0.02)
        parent.kill()
    assert gone(pid)
