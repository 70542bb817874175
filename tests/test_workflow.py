"""The main job as a whole with a dummy tool: what it leaves, what it never does twice, what it refuses unharmed."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tiny_benchmark import INPUTS, make_benchmark, write_network

from harness.config import BenchmarkSpec, load_spec
from harness.data.datasets import load_images
from harness.domain import (
    Counterexample,
    EngineRecord,
    InstanceResult,
    Job,
    ResultSet,
    Stage,
    ToolAnswer,
    UsageError,
    Verdict,
)
from harness.formats.instances import read_instances
from harness.formats.vnnlib import read_property
from harness.report.source import load_run
from harness.run.lock import run_lock
from harness.run.store import Store
from harness.tools.contract import OnProgress, Progress, Tool
from harness.tools.dummy import DummyTool
from harness.workflow.benchmark import run_benchmark
from harness.workflow.device import Device, Machine
from harness.workflow.folder import float_images
from harness.workflow.instances import run_instances
from harness.workflow.options import RunOptions, RunPlan, RunSummary
from harness.workflow.plan import plan_benchmark

CPU = Machine((), None, 2)
GPU = Machine(("H100",), "12.8", 16)


def cautious(job: Job) -> ToolAnswer:
    """Proves even inputs at the root, gives up on odd ones after some branching."""
    if job.index % 2:
        return ToolAnswer(Verdict.TIMEOUT, 1.0, 0.5, record=EngineRecord(domains=9, entered_bab=True, neurons=64))
    return ToolAnswer(Verdict.UNSAT, 0.2, 0.1, Stage.INCOMPLETE)


@dataclass
class Recorder:
    """A reporter that remembers, and can interrupt the run after some results."""

    interrupt_after: int | None = None
    plans: list[RunPlan] = field(default_factory=list)
    results: list[InstanceResult] = field(default_factory=list)
    earlier: Mapping[str, Mapping[ResultSet, int]] = field(default_factory=dict)
    worked_on: list[tuple[str, int, str, int]] = field(default_factory=list)

    def planned(self, plan: RunPlan) -> None:
        self.plans.append(plan)

    def step(self, text: str) -> None:
        assert text

    def resumed(self, sets: Mapping[str, Mapping[ResultSet, int]]) -> None:
        self.earlier = sets

    def working(self, job: Job, stage: str, domains: int) -> None:
        self.worked_on.append((job.variant, job.index, stage, domains))

    def decided(self, result: InstanceResult) -> None:
        self.results.append(result)
        if len(self.results) == self.interrupt_after:
            raise KeyboardInterrupt


@pytest.fixture
def spec(tmp_path: Path) -> BenchmarkSpec:
    return make_benchmark(tmp_path)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[BenchmarkSpec, Path]:
    """A benchmark and its finished run, which no test changes."""
    folder = tmp_path_factory.mktemp("original")
    spec = make_benchmark(folder)
    run(spec, folder / "out")
    return spec, folder / "out"


@pytest.fixture
def finished(original: tuple[BenchmarkSpec, Path], tmp_path: Path) -> tuple[BenchmarkSpec, Path]:
    """A copy of a finished run."""
    return original[0], Path(shutil.copytree(original[1], tmp_path / "finished"))


def run(
    spec: BenchmarkSpec,
    out: Path,
    answer: Callable[[Job], ToolAnswer] = cautious,
    reporter: Recorder | None = None,
    tools: list[DummyTool] | None = None,
    machine: Machine = CPU,
    label: str = "",
    **options: object,
) -> RunSummary:
    def factory(plan: RunPlan, folder: Path, _on_progress: OnProgress) -> Tool:
        assert folder == out
        tool = DummyTool(answer, label=f"{label}{plan.seed}")
        if tools is not None:
            tools.append(tool)
        return tool

    wishes = replace(RunOptions(out=out, command="lgbench bench tiny"), **options)  # type: ignore[arg-type]
    return run_benchmark(spec, wishes, reporter or Recorder(), machine=machine, tool_factory=factory)


def asked(tools: Sequence[DummyTool]) -> list[tuple[str, int]]:
    """What the tools were asked."""
    return [(job.variant, job.index) for tool in tools for batch in tool.batches for job in batch]


def test_a_run_leaves_its_whole_folder(spec: BenchmarkSpec, tmp_path: Path) -> None:
    out, reporter = tmp_path / "out", Recorder()
    done = run(spec, out, reporter=reporter)
    assert not done.interrupted
    assert (done.errors, done.missing, done.conflicts) == (0, 0, 0)
    assert json.loads((out / "summary.json").read_text()) == done.summary
    assert done.report.read_text().startswith("<!")
    blocks = done.summary["variants"]
    assert blocks["base"]["sets"] == {"SK": 1, "AT": 0, "VS": 4, "VF": 3}
    assert blocks["other"]["sets"] == {"SK": 2, "AT": 0, "VS": 3, "VF": 3}
    assert done.summary["published"][0]["SA"] == 78.1
    assert done.summary["complete"]
    assert len((out / "results.csv").read_text().splitlines()) == 2 * INPUTS
    assert len(list((out / "counterexamples").iterdir())) == 3
    shown = json.loads((out / "transfer.json").read_text())["transfers"]
    assert [(one["from"], one["to"], one["count"]) for one in shown] == [("base", "other", 0), ("other", "base", 0)]
    assert len(reporter.results) == 2 * INPUTS
    assert reporter.plans[0].protocol == "cpu"


def test_the_benchmark_is_laid_out_as_other_verifiers_take_it(finished: tuple[BenchmarkSpec, Path]) -> None:
    listed = read_instances(finished[1] / "benchmark/instances.csv")
    assert len(listed) == 2 * INPUTS
    first = listed[0]
    assert (first.network_name, first.property_name) == ("onnx/base.onnx", "vnnlib/cifar10_test_00000.vnnlib")
    assert len({one.property for one in listed}) == INPUTS
    prop = read_property(first.property, 3072, 10)
    assert float((prop.cases[0].box.upper - prop.cases[0].box.lower).max()) == pytest.approx(2 * 2 / 255, abs=1e-6)


def test_misclassified_inputs_are_not_asked_about(spec: BenchmarkSpec, tmp_path: Path) -> None:
    tools: list[DummyTool] = []
    run(spec, tmp_path / "out", tools=tools)
    expected = {(v, i) for v in ("base", "other") for i in range(INPUTS)} - {("base", 1), ("other", 1), ("other", 2)}
    assert set(asked(tools)) == expected
    with Store.open(tmp_path / "out/results.db") as store:
        clean = [row for row in store.rows() if row.stage is Stage.CLEAN]
    assert {(row.variant, row.index) for row in clean} == {("base", 1), ("other", 1), ("other", 2)}
    assert all(row.verdict is Verdict.SAT and row.tool_verdict is None for row in clean)


def test_an_error_of_the_clean_check_is_not_handed_to_the_tool(
    spec: BenchmarkSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuted(job: Job, *_: object) -> InstanceResult:
        return InstanceResult(job, Verdict.ERROR, None, None, 0.0, 0.0, message="the replay shows no violation")

    monkeypatch.setattr("harness.workflow.benchmark.clean_result", refuted)
    tools: list[DummyTool] = []
    reporter = Recorder()
    done = run(spec, tmp_path / "out", reporter=reporter, tools=tools)
    assert done.errors == 3
    assert not {("base", 1), ("other", 1), ("other", 2)} & set(asked(tools))
    assert len(reporter.results) == 2 * INPUTS


def test_what_the_tool_works_on_is_told_job_by_job(spec: BenchmarkSpec, tmp_path: Path) -> None:
    reporter = Recorder()

    def factory(_plan: RunPlan, _folder: Path, on_progress: OnProgress) -> Tool:
        def answer(job: Job) -> ToolAnswer:
            on_progress(Progress(job.key, "bab", 10 * job.index))
            on_progress(Progress("nobody's", "bab", 1))
            return cautious(job)

        return DummyTool(answer)

    run_benchmark(spec, RunOptions(out=tmp_path / "out", inputs=4), reporter, machine=CPU, tool_factory=factory)
    asked_about = [("base", 0), ("base", 2), ("base", 3), ("other", 0), ("other", 3)]
    assert reporter.worked_on == [(variant, index, "bab", 10 * index) for variant, index in asked_about]


def test_a_claimed_counterexample_that_is_none_does_not_count(spec: BenchmarkSpec, tmp_path: Path) -> None:
    def lie(job: Job) -> ToolAnswer:
        box = read_property(job.instance.property).cases[0].box
        return ToolAnswer(Verdict.SAT, 0.1, 0.1, Stage.ATTACK, Counterexample(box.upper + 1.0))

    done = run(spec, tmp_path / "out", lie)
    assert done.summary["variants"]["base"]["sets"]["AT"] == 0
    assert done.errors == 2 * INPUTS - 3


def test_an_interrupted_run_is_continued_without_deciding_anything_twice(spec: BenchmarkSpec, tmp_path: Path) -> None:
    whole = run(spec, tmp_path / "whole")
    out = tmp_path / "out"
    tools: list[DummyTool] = []
    first = run(spec, out, tools=tools, reporter=Recorder(interrupt_after=7))
    assert first.interrupted
    assert first.missing == 2 * INPUTS - 7
    assert first.report.exists()
    assert not first.summary["complete"]
    again = Recorder()
    second = run(spec, out, tools=tools, reporter=again, resume=True)
    assert not second.interrupted
    assert sum(sum(counts.values()) for counts in again.earlier.values()) == 7
    assert len(again.results) == 2 * INPUTS - 7
    stored = [(result.job.variant, result.job.index) for result in again.results]
    assert len(set(stored)) == len(stored)
    for name in ("base", "other"):
        assert second.summary["variants"][name]["sets"] == whole.summary["variants"][name]["sets"]
    assert second.summary["transitions"] == whole.summary["transitions"]


def test_an_interruption_in_the_clean_check_is_resumable(spec: BenchmarkSpec, tmp_path: Path) -> None:
    first = run(spec, tmp_path / "out", reporter=Recorder(interrupt_after=1))
    assert first.interrupted
    second = run(spec, tmp_path / "out", resume=True)
    assert (second.interrupted, second.missing) == (False, 0)


def test_an_interruption_once_everything_is_stored_is_none(
    spec: BenchmarkSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_row = Store.add

    def interrupted_after_the_last(store: Store, result: InstanceResult, *, tool: str) -> bool:
        stored = store_row(store, result, tool=tool)
        if len(store.rows()) == 2 * INPUTS:
            raise KeyboardInterrupt
        return stored

    monkeypatch.setattr(Store, "add", interrupted_after_the_last)
    done = run(spec, tmp_path / "out")
    assert (done.interrupted, done.missing) == (False, 0)
    assert done.summary["complete"]
    assert done.summary["finished_at"]


def test_a_tool_that_is_changed_while_it_decides_is_named(
    spec: BenchmarkSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def edited(job: Job) -> ToolAnswer:
        tools[-1]._label = "edited"
        return cautious(job)

    tools: list[DummyTool] = []
    run(spec, tmp_path / "same", tools=tools)
    assert not caplog.records
    run(spec, tmp_path / "edited", edited, tools=tools)
    assert "dummy was changed while it decided" in caplog.text


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def test_a_run_killed_while_it_writes_the_properties_keeps_its_options(spec: BenchmarkSpec, tmp_path: Path) -> None:
    class Killer(Recorder):
        def step(self, text: str) -> None:
            raise Killed(text)

    with pytest.raises(Killed):
        run(spec, tmp_path / "out", reporter=Killer(), inputs=3, timeout_s=7.5, variants=("other",), seed=9)
    assert load_run(tmp_path / "out").summary["variants"]["other"]["missing"] == 3
    again = Recorder()
    run(spec, tmp_path / "out", reporter=again, resume=True)
    (plan,) = again.plans
    assert (plan.inputs, plan.limits.timeout_s, plan.variants, plan.seed) == (3, 7.5, ("other",), 9)


def test_a_resume_with_other_options_that_is_killed_leaves_the_run_readable(
    finished: tuple[BenchmarkSpec, Path],
) -> None:
    class Killer(Recorder):
        def step(self, text: str) -> None:
            raise Killed(text)

    spec, out = finished
    before = load_run(out)
    with pytest.raises(Killed):
        run(spec, out, reporter=Killer(), inputs=3, variants=("other",), timeout_s=7.5, resume=True)
    assert load_run(out) == before
    again, third = Recorder(), Recorder()
    run(spec, out, reporter=again, resume=True)
    (plan,) = again.plans
    assert (plan.inputs, plan.variants, plan.limits.timeout_s) == (3, ("other",), 7.5), "the options were forgotten"
    run(spec, out, reporter=third, inputs=2, resume=True)
    (plan,) = third.plans
    assert (plan.inputs, plan.variants, plan.limits.timeout_s) == (2, ("other",), 7.5)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("tables", [False, True])
def test_a_store_in_which_nothing_was_begun_is_in_nobodys_way(
    spec: BenchmarkSpec, tmp_path: Path, tables: bool, resume: bool
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if tables:
        Store.open(out / "results.db", create=True).close()
    else:
        (out / "results.db").touch()
    assert run(spec, out, inputs=2, resume=resume).missing == 0


def test_a_finished_run_asks_nothing_on_resume(finished: tuple[BenchmarkSpec, Path]) -> None:
    spec, out = finished
    tools: list[DummyTool] = []
    again = run(spec, out, tools=tools, resume=True)
    assert asked(tools) == []
    assert again.missing == 0


def test_a_resume_keeps_what_the_run_was(spec: BenchmarkSpec, tmp_path: Path) -> None:
    first, second = Recorder(), Recorder()
    run(spec, tmp_path / "out", reporter=first, inputs=4, timeout_s=7.5, variants=("other",), seed=9, max_domains=5)
    run(spec, tmp_path / "out", reporter=second, resume=True)
    assert second.plans == first.plans
    assert second.results == []


def test_a_resume_may_add_inputs(spec: BenchmarkSpec, tmp_path: Path) -> None:
    tools: list[DummyTool] = []
    run(spec, tmp_path / "out", inputs=4)
    done = run(spec, tmp_path / "out", tools=tools, inputs=6, resume=True)
    assert {index for _, index in asked(tools)} == {4, 5}
    assert done.summary["inputs"] == 6
    assert sum(done.summary["variants"]["base"]["sets"].values()) == 6


def test_other_limits_are_other_jobs_and_only_they_count(spec: BenchmarkSpec, tmp_path: Path) -> None:
    run(spec, tmp_path / "out")
    proves = run(
        spec, tmp_path / "out", lambda _: ToolAnswer(Verdict.UNSAT, 1, 1, Stage.BAB), timeout_s=30.0, resume=True
    )
    assert proves.summary["timeout_s"] == 30
    assert proves.summary["variants"]["base"]["sets"] == {"SK": 1, "AT": 0, "VS": 7, "VF": 0}
    assert len((tmp_path / "out/results.csv").read_text().splitlines()) == 2 * INPUTS


def test_errors_are_tried_again_on_resume(spec: BenchmarkSpec, tmp_path: Path) -> None:
    first = run(spec, tmp_path / "out", lambda _: ToolAnswer(Verdict.ERROR, 0, 0, message="broken"))
    assert first.errors == 2 * INPUTS - 3
    second = run(spec, tmp_path / "out", resume=True)
    assert second.errors == 0


def test_a_tool_that_raises_costs_errors_not_the_run(spec: BenchmarkSpec, tmp_path: Path) -> None:
    def broken(_job: Job) -> ToolAnswer:
        raise RuntimeError("no such thing")

    done = run(spec, tmp_path / "out", broken)
    assert done.errors == 2 * INPUTS - 3
    assert (done.interrupted, done.missing) == (False, 0)


def test_the_device_chooses_the_protocol(spec: BenchmarkSpec) -> None:
    plan = plan_benchmark(spec, RunOptions(), GPU)
    assert (plan.protocol, plan.inputs, plan.limits.timeout_s) == ("full", 1000, 180)
    assert (plan.device, plan.out) == (Device("cuda", "H100, CUDA 12.8"), Path("results/tiny-full"))
    plan = plan_benchmark(spec, RunOptions(), CPU)
    assert (plan.protocol, plan.inputs, plan.out) == ("cpu", INPUTS, Path("results/tiny-cpu"))
    assert plan_benchmark(spec, RunOptions(protocol="full"), CPU).inputs == 1000
    assert plan_benchmark(spec, RunOptions(inputs=3), GPU).protocol == "custom"
    assert plan_benchmark(spec, RunOptions(inputs=1000, timeout_s=180), CPU).protocol == "full"


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but those that SQLite and the lock keep for themselves."""
    own = ("-wal", "-shm", "run.lock")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(own)
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "--resume"),
        ({"resume": True, "variants": ("nix",)}, "base, other"),
        ({"resume": True, "inputs": 5000}, "embedded"),
        ({"resume": True, "timeout_s": -1.0}, "positive"),
        ({"resume": True, "device": "cuda"}, "--device cpu"),
        ({"resume": True, "protocol": "huge"}, "full, cpu"),
        ({"resume": True, "data": Path("/nonexistent")}, "nonexistent"),
    ],
)
def test_bad_input_leaves_earlier_results_as_they_were(
    finished: tuple[BenchmarkSpec, Path], options: dict[str, object], words: str
) -> None:
    spec, out = finished
    before = tree(out)
    with pytest.raises(UsageError) as caught:
        run(spec, out, **options)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert tree(out) == before


