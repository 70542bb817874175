from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.domain import Instance, Job, Limits, ToolAnswer, UsageError, Verdict
from harness.tools.builtin import BuiltinTool
from harness.tools.contract import Progress
from harness.tools.dummy import DummyTool
from harness.tools.registry import FACTORIES, ToolOptions, make_tool

ROOT = Path(__file__).resolve().parents[2]


def test_each_tool_is_made_under_its_own_name(tmp_path: Path) -> None:
    for name in FACTORIES:
        assert make_tool(name, ToolOptions(tmp_path)).name == name


def test_options_reach_the_tool(tmp_path: Path) -> None:
    made = make_tool("builtin", ToolOptions(tmp_path, device="cuda", seed=5))
    assert made.identity() == BuiltinTool(tmp_path, device="cuda", seed=5).identity()
    assert made.identity() != make_tool("builtin", ToolOptions(tmp_path)).identity()
    heard: list[Progress] = []
    told = make_tool("builtin", ToolOptions(tmp_path, on_progress=heard.append))
    assert isinstance(told, BuiltinTool)
    told.report(Progress("k", "bab", 1))
    assert heard == [Progress("k", "bab", 1)]


def test_an_unknown_tool_is_a_usage_error_that_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown tool 'nix'; known: .*builtin"):
        make_tool("nix", ToolOptions(tmp_path))


def test_the_dummy_says_what_it_is_told() -> None:
    jobs = [Job(key, Instance(Path("n"), Path("p"), 1.0), "n", 0, Limits(1.0)) for key in "ab"]
    dummy = DummyTool(lambda job: ToolAnswer(Verdict.UNKNOWN, 1.0, 1.0, message=job.key), batched=False)
    assert [(job.key, answer.message) for job, answer in dummy.decide(jobs)] == [("a", "a"), ("b", "b")]
    assert dummy.batches == [tuple(jobs)]
    assert not dummy.batched
    assert dummy.identity() != DummyTool(lambda _: ToolAnswer(Verdict.SAT, 0, 0), label="other").identity()


def test_tools_load_neither_torch_nor_the_engine() -> None:
    code = (
        "import sys, harness.tools.registry, harness.tools.dummy, harness.run.scheduler\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'torch' or name.startswith('harness.verifier')])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
