"""`lgbench verify`: one property of one network, decided in this process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import click

from harness.cli.arithmetic import arithmetic_option
from harness.cli.main import EXIT_FAILED, EXIT_INTERRUPTED, Started
from harness.domain import (
    Instance,
    InstanceResult,
    Job,
    Limits,
    ToolAnswer,
    UnsupportedPropertyError,
    Verdict,
)
from harness.files import write_atomically
from harness.formats.assignment import format_witness
from harness.formats.compressed import existing, read_text
from harness.judging.judge import Judge
from harness.workflow.device import DEVICES, choose_device, this_machine
from harness.workflow.limits import make_limits

DEFAULT_TIMEOUT_S = 300.0
FINISH_S = 0.2
"""Seconds of the limit that are kept for the replay of a counterexample and the output."""
LATE_S = 1.0
"""Seconds after the limit in which the engine may still say itself why it has no answer."""
OVER = "the engine did not stop at its limit; it compiles its code once on a machine, so ask again, with more time"


Choices = tuple[str, int, str]
"""Device, seed, arithmetic."""


@click.command()
@click.argument("network")
@click.argument("spec", type=click.Path(path_type=Path))
@click.option(
    "--timeout",
    type=float,
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    metavar="S",
    help="Seconds from the start of the command to the answer, the loading of libraries included.",
)
@click.option("--max-domains", type=click.IntRange(min=0), metavar="N", help="Domains that may be visited.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where to compute.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random starts.")
@arithmetic_option("float32")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="VNN-COMP's result file: the verdict, after sat the counterexample; says timeout until there is an answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
@click.pass_obj
def verify(
    started: Started,
    network: str,
    spec: Path,
    timeout: float,
    max_domains: int | None,
    device: str,
    seed: int,
    arithmetic: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Decide whether some input of NETWORK (ONNX) violates SPEC (VNN-LIB).

    NETWORK may be a list of several, as instances.csv has it: "[('f', 'a.onnx'), ('g', 'b.onnx')]".

    The first line is the verdict alone: sat (a violation was found), unsat (proved that there is none), unknown,
    timeout or error. After sat comes the counterexample as VNN-COMP writes it, replayed on ONNX Runtime. The time and,
    where there is one, a reason go to standard error. The exit code is 0 whatever the verdict, 1 where the command was
    stopped, 2 where a file is missing or cannot be used.
    """
    limits = make_limits(timeout, max_domains, on="wall")
    chosen = choose_device(device, this_machine())
    networks = _networks(network)
    # Before a second is spent on libraries.
    for path in (*(Path(path) for _, path in networks), spec):
        existing(path)
    if out is not None:
        write_atomically(out, f"{Verdict.TIMEOUT}\n")

    def give_up() -> None:
        answer = ToolAnswer(Verdict.TIMEOUT, 0.0, 0.0, message=OVER)
        _print(_judged(started, Path(networks[0][1]), spec, limits, answer), "", as_json=as_json)

    with ExitStack() as temporary, ended_at(started.at + timeout + LATE_S, give_up, temporary):
        result = _decide(started, networks, spec, limits, (chosen.name, seed, arithmetic), temporary)
    witness = result.counterexample if result.verdict is Verdict.SAT else None
    text = "" if witness is None else format_witness(witness, read_text(spec), str(spec))
    if out is not None:
        write_atomically(out, f"{result.verdict}\n{text}")
    _print(result, text, as_json=as_json)


def _decide(
    started: Started,
    networks: Sequence[tuple[str, str]],
    spec: Path,
    limits: Limits,
    choices: Choices,
    temporary: ExitStack,
) -> InstanceResult:
    """Returns the judged answer on an instance; files that had to be made for it stay until `temporary` is closed."""
    network, prop, problem = Path(networks[0][1]), spec, ""
    if len(networks) > 1:
        try:
            network, prop = _joined(networks, spec, temporary)
        except UnsupportedPropertyError as error:
            problem = str(error)
    if problem:
        answer = ToolAnswer(Verdict.UNKNOWN, 0.0, 0.0, message=problem)
    else:
        answer = _answer(started, network, prop, limits, choices, temporary)
    return _judged(started, network, prop, limits, answer)


