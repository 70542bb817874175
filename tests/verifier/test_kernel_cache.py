"""Compiled code is never older than the sources it came from."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

from harness.verifier import kernels
from harness.verifier.kernels.cache import (
    KEPT,
    VARIABLE,
    keyed_directory,
    note_compiled,
    source_key,
    use_keyed_cache,
    was_compiled,
)

ROOT = Path(__file__).resolve().parents[2]
KERNELS = Path(kernels.__path__[0])
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from compiled.caller import answer; print(answer())"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "compiled"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "called.py").write_text("VALUE = 1\n")
    return folder


def change(path: Path, text: str) -> None:
    """Writes other content of the same size and the same time, as a wheel of constant times does."""
    before = path.stat()
    assert len(text) == before.st_size
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_key_follows_content_and_names_of_the_sources_alone(sources: Path) -> None:
    keys = [source_key(sources)]
    change(sources / "called.py", "VALUE = 2\n")
    keys.append(source_key(sources))
    (sources / "called.py").rename(sources / "other.py")
    keys.append(source_key(sources))
    (sources / "new.py").write_text("")
    keys.append(source_key(sources))
    assert len(set(keys)) == len(keys)
    os.utime(sources / "other.py", (1, 1))
    (sources / "__pycache__").mkdir()
    (sources / "notes.txt").write_text("no source")
    assert source_key(sources) == keys[-1]


def test_what_moves_from_one_file_to_the_next_is_a_change(sources: Path) -> None:
    (sources / "a.py").write_text("x = 1\n")
    (sources / "b.py").write_text("y = 2\n")
    before = source_key(sources)
    (sources / "a.py").write_text("")
    (sources / "b.py").write_text("x = 1\ny = 2\n")
    assert source_key(sources) != before


def test_the_users_folder_comes_first(sources: Path, tmp_path: Path) -> None:
    found = keyed_directory(sources, {VARIABLE: str(tmp_path / "mine")})
    assert found == tmp_path / "mine" / f"lg-bench-{source_key(sources)}"
    assert found.is_dir()


def test_a_child_process_does_not_nest_folders(sources: Path, tmp_path: Path) -> None:
    environ = {VARIABLE: str(tmp_path / "mine")}
    use_keyed_cache(sources, environ, {})
    first = environ[VARIABLE]
    use_keyed_cache(sources, environ, {})
    assert environ[VARIABLE] == first
    change(sources / "called.py", "VALUE = 2\n")
    use_keyed_cache(sources, environ, {})
    assert environ[VARIABLE] != first
    assert Path(environ[VARIABLE]).parent == tmp_path / "mine"


def test_bases_that_cannot_be_written_are_passed_over(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"lg-bench-{source_key(sources)}"
    blocked = tmp_path / "file"
    blocked.write_text("")
    environ = {VARIABLE: str(blocked), "XDG_CACHE_HOME": str(tmp_path / "xdg"), "HOME": str(tmp_path / "home")}
    assert keyed_directory(sources, environ) == sources / "__pycache__" / name
    (sources / "__pycache__" / name).rmdir()
    (sources / "__pycache__").rmdir()
    (sources / "__pycache__").write_text("")
    assert keyed_directory(sources, environ) == tmp_path / "xdg" / "lg-bench" / name
    assert keyed_directory(sources, {"HOME": environ["HOME"]}) == tmp_path / "home" / ".cache" / "lg-bench" / name
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    last = keyed_directory(sources, {"XDG_CACHE_HOME": str(blocked)})
    assert last.parent.parent == tmp_path
    assert last.parent.stat().st_mode & 0o077 == 0


def test_a_temporary_folder_that_others_may_write_is_not_used(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (sources / "__pycache__").write_text("")
    shared = tmp_path / f"lg-bench-{os.getuid()}"
    shared.mkdir()
    shared.chmod(0o777)
    environ = {"XDG_CACHE_HOME": str(sources / "__pycache__")}
    found = keyed_directory(sources, environ)
    assert shared not in found.parents
    shared.rmdir()
    shared.symlink_to(tmp_path)
    assert shared not in keyed_directory(sources, environ).parents


def test_unreadable_sources_leave_numba_alone(tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    use_keyed_cache(tmp_path / "missing", environ, {})
    assert environ == {}


def test_numba_is_told_even_when_it_is_already_imported(sources: Path, tmp_path: Path) -> None:
    config, environ = ModuleType("numba.core.config"), {VARIABLE: str(tmp_path)}
    use_keyed_cache(sources, environ, {config.__name__: config})
    assert config.CACHE_DIR == environ[VARIABLE] == str(tmp_path / f"lg-bench-{source_key(sources)}")


def test_old_folders_go_and_foreign_ones_stay(sources: Path, tmp_path: Path) -> None:
    base = tmp_path / "mine"
    (base / "kernels_1234").mkdir(parents=True)
    used = base / "lg-bench-ffffffffffffffff"
    used.mkdir()
    for k in range(KEPT + 2):
        (base / f"lg-bench-{k:016x}" / "deep").mkdir(parents=True)
        os.utime(base / f"lg-bench-{k:016x}", (k, k))
    found = keyed_directory(sources, {VARIABLE: str(base)})
    left = {path.name for path in base.iterdir()}
    assert {found.name, used.name, "kernels_1234", f"lg-bench-{KEPT + 1:016x}"} <= left
    assert len(left) == KEPT + 2
    assert "lg-bench-0000000000000000" not in left


def test_an_edit_of_a_called_module_is_seen(sources: Path, tmp_path: Path) -> None:
    pytest.importorskip("numba")
    (sources / "__init__.py").write_text(
        "from pathlib import Path\n"
        "from harness.verifier.kernels.cache import use_keyed_cache\n"
        "use_keyed_cache(Path(__file__).parent)\n"
    )
    (sources / "called.py").write_text("import numba\n@numba.njit(cache=True)\ndef value():\n    return 1\n")
    (sources / "caller.py").write_text(
        "import numba\nfrom compiled.called import value\n@numba.njit(cache=True)\ndef answer():\n    return value()\n"
    )

    def answer() -> str:
        # -B: Python's own cache of bytecode goes by size and time, which stay the same here
        command = [sys.executable, "-B", "-c", PROGRAM, str(sources.parent)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: str(tmp_path / "mine")}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environ).stdout.strip()

    assert answer() == "1"
    change(sources / "called.py", (sources / "called.py").read_text().replace("return 1", "return 2"))
    assert answer() == "2"
    assert len(list((tmp_path / "mine").glob("lg-bench-*/*/caller.answer*.nbc"))) == 2


def test_every_kernel_is_kept_in_the_folder_for_these_sources() -> None:
    pytest.importorskip("numba")
    folder, seen = f"lg-bench-{source_key(KERNELS)}", 0
    for module in pkgutil.iter_modules([str(KERNELS)]):
        for value in vars(importlib.import_module(f"{kernels.__name__}.{module.name}")).values():
            if hasattr(value, "py_func") and value.targetoptions.get("cache", True):
                assert Path(value.stats.cache_path).parent.name == folder, value
                seen += 1
    assert seen > 50


def test_kernels_take_nothing_but_types_from_outside_their_folder() -> None:
    """A number or a function from elsewhere would be compiled in without being part of the key."""
    paths = sorted(KERNELS.glob("*.py"))
    assert len(paths) > 5
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("harness") for alias in node.names), path
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness"):
                assert node.module is not None
                outside = not node.module.startswith(kernels.__name__)
                found = [getattr(importlib.import_module(node.module), alias.name) for alias in node.names]
                assert not outside or all(isinstance(one, type) for one in found), (path, node.module)


def test_what_was_compiled_is_noted_for_the_sources_alone(tmp_path: Path) -> None:
    here, there = ({VARIABLE: str(tmp_path / f"lg-bench-{16 * digit}")} for digit in "ab")
    for environ in (here, there):
        Path(environ[VARIABLE]).mkdir()
    assert not was_compiled("neurons", here)
    note_compiled("neurons", here)
    assert was_compiled("neurons", here)
    assert not was_compiled("inputs", here)
    assert not was_compiled("neurons", there)


def test_what_was_compiled_for_another_processor_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {VARIABLE: str(tmp_path / f"lg-bench-{16 * 'd'}")}
    Path(environ[VARIABLE]).mkdir()
    note_compiled("neurons", environ)
    monkeypatch.setattr(kernels.cache, "_processor", lambda: "another")
    assert not was_compiled("neurons", environ)


def test_without_a_folder_of_ours_nothing_is_noted(tmp_path: Path) -> None:
    for environ in ({}, {VARIABLE: str(tmp_path)}, {VARIABLE: str(tmp_path / f"lg-bench-{16 * 'c'}")}):
        note_compiled("neurons", environ)
        assert not was_compiled("neurons", environ)
    assert not list(tmp_path.iterdir())
