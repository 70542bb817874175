"""Cases, answers and figures for the tests of the benchmark's pure parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.figures import Answer, Process, SetFigures, figures
from harness.domain import (
    EngineRecord,
    Instance,
    InstanceResult,
    Job,
    Limits,
    Stage,
    Verdict,
    WitnessCheck,
    WitnessVerdict,
)

PROCESS = Process(import_s=2.0, wall_s=10.0, cores=2, cpu_s=15.0, peak_bytes=2**30, matmul_gflops=100.0)


def case(key: str = "0", label: Verdict | None = None, *, before: bool = True, network: str = "n.onnx") -> Case:
    job = Job(key, Instance(Path(network), Path(f"{key}.vnnlib"), 60), "n", int(key), Limits(60))
    return Case(job, label, before)


def answer(
    verdict: Verdict,
    label: Verdict | None = None,
    *,
    key: str = "0",
    replay: WitnessVerdict | None = WitnessVerdict.CORRECT,
    at_s: float = 1.0,
    work_s: float = 1.0,
    wall_s: float = 4.0,
    said: Verdict | None = None,
    seconds: dict[str, float] | None = None,
    multiply_adds: int | None = None,
    domains: int = 0,
    network: str = "n.onnx",
) -> Answer:
    own = case(key, label, network=network)
    tool = said or verdict
    result = InstanceResult(
        own.job,
        verdict,
        tool,
        Stage.BAB if domains else Stage.ATTACK,
        wall_s,
        work_s,
        WitnessCheck(replay) if tool is Verdict.SAT and replay is not None else None,
        message="why",
        record=EngineRecord(domains=domains, entered_bab=domains > 0),
    )
    return Answer(own, result, at_s, seconds, multiply_adds)


def of_set(*answers: Answer, cases: list[Case] | None = None, **changed: Any) -> SetFigures:
    settings: dict[str, Any] = {"timeout_s": 60.0, "skipped": 0, "full": True} | changed
    name = settings.pop("name", "cnn_a")
    return figures(name, answers, PROCESS, cases=cases or [a.case for a in answers], **settings)
