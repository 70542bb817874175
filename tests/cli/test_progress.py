"""What a person is told of a run: first lines, counts, time left."""

from __future__ import annotations

import errno
import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from harness.cli.progress import (
    ERRORS_TOLD,
    BarReporter,
    PlainReporter,
    Tally,
    clock_words,
    columns,
    plan_lines,
    working_words,
)
from harness.domain import Instance, InstanceResult, Job, Limits, ResultSet, Stage, Verdict
from harness.workflow.device import Device
from harness.workflow.options import Reporter, RunPlan

PLAN = RunPlan(
    benchmark="tiny",
    title="Tiny networks",
    protocol="cpu",
    out=Path("results/tiny-cpu"),
    variants=("a", "b"),
    inputs=4,
    limits=Limits(10.0),
    device=Device("cpu", "CPU, 2 cores"),
    tool="builtin",
    seed=0,
    instances=8,
    command="lgbench bench tiny",
)


def result(variant: str, verdict: Verdict, stage: Stage | None) -> InstanceResult:
    instance = Instance(Path("n.onnx"), Path("p.vnnlib"), 10.0)
    return InstanceResult(Job("key", instance, variant, 0, PLAN.limits), verdict, verdict, stage, 1.0, 1.0)


def test_the_first_lines_say_protocol_device_and_folder() -> None:
    text = "\n".join(plan_lines(PLAN, "to run all: x"))
    for words in ("protocol cpu", "4 inputs x 2 networks", "10 s", "CPU, 2 cores", "to run all: x", "results/tiny-cpu"):
        assert words in text


def test_counts_and_time_left() -> None:
    now = 100.0
    tally = Tally(PLAN, clock=lambda: now)
    tally.earlier({"a": {ResultSet.VS: 2}, "b": {}})
    assert (tally.decided, tally.left) == (2, 6)
    assert tally.seconds_left() == (None, 60.0)
    now = 150.0
    tally.add(result("b", Verdict.SAT, Stage.CLEAN))
    now = 153.0
    tally.add(result("a", Verdict.UNSAT, Stage.BAB))
    # The clean check ended at 150 and the tool took 3 s for one input; 4 are left.
    assert tally.seconds_left() == (12.0, 40.0)
    assert tally.words("a") == "SK 0  AT 0  VS 3  VF 0"
    assert tally.time_words() == "about 0:12 left, at most 0:40"


def test_the_estimate_never_exceeds_the_bound() -> None:
    now = 0.0
    tally = Tally(PLAN, clock=lambda: now)
    tally.earlier({})
    now = 500.0
    tally.add(result("a", Verdict.TIMEOUT, None))
    assert tally.seconds_left() == (70.0, 70.0)


@pytest.mark.parametrize(("seconds", "words"), [(0, "0:00"), (-3, "0:00"), (61.4, "1:01"), (3599.7, "1:00:00")])
def test_durations_are_written_as_on_a_clock(seconds: float, words: str) -> None:
    assert clock_words(seconds) == words


def test_what_is_worked_on_is_one_line_whatever_the_tool_says() -> None:
    job = result("a", Verdict.UNSAT, None).job
    assert working_words(job, "bab", 3412) == "p: bab, 3,412 domains"
    assert working_words(job, "\x1b[2J\n" + "x" * 500, 0) == "p: [2J" + "x" * 37


def test_a_long_instance_is_seen_where_the_output_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now, screen = 0.0, io.StringIO()
    monkeypatch.setattr("harness.cli.progress.time.monotonic", lambda: now)
    reporter = PlainReporter(Console(file=io.StringIO()), Console(file=screen))
    reporter.planned(PLAN)
    reporter.resumed({"a": {}, "b": {}})
    job = result("a", Verdict.UNSAT, None).job
    reporter.working(job, "bab", 1)
    assert screen.getvalue() == ""
    now = 11.0
    reporter.working(job, "bab", 1200)
    reporter.working(job, "bab", 1300)
    assert screen.getvalue() == "0 of 8 decided; a: working on p: bab, 1,200 domains; at most 1:20 left\n"