def test_nothing_is_made_before_everything_is_checked(spec: BenchmarkSpec, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        run(spec, tmp_path / "out", inputs=5000)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["benchmark/instances.csv", "results.csv", "summary.json", "report.html"])
def test_a_file_that_cannot_be_written_is_one_clear_line(spec: BenchmarkSpec, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    run(spec, out, reporter=Recorder(interrupt_after=1))
    (out / name).unlink()
    (out / name / "in the way").mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot be read or written") as caught:
        run(spec, out, resume=True)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_even_be_looked_at_is_one_clear_line(spec: BenchmarkSpec, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read or written"):
        run(spec, tmp_path / ("long" * 100))


def test_a_second_run_in_the_same_folder_is_refused(finished: tuple[BenchmarkSpec, Path]) -> None:
    spec, out = finished
    with run_lock(out):
        for resume in (False, True):
            with pytest.raises(UsageError, match="another run"):
                run(spec, out, resume=resume)


def test_results_of_another_benchmark_are_not_resumed(spec: BenchmarkSpec, tmp_path: Path) -> None:
    run(spec, tmp_path / "out")
    spec.source.write_text(spec.source.read_text().replace("eps: 2/255", "eps: 1/255"))
    with pytest.raises(UsageError, match="radius"):
        run(load_spec(spec.source), tmp_path / "out", resume=True)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [("3, 32, 32", "3, 16, 64", "takes inputs of shape"), ("classes: 10", "classes: 12", "12 classes")],
)
def test_networks_that_do_not_fit_are_refused(
    spec: BenchmarkSpec, tmp_path: Path, old: str, new: str, words: str
) -> None:
    spec.source.write_text(spec.source.read_text().replace(old, new))
    with pytest.raises(UsageError, match=words):
        run(load_spec(spec.source), tmp_path / "out")


def test_a_missing_network_names_those_that_are_here(spec: BenchmarkSpec, tmp_path: Path) -> None:
    spec.network_path("other").unlink()
    with pytest.raises(UsageError, match="--variants base"):
        run(spec, tmp_path / "out")
    assert run(spec, tmp_path / "out", variants=("base",)).missing == 0


TRAINING = """
training: {eps: 2/255, alpha: 2.5/255, full: {epochs: 2, schedule: multistep}, short: {epochs: 1, schedule: onecycle}}
grafting: {full: {epochs: 2, schedule: cosine}, short: {epochs: 1, schedule: cosine}}
"""


def test_missing_networks_that_can_be_trained_come_with_the_command(spec: BenchmarkSpec, tmp_path: Path) -> None:
    spec.source.write_text(spec.source.read_text() + TRAINING)
    trainable = load_spec(spec.source)
    spec.network_path("other").unlink()
    with pytest.raises(UsageError, match=r"other\.onnx\.gz.*train_all tiny --data DIR`, or .*--variants base$"):
        run(trainable, tmp_path / "out")
    spec.network_path("base").unlink()
    with pytest.raises(
        UsageError, match=r"base\.onnx\.gz.*\(with 1 more\); make it with `.*train_all tiny --data DIR`$"
    ):
        run(trainable, tmp_path / "out")
    own = spec.source.rename(spec.root / "mine.yaml")
    with pytest.raises(UsageError, match=r"train_all .*mine\.yaml --data DIR"):
        run(load_spec(own), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_network_that_nothing_makes_is_to_be_put_there(spec: BenchmarkSpec, tmp_path: Path) -> None:
    for name in ("base", "other"):
        spec.network_path(name).unlink()
    with pytest.raises(
        UsageError, match=r"base\.onnx\.gz: the network of 'base' is missing \(with 1 more\); put it there"
    ):
        run(spec, tmp_path / "out")


def test_a_network_that_is_not_its_manifests_is_refused(spec: BenchmarkSpec, tmp_path: Path) -> None:
    manifest = spec.root / "models/tiny/base.json"
    manifest.write_text(json.dumps({"onnx": {"sha256": "0" * 64}}))
    with pytest.raises(UsageError, match="manifest"):
        run(spec, tmp_path / "out")


def test_figures_of_the_manifest_stand_in_the_summary(spec: BenchmarkSpec, tmp_path: Path) -> None:
    sha256 = run(spec, tmp_path / "first").summary["provenance"]["networks"]["base"]
    metrics = {"SA": {"value": 70.0, "n": 10000}, "RA": {"value": 50.0, "n": 10000, "attack": "pgd-100", "restarts": 1}}
    (spec.root / "models/tiny/base.json").write_text(json.dumps({"onnx": {"sha256": sha256}, "metrics": metrics}))
    block = run(spec, tmp_path / "out").summary["variants"]["base"]
    assert (block["SA"], block["RA"]) == (70.0, 50.0)
    assert block["measured"]["RA"]["attack"] == "pgd-100"


def test_an_instance_list_is_decided_without_labels(finished: tuple[BenchmarkSpec, Path], tmp_path: Path) -> None:
    listed = finished[1] / "benchmark/instances.csv"
    tools: list[DummyTool] = []

    def factory(*_: object) -> Tool:
        tools.append(DummyTool(cautious))
        return tools[-1]

    options = RunOptions(out=tmp_path / "listed", inputs=INPUTS + 3, timeout_s=5.0, command="lgbench run")
    reporter = Recorder()
    done = run_instances(listed, options, reporter, machine=CPU, tool_factory=factory)
    assert Counter(variant for variant, _ in asked(tools)) == {"base": INPUTS, "other": 3}
    assert done.missing == 0
    assert done.summary["variants"]["base"]["SA"] is None
    assert sum(done.summary["variants"]["other"]["sets"].values()) == 3
    assert {result.job.limits.timeout_s for result in reporter.results} == {5.0}
    again = run_instances(listed, replace(options, resume=True), Recorder(), machine=CPU, tool_factory=factory)
    assert again.missing == 0
    assert len(asked(tools)) == INPUTS + 3


def test_rows_with_bad_files_are_errors_and_the_others_are_decided(
    finished: tuple[BenchmarkSpec, Path], tmp_path: Path
) -> None:
    folder = finished[1] / "benchmark"
    damaged, listed = folder / "vnnlib/damaged.vnnlib.gz", folder / "some.csv"
    damaged.write_bytes((folder / "vnnlib/cifar10_test_00000.vnnlib.gz").read_bytes()[:100])
    names = ["onnx/base.onnx,vnnlib/{}.vnnlib,20", "onnx/{}.onnx,vnnlib/cifar10_test_00000.vnnlib,20"]
    rows = [names[0].format(x) for x in ("nix", "cifar10_test_00000", "damaged")] + [names[1].format("none")] * 2
    listed.write_text("\n".join(rows) + "\n")
    tools: list[DummyTool] = []

    def decide(reporter: Recorder, **options: object) -> RunSummary:
        def factory(*_: object) -> Tool:
            tools.append(DummyTool(lambda _: ToolAnswer(Verdict.UNSAT, 0.2, 0.1, Stage.INCOMPLETE)))
            return tools[-1]

        wishes = RunOptions(out=tmp_path / "listed", **options)  # type: ignore[arg-type]
        return run_instances(listed, wishes, reporter, machine=CPU, tool_factory=factory)

    reporter = Recorder()
    done = decide(reporter)
    assert (done.errors, done.missing, done.summary["complete"]) == (4, 0, True)
    assert asked(tools) == [("base", 1)]
    assert len(reporter.results) == 5, "each row is told once"
    messages = {(row.variant, row.index): row.message for row in load_run(tmp_path / "listed").rows}
    assert messages["base", 0].startswith(f"{listed}:1: 'vnnlib/nix.vnnlib' is no file")
    assert messages["base", 2].startswith(f"{listed}:3: {damaged}: damaged gzip data")
    assert messages["none", 3].startswith(f"{listed}:4: 'onnx/none.onnx' is no file")
    shutil.copy(folder / "vnnlib/cifar10_test_00001.vnnlib.gz", folder / "vnnlib/nix.vnnlib.gz")
    mended = decide(Recorder(), resume=True)
    assert (mended.errors, mended.summary["variants"]["base"]["sets"]["VS"]) == (3, 2)
    assert asked(tools) == [("base", 1), ("base", 0)]
    assert len((tmp_path / "listed/results.csv").read_text().splitlines()) == 5


def test_a_malformed_list_is_refused_as_a_whole(finished: tuple[BenchmarkSpec, Path], tmp_path: Path) -> None:
    listed = finished[1] / "benchmark/some.csv"
    listed.write_text("onnx/none.onnx,vnnlib/nix.vnnlib,20\nonnx/base.onnx,vnnlib/cifar10_test_00000.vnnlib,soon\n")
    with pytest.raises(UsageError, match=r"some\.csv:2: the time limit 'soon'"):
        run_instances(listed, RunOptions(out=tmp_path / "listed"), Recorder(), machine=CPU)
    assert not (tmp_path / "listed").exists()


def test_a_resumed_list_keeps_what_was_chosen_from_it(finished: tuple[BenchmarkSpec, Path], tmp_path: Path) -> None:
    listed, first, second, third = finished[1] / "benchmark/instances.csv", Recorder(), Recorder(), Recorder()

    def decide(reporter: Recorder, **options: object) -> RunSummary:
        wishes = RunOptions(out=tmp_path / "listed", **options)  # type: ignore[arg-type]
        return run_instances(listed, wishes, reporter, machine=CPU, tool_factory=lambda *_: DummyTool(cautious))

    decide(first, inputs=INPUTS + 3, timeout_s=4.0, variants=("other",))
    done = decide(second, resume=True)
    assert second.plans == first.plans
    assert (second.results, done.missing) == ([], 0)
    decide(third, resume=True, timeout_s=3.0)
    assert {(one.job.variant, one.job.limits.timeout_s) for one in third.results} == {("other", 3.0)}
    assert len(third.results) == 3


def test_a_resumed_list_that_is_killed_before_it_is_planned_keeps_its_options(
    finished: tuple[BenchmarkSpec, Path], tmp_path: Path
) -> None:
    class Killer(Recorder):
        def planned(self, plan: RunPlan) -> None:
            raise Killed

    listed, again = finished[1] / "benchmark/instances.csv", Recorder()

    def decide(reporter: Recorder, **options: object) -> RunSummary:
        wishes = RunOptions(out=tmp_path / "listed", **options)  # type: ignore[arg-type]
        return run_instances(listed, wishes, reporter, machine=CPU, tool_factory=lambda *_: DummyTool(cautious))

    decide(Recorder(), inputs=3, timeout_s=4.0)
    with pytest.raises(Killed):
        decide(Killer(), inputs=5, timeout_s=3.0, resume=True)
    decide(again, resume=True)
    assert {one.job.limits.timeout_s for one in again.results} == {3.0}
    assert len(again.results) == 5


def test_a_list_that_names_an_instance_twice_can_be_resumed_with_fewer_rows(
    finished: tuple[BenchmarkSpec, Path], tmp_path: Path
) -> None:
    listed = finished[1] / "benchmark/instances.csv"
    lines = listed.read_text().splitlines()
    twice = listed.with_name("twice.csv")
    twice.write_text("\n".join([lines[0], lines[2], lines[0], lines[2]]) + "\n")
    reporter = Recorder()

    def decide(rows: int, **options: object) -> RunSummary:
        wishes = RunOptions(out=tmp_path / "listed", inputs=rows, **options)  # type: ignore[arg-type]
        return run_instances(twice, wishes, reporter, machine=CPU, tool_factory=lambda *_: DummyTool(cautious))

    assert sum(decide(4).summary["variants"]["base"]["sets"].values()) == 4
    fewer = decide(1, resume=True)
    assert sum(fewer.summary["variants"]["base"]["sets"].values()) == 1
    assert sum(reporter.earlier["base"].values()) == 1


def test_a_list_lowers_limits_and_never_raises_them(finished: tuple[BenchmarkSpec, Path], tmp_path: Path) -> None:
    reporter = Recorder()
    options = RunOptions(out=tmp_path / "listed", timeout_s=999.0)
    run_instances(
        finished[1] / "benchmark/instances.csv",
        options,
        reporter,
        machine=CPU,
        tool_factory=lambda *_: DummyTool(cautious),
    )
    assert {result.job.limits.timeout_s for result in reporter.results} == {20.0}


def test_a_proof_of_what_has_a_counterexample_is_a_conflict(
    finished: tuple[BenchmarkSpec, Path], tmp_path: Path
) -> None:
    listed = finished[1] / "benchmark/instances.csv"
    image = float_images(load_images("cifar10", "test", count=2))[1]

    def decide(answer: ToolAnswer, **options: object) -> RunSummary:
        wishes = RunOptions(out=tmp_path / "listed", variants=("base",), **options)  # type: ignore[arg-type]
        tool = DummyTool(lambda job: answer if job.index == 1 else cautious(job))
        return run_instances(listed, wishes, Recorder(), machine=CPU, tool_factory=lambda *_: tool)

    refuted = decide(ToolAnswer(Verdict.SAT, 0.1, 0.1, Stage.ATTACK, Counterexample(image)))
    assert (refuted.conflicts, refuted.summary["variants"]["base"]["sets"]["AT"]) == (0, 1)
    proved = decide(ToolAnswer(Verdict.UNSAT, 0.1, 0.1, Stage.INCOMPLETE), timeout_s=3.0, resume=True)
    assert proved.conflicts == 1


def test_a_network_of_another_shape_is_an_error_of_its_rows_only(spec: BenchmarkSpec, tmp_path: Path) -> None:
    write_network(tmp_path / "models/small.onnx.gz", 0, set(), shape=(1, 16, 16))
    spec.source.write_text(spec.source.read_text().replace("models/tiny/other", "models/small"))
    with pytest.raises(UsageError, match="small"):
        run(load_spec(spec.source), tmp_path / "out")
