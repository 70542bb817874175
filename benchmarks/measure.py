"""Runs a set of cases in a fresh engine process, and judges what it says."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cases import Case, CaseSet
from benchmarks.figures import Answer, Process, SetFigures, figures
from harness.config import REPOSITORY
from harness.domain import ARITHMETICS, ToolAnswer
from harness.formats.engine_protocol import EngineRequest, decode_answer, encode_request
from harness.judging.judge import Judge
from harness.tools.builtin import ENGINE_SETTINGS
from harness.tools.process import ChildEndedError, LineProcess

CHILD = (sys.executable, "-m", "benchmarks.child")
START_S = 300.0
GRACE_S = 120.0
INTERRUPTED = "interrupted"


class Choices(NamedTuple):
    """What the engine is asked for besides instances and limits."""

    seed: int = 0
    """Of its random starts."""
    device: str = "cpu"
    arithmetic: str = ARITHMETICS[0]
    """What its `unsat` speaks of."""


OnAnswer = Callable[[int, int], None]
"""Told how many cases of how many are answered."""


@dataclass(slots=True)
class _Collected:
    """What came from the engine's process so far."""

    answers: dict[str, tuple[ToolAnswer, dict[str, Any]]] = field(default_factory=dict)
    import_s: float = 0.0
    last_s: float = 0.0
    end: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def measure(cases: CaseSet, choices: Choices, on_answer: OnAnswer) -> SetFigures:
    """Returns the figures of a set, run in one new process, one request a network.

    A process that dies or hangs loses the cases without an answer, and a Ctrl-C keeps those with one; either is noted
    in the figures. Answers are judged when all of them are in, so that replays take no time from the engine.

    Args:
        cases: what to run.
        choices: of the engine.
        on_answer: told of the progress.
    """
    found = _Collected()
    with tempfile.TemporaryDirectory(prefix="lgbench-") as scratch:
        log = Path(scratch) / "engine.log"
        with LineProcess(CHILD, log, settings=ENGINE_SETTINGS, cwd=REPOSITORY) as child:
            try:
                _collect(cases, choices, child, found, on_answer)
            except ChildEndedError as error:
                found.notes.append(f"the engine ended: {error}")
            except KeyboardInterrupt:
                found.notes.append(INTERRUPTED)
    return _figures(cases, found)


def _collect(cases: CaseSet, choices: Choices, child: LineProcess, found: _Collected, on_answer: OnAnswer) -> None:
    ready = _next(child, START_S)
    found.import_s = float(ready["import_s"])
    for network, jobs in cases.by_network():
        properties = {job.key: job.instance.property.absolute() for job in jobs}
        request = EngineRequest(network.absolute(), properties, jobs[0].limits, *choices)
        child.send(encode_request(request))
        for event in _events(child, 2 * cases.timeout_s * len(jobs) + GRACE_S):
            found.last_s = float(event["at_s"])
            if event["event"] == "answer":
                key, answer = decode_answer(event)
                found.answers[key] = (answer, event)
                on_answer(len(found.answers), len(cases.cases))
    child.send("\n")
    found.end = _next(child, START_S)


def _events(child: LineProcess, patience_s: float) -> Iterator[dict[str, Any]]:
    """Yields the events of one request, `done` included.

    Raises:
        ChildEndedError: the process is gone, or silent for longer than all its limits together.
    """
    while True:
        event = _next(child, patience_s)
        yield event
        if event["event"] == "done":
            return


def _next(child: LineProcess, patience_s: float) -> dict[str, Any]:
    line = child.next_line(patience_s)
    if line is None:
        raise ChildEndedError(f"it said nothing for {patience_s:.0f} s")
    event: dict[str, Any] = json.loads(line.text)
    return event


def _figures(cases: CaseSet, found: _Collected) -> SetFigures:
    judge = Judge(networks=1, properties=1)
    answers = [
        _answer(case, *found.answers[case.job.key], judge) for case in cases.cases if case.job.key in found.answers
    ]
    end = found.end
    process = Process(
        found.import_s,
        found.last_s,
        int(end.get("cores", 0)),
        float(end.get("cpu_s", 0.0)),
        int(end.get("peak_bytes", 0)),
        float(end.get("matmul_gflops", 0.0)),
    )
    return figures(
        cases.name,
        answers,
        process,
        timeout_s=cases.timeout_s,
        cases=cases.cases,
        skipped=cases.skipped,
        full=cases.full,
        notes=found.notes,
    )


def _answer(case: Case, answer: ToolAnswer, event: dict[str, Any], judge: Judge) -> Answer:
    seconds = event.get("seconds")
    adds = event.get("multiply_adds")
    result = judge.judge(case.job, answer)
    return Answer(
        case,
        result,
        float(event["at_s"]),
        {str(k): float(v) for k, v in seconds.items()} if isinstance(seconds, dict) else None,
        None if adds is None else int(adds),
    )
