"""The main job meets a fault at every change that it makes to its folder, and is resumed: nothing lost, nothing twice.

Faults: SIGKILL, Ctrl-C, a full disk, files that may not grow. Processes and faults are real; only the verifier is a
dummy within the process, because what a verifier's death does is another test. A few points are tried in every run, all
of them with `-m nightly`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tiny_benchmark import make_benchmark

PROGRAM = Path(__file__).with_name("crash_points.py")
ROWS = 6
PARTS = 4
"""Of the nightly tests, a quarter of the points each."""

pytestmark = pytest.mark.slow

STEPS = (
    "sqlite3.connect results.db",
    "sql CREATE results",
    "sql INSERT meta",
    "os.rename benchmark/vnnlib/.cifar10_test_N.vnnlib.gz",
    "open benchmark/.instances.csv",
    "sql INSERT results",
    "the tool is asked",
    "sql COMMIT",
    "os.rename counterexamples/.base_cifar10_test_N.counterexample",
    "os.rename .results.csv",
    "open .summary.json",
    "os.rename .report.html",
)
"""One change of each step of the workflow, from the store's first byte to the report's last."""
SAMPLES = {
    "kill": ("sql CREATE results", "sql INSERT results", "the tool is asked", "open .summary.json"),
    "interrupt": ("open benchmark/.instances.csv", "the tool is asked", "os.rename .report.html"),
    "full": ("os.rename benchmark/vnnlib/.cifar10_test_N.vnnlib.gz", "sql INSERT results", "open .summary.json"),
    "limit": ("sql INSERT results",),
}


class Bench(NamedTuple):
    """The benchmark's folder, and what a run leaves that nobody disturbs."""

    folder: Path
    whole: dict[str, Any]

    def name(self, report: dict[str, Any]) -> str:
        """Returns in words which point a report is of."""
        return f"point {report['point']} ({self.whole['points'][report['point']]})"

    def first_of(self, names: Sequence[str]) -> list[int]:
        """Returns the first point of each name."""
        missing = set(names) - set(self.whole["points"])
        assert not missing, f"the workflow has no such steps any more: {missing}"
        return [self.whole["points"].index(name) for name in names]

    def every(self) -> range:
        """Returns all points, having looked that every step is among them."""
        self.first_of(STEPS)
        return range(len(self.whole["points"]))


def own_mounts() -> list[str]:
    """Returns what a command begins with that may mount something for itself alone."""
    command = ["unshare", "--user", "--map-root-user", "--mount"]
    probe = [*command, "mount", "-t", "tmpfs", "none", "/tmp"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here, not even in a namespace of its own")
    return command


def crash(folder: Path, mode: str, points: Sequence[int] | None) -> list[dict[str, Any]]:
    plan = json.dumps({"mode": mode, "points": None if points is None else list(points)})
    done = subprocess.run(
        [*(own_mounts() if mode == "full" else []), sys.executable, str(PROGRAM), str(folder), plan],
        env={name: value for name, value in os.environ.items() if not name.startswith("LGBENCH_")},
        capture_output=True,
        text=True,
        check=False,
        timeout=7200,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("crash")
    make_benchmark(folder)
    (whole,) = crash(folder, "kill", None)
    assert whole["status"] == 0, whole["said"]
    assert len(whole["table"]) == ROWS
    return Bench(folder, whole)


def timeless(table: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {place: row[:-1] for place, row in table.items()}


def check_resumed(report: dict[str, Any], bench: Bench) -> None:
    """What was stored before is as it was, what was not is decided once, and the end is that of an undisturbed run."""
    told = f"{bench.name(report)}: {report['said']} THEN {report['said_after']}"
    assert report["second"] == 0, told
    assert timeless(report["table"]) == timeless(bench.whole["table"]), told
    assert report["figures"] == bench.whole["figures"], told
    assert {place: report["table"][place] for place in report["before"]} == report["before"], told
    stored = {row[0] for row in report["before"].values()}
    assert not stored & set(report["asked_after"]), f"decided twice; {told}"
    assert len(report["asked_after"]) == len(set(report["asked_after"])), told
    assert "Traceback" not in report["said"] + report["said_after"], told


def check_killed(bench: Bench, points: Sequence[int]) -> None:
    for report in crash(bench.folder, "kill", points):
        assert os.WIFSIGNALED(report["first"]), report
        assert os.WTERMSIG(report["first"]) == signal.SIGKILL
        check_resumed(report, bench)


def check_interrupted(bench: Bench, points: Sequence[int]) -> None:
    for report in crash(bench.folder, "interrupt", points):
        name, said = bench.name(report), report["said"]
        hints = [line for line in said.splitlines() if line.endswith("--resume")]
        assert len(hints) <= 1, (name, said)
        assert os.waitstatus_to_exitcode(report["first"]) == len(hints), (name, said)
        # A signal that comes when everything is decided may change nothing any more.
        assert hints or len(report["before"]) == ROWS, (name, said)
        check_resumed(report, bench)


def check_no_room(bench: Bench, mode: str, points: Sequence[int]) -> int:
    """Returns how many of the runs ended by the fault: near the end there may be nothing left to write."""
    refused = 0
    for report in crash(bench.folder, mode, points):
        name, said = bench.name(report), report["said"]
        code = os.waitstatus_to_exitcode(report["first"])
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        if code:
            assert (code, len(errors)) == (2, 1), (name, said)
            assert "check permissions and free space" in errors[0], (name, said)
            refused += 1
        check_resumed(report, bench)
    return refused


def test_killed_at_a_step_and_resumed(bench: Bench) -> None:
    check_killed(bench, bench.first_of(SAMPLES["kill"]))


def test_interrupted_at_a_step_and_resumed(bench: Bench) -> None:
    check_interrupted(bench, bench.first_of(SAMPLES["interrupt"]))


def test_the_disk_is_full_at_a_step_and_the_run_is_resumed(bench: Bench) -> None:
    assert check_no_room(bench, "full", bench.first_of(SAMPLES["full"])) == len(SAMPLES["full"])


def test_files_cannot_grow_at_a_step_and_the_run_is_resumed(bench: Bench) -> None:
    assert check_no_room(bench, "limit", bench.first_of(SAMPLES["limit"])) == len(SAMPLES["limit"])


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_change_and_resumed(bench: Bench, part: int) -> None:
    check_killed(bench, bench.every()[part::PARTS])


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(PARTS))
def test_interrupted_at_every_change_and_resumed(bench: Bench, part: int) -> None:
    check_interrupted(bench, bench.every()[part::PARTS])


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("mode", ["full", "limit"])
def test_no_room_at_every_change_and_resumed(bench: Bench, mode: str, part: int) -> None:
    points = bench.every()[part::PARTS]
    assert check_no_room(bench, mode, points) > len(points) // 2
