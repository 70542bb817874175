"""`lgbench tool`: the verifiers that can be run, and whether one of them does what it should."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from harness.cli.outcome import MIN_WIDTH
from harness.domain import UsageError
from harness.judging.judge import Judge
from harness.tools.conformance import Outcome, cases, check_tool, conforms
from harness.tools.registry import FACTORIES, ToolOptions, make_tool
from harness.tools.supervise import ToolBounds
from harness.workflow.device import DEVICES, choose_device, this_machine
from harness.workflow.limits import make_limits

EXIT_FAILED = 1
COLOURS = {"passed": "green", "undecided": "yellow", "failed": "red"}


@click.group()
def tool() -> None:
    """The verifiers that `--tool` takes."""


@tool.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of names.")
def list_tools(as_json: bool) -> None:
    """List the verifiers, and what is not installed.

    Beside these, --tool takes docker:IMAGE and dummy:FILE, and --tool-dir a folder with VNN-COMP's scripts.
    """
    names = sorted(FACTORIES)
    click.echo(json.dumps(names) if as_json else "\n".join(f"{name:<12}{_state(name)}".rstrip() for name in names))


@tool.command("check")
@click.argument("name", required=False)
@click.option("--tool-dir", type=click.Path(path_type=Path), metavar="DIR", help="Folder with VNN-COMP's scripts.")
@click.option("--timeout", type=float, default=60.0, show_default=True, metavar="S", help="Seconds a case may take.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where to compute.")
@click.option("--tool-memory", type=float, metavar="GIB", help="Memory of a verifier that is not ours.")
@click.option("--tool-cores", type=click.IntRange(min=1), metavar="N", help="Processor cores of it.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Keep the cases and the tool's logs here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def check(
    name: str | None,
    tool_dir: Path | None,
    timeout: float,
    device: str,
    tool_memory: float | None,
    tool_cores: int | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Put eight toy networks with known answers to verifier NAME.

    A case fails where the answer is wrong, an error, or late; a verifier that gives up in time is undecided, which is
    no mistake. Exit code 1 where a case fails, or none is decided.
    """
    if name is None and tool_dir is None:
        raise click.UsageError("name a verifier, or a folder of scripts with --tool-dir")
    make_limits(timeout, None)
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: is there already; choose another --out")
    chosen = choose_device(device, this_machine()).name
    with nullcontext(str(out)) if out is not None else tempfile.TemporaryDirectory(prefix="lgbench-check-") as folder:
        options = ToolOptions(
            Path(folder) / "logs",
            chosen,
            category="lgbench_toy",
            folder=tool_dir,
            bounds=ToolBounds(tool_memory, tool_cores),
        )
        made = make_tool(name or str(tool_dir and tool_dir.absolute().name), options)
        outcomes = []
        with Console(stderr=True).status("starting") as status:
            for k, one in enumerate(check_tool(made, Judge().judge, Path(folder), timeout), 1):
                outcomes.append(one)
                status.update(f"{k} of {len(cases())} cases")
    if as_json:
        click.echo(json.dumps(as_values(made.name, outcomes), indent=2))
    else:
        _print(made.name, outcomes)
    return 0 if conforms(outcomes) else EXIT_FAILED


def as_values(name: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Returns the outcome of a check as JSON values."""
    return {
        "tool": name,
        "conforms": conforms(outcomes),
        **{status: sum(one.status == status for one in outcomes) for status in COLOURS},
        "cases": [
            {
                "name": one.case.name,
                "asks": one.case.asks,
                "expected": one.case.expected.value,
                "verdict": one.verdict.value,
                "tool_verdict": None if one.tool_verdict is None else one.tool_verdict.value,
                "status": one.status,
                "wall_s": one.wall_s,
                "message": one.message,
            }
            for one in outcomes
        ],
    }


def _print(name: str, outcomes: Sequence[Outcome]) -> None:
    out = Console()
    if not out.is_terminal:
        out.width = max(out.width, MIN_WIDTH)
    table = Table("case", "asks", "right", "answer", "s", "", box=None)
    for one in outcomes:
        status = f"[{COLOURS[one.status]}]{one.status}[/]"
        table.add_row(one.case.name, one.case.asks, one.case.expected, one.verdict, f"{one.wall_s:.1f}", status)
    out.print(table)
    for one in outcomes:
        if one.message and one.status != "passed":
            out.print(f"{one.case.name}: {one.message}", markup=False, highlight=False, soft_wrap=True)
    passed = sum(one.status == "passed" for one in outcomes)
    verdict = "conforms" if conforms(outcomes) else "does not conform"
    out.print(f"{name}: {passed} of {len(outcomes)} passed; {verdict}", highlight=False)


def _state(name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            make_tool(name, ToolOptions(Path(folder))).identity()
        except UsageError as error:
            return str(error).removeprefix(f"{name}: ")
    return "ready"
