"""An audit finds whatever was changed after a run, and every wrong answer; it finds nothing in an honest run."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_benchmark import Silent

from harness.cli.audit import audit_lines
from harness.cli.main import main
from harness.domain import Counterexample, Job, Stage, ToolAnswer, UsageError, Verdict
from harness.formats.vnnlib2_writer import write_difference_query
from harness.recheck.service import recheck
from harness.run.store import Store
from harness.tools import toy_networks as toy
from harness.tools.dummy import DummyTool
from harness.workflow.audit import Audit, audit_run
from harness.workflow.device import Machine
from harness.workflow.instances import run_instances
from harness.workflow.manifest import MANIFEST_FILE, MANIFEST_META, program_sha256
from harness.workflow.options import RunOptions

WHOLE = toy.box([(-1.0, 1.0)] * 2)
LEVELS = {"low": 1.5, "mid": 2.5, "high": 3.0}
"""The network's first output reaches 2: the first property is violated, the others are not."""


def honest(job: Job) -> ToolAnswer:
    if job.instance.property.name == "low.vnnlib":
        return ToolAnswer(Verdict.SAT, 0.1, 0.1, Stage.ATTACK, Counterexample(np.ones(2, np.float32)))
    return ToolAnswer(Verdict.UNSAT, 0.1, 0.1, Stage.INCOMPLETE)


