"""Exit codes and last lines of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_progress import PLAN

from harness.cli.outcome import carry_out, exit_code
from harness.workflow.options import Reporter, RunSummary


def summary(errors: int = 0, missing: int = 0, conflicts: int = 0, interrupted: bool = False) -> RunSummary:
    sets = {"SK": 0, "AT": 0, "VS": 4, "VF": 0}
    block: dict[str, Any] = {"sets": sets, "SA": 100.0, "RA": 100.0, "VA": 100.0, "UNR": None, "UNR_nonlinear": None}
    block |= {"measured": {}, "errors": errors, "missing": missing, "work_s": 1.0, "wall_s": 1.0}
    content = {"benchmark": "tiny", "inputs": 4, "timeout_s": 10.0, "max_domains": None, "device": "CPU"}
    content |= {"variants": {"a": block}, "conflicts": [{}] * conflicts}
    return RunSummary(Path("out"), content, Path("out/report.html"), interrupted)


@pytest.mark.parametrize(
    ("done", "code"),
    [
        (summary(), 0),
        (summary(errors=1), 1),
        (summary(missing=1), 1),
        (summary(missing=1, interrupted=True), 1),
        (summary(conflicts=1), 3),
        (summary(conflicts=1, errors=2, interrupted=True), 3),
    ],
)
def test_exit_codes(done: RunSummary, code: int) -> None:
    assert exit_code(done) == code


def test_an_interrupted_run_says_how_to_continue(capsys: pytest.CaptureFixture[str]) -> None:
    def run(reporter: Reporter) -> RunSummary:
        reporter.planned(PLAN)
        return summary(missing=3, interrupted=True)

    assert carry_out(run, as_json=False, hint=lambda _: "") == 1
    assert "3 of 8 inputs open; continue with: lgbench bench tiny --resume" in capsys.readouterr().out


def test_an_interruption_anywhere_says_so_too(capsys: pytest.CaptureFixture[str]) -> None:
    def run(reporter: Reporter) -> RunSummary:
        reporter.planned(PLAN)
        raise KeyboardInterrupt

    assert carry_out(run, as_json=False, hint=lambda _: "") == 1
    assert "continue with: lgbench bench tiny --resume" in capsys.readouterr().out


def test_json_is_all_of_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    def run(reporter: Reporter) -> RunSummary:
        reporter.planned(PLAN)
        return summary()

    assert carry_out(run, as_json=True, hint=lambda _: "a hint") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["benchmark"] == "tiny"
    assert "a hint" in captured.err
