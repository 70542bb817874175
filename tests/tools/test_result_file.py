"""What a result file says, and what it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.domain import Verdict
from harness.tools import result_file
from harness.tools.result_file import interpret, read_result_file


@pytest.mark.parametrize(
    ("content", "verdict", "witness"),
    [
        (b"unsat\n", Verdict.UNSAT, None),
        (b"holds", Verdict.UNSAT, None),
        (b" UNSAT \r\n", Verdict.UNSAT, None),
        (b"sat\n((X_0 1)\n(Y_0 2))\n", Verdict.SAT, "((X_0 1)\n(Y_0 2))"),
        (b"violated\n((X_0 1))", Verdict.SAT, "((X_0 1))"),
        (b"sat ((X_0 1)\n(X_1 2))", Verdict.SAT, "((X_0 1)\n(X_1 2))"),
        (b"sat", Verdict.SAT, ""),
        (b"timeout\n", Verdict.TIMEOUT, None),
        (b"timed-out", Verdict.TIMEOUT, None),
        (b"unknown", Verdict.UNKNOWN, None),
        (b"error", Verdict.ERROR, None),
        (b"", Verdict.ERROR, None),
        (b" \n\n", Verdict.ERROR, None),
        (b"maybe\n", Verdict.ERROR, None),
        (b"\nunsat\n", Verdict.ERROR, None),
        (b"\xff\x00\x01", Verdict.ERROR, None),
        (b"((X_0 1))", Verdict.ERROR, None),
    ],
)
def test_line_1_is_the_verdict(content: bytes, verdict: Verdict, witness: str | None) -> None:
    said = interpret(content)
    assert (said.verdict, said.witness) == (verdict, witness)
    assert bool(said.message) == (verdict is Verdict.ERROR)


def test_reasons_name_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r"
    assert read_result_file(path).message == "no result file was written"
    path.write_text("perhaps\n")
    assert read_result_file(path).message == "'perhaps' is no result word"
    monkeypatch.setattr(result_file, "MAX_BYTES", 3)
    assert "8 bytes" in read_result_file(path).message
    path.unlink()
    path.mkdir()
    assert read_result_file(path).verdict is Verdict.ERROR


def test_what_is_no_plain_file_is_not_read(tmp_path: Path) -> None:
    pipe, device = tmp_path / "pipe", tmp_path / "device"
    os.mkfifo(pipe)
    # Of the device's content there is no end, and the pipe is never written.
    device.symlink_to("/dev/zero")
    for path in (pipe, device, tmp_path):
        said = read_result_file(path)
        assert (said.verdict, said.message) == (Verdict.ERROR, "the result file is no plain file")
    (tmp_path / "written").write_text("unsat\n")
    (tmp_path / "link").symlink_to("written")
    assert read_result_file(tmp_path / "link").verdict is Verdict.UNSAT
