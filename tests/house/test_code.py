"""House rules that would otherwise be hopes: docstrings, no prints, short modules, no swallowed errors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "harness").rglob("*.py"))
MAX_MODULE_LINES = 450
MAX_FUNCTION_LINES = 80

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def public_definitions(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Yields functions and classes that others may use: no leading underscore here or in the class around."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node, f"{prefix}{node.name}.")


def is_override(node: Definition) -> bool:
    """Whether the docstring stands on the overloaded, overridden or property-defining original."""
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    return any(d in ("overload", "override", "typing.override") or d.endswith(".setter") for d in decorators)


def calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_there_are_modules_to_look_at() -> None:
    assert len(MODULES) > 20


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_public_names_have_docstrings(path: Path) -> None:
    tree = parsed(path)
    bare = [name for name, node in public_definitions(tree) if not is_override(node) and not ast.get_docstring(node)]
    if tree.body and not ast.get_docstring(tree) and path.name != "__init__.py":
        bare.insert(0, "the module itself")
    assert not bare, f"without a docstring: {', '.join(bare)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_commands_print(path: Path) -> None:
    if path.is_relative_to(ROOT / "harness" / "cli"):
        return
    prints = [
        call.lineno for call in calls(parsed(path)) if isinstance(call.func, ast.Name) and call.func.id == "print"
    ]
    assert not prints, f"print on lines {prints}; log, or return the text to harness.cli"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_error_is_swallowed_and_no_global_is_set(path: Path) -> None:
    nodes = list(ast.walk(parsed(path)))
    bare = [node.lineno for node in nodes if isinstance(node, ast.ExceptHandler) and node.type is None]
    globals_ = [node.lineno for node in nodes if isinstance(node, ast.Global)]
    assert not bare, f"bare except on lines {bare}"
    assert not globals_, f"global on lines {globals_}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_environment_is_read_at_the_edge_only(path: Path) -> None:
    relative = path.relative_to(ROOT / "harness")
    if relative.parts[0] == "cli" or relative.name == "config.py":
        return
    # Handing a whole environment on to a child process reads nothing from it, nor does setting a variable there.
    reads = [
        node.lineno
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.getenv", "os.environ.get"))
        or (
            isinstance(node, ast.Subscript)
            and isinstance(node.ctx, ast.Load)
            and ast.unparse(node.value) == "os.environ"
        )
    ]
    assert not reads, f"the environment is read on lines {reads}; pass a setting from harness.cli or harness.config"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_and_functions_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_MODULE_LINES, f"{lines} lines; split the module"
    functions = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {node.name: size for node in functions if (size := _lines(node)) > MAX_FUNCTION_LINES}
    assert not long, f"functions of more than {MAX_FUNCTION_LINES} lines: {long}"


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_annotations_are_lazy(path: Path) -> None:
    tree = parsed(path)
    if not any(isinstance(node, ast.AnnAssign | ast.FunctionDef | ast.ClassDef) for node in ast.walk(tree)):
        return
    futures = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert any(alias.name == "annotations" for node in futures for alias in node.names)


def test_the_scan_finds_what_it_looks_for() -> None:
    source = "def f(): ...\nclass C:\n    def g(self): ...\n    def _h(self): ...\nprint(f())\n"
    tree = ast.parse(source)
    assert [name for name, _ in public_definitions(tree)] == ["f", "C", "C.g"]
    assert [ast.unparse(call.func) for call in calls(tree)] == ["print", "f"]
