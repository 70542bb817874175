"""`lgbench check-witness`: what a counterexample file is worth under the competition's rules."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli.options import rules_option
from harness.domain import Instance, Job, Limits
from harness.formats.competition import network_paths
from harness.formats.compressed import existing, read_text
from harness.formats.onnx_file import load_model_bytes
from harness.formats.vnnlib import read_property
from harness.judging.judge import Judge
from harness.judging.replay import Rules
from harness.judging.replay_several import replay_several

_LIMIT_S = 1.0
"""A job needs some limit; a replay is not measured against it."""


@click.command(name="check-witness")
@click.argument("network")
@click.argument("spec", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@rules_option("Of which year; 2025 published two tables.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
def check_witness(network: str, spec: Path, file: Path, rules: str, as_json: bool) -> None:
    """Replay the counterexample in FILE on NETWORK (ONNX) and SPEC (VNN-LIB) and print its class.

    FILE is VNN-COMP's counterexample or a whole result file; either may be gzipped. The first line is the class alone:
    correct (it proves sat), correct_up_to_tolerance, spec_not_violated, exec_doesnt_match (years that take the outputs
    it states), no_ce, wrong_shape, malformed_ce or unsupported. The reason goes to standard error. The exit code is 0
    whatever the class, 2 where NETWORK, SPEC or FILE is missing or NETWORK or SPEC cannot be read. NETWORK may be a
    list of several, as instances.csv has it: "[('f', 'a.onnx'), ('g', 'b.onnx')]".
    """
    networks = [(name, Path(path)) for name, path in network_paths(network, "NETWORK")]
    for path in (*(path for _, path in networks), spec, file):
        existing(path)
    for _, path in networks:
        load_model_bytes(path)
    if len(networks) > 1:
        replayed = replay_several(networks, spec, read_text(file), Rules(rules))
    else:
        read_property(spec)
        job = Job("", Instance(networks[0][1], spec, _LIMIT_S), networks[0][1].stem, 0, Limits(_LIMIT_S))
        replayed = Judge(Rules(rules)).replay_text(job, read_text(file))
    check, run = replayed.check, replayed.counterexample
    if as_json:
        outputs = None if run is None or run.y is None else [float(value) for value in run.y]
        values = {"verdict": check.verdict.value, "message": check.message, "rules": rules, "outputs": outputs}
        click.echo(json.dumps(values, indent=2))
        return
    click.echo(check.verdict.value)
    if check.message:
        click.echo(check.message, err=True)
