"""Eight toy networks with known answers, put to any tool: does it speak the interface, is it right where it must be?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.domain import Instance, InstanceResult, Job, Limits, ToolAnswer, Verdict
from harness.files import sha256_file
from harness.tools import toy_networks as toy
from harness.tools.contract import Tool

LATE_S = 3.0
"""Seconds beyond the limit that a tool may take to notice it; less than the runner waits before it ends a tool."""
TIMEOUT_CASE_S = 10.0
"""Limit of the case that is about the limit; a tool has to start and give up within."""

JudgeAnswer = Callable[[Job, ToolAnswer], InstanceResult]


@dataclass(frozen=True, slots=True)
class Case:
    """One instance with what is known of it."""

    name: str
    asks: str
    """What the case is about, in a few words."""
    expected: Verdict
    """The right answer."""
    network: bytes
    """The ONNX model."""
    prop: str
    """The VNN-LIB 1.0 text."""
    limit_s: float | None = None
    """A limit of its own; then giving up in time is right as well."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a tool made of a case."""

    case: Case
    status: str
    """`passed`; `undecided`: it gave up, which is no mistake; `failed`."""
    verdict: Verdict
    """As judged."""
    tool_verdict: Verdict | None
    """The tool's own word."""
    wall_s: float
    message: str
    """Why, where it did not pass."""


def cases() -> tuple[Case, ...]:
    """Returns the eight cases, in the order in which they are put."""
    absolute, far = toy.absolute_sum(), toy.box([(-1.0, 1.0)] * 2)
    sum_of = "the sum of absolute values of two inputs"
    twins, corner = toy.twins(), toy.corner()
    return (
        Case("sat", f"{sum_of} reaches 1.5 of 2", Verdict.SAT, absolute, toy.prop(2, 2, [(far, toy.at_least(1.5))])),
        Case(
            "unsat", f"{sum_of} never reaches 2.5", Verdict.UNSAT, absolute, toy.prop(2, 2, [(far, toy.at_least(2.5))])
        ),
        Case(
            "strictness",
            f"{sum_of} reaches 2 in the corners only: >= counts them",
            Verdict.SAT,
            absolute,
            toy.prop(2, 2, [(far, toy.at_least(2.0))]),
        ),
        Case(
            "boxes",
            "of two boxes the second has the violation",
            Verdict.SAT,
            absolute,
            toy.prop(
                2,
                2,
                [
                    (toy.box([(-0.5, 0.5)] * 2), toy.at_least(1.5)),
                    (toy.box([(0.5, 1.0), (-1.0, -0.5)]), toy.at_least(1.5)),
                ],
            ),
        ),
        Case(
            "grafted",
            "neurons that are linear, as grafted networks have them",
            Verdict.UNSAT,
            toy.grafted(),
            toy.prop(2, 2, [(far, toy.at_least(2.0))]),
        ),
        Case(
            "conv",
            "a convolution of a 4x4 image with strides and pads",
            Verdict.UNSAT,
            toy.convolution(),
            toy.prop(16, 2, [(toy.box([(0.0, 1.0)] * 16), toy.at_least(toy.CONVOLUTION_MAX + 0.5))]),
        ),
        Case(
            "timeout",
            f"a hard network: give up within {TIMEOUT_CASE_S:g} s, or be right",
            Verdict.UNSAT,
            twins,
            toy.prop(toy.TWIN_INPUTS, 2, [(toy.box([(-1.0, 1.0)] * toy.TWIN_INPUTS), toy.at_least(0.5))]),
            TIMEOUT_CASE_S,
        ),
        Case(
            "witness",
            "a 2x2x3 input in C order, right in one corner alone",
            Verdict.SAT,
            corner,
            toy.prop(12, 2, [(toy.box([(0.0, 1.0)] * 12), toy.at_least(toy.CORNER_MAX - 0.25))]),
        ),
    )


def check_tool(tool: Tool, judge: JudgeAnswer, folder: Path, limit_s: float) -> Iterator[Outcome]:
    """Yields the outcome of each case, as it is found.

    Args:
        tool: is asked one case at a time.
        judge: judges its answers, as a run would.
        folder: the cases' files go here.
        limit_s: seconds a case may take, start-up included.
    """
    identity = tool.identity()
    for index, case in enumerate(cases()):
        job = _job(case, index, folder, limit_s, identity)
        answers = list(tool.decide([job]))
        if len(answers) == 1 and answers[0].job.key == job.key:
            yield outcome(case, judge(job, answers[0].answer))
        else:
            message = f"{len(answers)} answers for one instance"
            yield Outcome(case, "failed", Verdict.ERROR, None, 0.0, message)


def outcome(case: Case, result: InstanceResult) -> Outcome:
    """Returns what a judged answer says of the tool.

    A wrong answer, an error and an answer later than `LATE_S` after the limit fail. A tool that gives up in time is
    `undecided`, or has passed where the case is about that.
    """
    limit = result.job.limits.timeout_s
    seen = Outcome(case, "passed", result.verdict, result.tool_verdict, result.wall_s, result.message)
    if result.work_s > limit + LATE_S:
        return replace(seen, status="failed", message=result.message or f"took {result.work_s:.1f} s of {limit:g} s")
    if result.verdict is case.expected:
        return seen
    if result.verdict in (Verdict.UNKNOWN, Verdict.TIMEOUT):
        return seen if case.limit_s is not None else replace(seen, status="undecided")
    wrong = f"{result.verdict.value}, but {case.expected.value} is right"
    return replace(seen, status="failed", message=result.message or wrong)


def conforms(outcomes: Sequence[Outcome]) -> bool:
    """Returns whether no case failed and at least one was decided."""
    decided = [one for one in outcomes if one.status == "passed" and one.verdict is one.case.expected]
    return bool(decided) and all(one.status != "failed" for one in outcomes)


def _job(case: Case, index: int, folder: Path, limit_s: float, identity: str) -> Job:
    network, prop = folder / "onnx" / f"{case.name}.onnx", folder / "vnnlib" / f"{case.name}.vnnlib"
    for path, content in ((network, case.network), (prop, case.prop.encode("ascii"))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    limits = Limits(case.limit_s or limit_s)
    instance = Instance(network, prop, limits.timeout_s, f"onnx/{network.name}", f"vnnlib/{prop.name}")
    hashes = sha256_file(network), sha256_file(prop)
    return Job(f"{identity[:32]}{hashes[1][:32]}", instance, case.name, index, limits, *hashes)
