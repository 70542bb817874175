"""The engine as others meet it: one call, or a process that speaks the protocol."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import Net, fully_connected

from harness.domain import Limits, Stage, ToolAnswer, UsageError, Verdict
from harness.formats.engine_protocol import EngineRequest, decode_answer, encode_request
from harness.verifier.api import serve, serve_request, verify_instance

ROOT = Path(__file__).resolve().parents[2]
SPEC = """
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(assert (>= X_0 0.0))
(assert (<= X_0 1.0))
(assert (>= X_1 0.0))
(assert (<= X_1 1.0))
(assert (<= Y_0 {rhs}))
"""


@pytest.fixture
def request_(tmp_path: Path) -> EngineRequest:
    (tmp_path / "net.onnx").write_bytes(fully_connected([(np.eye(2), np.zeros(2)), (np.eye(2), np.full(2, 0.5))]))
    for name, rhs in (("sat", 0.75), ("unsat", 0.25)):
        (tmp_path / f"{name}.vnnlib").write_text(SPEC.format(rhs=rhs))
    (tmp_path / "broken.vnnlib").write_text("(assert (<= Y_0")
    (tmp_path / "other.vnnlib").write_text("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= Y_0 0))")
    paths = {name: tmp_path / f"{name}.vnnlib" for name in ("broken", "sat", "missing", "unsat", "other")}
    return EngineRequest(tmp_path / "net.onnx", paths, Limits(30.0, "work", 10))


EXPECTED = {
    "broken": Verdict.ERROR,
    "missing": Verdict.ERROR,
    "other": Verdict.ERROR,
    "sat": Verdict.SAT,
    "unsat": Verdict.UNSAT,
}


def assert_expected(events: list[dict[str, object]]) -> None:
    """Fails unless each key is answered once, rightly, before one last `done`."""
    assert events[-1] == {"event": "done"}
    answers: dict[str, ToolAnswer] = {}
    for event in events[:-1]:
        if event["event"] == "answer":
            key, answer = decode_answer(event)
            assert key not in answers
            answers[key] = answer
        else:
            assert event["event"] == "progress"
    assert {key: answer.verdict for key, answer in answers.items()} == EXPECTED
    witness = answers["sat"].counterexample
    assert witness is not None
    assert witness.x.dtype == np.float32
    assert witness.x[0] <= 0.25
    for key in ("broken", "missing", "other"):
        assert "\n" not in answers[key].message
        assert key in answers[key].message


def test_a_request_is_answered_key_by_key(request_: EngineRequest) -> None:
    events = io.StringIO()
    serve(io.StringIO(encode_request(request_) + "\n"), events)
    assert_expected([json.loads(line) for line in events.getvalue().splitlines()])


def test_a_process_answers_several_requests_and_ends_with_its_input(request_: EngineRequest) -> None:
    line = encode_request(request_)
    process = subprocess.run(
        [sys.executable, "-m", "harness.verifier", "serve"],
        input=line + line,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    events = [json.loads(text) for text in process.stdout.splitlines()]
    end = events.index({"event": "done"}) + 1
    assert_expected(events[:end])
    assert_expected(events[end:])


def test_other_arguments_are_refused() -> None:
    command = [sys.executable, "-m", "harness.verifier", "sing"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("usage:")


def collected(request: EngineRequest) -> dict[str, ToolAnswer]:
    answers: dict[str, ToolAnswer] = {}
    serve_request(request, lambda key, answer: answers.update({key: answer}))
    return answers


def test_a_network_that_is_not_supported_leaves_all_unknown(request_: EngineRequest, tmp_path: Path) -> None:
    net = Net((2,))
    request_.network.write_bytes(net.model(net.op("Erf", "x", name="culprit")))
    answers = collected(request_)
    assert {a.verdict for a in answers.values()} == {Verdict.UNKNOWN}
    assert all("culprit" in a.message for a in answers.values())
    assert set(answers) == set(EXPECTED)


SECOND = """(vnnlib-version <2.0>)
(declare-network f (declare-input X float32 [1,2]) (declare-output Y float32 [1,2]))
(assert (and (>= X[0,0] 0.0) (<= X[0,0] 1.0) (>= X[0,1] 0.0) (<= X[0,1] 1.0)))
(assert (<= Y[0,0] {rhs}))
"""
PAIR = """(vnnlib-version <2.0>)
(declare-network f (declare-input A float32 [1,2]) (declare-output P float32 [1,2]))
(declare-network g (equal-to f) (declare-input B float32 [1,2]) (declare-output Q float32 [1,2]))
(assert (<= A[0,0] 1.0))
"""


def test_version_2_is_decided_and_what_is_not_supported_is_unknown(request_: EngineRequest, tmp_path: Path) -> None:
    for name, text in (("sat", SECOND.format(rhs=0.75)), ("unsat", SECOND.format(rhs=0.25)), ("pair", PAIR)):
        (tmp_path / f"{name}.vnnlib").write_text(text)
    paths = {name: tmp_path / f"{name}.vnnlib" for name in ("sat", "unsat", "pair")}
    answers = collected(EngineRequest(request_.network, paths, request_.limits))
    wanted = {"sat": Verdict.SAT, "unsat": Verdict.UNSAT, "pair": Verdict.UNKNOWN}
    assert {name: answer.verdict for name, answer in answers.items()} == wanted
    assert "pair.vnnlib:2:21: a property of 2 networks (f, g) is not supported" in answers["pair"].message
    assert verify_instance(request_.network, paths["pair"], 30.0).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("content", [b"", b"no model", None])
def test_a_network_that_cannot_be_read_is_an_error_of_all(request_: EngineRequest, content: bytes | None) -> None:
    if content is None:
        request_.network.unlink()
    else:
        request_.network.write_bytes(content)
    answers = collected(request_)
    assert {key: a.verdict for key, a in answers.items()} == dict.fromkeys(EXPECTED, Verdict.ERROR)


def test_one_instance_is_one_call(request_: EngineRequest) -> None:
    properties = request_.properties
    assert verify_instance(request_.network, properties["sat"], 20).verdict is Verdict.SAT
    assert verify_instance(request_.network, properties["unsat"], 20, max_domains=0).verdict is Verdict.UNSAT


@pytest.mark.parametrize("key", ["broken", "missing", "other"])
def test_bad_input_of_one_instance_is_a_usage_error(request_: EngineRequest, key: str) -> None:
    with pytest.raises(UsageError, match=key):
        verify_instance(request_.network, request_.properties[key], 20)


def test_an_empty_box_is_unsat_and_said_so(request_: EngineRequest, tmp_path: Path) -> None:
    path = tmp_path / "empty.vnnlib"
    path.write_text(SPEC.format(rhs=0.75).replace("(<= X_1 1.0)", "(<= X_1 -0.5)"))
    answer = verify_instance(request_.network, path, 20)
    assert (answer.verdict, answer.stage) == (Verdict.UNSAT, Stage.INCOMPLETE)
    assert "box is empty" in answer.message


def test_a_box_that_is_empty_in_doubles_alone_is_not_taken_for_empty(request_: EngineRequest, tmp_path: Path) -> None:
    """Its ends are one number in float32, and a witness there would count."""
    path = tmp_path / "narrow.vnnlib"
    narrow = (
        SPEC.format(rhs=9.0).replace("(>= X_1 0.0)", "(>= X_1 0.5000000000001)").replace("(<= X_1 1.0)", "(<= X_1 0.5)")
    )
    path.write_text(narrow)
    answer = verify_instance(request_.network, path, 20)
    assert "box is empty" not in answer.message
    assert answer.verdict is Verdict.SAT


def test_one_empty_box_of_several_says_nothing_of_the_others(request_: EngineRequest, tmp_path: Path) -> None:
    path = tmp_path / "union.vnnlib"
    empty, full = "(and (>= X_1 1.0) (<= X_1 0.0))", "(and (>= X_1 0.0) (<= X_1 1.0))"
    both = SPEC.format(rhs=0.75).replace("(assert (>= X_1 0.0))\n", "")
    path.write_text(both.replace("(assert (<= X_1 1.0))", f"(assert (or {empty} {full}))"))
    assert verify_instance(request_.network, path, 20).verdict is Verdict.SAT


def damaged(kind: str) -> bytes:
    net = Net((2,))
    if kind == "free dimension":
        net.input_shape = ("side",)  # type: ignore[assignment]
    values = {"not a number": np.nan, "infinite weight": np.inf}
    weight = np.array([[1.0, values.get(kind, 0.5)], [0.0, 1.0]])[:, : 1 if kind == "wrong shape" else 2]
    output = net.op("Gemm", "x", net.constant(weight), net.constant([0.0, 0.0]), transB=1, name="layer")
    if kind == "weights cut short":
        net.constants[0].raw_data = net.constants[0].raw_data[:-3]
    if kind == "weights in another file":
        net.constants[0].ClearField("raw_data")
        net.constants[0].data_location = onnx.TensorProto.EXTERNAL
        net.constants[0].external_data.add(key="location", value="weights.bin")
    model = net.model(output)
    return model[: len(model) // 2] if kind == "truncated" else model


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("not a number", "node 'layer'"),
        ("infinite weight", "node 'layer'"),
        ("wrong shape", "node 'layer'"),
        ("weights cut short", "'c0'"),
        ("weights in another file", "'c0'"),
        ("free dimension", "input 'x'"),
        ("truncated", "not an ONNX model"),
    ],
)
def test_a_damaged_network_is_a_usage_error_that_says_where(request_: EngineRequest, kind: str, says: str) -> None:
    request_.network.write_bytes(damaged(kind))
    with pytest.raises(UsageError, match=says) as raised:
        verify_instance(request_.network, request_.properties["sat"], 20)
    assert str(request_.network) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert {a.verdict for a in collected(request_).values()} == {Verdict.ERROR}