def made(root: Path, answer: Callable[[Job], ToolAnswer] = honest) -> Path:
    """Runs a list of three instances with a tool that says what it is told; returns the run folder."""
    bench = root / "bench"
    (bench / "onnx").mkdir(parents=True)
    (bench / "vnnlib").mkdir()
    (bench / "onnx/net.onnx").write_bytes(toy.absolute_sum())
    for name, level in LEVELS.items():
        (bench / f"vnnlib/{name}.vnnlib").write_text(toy.prop(2, 2, [(WHOLE, toy.at_least(level))]))
    listed = "".join(f"onnx/net.onnx,vnnlib/{name}.vnnlib,9\n" for name in LEVELS)
    (bench / "instances.csv").write_text(listed)
    options = RunOptions(out=root / "run", command="lgbench run")
    run_instances(
        bench / "instances.csv",
        options,
        Silent(),
        machine=Machine((), None, 2),
        tool_factory=lambda *_: DummyTool(answer),
    )
    return root / "run"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("original"))


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of a finished run; its networks and properties stand in another folder, which no test changes."""
    return Path(shutil.copytree(original, tmp_path / "run"))


def audited(run: Path, sample: int = 10, answer: Callable[[Job], ToolAnswer] | None = None) -> Audit:
    def second(job: Job) -> ToolAnswer:
        return recheck(job.instance.network, job.instance.property, 20.0)

    return audit_run(run, sample, tool=DummyTool(answer or second))


def checks(found: Audit) -> set[tuple[str, str]]:
    return {(one.check, one.where) for one in found.disagreements}


def edit(run: Path, statement: str) -> None:
    with sqlite3.connect(run / "results.db") as db:
        assert db.execute(statement).rowcount > 0
    db.close()


def test_an_honest_run_agrees(run: Path) -> None:
    found = audited(run)
    assert found.disagreements == []
    assert found.notes == []
    assert (found.manifest, found.files, found.results) == ("present", 4, 3)
    assert (found.counterexamples, found.counterexamples_confirmed) == (1, 1)
    assert (found.unsat, found.count("confirmed")) == (2, 2)
    assert found.to_json()["agrees"] is True
    assert audit_lines(found)[-1] == "the run agrees with all that was checked"


def test_folders_whose_names_are_no_text_can_be_run_in_and_audited(tmp_path: Path) -> None:
    made(tmp_path)
    bench, run = (tmp_path / os.fsdecode(name) for name in (b"b\xe9nch", b"r\xfcn"))
    (tmp_path / "bench").rename(bench)
    done = run_instances(
        bench / "instances.csv",
        RunOptions(out=run, command="lgbench run"),
        Silent(),
        machine=Machine((), None, 2),
        tool_factory=lambda *_: DummyTool(honest),
    )
    assert (run / "results.csv").read_text().startswith(r"b\udce9nch,onnx/net.onnx,")
    assert done.report.read_bytes()
    found = audited(run)
    assert (found.disagreements, found.manifest, found.files) == ([], "present", 4)


def test_the_sample_is_random_and_repeatable(run: Path) -> None:
    def chosen(seed: int) -> list[int]:
        found = audit_run(run, 1, seed, tool=DummyTool(honest))
        return [one.index for one in found.rechecked]

    assert chosen(0) == chosen(0)
    assert {chosen(seed)[0] for seed in range(8)} == {1, 2}


def test_an_audit_changes_nothing(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    audited(run, 1)
    # A reader of SQLite's log may leave an empty one.
    left = {path for path in run.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm"))}
    assert left == before.keys()
    assert all(path.read_bytes() == data for path, data in before.items())


@pytest.mark.parametrize("name", ["summary.json", "results.csv", "counterexamples/net_low.counterexample"])
def test_a_changed_or_lost_output_is_found(run: Path, name: str) -> None:
    path = run / name
    path.write_bytes(path.read_bytes() + b" ")
    assert ("hash", name) in checks(audited(run, 0))
    path.unlink()
    assert ("hash", name) in checks(audited(run, 0))


def test_a_counterexample_file_that_the_run_did_not_leave_is_found(run: Path) -> None:
    (run / "counterexamples/more.counterexample").write_text("((X_0 0))\n")
    assert checks(audited(run, 0)) == {("hash", "counterexamples/more.counterexample")}


def test_a_changed_manifest_is_found(run: Path) -> None:
    path = run / MANIFEST_FILE
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    assert checks(audited(run, 0)) == {("hash", MANIFEST_FILE)}
    path.unlink()
    found = audited(run, 0)
    assert ("hash", MANIFEST_FILE) in checks(found)
    assert found.manifest == "missing"


@pytest.mark.parametrize("content", ["[]", "{}", "{", '{"schema": 1}', '{"schema": 1, "files": [1]}', "[" * 100_000])
def test_a_manifest_of_another_form_is_a_usage_error(run: Path, content: str) -> None:
    (run / MANIFEST_FILE).write_text(content)
    with pytest.raises(UsageError, match="manifest"):
        audited(run, 0)


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ("UPDATE results SET verdict = 'unsat' WHERE idx = 0", "net"),
        ("UPDATE results SET max_domains = 5 WHERE idx = 1", "net 1"),
        ("UPDATE results SET result_set = 'SK' WHERE idx = 1", "net 1"),
        ("DELETE FROM results WHERE idx = 2", "net"),
    ],
)
def test_a_changed_result_is_found(run: Path, statement: str, where: str) -> None:
    edit(run, statement)
    found = audited(run, 0)
    assert ("result", where) in checks(found)
    assert (("result", "summary.json") in checks(found)) == (where == "net"), "the summary is of verdicts alone"


@pytest.mark.parametrize("column", ["wall_s", "neurons", "message", "counterexample_y", "unstable_masks"])
def test_a_change_that_nothing_else_follows_from_is_found(run: Path, column: str) -> None:
    edit(run, f"UPDATE results SET {column} = 0 WHERE idx = 2")
    assert ("result", "net 2") in checks(audited(run, 0))


@pytest.mark.parametrize("value", ["'[1]'", "'null'", "'{\"variants\": []}'"])
def test_a_changed_header_is_found_and_not_believed(run: Path, value: str) -> None:
    edit(run, f"UPDATE meta SET value = {value} WHERE name = 'header'")
    assert checks(audited(run, 0)) == {("result", "results.db, header")}


@pytest.mark.parametrize("value", ["timeout_s = -1", "timeout_on = 'x'", "wall_s = 'long'", "idx = 'first'"])
def test_a_result_that_no_run_has_is_one_clear_line(run: Path, value: str) -> None:
    edit(run, f"UPDATE results SET {value} WHERE idx = 2")
    with pytest.raises(UsageError, match=value.rsplit(maxsplit=1)[-1].strip("'")):
        audited(run, 0)


def test_a_counterexample_that_violates_nothing_is_found(run: Path) -> None:
    edit(run, "UPDATE results SET counterexample_x = zeroblob(8) WHERE idx = 0")
    found = audited(run, 0)
    assert ("counterexample", "net 0") in checks(found)
    assert found.counterexamples_confirmed == 0


def test_changed_files_are_found(tmp_path: Path) -> None:
    run = made(tmp_path)
    prop, network = tmp_path / "bench/vnnlib/high.vnnlib", tmp_path / "bench/onnx/net.onnx"
    prop.write_text(prop.read_text() + "; later\n")
    network.unlink()
    found = audited(run, 0)
    assert {("hash", str(prop)), ("hash", str(network))} <= checks(found)
    assert ("counterexample", "net 0") in checks(found)


def test_a_list_that_was_killed_is_not_said_to_disagree(tmp_path: Path) -> None:
    run = made(tmp_path)
    # As a run leaves its folder that never came to its end.
    (run / MANIFEST_FILE).unlink()
    with Store.open(run / "results.db") as store:
        store.meta[MANIFEST_META] = None
    found = audited(run)
    assert found.disagreements == []
    assert (found.manifest, found.files, found.counterexamples, found.rechecked) == ("missing", 0, 0, [])
    assert "the files of 3 results are in no manifest, and are not compared" in found.notes
    edit(run, "DELETE FROM results WHERE idx = 2")
    assert "1 of the planned inputs have no result" in audited(run, 0).notes
    # What its files are is known again where they stand as in a benchmark.
    shutil.copytree(tmp_path / "bench", run / "benchmark")
    found = audited(run)
    assert (found.disagreements, found.files, found.counterexamples_confirmed) == ([], 3, 1)
    (run / "benchmark/vnnlib/low.vnnlib").write_text("; another\n")
    assert ("hash", str(run / "benchmark/vnnlib/low.vnnlib")) in checks(audited(run, 0))


def test_instances_of_several_networks_are_told_apart_by_content(tmp_path: Path) -> None:
    bench = tmp_path / "bench"
    (bench / "onnx").mkdir(parents=True)
    (bench / "vnnlib").mkdir()
    (bench / "onnx/f.onnx").write_bytes(toy.absolute_sum())
    (bench / "onnx/g.onnx").write_bytes(toy.grafted())
    first = write_difference_query(np.zeros(2, np.float32), np.ones(2, np.float32), 0.75, (1, 2), (1, 2))
    before, base, graft, after = re.split(
        r"(?ms)(^\(declare-network base.*?)(^\(declare-network graft.*?)(?=^\(assert)", first
    )
    # The same list, but the networks are joined in the order in which a property declares them.
    for name, text in (("p", first), ("q", before + graft + base + after)):
        (bench / f"vnnlib/{name}.vnnlib").write_text(text)
    both = "[('base', 'onnx/f.onnx'), ('graft', 'onnx/g.onnx')]"
    (bench / "instances.csv").write_text("".join(f'"{both}",vnnlib/{name}.vnnlib,9\n' for name in "pq"))
    answer = ToolAnswer(Verdict.UNKNOWN, 0.1, 0.1)
    run_instances(
        bench / "instances.csv",
        RunOptions(out=tmp_path / "run"),
        Silent(),
        machine=Machine((), None, 2),
        tool_factory=lambda *_: DummyTool(lambda _job: answer),
    )
    assert len({path.name for path in (tmp_path / "run/joined/onnx").iterdir()}) == 2
    found = audited(tmp_path / "run", 0)
    assert (found.disagreements, found.files) == ([], 4)


def test_a_wrong_unsat_is_contradicted(tmp_path: Path) -> None:
    run = made(tmp_path, lambda _job: ToolAnswer(Verdict.UNSAT, 0.1, 0.1, Stage.BAB))
    found = audited(run)
    assert checks(found) == {("unsat", "net 0")}
    assert [one.outcome for one in found.rechecked] == ["contradicted", "confirmed", "confirmed"]
    assert audit_lines(found)[-1] == "THE RUN DISAGREES"


def test_what_the_second_verifier_cannot_say_is_no_disagreement(run: Path) -> None:
    said = {1: ToolAnswer(Verdict.TIMEOUT, 1.0, 1.0), 2: ToolAnswer(Verdict.ERROR, 1.0, 1.0, message="it broke")}
    found = audited(run, 10, lambda job: said[job.index])
    assert found.disagreements == []
    assert [(one.outcome, one.message) for one in found.rechecked] == [("open", ""), ("failed", "it broke")]


def test_a_false_counterexample_of_the_second_verifier_is_not_believed(run: Path) -> None:
    found = audited(
        run, 10, lambda _job: ToolAnswer(Verdict.SAT, 1.0, 1.0, None, Counterexample(np.zeros(2, np.float32)))
    )
    assert found.disagreements == []
    assert {one.outcome for one in found.rechecked} == {"failed"}


def test_the_manifest_names_what_determined_the_results(run: Path) -> None:
    manifest = json.loads((run / MANIFEST_FILE).read_text())
    assert manifest["program_sha256"] == program_sha256()
    assert {entry["role"] for entry in manifest["files"]} == {"network", "property"}
    assert all(len(entry["sha256"]) == 64 for entry in manifest["files"])
    assert manifest["results"]["net"]["rows"] == 3
    assert set(manifest["outputs"]) == {"summary.json", "results.csv", "counterexamples/net_low.counterexample"}
    assert manifest["provenance"]["tool_identity"]


def test_exit_codes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(run), "--sample", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["agrees"] is True
    (run / "results.csv").write_text("")
    assert main(["audit", str(run), "--sample", "0"]) == 3
    assert main(["audit", str(tmp_path / "nothing")]) == 2
    assert main(["audit", str(run), "--timeout", "nan"]) == 2


@pytest.mark.slow
def test_the_second_verifier_in_a_process_of_its_own(run: Path) -> None:
    found = audit_run(run, 1, timeout_s=60.0)
    assert [one.outcome for one in found.rechecked] == ["confirmed"]
