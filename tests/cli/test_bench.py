"""What the main job tells its user to type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import bench
from harness.cli.main import main
from harness.workflow.device import Machine
from harness.workflow.options import RunOptions, RunPlan
from harness.workflow.plan import plan_benchmark


@pytest.mark.parametrize(
    ("settings", "arguments", "typed"),
    [
        ({}, ["bench"], "lgbench bench cifar10_cnnb"),
        ({"LGBENCH_MAIN_JOB": "./run_benchmark.sh"}, ["bench"], "./run_benchmark.sh cifar10_cnnb"),
        ({"LGBENCH_MAIN_JOB": "docker run ... lg-bench"}, ["bench"], "docker run ... lg-bench cifar10_cnnb"),
        ({"LGBENCH_MAIN_JOB": " "}, ["bench"], "lgbench bench cifar10_cnnb"),
        ({"LGBENCH_MAIN_JOB": "./run_benchmark.sh"}, ["run"], "lgbench run cifar10_cnnb"),
    ],
)
def test_the_commands_are_those_that_the_user_can_type(
    settings: dict[str, str], arguments: list[str], typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LGBENCH_MAIN_JOB", raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    seen: list[tuple[RunOptions, RunPlan]] = []
    hints: list[str] = []

    def keep(spec: Any, options: RunOptions, _reporter: object) -> None:
        seen.append((options, plan_benchmark(spec, options, Machine((), None, 2))))

    def carry_out(run: Callable[[object], None], *, as_json: bool, hint: Callable[[RunPlan], str]) -> int:
        assert not as_json
        run(object())
        hints.append(hint(seen[0][1]))
        return 0

    monkeypatch.setattr(bench, "run_benchmark", keep)
    monkeypatch.setattr(bench, "carry_out", carry_out)
    assert main([*arguments, "cifar10_cnnb", "--inputs", "3", "--out", str(tmp_path / "out")]) == 0
    assert seen[0][1].command.startswith(f"{typed} --inputs 3 ")
    assert hints[0].endswith(f": {typed} --protocol full")
