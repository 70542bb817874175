"""A folder of scripts as a tool: every way in which a verifier can answer, fail and be late."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.domain import Instance, Job, Limits, ToolAnswer, UsageError, Verdict
from harness.formats.compressed import gzip_bytes
from harness.judging.judge import Judge
from harness.tools import script, toy_networks
from harness.tools.contract import Progress, Tool
from harness.tools.registry import ToolOptions, make_tool
from harness.tools.script import PREPARE, RUN, ScriptFolder, ScriptTool
from harness.tools.supervise import ToolBounds

LIMIT_S = 30.0
BOX = toy_networks.box([(0.5, 1.0), (0.5, 1.0)])


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """|x_0| + |x_1| >= 1.4 on [0.5, 1]^2, which the middle of the box violates; both files gzipped."""
    network, prop = tmp_path / "in" / "net.onnx.gz", tmp_path / "in" / "p.vnnlib.gz"
    network.parent.mkdir()
    network.write_bytes(gzip_bytes(toy_networks.absolute_sum()))
    prop.write_bytes(gzip_bytes(toy_networks.prop(2, 2, [(BOX, toy_networks.at_least(1.4))]).encode()))
    return Job(
        "k" * 64, Instance(network, prop, LIMIT_S, "onnx/net.onnx", "vnnlib/p.vnnlib"), "net", 0, Limits(LIMIT_S)
    )


def dummy(tmp_path: Path, told: dict[str, Any], **options: Any) -> Tool:
    path = tmp_path / "told.json"
    path.write_text(json.dumps(told))
    return make_tool(f"dummy:{path}", ToolOptions(tmp_path / "logs", category="2025_toys", **options))


def answer(tool: Tool, job: Job) -> ToolAnswer:
    ((answered, said),) = tool.decide([job])
    assert answered is job
    return said


def limited(job: Job, seconds: float) -> Job:
    return Job(job.key, job.instance, job.variant, job.index, Limits(seconds))


def test_a_counterexample_is_replayed(tmp_path: Path, job: Job) -> None:
    said = answer(dummy(tmp_path, {"verdict": "sat", "witness": "center"}), job)
    assert said.verdict is Verdict.SAT
    assert said.wall_s == said.work_s > 0
    judged = Judge().judge(job, said)
    assert judged.verdict is Verdict.SAT
    assert judged.counterexample is not None
    assert judged.counterexample.x.tolist() == [0.75, 0.75]


@pytest.mark.parametrize(
    ("witness", "reason"),
    [
        ("", "no_ce"),
        ("((X_0 0.75))", "wrong_shape"),
        ("(X_0 0.75", "malformed_ce"),
        ("((X_0 0.5)\n(X_1 0.5))", "spec_not_violated"),
    ],
)
def test_a_wrong_counterexample_is_an_error_of_its_class(tmp_path: Path, job: Job, witness: str, reason: str) -> None:
    judged = Judge().judge(job, answer(dummy(tmp_path, {"verdict": "sat", "witness": witness}), job))
    assert judged.verdict is Verdict.ERROR
    assert judged.witness is not None
    assert judged.witness.verdict.value == reason


@pytest.mark.parametrize(
    ("told", "verdict", "reason"),
    [
        ({"verdict": "unsat"}, Verdict.UNSAT, ""),
        ({}, Verdict.UNKNOWN, ""),
        ({"garbage": "Segmentation fault\n"}, Verdict.ERROR, "'Segmentation fault' is no result word"),
        ({"garbage": ""}, Verdict.ERROR, "the result file is empty"),
        ({"nothing": True}, Verdict.ERROR, "no result file was written"),
        (
            {"verdict": "unsat", "exit": 3, "print": "it broke"},
            Verdict.ERROR,
            "run_instance.sh: exit status 3: it broke",
        ),
        ({"exit": 124}, Verdict.TIMEOUT, "run_instance.sh ended with exit status 124"),
        ({"verdict": "unsat", "fork": 600}, Verdict.UNSAT, ""),
    ],
)
def test_answers_and_failures(tmp_path: Path, job: Job, told: dict[str, Any], verdict: Verdict, reason: str) -> None:
    said = answer(dummy(tmp_path, told), job)
    assert (said.verdict, said.message) == (verdict, reason)


def test_a_late_answer_is_a_timeout(tmp_path: Path, job: Job) -> None:
    late = limited(job, 0.05)
    judged = Judge().judge(late, answer(dummy(tmp_path, {"verdict": "unsat", "delay": 0.2}), late))
    assert (judged.verdict, judged.tool_verdict) == (Verdict.TIMEOUT, Verdict.UNSAT)


def test_one_that_ignores_the_limit_and_term_is_killed(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "GRACE_S", 0.5)
    monkeypatch.setattr(script, "supervise", lambda *given, **named: supervise(*given, **named, kill_after_s=0.3))
    said = answer(
        dummy(tmp_path, {"verdict": "unsat", "delay": 600, "ignore_term": True, "fork": 600}), limited(job, 1)
    )
    assert said.verdict is Verdict.TIMEOUT
    assert said.message == "run_instance.sh did not end after 1 s and was killed"
    assert said.wall_s >= 1


supervise = script.supervise


def test_memory_beyond_the_bound_is_an_error(tmp_path: Path, job: Job) -> None:
    tool = dummy(tmp_path, {"memory_mib": 200, "delay": 600}, bounds=ToolBounds(memory_gib=0.1))
    said = answer(tool, job)
    assert said.verdict is Verdict.ERROR
    assert "GiB of memory" in said.message


def test_endless_output_is_an_error(tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.tools.supervise.MOST_LOG_BYTES", 2**20)
    tool = ScriptTool("x", ScriptFolder(folder_with(tmp_path, "yes")), tmp_path / "logs")
    said = answer(tool, job)
    assert said.verdict is Verdict.ERROR
    assert said.message.startswith(f"{RUN} was killed: it printed more than")


def test_processor_time_beyond_the_bound_is_a_timeout(tmp_path: Path, job: Job) -> None:
    said = answer(dummy(tmp_path, {"delay": 600, "burn": True}, bounds=ToolBounds(cpu_s=0.3)), job)
    assert said.verdict is Verdict.TIMEOUT
    assert "processor time" in said.message


def test_everything_printed_and_the_result_file_are_kept(tmp_path: Path, job: Job) -> None:
    tool = dummy(tmp_path, {"verdict": "unsat", "print": "thinking"})
    for _ in range(2):
        answer(tool, job)
    (log,) = (tmp_path / "logs" / "dummy").glob("*.log")
    assert log.name == f"net_p-{'k' * 12}.log"
    assert log.read_text().count("thinking\n") == 2
    assert f"== {RUN}: exit status 0" in log.read_text()
    assert log.with_suffix(".result").read_text() == "unsat\n"


def folder_with(tmp_path: Path, run: str, prepare: str = "") -> Path:
    folder = tmp_path / "a tool"
    folder.mkdir()
    (folder / PREPARE).write_text(prepare)
    (folder / RUN).write_text(run)
    return folder


@pytest.mark.parametrize(
    ("run", "verdict", "kept"),
    [
        ('mkfifo "$5"', Verdict.ERROR, None),
        ('ln -s /dev/zero "$5"', Verdict.ERROR, None),
        ('truncate -s 3T "$5"', Verdict.ERROR, None),
        ('echo unsat > "$5.mine"; ln -s "$5.mine" "$5"', Verdict.UNSAT, "unsat\n"),
    ],
)
def test_whatever_stands_for_the_result_file_is_read_to_an_end(
    tmp_path: Path, job: Job, run: str, verdict: Verdict, kept: str | None
) -> None:
    tool = ScriptTool("x", ScriptFolder(folder_with(tmp_path, run)), tmp_path / "logs")
    assert answer(tool, job).verdict is verdict
    left = list((tmp_path / "logs" / "x").glob("*.result"))
    assert [path.read_text() for path in left if not path.is_symlink()] == ([] if kept is None else [kept])
    assert all(path.lstat().st_size < 100 for path in left), "3 TiB are not for the run folder"


def test_scripts_are_called_as_the_competition_does(tmp_path: Path, job: Job) -> None:
    folder = folder_with(
        tmp_path,
        'printf "%s|" "$@" > "$LOOK/run"; touch "$4.x"; cat "$4" > "$LOOK/spec"; echo unsat > "$5"',
        'printf "%s|" "$@" > "$LOOK/prepare"; pwd > "$LOOK/cwd"; echo "[$CUDA_VISIBLE_DEVICES]" > "$LOOK/gpu"',
    )
    tool = ScriptTool("x", ScriptFolder(folder, settings={"LOOK": str(tmp_path)}), tmp_path / "logs", category="cifar")
    assert answer(tool, job).verdict is Verdict.UNSAT
    version, category, onnx, vnnlib, end = (tmp_path / "prepare").read_text().split("|")
    assert (version, category, end) == ("v1", "cifar", "")
    assert onnx.endswith("/cifar/onnx/net.onnx")
    assert vnnlib.endswith("/cifar/vnnlib/p.vnnlib")
    assert (tmp_path / "run").read_text().split("|")[:4] == [version, category, onnx, vnnlib]
    assert (tmp_path / "run").read_text().split("|")[5] == "30"
    assert (tmp_path / "cwd").read_text().strip() == str(folder)
    assert (tmp_path / "gpu").read_text() == "[]\n"
    assert (tmp_path / "spec").read_text().startswith("(declare-const X_0 Real)")
    assert not Path(onnx).exists(), "copies are removed"


def test_a_failed_preparation_says_so(tmp_path: Path, job: Job) -> None:
    folder = folder_with(tmp_path, 'echo unsat > "$5"', "echo no licence; exit 7")
    said = answer(ScriptTool("x", ScriptFolder(folder), tmp_path / "logs"), job)
    assert (said.verdict, said.message) == (Verdict.ERROR, f"{PREPARE}: exit status 7: no licence")


def test_preparation_is_measured_by_itself(tmp_path: Path, job: Job) -> None:
    folder = folder_with(tmp_path, 'sleep 0.1; echo unsat > "$5"', "sleep 0.4")
    said = answer(ScriptTool("x", ScriptFolder(folder), tmp_path / "logs"), job)
    assert said.prepare_s >= 0.4
    assert said.wall_s >= 0.1


def test_a_missing_instance_is_an_error(tmp_path: Path, job: Job) -> None:
    job.instance.network.unlink()
    said = answer(dummy(tmp_path, {}), job)
    assert said.verdict is Verdict.ERROR
    assert "no such file" in said.message


def test_progress_is_told(tmp_path: Path, job: Job) -> None:
    heard: list[Progress] = []
    answer(dummy(tmp_path, {}, on_progress=heard.append), job)
    assert heard == [Progress(job.key, "running", 0)]


def test_the_identity_follows_scripts_bounds_and_what_is_installed(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "echo")
    installed = folder / "env" / "installed.txt"

    def identity(**more: Any) -> str:
        return ScriptTool("x", ScriptFolder(folder, installed, "do so"), tmp_path, **more).identity()

    with pytest.raises(UsageError, match=r"is not installed .*do so"):
        identity()
    installed.parent.mkdir()
    installed.write_text("tool==1")
    seen = [identity(), identity(category="y"), identity(device="cuda"), identity(bounds=ToolBounds(cores=1))]
    assert seen[0] == identity()
    installed.write_text("tool==2")
    seen.append(identity())
    (folder / RUN).write_text("echo 2")
    seen.append(identity())
    for built in (b"1", b"2"):
        (folder / "program").write_bytes(built * (2**20 + 1))
        seen.append(identity())
    assert len(set(seen)) == len(seen)


def test_a_folder_without_scripts_is_a_usage_error(tmp_path: Path) -> None:
    options = ToolOptions(tmp_path, folder=tmp_path)
    with pytest.raises(UsageError, match=f"has no {PREPARE}"):
        make_tool("x", options)
    with pytest.raises(UsageError, match="no such folder"):
        make_tool("x", ToolOptions(tmp_path, folder=tmp_path / "nix"))
    with pytest.raises(UsageError, match="is no name"):
        make_tool("builtin", options)


def test_a_dummy_without_its_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        make_tool(f"dummy:{tmp_path / 'nix'}", ToolOptions(tmp_path))
