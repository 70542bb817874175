"""Jobs without files, and results of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.domain import Instance, InstanceResult, Job, Limits, Stage, Verdict

MakeJob = Callable[..., Job]
MakeResult = Callable[..., InstanceResult]


@pytest.fixture
def make_job() -> MakeJob:
    """Makes a job; its key and files follow from the key given."""

    def make(key: str = "k", *, variant: str = "baseline", index: int = 0, limits: Limits | None = None) -> Job:
        own = limits or Limits(20.0)
        network, prop = Path(f"onnx/{variant}.onnx"), Path(f"vnnlib/{key}.vnnlib")
        instance = Instance(network, prop, own.timeout_s, str(network), str(prop))
        return Job(key, instance, variant, index, own, f"sha of {variant}", f"sha of {key}")

    return make


@pytest.fixture
def make_result(make_job: MakeJob) -> MakeResult:
    """Makes a result of a job; keyword arguments are those of `InstanceResult`."""

    def make(job: Job | None = None, **changes: object) -> InstanceResult:
        fields: dict[str, object] = {
            "verdict": Verdict.UNSAT,
            "tool_verdict": Verdict.UNSAT,
            "stage": Stage.BAB,
            "wall_s": 1.5,
            "work_s": 0.25,
        }
        return InstanceResult(job or make_job(), **(fields | changes))  # type: ignore[arg-type]

    return make
