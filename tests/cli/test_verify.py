"""`lgbench verify`: what it prints and writes, and the competition's clock; the engine is played by a stub."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from harness.cli.clock import process_start
from harness.cli.main import main
from harness.domain import Counterexample, Stage, ToolAnswer, Verdict
from harness.formats.compressed import gzip_bytes
from harness.formats.counterexample import parse_counterexample

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
PROPERTY = """
(declare-const X_0 Real)
(declare-const Y_0 Real)
(assert (>= X_0 0.0))
(assert (<= X_0 1.0))
(assert (>= Y_0 0.5))
"""

STUB = """
import sys, threading, time
import harness.verifier.api as api
from harness.cli.main import main
from harness.domain import ToolAnswer, Verdict

def verify_instance(network, spec, timeout_s, *_):
    {body}

api.verify_instance = verify_instance
sys.exit(main())
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """The network y = x, gzipped, and a property that half of its inputs violate."""
    from onnx import TensorProto, helper

    node = helper.make_node("Identity", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in "xy")
    graph = helper.make_graph([node], "identity", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "net.onnx.gz").write_bytes(gzip_bytes(model.SerializeToString()))
    (tmp_path / "spec.vnnlib").write_text(PROPERTY)
    return str(tmp_path / "net.onnx"), str(tmp_path / "spec.vnnlib")


def answering(monkeypatch: pytest.MonkeyPatch, answer: ToolAnswer) -> None:
    monkeypatch.setattr("harness.verifier.api.verify_instance", lambda *_: answer)


def child(body: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", STUB.format(body=body), "verify", *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_sat_is_printed_and_written_with_its_counterexample(
    files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    x = Counterexample(np.array([0.75], np.float32))
    answering(monkeypatch, ToolAnswer(Verdict.SAT, 0.0, 0.0, Stage.ATTACK, x))
    out = tmp_path / "result.txt"
    assert main(["verify", *files, "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert shown.out == out.read_text()
    verdict, _, witness = shown.out.partition("\n")
    assert verdict == "sat"
    found = parse_counterexample(witness, 1, 1)
    assert found.y is not None
    assert (found.x[0], found.y[0]) == (0.75, 0.75)
    assert shown.err.endswith(" s (attack)\n")


def test_a_wrong_counterexample_is_no_sat(
    files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(
        monkeypatch, ToolAnswer(Verdict.SAT, 0.0, 0.0, Stage.ATTACK, Counterexample(np.array([0.25], np.float32)))
    )
    out = tmp_path / "result.txt"
    assert main(["verify", *files, "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert shown.out == out.read_text() == "error\n"
    assert "spec_not_violated" in shown.err


def test_json_has_the_same(
    files: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, ToolAnswer(Verdict.UNKNOWN, 0.0, 0.0, message="the operator Foo of node 'f' is not known"))
    assert main(["verify", *files, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["verdict"], said["stage"], said["counterexample"]) == ("unknown", None, None)
    assert "Foo" in said["message"]


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_file_is_said_before_anything_is_loaded(
    files: tuple[str, str], tmp_path: Path, missing: int, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [tmp_path / "nix.txt" if k == missing else Path(name) for k, name in enumerate(files)]
    out = tmp_path / "result.txt"
    assert main(["verify", *map(str, given), "--out", str(out), "--timeout", "0.001"]) == 2
    assert "nix.txt: no such file" in capsys.readouterr().err
    assert not out.exists()


def test_the_limit_counts_from_the_start_of_the_process(files: tuple[str, str]) -> None:
    body = "return ToolAnswer(Verdict.UNSAT, 0.0, 0.0, message=f'{timeout_s}')"
    began = time.monotonic()
    process = child(body, *files, "--timeout", "100", "--json")
    shown, _ = process.communicate(timeout=PATIENCE_S)
    spent = time.monotonic() - began
    said = json.loads(shown)
    # The stub loads torch before the command is called, which takes longer than the clock's hundredth of a second.
    assert 100 - spent < float(said["message"]) < 100 - 0.3
    assert 0.1 < said["wall_s"] < spent


def test_an_answer_after_the_limit_is_a_timeout(files: tuple[str, str]) -> None:
    slow = child("time.sleep(timeout_s + 1); return ToolAnswer(Verdict.UNSAT, 0.0, 0.0)", *files, "--timeout", "8")
    shown, _ = slow.communicate(timeout=PATIENCE_S)
    assert (shown, slow.returncode) == ("timeout\n", 0)
    never = child("raise AssertionError('asked too late')", *files, "--timeout", "0.01")
    shown, said = never.communicate(timeout=PATIENCE_S)
    assert (shown, never.returncode) == ("timeout\n", 0)
    assert "before the engine had started" in said


def test_an_engine_that_does_not_stop_is_ended_after_the_limit(files: tuple[str, str], tmp_path: Path) -> None:
    """Compiling is such a thing: the main thread looks at no clock, and other threads do not stop either."""
    body = "threading.Thread(target=time.sleep, args=(600,)).start(); time.sleep(600)"
    out = tmp_path / "result.txt"
    process = child(body, *files, "--timeout", "6", "--out", str(out), "--json")
    try:
        shown, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    said = json.loads(shown)
    assert (process.returncode, said["verdict"], out.read_text()) == (0, "timeout", "timeout\n")
    assert said["wall_s"] >= 6.0
    assert "compiles its code once" in said["message"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_although_the_engine_goes_on(files: tuple[str, str], tmp_path: Path, number: int) -> None:
    out = tmp_path / "result.txt"
    # A thread that nothing stops, as one of the engine's in the midst of a search.
    on = tmp_path / "on"
    body = f"threading.Thread(target=time.sleep, args=(600,)).start(); open({str(on)!r}, 'w'); time.sleep(600)"
    process = child(body, *files, "--out", str(out))
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (tmp_path / "on").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        shown, said = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert (process.returncode, shown, said) == (1, "", "error: interrupted\n")
    assert out.read_text() == "timeout\n"


def test_the_clock_is_that_of_this_process() -> None:
    assert process_start() < time.monotonic()
    code = (
        "import time; time.sleep(1.0); from harness.cli.clock import process_start; "
        "print(time.monotonic() - process_start())"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert 1.0 <= float(done.stdout) <= time.monotonic() - began + 0.02
