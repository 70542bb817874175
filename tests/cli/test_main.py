"""The frame of the command: lazy imports, one-line errors, exit codes, signals."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from harness.cli import main as frame
from harness.cli.main import COMMANDS, cli, main
from harness.domain import LgBenchError, UsageError

REPOSITORY = Path(__file__).resolve().parents[2]


def test_help_lists_every_command_without_importing_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, entry in COMMANDS.items():
        assert f"  {name}" in shown
        assert entry.help in shown


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_there_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert "Usage: lgbench" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from harness.cli.main import main; main(['--help']); "
        "sys.exit(bool({'torch', 'numpy', 'rich', 'pydantic', 'onnx', 'jinja2'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_main_job_does_not_import_torch() -> None:
    code = "import sys, harness.cli.bench, harness.cli.run; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nix"], "No such command 'nix'"),
        (["bench"], "NAME"),
        (["bench", "nix"], "known: cifar10_cnnb"),
        (["bench", "cifar10_cnnb", "--inputs", "0"], "--inputs"),
        (["bench", "cifar10_cnnb", "--device", "tpu"], "tpu"),
        (["run"], "--instances CSV"),
        (["run", "cifar10_cnnb", "--instances", "x.csv"], "one of the two"),
        (["run", "--instances", "/nonexistent.csv", "--out", "/nonexistent"], "/nonexistent.csv"),
        (["run", "--instances", "/nonexistent.csv"], "--out"),
        (["show", "long" * 100], "cannot be read or written"),
        (["bench", "cifar10_cnnb", "--out", "long" * 100], "cannot be read or written"),
        (["verify", "/nonexistent.onnx", "/nonexistent.vnnlib"], "/nonexistent.onnx"),
        (["data", "fetch", "svhn"], "cifar10"),
    ],
)
def test_usage_errors_are_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (UsageError("two\nlines"), 2),
        (click.UsageError("wrong"), 2),
        (LgBenchError("broken"), 1),
        (PermissionError(13, "Permission denied", "/root/file"), 2),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (KeyboardInterrupt(), 1),
        (click.Abort(), 1),
    ],
)
def test_what_a_command_raises_becomes_an_exit_code(
    raised: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise raised

    monkeypatch.setattr(cli, "main", fail)
    assert main([]) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_package_is_named_and_one_of_ours_is_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(cli, "main", lambda **_kwargs: fail("onnx.helper"))
    assert main([]) == 2
    assert "the package onnx is not installed" in capsys.readouterr().err
    monkeypatch.setattr(cli, "main", lambda **_kwargs: fail("harness.nowhere"))
    with pytest.raises(ModuleNotFoundError):
        main([])


def test_a_command_gives_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "main", lambda **_kwargs: 3)
    assert main([]) == 3


def test_a_command_needs_no_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "main", lambda **_kwargs: 3)
    # As Python starts in a shell's `>&-`.
    monkeypatch.setattr(sys, "stdout", None)
    assert main([]) == 3


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().out


def test_sigterm_is_an_interruption(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "main", lambda **_kwargs: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main([]) == frame.EXIT_INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err == "error: interrupted\n"
