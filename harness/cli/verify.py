"""`lgbench verify`: one property of one network, decided in this process."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from harness.domain import Instance, InstanceResult, Job, Verdict
from harness.formats.counterexample import format_counterexample
from harness.judging.judge import Judge
from harness.workflow.device import DEVICES, choose_device, this_machine
from harness.workflow.limits import make_limits

DEFAULT_TIMEOUT_S = 300.0


@click.command()
@click.argument("network", type=click.Path(path_type=Path))
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--timeout", type=float, default=DEFAULT_TIMEOUT_S, show_default=True, metavar="S", help="Seconds.")
@click.option("--max-domains", type=click.IntRange(min=0), metavar="N", help="Domains that may be visited.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where to compute.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random starts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
def verify(
    network: Path, spec: Path, timeout: float, max_domains: int | None, device: str, seed: int, as_json: bool
) -> None:
    """Decide whether some input of NETWORK (ONNX) violates SPEC (VNN-LIB).

    The first line is the verdict alone: sat (a violation was found), unsat (proved that there is none), unknown,
    timeout or error. After sat comes the counterexample as VNN-COMP writes it, replayed on ONNX Runtime. A reason goes
    to standard error. The exit code is 0 whatever the verdict.
    """
    limits = make_limits(timeout, max_domains, on="wall")
    chosen = choose_device(device, this_machine())
    # Read when torch is imported; spinning threads slow each other down on a busy host.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    from harness.verifier.api import verify_instance

    answer = verify_instance(network, spec, limits.timeout_s, chosen.name, seed, limits.max_domains)
    job = Job("", Instance(network, spec, limits.timeout_s), network.stem, 0, limits)
    _print(Judge().judge(job, answer), as_json=as_json)


def _print(result: InstanceResult, *, as_json: bool) -> None:
    witness = result.counterexample if result.verdict is Verdict.SAT else None
    text = "" if witness is None else format_counterexample(witness)
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
    if result.message:
        click.echo(result.message, err=True)
