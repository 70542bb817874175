"""The tools by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from harness.domain import UsageError
from harness.tools.builtin import BuiltinTool
from harness.tools.contract import OnProgress, Tool


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """What every tool is made with."""

    log_dir: Path
    """Folder for the tool's logs."""
    device: str = "cpu"
    """`cpu` or `cuda`."""
    seed: int = 0
    on_progress: OnProgress | None = None
    """Told what the tool works on, by tools that say it."""


def _builtin(options: ToolOptions) -> Tool:
    return BuiltinTool(options.log_dir, device=options.device, seed=options.seed, on_progress=options.on_progress)


FACTORIES: Mapping[str, Callable[[ToolOptions], Tool]] = MappingProxyType({"builtin": _builtin})
"""Name, as `--tool` takes it, to what makes the tool."""


def make_tool(name: str, options: ToolOptions) -> Tool:
    """Returns the tool of that name; none of its processes is started yet.

    Raises:
        UsageError: there is no such tool; the message names those there are.
    """
    factory = FACTORIES.get(name)
    if factory is None:
        raise UsageError(f"unknown tool '{name}'; known: {', '.join(sorted(FACTORIES))}")
    return factory(options)