def _judged(started: Started, network: Path, prop: Path, limits: Limits, answer: ToolAnswer) -> InstanceResult:
    job = Job("", Instance(network, prop, limits.timeout_s), network.stem, 0, limits)
    return Judge().judge(job, replace(answer, wall_s=time.monotonic() - started.at))


def _joined(networks: Sequence[tuple[str, str]], spec: Path, temporary: ExitStack) -> tuple[Path, Path]:
    """Returns the files of one network and one property, made of an instance of several networks."""
    from harness.formats.several import Joiner

    joined = Joiner().join([(name, Path(path)) for name, path in networks], spec)
    folder = Path(tempfile.mkdtemp(prefix="lgbench-verify-"))
    temporary.callback(shutil.rmtree, folder, ignore_errors=True)
    made = folder / "joined.onnx", folder / "joined.vnnlib"
    made[0].write_bytes(joined.model)
    made[1].write_text(joined.text, encoding="ascii")
    return made


def _answer(
    started: Started, network: Path, prop: Path, limits: Limits, choices: Choices, temporary: ExitStack
) -> ToolAnswer:
    # Read when torch is imported; spinning threads slow each other down on a busy host.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    from harness.verifier.api import verify_instance

    left = limits.timeout_s - FINISH_S - (time.monotonic() - started.at)
    if left <= 0:
        return ToolAnswer(Verdict.TIMEOUT, 0.0, 0.0, message="the limit was over before the engine had started")
    with stopped_at_once(temporary):
        device, seed, arithmetic = choices
        return verify_instance(network, prop, left, device, seed, limits.max_domains, arithmetic)


@contextmanager
def stopped_at_once(temporary: ExitStack) -> Iterator[None]:
    """Ends the process on SIGTERM or Ctrl-C without waiting for anything: the engine's threads stop for no exception.

    Nothing is lost by that: whatever the block does, it writes no file.

    Args:
        temporary: is closed before.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        os.write(2, b"error: interrupted\n")
        temporary.close()
        os._exit(EXIT_INTERRUPTED)

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def ended_at(deadline: float, give_up: Callable[[], None], temporary: ExitStack) -> Iterator[None]:
    """Calls `give_up` at the deadline and ends the process with code 0, whatever the block is doing.

    The engine keeps its time itself, but not while its code is compiled, which happens once on a machine and takes a
    minute or two.

    Args:
        deadline: on the monotonic clock.
        give_up: says that there is no answer.
        temporary: is closed before the process ends.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        code = EXIT_FAILED
        try:
            give_up()
            sys.stdout.flush()
            temporary.close()
            code = 0
        finally:
            os._exit(code)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(deadline - time.monotonic(), 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _networks(network: str) -> list[tuple[str, str]]:
    """Returns declared name and path of each network that the argument names."""
    if not network.startswith("["):
        return [("", network)]
    from harness.formats.competition import network_paths

    return network_paths(network, "NETWORK")


def _print(result: InstanceResult, text: str, *, as_json: bool) -> None:
    if as_json:
        values = {
            "verdict": result.verdict.value,
            "tool_verdict": None if result.tool_verdict is None else result.tool_verdict.value,
            "stage": None if result.stage is None else result.stage.value,
            "wall_s": result.wall_s,
            "message": result.message,
            "counterexample": text or None,
        }
        click.echo(json.dumps(values, indent=2))
        return
    click.echo(result.verdict.value)
    if text:
        click.echo(text.rstrip("\n"))
    stage = "" if result.stage is None else f" ({result.stage})"
    click.echo(f"{result.wall_s:.2f} s{stage}{f': {result.message}' if result.message else ''}", err=True)
