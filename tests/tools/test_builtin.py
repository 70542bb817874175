from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.domain import Instance, Job, Limits, Stage, Verdict
from harness.tools import builtin
from harness.tools.builtin import BuiltinTool, Patience
from harness.tools.contract import Answered, Progress

FAKE = Path(__file__).with_name("fake_engine.py")
WORK = Limits(5.0, "work")
WALL = Limits(5.0, "wall")


def jobs_of(*keys: str, limits: Limits = WORK, network: str = "net.onnx") -> list[Job]:
    return [
        Job(key, Instance(Path(network), Path(f"{key}.vnnlib"), limits.timeout_s), "net", index, limits)
        for index, key in enumerate(keys)
    ]


class Bench:
    """A built-in tool on the fake engine, and what the engine saw."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tool(self, behaviour: Mapping[str, str], **options: Any) -> BuiltinTool:
        (self.folder / "behaviour.json").write_text(json.dumps(behaviour))
        command = (sys.executable, str(FAKE), str(self.folder))
        return BuiltinTool(self.folder / "logs", command=command, **options)

    def history(self, kind: str) -> list[Any]:
        lines = (self.folder / "history.jsonl").read_text().splitlines()
        return [entry[kind] for entry in map(json.loads, lines) if kind in entry]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def verdicts(answers: list[Answered]) -> dict[str, Verdict]:
    assert len({job.key for job, _ in answers}) == len(answers), "a job was answered twice"
    return {job.key: answer.verdict for job, answer in answers}


def test_one_request_decides_all_instances_of_a_network(bench: Bench) -> None:
    answers = list(bench.tool({}, seed=7).decide(jobs_of("a", "b", "c")))

    assert verdicts(answers) == dict.fromkeys("abc", Verdict.UNSAT)
    assert bench.history("asked") == [["a", "b", "c"]]
    assert bench.history("seed") == [7]
    first = answers[0].answer
    assert first.stage is Stage.BAB
    assert first.record is not None
    assert first.record.domains == 7


def test_wall_time_is_measured_here_and_work_is_within_it(bench: Bench) -> None:
    behaviour = {"nan": "nan_time", "much": "much_work"}
    said = {job.key: answer for job, answer in bench.tool(behaviour).decide(jobs_of("nan", "much", "plain"))}

    # The fake claims half a second of wall time; starting Python and loading numpy alone takes less or more than that.
    assert all(answer.wall_s != 0.5 for answer in said.values())
    assert said["nan"].work_s == said["nan"].wall_s
    assert said["much"].work_s == said["much"].wall_s
    assert said["plain"].work_s == 0.0


def test_the_engine_does_not_spin_its_threads(bench: Bench) -> None:
    list(bench.tool({}).decide(jobs_of("a")))
    assert bench.history("omp") == ["PASSIVE"]


def test_progress_is_passed_on(bench: Bench) -> None:
    heard: list[Progress] = []
    list(bench.tool({}, on_progress=heard.append).decide(jobs_of("a", "b")))
    assert heard == [Progress("a", "bab", 1), Progress("b", "bab", 1)]


def test_an_error_in_the_progress_callback_is_not_taken_for_garbage(bench: Bench) -> None:
    def refuse(_: Progress) -> None:
        raise ValueError("the display broke")

    with pytest.raises(ValueError, match="display"):
        list(bench.tool({}, on_progress=refuse).decide(jobs_of("a")))


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("crash", "exit status 3: RuntimeError: no good on bad"),
        ("kill", "killed by SIGKILL"),
        ("quit", "exit status 0"),
        ("garbage", "Segmentation fault"),
        ("no_object", "not an object"),
        ("no_kind", "'event'"),
        ("infinite", "infinity"),
        ("deep", "no event"),
        ("bad_verdict", "'holds' is not a valid Verdict"),
        ("bad_array", "not accepted"),
        ("not_asked", "not asked for"),
        ("omit", "left out"),
    ],
)
def test_what_breaks_the_engine_costs_only_the_instance_at_fault(bench: Bench, word: str, reason: str) -> None:
    said = {job.key: answer for job, answer in bench.tool({"bad": word}).decide(jobs_of("a", "bad", "c", "d"))}

    assert {key: answer.verdict for key, answer in said.items()} == {
        "a": Verdict.UNSAT,
        "bad": Verdict.ERROR,
        "c": Verdict.UNSAT,
        "d": Verdict.UNSAT,
    }
    assert reason in said["bad"].message
    assert "\n" not in said["bad"].message


def test_in_flight_instances_are_asked_once_more_and_alone(bench: Bench) -> None:
    answers = list(bench.tool({"b": "crash_once"}).decide(jobs_of("a", "b", "c")))

    assert verdicts(answers) == dict.fromkeys("abc", Verdict.UNSAT)
    assert bench.history("asked") == [["a", "b", "c"], ["b"], ["c"]]
    assert len(bench.history("start")) == 2


def test_an_answer_given_twice_counts_once_and_the_rest_is_asked_again(bench: Bench) -> None:
    answers = list(bench.tool({"a": "twice"}).decide(jobs_of("a", "b")))
    assert verdicts(answers) == {"a": Verdict.UNSAT, "b": Verdict.UNSAT}
    assert bench.history("asked") == [["a", "b"], ["b"]]


def test_a_full_device_is_asked_for_less_at_once(bench: Bench) -> None:
    keys = [f"k{i}" for i in range(16)]
    said = verdicts(list(bench.tool({"most at once": 3}).decide(jobs_of(*keys))))  # type: ignore[dict-item]

    assert said == dict.fromkeys(keys, Verdict.UNSAT)
    assert bench.history("full") == [16, 8, 4, 4, 8, 4, 4]
    assert [len(asked) for asked in bench.history("asked")] == [2] * 8


def test_an_instance_that_no_device_holds_is_an_error_and_the_others_are_decided(bench: Bench) -> None:
    keys = [f"k{i}" for i in range(40)]
    behaviour = {"k7": "leak"}
    said = {job.key: answer for job, answer in bench.tool(behaviour, memory_gib=0.2).decide(jobs_of(*keys))}

    assert [key for key, answer in said.items() if answer.verdict is not Verdict.UNSAT] == ["k7"]
    assert "out of memory: it used 0.2" in said["k7"].message
    assert "0.20 GiB are allowed" in said["k7"].message


def test_a_warm_engine_is_killed_within_two_seconds_of_a_limit_on_wall_time(bench: Bench) -> None:
    limits = Limits(2.0, "wall")
    tool = bench.tool({"bad": "hang"}, patience=Patience(grace_s=300.0))
    began = time.monotonic()
    said = {job.key: answer for job, answer in tool.decide(jobs_of("first", "bad", "b", limits=limits))}

    assert said["bad"].verdict is Verdict.TIMEOUT
    assert "not done after 4 s" in said["bad"].message  # 2 s and 1.5 s, rounded
    assert said["b"].verdict is Verdict.UNSAT
    assert time.monotonic() - began < 300.0


def test_a_stopped_engine_is_killed_and_started_again(bench: Bench) -> None:
    patience = Patience(grace_s=60.0, silence_s=0.0)
    limits = Limits(4.0, "work")
    tool = bench.tool({"bad": "stop_once"}, patience=patience)
    said = verdicts(list(tool.decide(jobs_of("a", "bad", limits=limits))))

    assert said == {"a": Verdict.UNSAT, "bad": Verdict.UNSAT}
    assert len(bench.history("start")) == 2
    assert not any(_alive(pid) for pid in bench.history("start"))


def test_a_silent_engine_is_killed_and_the_others_are_decided(bench: Bench) -> None:
    patience = Patience(grace_s=60.0, silence_s=0.0)
    limits = Limits(2.0, "work")  # silence: twice the limit, which a fresh engine has to start in
    said = {
        job.key: answer
        for job, answer in bench.tool({"bad": "hang"}, patience=patience).decide(jobs_of("bad", "b", limits=limits))
    }

    assert said["b"].verdict is Verdict.UNSAT
    assert said["bad"].verdict is Verdict.ERROR
    assert "said nothing for 4 s" in said["bad"].message
    # It ignores TERM, so only KILL of the group ends it.
    assert not any(_alive(pid) for pid in bench.history("start"))


def test_a_hang_in_competition_mode_is_a_timeout_without_second_chance(bench: Bench) -> None:
    limits = Limits(0.5, "wall")
    tool = bench.tool({"bad": "hang"}, patience=Patience(grace_s=4.0))
    said = {job.key: answer for job, answer in tool.decide(jobs_of("bad", "b", limits=limits))}

    assert said["bad"].verdict is Verdict.TIMEOUT
    assert said["bad"].wall_s >= 4.5
    assert said["b"].verdict is Verdict.UNSAT
    assert bench.history("asked") == [["bad"], ["b"]]


def test_competition_mode_asks_one_at_a_time_in_one_process(bench: Bench) -> None:
    answers = list(bench.tool({}).decide(jobs_of("a", "b", "c", limits=WALL)))

    assert verdicts(answers) == dict.fromkeys("abc", Verdict.UNSAT)
    assert bench.history("asked") == [["a"], ["b"], ["c"]]
    assert len(bench.history("start")) == 1
    # Each has its own clock: the start of the engine is the first one's.
    assert answers[2].answer.wall_s < answers[0].answer.wall_s


def test_an_engine_that_never_works_is_given_up(bench: Bench) -> None:
    keys = [f"k{i}" for i in range(20)]
    tool = bench.tool(dict.fromkeys(keys, "crash"), patience=Patience(failures=3))
    said = list(tool.decide(jobs_of(*keys)))

    assert verdicts(said) == dict.fromkeys(keys, Verdict.ERROR)
    assert len(bench.history("start")) == 3
    assert "given up after 3 failures" in said[-1].answer.message


def test_failures_that_are_not_in_a_row_are_not_given_up(bench: Bench) -> None:
    keys = [f"k{i}" for i in range(8)]
    behaviour = dict.fromkeys(keys[::2], "crash")
    said = verdicts(list(bench.tool(behaviour, patience=Patience(failures=3)).decide(jobs_of(*keys))))
    assert said == {key: Verdict.ERROR if key in behaviour else Verdict.UNSAT for key in keys}


def test_a_program_that_does_not_exist_is_an_error_with_its_name(tmp_path: Path) -> None:
    tool = BuiltinTool(tmp_path, command=("no-such-program-here",), patience=Patience(failures=2))
    said = list(tool.decide(jobs_of("a", "b")))
    assert verdicts(said) == {"a": Verdict.ERROR, "b": Verdict.ERROR}
    assert "no-such-program-here: No such file or directory" in said[0].answer.message


def test_a_log_that_cannot_be_written_is_an_error_of_the_instances(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    said = list(BuiltinTool(tmp_path / "logs").decide(jobs_of("a")))
    assert verdicts(said) == {"a": Verdict.ERROR}
    assert "cannot be started" in said[0].answer.message


def test_closing_the_iterator_ends_the_engine(bench: Bench) -> None:
    answers = bench.tool({"b": "hang"}).decide(jobs_of("a", "b"))
    assert next(answers).job.key == "a"
    (pid,) = bench.history("start")
    assert _alive(pid)
    answers.close()  # type: ignore[attr-defined]
    assert not _alive(pid)


def test_an_engine_is_kept_for_the_next_call_where_that_is_wanted(bench: Bench) -> None:
    tool = bench.tool({"crash": "crash"}, keep=True)
    for keys in (["a", "b"], ["c"], ["crash"], ["d"]):
        list(tool.decide(jobs_of(*keys)))
    assert bench.history("asked") == [["a", "b"], ["c"], ["crash"], ["crash"], ["d"]]
    pids = bench.history("start")
    assert len(pids) == 3, "one for a, b and c, which crashes; another that crashes; one for d"
    assert _alive(pids[-1])
    tool.close()
    assert not _alive(pids[-1])
    tool.close()


def test_an_engine_whose_answers_nobody_wants_is_not_kept(bench: Bench) -> None:
    answers = bench.tool({"b": "hang"}, keep=True).decide(jobs_of("a", "b"))
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert not _alive(bench.history("start")[0])


def test_no_jobs_start_no_engine(bench: Bench) -> None:
    assert list(bench.tool({}).decide([])) == []
    assert not (bench.folder / "history.jsonl").exists()


def test_jobs_of_two_networks_are_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="one network"):
        bench.tool({}).decide(jobs_of("a") + jobs_of("b", network="other.onnx"))
    with pytest.raises(ValueError, match="different keys"):
        bench.tool({}).decide(jobs_of("a") + jobs_of("a"))


def test_the_request_names_absolute_files(tmp_path: Path) -> None:
    request = BuiltinTool(tmp_path, device="cuda", seed=3, arithmetic="real").request(jobs_of("a"))
    assert request.network.is_absolute()
    assert request.properties["a"].is_absolute()
    assert (request.device, request.seed, request.arithmetic, request.limits) == ("cuda", 3, "real", WORK)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "harness"
    for name in ("verifier/bab.py", "verifier/kernels/cpu.py", "formats/vnnlib.py", "domain.py", "run/store.py"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    monkeypatch.setattr(builtin, "PACKAGE", root)
    return root


@pytest.mark.parametrize("name", ["verifier/bab.py", "verifier/kernels/cpu.py", "formats/vnnlib.py", "domain.py"])
def test_the_identity_changes_with_every_source_of_the_engine(package: Path, tmp_path: Path, name: str) -> None:
    before = BuiltinTool(tmp_path).identity()
    (package / name).write_text("x = 2\n")
    assert BuiltinTool(tmp_path).identity() != before


def test_the_identity_changes_with_names_choices_and_torch(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {BuiltinTool(tmp_path).identity()}
    seen.add(BuiltinTool(tmp_path, seed=1).identity())
    seen.add(BuiltinTool(tmp_path, device="cuda").identity())
    seen.add(BuiltinTool(tmp_path, arithmetic="real").identity())
    (package / "verifier/bab.py").rename(package / "verifier/branch.py")
    seen.add(BuiltinTool(tmp_path).identity())
    monkeypatch.setattr(builtin, "_version", lambda _: "0.0.1")
    seen.add(BuiltinTool(tmp_path).identity())
    assert len(seen) == 6


def test_the_identity_does_not_depend_on_the_runner(package: Path, tmp_path: Path) -> None:
    before = BuiltinTool(tmp_path / "logs").identity()
    (package / "run/store.py").write_text("x = 2\n")
    (package / "verifier/notes.md").write_text("no source\n")
    assert BuiltinTool(tmp_path / "elsewhere", patience=Patience(1, 1, 1), on_progress=print).identity() == before


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
