"""The `lgbench` command: finds the asked-for command without importing the others, and turns errors into exit codes.

Exit codes: 0 done, 1 interrupted or some results are errors, 2 usage error, 3 soundness conflict.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import NamedTuple

import click

from harness.cli.clock import process_start

EXIT_INTERRUPTED = EXIT_FAILED = 1
EXIT_USAGE = 2
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a full disk says, or a terminal that is gone, of standard output."""


class Started(NamedTuple):
    """What every command is told, as click's context object."""

    at: float
    """When the command was started, on the clock of `time.monotonic`; a process of its own started with it."""


class LazyCommand(NamedTuple):
    """Where a command is defined, and the line that `--help` shows without importing it."""

    module: str
    attribute: str
    help: str


COMMANDS: Mapping[str, LazyCommand] = {
    "bench": LazyCommand("harness.cli.bench", "bench", "Run a benchmark: the main job."),
    "run": LazyCommand("harness.cli.run", "run", "Decide the instances of a benchmark or of an instances.csv."),
    "verify": LazyCommand("harness.cli.verify", "verify", "Decide one property of one network."),
    "show": LazyCommand("harness.cli.show", "show", "Print the results of a run."),
    "report": LazyCommand("harness.cli.report", "report", "Write a run's report page again."),
    "audit": LazyCommand("harness.cli.audit", "audit", "Check a run again: hashes, counterexamples, proofs."),
    "transfer": LazyCommand("harness.cli.transfer", "transfer", "Show one network's counterexamples to another."),
    "train": LazyCommand("harness.cli.train", "train", "Train a network adversarially."),
    "score": LazyCommand("harness.cli.score", "score", "Score the significance of a network's neurons."),
    "mask": LazyCommand("harness.cli.score", "mask", "Choose the neurons to graft from scores."),
    "adopt": LazyCommand("harness.cli.graft", "adopt", "Publish a network of your own, to graft or verify it."),
    "masks": LazyCommand("harness.cli.masks", "masks", "Compare masks, and draw what they were chosen by."),
    "graft": LazyCommand("harness.cli.graft", "graft", "Graft a network by a mask and fine-tune it."),
    "sweep": LazyCommand("harness.cli.sweep", "sweep", "Graft and verify a grid of recipes, and compare them."),
    "evaluate": LazyCommand("harness.cli.graft", "evaluate", "Measure standard and robust accuracy."),
    "compare": LazyCommand("harness.cli.compare", "compare", "Compare several tools on one benchmark."),
    "check-witness": LazyCommand(
        "harness.cli.check_witness", "check_witness", "Replay a counterexample file and print what it is worth."
    ),
    "score-vnncomp": LazyCommand(
        "harness.cli.score_vnncomp", "score_vnncomp", "Compute VNN-COMP's tables from result files."
    ),
    "export": LazyCommand("harness.cli.export", "export", "Write a benchmark for VNN-COMP, or check such a folder."),
    "data": LazyCommand("harness.cli.data", "data", "Fetch or list data sets."),
    "tool": LazyCommand("harness.cli.tool", "tool", "List verifiers, or check one on toy networks."),
    "doctor": LazyCommand("harness.cli.doctor", "doctor", "Say what this machine offers."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for.

    `lgbench --help` and a mistyped command answer at once, and a command needs only what it uses itself.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Returns the commands in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Returns the command of that name, importing its module; None where there is no such command."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.module}.{entry.attribute} is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Writes the list of commands from `COMMANDS` alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lg-bench")
    except PackageNotFoundError:
        return "unknown (not installed)"


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"lgbench {_version()}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"auto_envvar_prefix": "LGBENCH", "help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show it.")
def cli() -> None:
    """Linearity grafting, measured: networks, properties, verifiers, and what grafting did to them.

    Each option can also be set as LGBENCH_<COMMAND>_<OPTION>, e.g. LGBENCH_BENCH_INPUTS=20.
    """


def main(argv: Sequence[str] | None = None, command: click.Command = cli, name: str = "lgbench") -> int:
    """Runs one command and returns its exit code; user mistakes become one line on standard error.

    Args:
        argv: the arguments; None takes the process's own.
        command: what to run; a program of its own passes its command.
        name: what usage lines call the program.
    """
    signal.signal(signal.SIGTERM, _terminate)
    began = process_start() if argv is None else time.monotonic()
    try:
        given = None if argv is None else list(argv)
        code = command.main(args=given, prog_name=name, standalone_mode=False, obj=Started(began))
        click.echo(nl=False)  # Flushes, also where standard output is closed and there is nothing to flush.
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return EXIT_USAGE
    except click.ClickException as error:
        hint = f" (see `{error.ctx.command_path} --help`)" if isinstance(error, click.UsageError) and error.ctx else ""
        return _fail(f"{error.format_message()}{hint}", EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output is gone; the interpreter must not fail once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERRUPTED
    except Exception as error:
        code = _told(error)
        if code is None:
            raise
        return code


def _told(error: Exception) -> int | None:
    """Says in one line what is no fault of the program, and returns the exit code; None for a fault."""
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package in ("", "harness"):
            return None
        advice = "start ./run_benchmark.sh, which installs all, or pip install -c constraints.txt . in its folder"
        return _fail(f"the package {package} is not installed in {sys.prefix}; {advice}", EXIT_USAGE)
    # Imported here because numpy comes with it, which `--help` does not need.
    from harness.domain import LgBenchError, UsageError

    if isinstance(error, LgBenchError):
        return _fail(str(error), EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED)
    if isinstance(error, OSError) and error.filename is not None:
        reason = f"cannot be read or written ({error.strerror}); check the path, permissions and free space"
        return _fail(f"{error.filename}: {reason}", EXIT_USAGE)
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return _fail(f"the output cannot be written ({error.strerror})", EXIT_FAILED)
    return None


def _terminate(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    return code