def test_a_long_instance_is_seen_beside_its_bar() -> None:
    screen = io.StringIO()
    bars = Progress(*columns(), console=Console(file=screen, force_terminal=True, width=160))
    reporter = BarReporter(Console(file=io.StringIO()), bars)
    reporter.planned(PLAN)
    reporter.resumed({"a": {}, "b": {}})
    reporter.working(result("b", Verdict.UNSAT, None).job, "bab [x]", 1200)
    bars.stop()
    last = screen.getvalue()
    assert "SK 0  AT 0  VS 0  VF 0  p: bab [x], 1,200 domains" in last
    assert "at most 1:20 left" in last


def reporters(out: io.StringIO, screen: io.StringIO) -> list[Reporter]:
    first, terminal = Console(file=out), Console(file=screen, force_terminal=True, width=160)
    return [PlainReporter(first, Console(file=screen)), BarReporter(first, Progress(console=terminal))]


@pytest.mark.parametrize("which", [0, 1])
def test_both_reporters_follow_a_run(which: int) -> None:
    out, screen = io.StringIO(), io.StringIO()
    reporter = reporters(out, screen)[which]
    reporter.planned(PLAN)
    reporter.step("writing [the] properties")
    reporter.resumed({"a": {ResultSet.SK: 4}, "b": {}})
    for _ in range(4):
        reporter.decided(result("b", Verdict.UNSAT, Stage.INCOMPLETE))
    if isinstance(reporter, BarReporter):
        reporter._bars.stop()
    assert "protocol cpu" in out.getvalue()
    if which == 0:
        assert "4 of 8 were decided earlier" in screen.getvalue()
        assert "8 of 8 decided; b: SK 0  AT 0  VS 4  VF 0\n" in screen.getvalue()
    assert reporter.tally.decided == 8  # type: ignore[attr-defined]


@pytest.mark.parametrize("which", [0, 1])
def test_the_first_errors_are_told_with_their_reasons(which: int) -> None:
    screen = io.StringIO()
    reporter = reporters(io.StringIO(), screen)[which]
    reporter.planned(PLAN)
    reporter.resumed({"a": {}, "b": {}})
    reporter.decided(result("a", Verdict.TIMEOUT, None))
    broken = [replace(result("b", Verdict.ERROR, None), message=f"[list].csv:{line}: no file") for line in range(1, 8)]
    for one in broken:
        reporter.decided(one)
    if isinstance(reporter, BarReporter):
        reporter._bars.stop()
    told = [line for line in screen.getvalue().splitlines() if ": error: " in line]
    assert len(told) == ERRORS_TOLD
    assert "b, p: error: [list].csv:1: no file" in told[0]


class Screen(io.StringIO):
    """A terminal that can be closed: then every write fails."""

    is_gone = False

    def write(self, text: str) -> int:
        if self.is_gone:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().write(text)


@pytest.mark.parametrize("which", [0, 1])
def test_a_terminal_that_goes_away_ends_no_run(which: int) -> None:
    out, screen = Screen(), Screen()
    terminal = Console(file=screen, force_terminal=True)
    # Without a thread of its own, whose failure would be another test's.
    bars = Progress(console=terminal, auto_refresh=False)
    reporter = (PlainReporter(Console(file=out), terminal), BarReporter(Console(file=out), bars))[which]
    reporter.planned(PLAN)
    out.is_gone = screen.is_gone = True
    reporter.step("writing the properties")
    reporter.resumed({"a": {}, "b": {}})
    reporter.decided(result("a", Verdict.ERROR, None))
    reporter.working(result("b", Verdict.UNSAT, None).job, "bab", 3)
    reporter.decided(result("b", Verdict.UNSAT, Stage.BAB))


def test_first_lines_that_cannot_be_written_are_left_out() -> None:
    out = Screen()
    out.is_gone = True
    PlainReporter(Console(file=out), Console(file=io.StringIO())).planned(PLAN)
