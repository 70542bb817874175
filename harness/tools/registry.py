"""The tools by name: our engine, the adapters of this repository, any folder of scripts, any Docker image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from harness.domain import UsageError
from harness.formats.competition import without_year
from harness.tools.builtin import BuiltinTool
from harness.tools.contract import OnProgress, Tool
from harness.tools.script import INSTALL, ScriptFolder, ScriptTool, check_scripts
from harness.tools.supervise import ToolBounds

ADAPTERS = Path(__file__).resolve().parents[2] / "adapters"
"""Folder of the adapters; not part of an installed package."""
INSTALLED = "env/installed.txt"
"""What an adapter's `install_tool.sh` writes last, below its folder."""
DOCKER = "docker:"
"""Beginning of a tool's name that goes on with an image's."""
DUMMY = "dummy:"
"""Beginning of a tool's name that goes on with the file of what the dummy is to answer."""


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """What every tool is made with."""

    log_dir: Path
    """Folder for the tool's logs."""
    device: str = "cpu"
    """`cpu` or `cuda`."""
    seed: int = 0
    arithmetic: str = "float32"
    """What our engine's `unsat` speaks of, of `ARITHMETICS`; other tools have a meaning of their own."""
    on_progress: OnProgress | None = None
    """Told what the tool works on, by tools that say it."""
    category: str = ""
    """The benchmark's name, for scripts that choose their settings by it."""
    folder: Path | None = None
    """A user's folder with VNN-COMP's scripts; the tool's name is then only a name."""
    bounds: ToolBounds = field(default_factory=ToolBounds)
    """What tools of others may use beside their time."""
    keep: bool = False
    """Whether our engine's process stays for the next call; see `BuiltinTool`."""


def _builtin(options: ToolOptions) -> Tool:
    return BuiltinTool(
        options.log_dir,
        device=options.device,
        seed=options.seed,
        arithmetic=options.arithmetic,
        on_progress=options.on_progress,
        keep=options.keep,
    )


def _adapter(name: str) -> Callable[[ToolOptions], Tool]:
    folder = ADAPTERS / name
    hint = f"install it with: bash {folder / INSTALL} v1"
    shared = tuple(sorted(ADAPTERS.glob("*.py")))
    return lambda options: _script(name, options, ScriptFolder(folder, folder / INSTALLED, hint, shared))


def _dummy(options: ToolOptions) -> Tool:
    return _script("dummy", options, ScriptFolder(ADAPTERS / "dummy"))


def _script(name: str, options: ToolOptions, folder: ScriptFolder) -> Tool:
    return ScriptTool(
        name,
        folder,
        options.log_dir,
        category=without_year(options.category),
        device=options.device,
        bounds=options.bounds,
        on_progress=options.on_progress,
    )


FACTORIES: Mapping[str, Callable[[ToolOptions], Tool]] = MappingProxyType(
    {
        "builtin": _builtin,
        "dummy": _dummy,
        "neuralsat": _adapter("neuralsat"),
        "marabou": _adapter("marabou"),
        "auto_lirpa": _adapter("auto_lirpa"),
    }
)
"""Name, as `--tool` takes it, to what makes the tool."""
INTERNAL = "builtin"
"""The one tool that is no other's: bounds do not hold for it, and it counts domains."""


def make_tool(name: str, options: ToolOptions) -> Tool:
    """Returns the tool of that name; none of its processes is started yet.

    Args:
        name: of `FACTORIES`, `docker:IMAGE`, `dummy:FILE`, or any name where `options.folder` is given.
        options: what it is made with.

    Raises:
        UsageError: there is no such tool; the message names those there are.
    """
    if options.folder is not None:
        return _foreign(name, options, options.folder)
    if name.startswith(DOCKER):
        from harness.tools.docker_tool import DockerTool

        return DockerTool(
            name.removeprefix(DOCKER),
            options.log_dir,
            category=without_year(options.category),
            gpu=options.device == "cuda",
            bounds=options.bounds,
            on_progress=options.on_progress,
        )
    if name.startswith(DUMMY):
        told = Path(name.removeprefix(DUMMY)).absolute()
        if not told.is_file():
            raise UsageError(f"{told}: no such file; it says what the dummy answers")
        settings = {"LGBENCH_DUMMY": str(told)}
        return _script("dummy", options, ScriptFolder(ADAPTERS / "dummy", sources=(told,), settings=settings))
    factory = FACTORIES.get(name)
    if factory is None:
        known = ", ".join([*sorted(FACTORIES), f"{DOCKER}IMAGE"])
        raise UsageError(f"unknown tool '{name}'; known: {known}; a folder of scripts is named by --tool-dir")
    return factory(options)


def _foreign(name: str, options: ToolOptions, folder: Path) -> Tool:
    if name == INTERNAL or name.startswith((DOCKER, DUMMY)) or "/" in name or not name.strip("."):
        raise UsageError(f"--tool {name} is no name for the scripts in {folder}; choose another")
    check_scripts(folder)
    return _script(name, options, ScriptFolder(folder.absolute()))
