"""What can be wrong with a run folder: read-only, damaged, in use by another run."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_benchmark import make_benchmark

from harness.cli.main import main
from harness.domain import Stage, ToolAnswer, Verdict
from harness.run.lock import LOCK_NAME
from harness.run.store import Store
from harness.tools import registry
from harness.tools.dummy import DummyTool
from harness.workflow.folder import REPLACED

ROOT = Path(__file__).resolve().parents[2]
ROWS = 4

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the benchmark and its finished run in `out`, which no test changes."""
    folder = tmp_path_factory.mktemp("folder")
    make_benchmark(folder)
    with pytest.MonkeyPatch.context() as patch:
        use_dummy(patch, folder)
        assert bench() == 0
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = Path(shutil.copytree(original, tmp_path / "copy"))
    use_dummy(monkeypatch, copy)
    return copy


def use_dummy(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.chdir(folder)
    answer = ToolAnswer(Verdict.UNSAT, 0.2, 0.1, Stage.INCOMPLETE)
    patch.setattr(registry, "make_tool", lambda *_: DummyTool(lambda _: answer))


def bench(*more: str) -> int:
    return main(["bench", "tiny", "--inputs", "2", "--device", "cpu", "--out", "out", *more])


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("name", REPLACED)
@pytest.mark.parametrize("more", [[], ["--resume"]], ids=["new", "resume"])
def test_what_no_run_has_made_is_not_replaced(
    name: str, more: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(folder / "out")
    kept = folder / "out" / name / "a.counterexample" if name == "counterexamples" else folder / "out" / name
    kept.parent.mkdir(parents=True)
    kept.write_text("somebody's")
    assert bench(*more) == 2
    assert f"out: is no run folder, but has {name}, which a run replaces" in one_error(capsys)
    assert [path for path in (folder / "out").rglob("*") if path.is_file()] == [kept]
    assert kept.read_text() == "somebody's"


def test_what_a_run_replaces_is_what_it_leaves(folder: Path) -> None:
    assert {path.name for path in (folder / "out").iterdir()} - {"results.db", LOCK_NAME, "benchmark", "logs"} == {
        name for name in REPLACED if (folder / "out" / name).exists()
    }


def test_a_damaged_store_is_refused_and_mended_by_a_resume(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    store, before = folder / "out/results.db", rows(folder)
    data = bytearray(store.read_bytes())
    place = data.index(b"unsat")
    data[place : place + 5] = b"unsaT"
    store.write_bytes(data)
    for refused in (["show", "out"], ["report", "out"], ["bench", "tiny", "--out", "out"]):
        assert main(refused) == 2
        assert "damaged" in one_error(capsys)
    assert store.read_bytes() == data, "the file stays as it was until somebody asks to go on"

    assert bench("--resume") == 0
    (warning,) = [record.getMessage() for record in caplog.records if "damaged" in record.getMessage()]
    assert f"{ROWS - 1} results are good and kept" in warning
    assert (folder / "out/results.db.damaged-1").read_bytes() == data
    assert {place: row[0] for place, row in rows(folder).items()} == {place: row[0] for place, row in before.items()}
    assert sum(rows(folder)[place] == row for place, row in before.items()) == ROWS - 1, "one was decided again"
    assert main(["show", "out"]) == 0


def test_two_runs_in_one_folder_at_once(folder: Path) -> None:
    """A process that holds the folder, and a second one that is told so; the first is not disturbed by it."""
    holder = (
        "import sys, time; from pathlib import Path; from harness.run.lock import run_lock\n"
        "with run_lock(Path('out')):\n    print('held', flush=True); time.sleep(600)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    before = (folder / "out/results.db").read_bytes()
    with subprocess.Popen(
        [sys.executable, "-c", holder], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as first:
        try:
            assert first.stdout is not None
            assert first.stdout.readline() == "held\n"
            for more in ((), ("--resume",)):
                assert bench(*more) == 2
            assert (folder / "out" / LOCK_NAME).read_text() == f"{first.pid}\n"
            first.send_signal(signal.SIGKILL)
            first.wait()
            assert bench("--resume") == 0, "the system takes the lock from who dies"
        finally:
            first.kill()
    assert (folder / "out/results.db").read_bytes() != before or rows(folder)


@pytest.fixture
def read_only(folder: Path) -> list[str]:
    """Returns what a command begins with that sees the folder on a read-only file system."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c"]
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && cd "$1" && shift && exec "$@"'
    probe = [*command, script, "bash", str(folder), "true"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here, not even in a namespace of its own")
    return [*command, script, "bash", str(folder)]


def test_a_folder_on_a_read_only_file_system_is_shown_and_not_run_in(folder: Path, read_only: list[str]) -> None:
    # A run that was killed leaves its last rows in the store's log.
    with sqlite3.connect(folder / "out/results.db") as database:
        database.execute("UPDATE results SET message = 'x' WHERE idx = 0")
        shutil.copytree(folder / "out", folder / "killed")
    program = (
        "import sys; from harness.cli.main import main; "
        "sys.exit([main(['show', 'killed']), main(['bench', 'tiny', '--out', 'out', '--resume']), "
        "main(['bench', 'tiny', '--out', 'new'])] != [0, 2, 2])"
    )
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    done = subprocess.run(
        [*read_only, sys.executable, "-c", program],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2, done.stderr
    assert all("choose another --out" in line for line in errors), errors
    assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == before


def rows(folder: Path) -> dict[tuple[str, int], tuple[str, str]]:
    with Store.read(folder / "out/results.db") as store:
        return {(row.variant, row.index): (row.verdict.value, row.finished_at) for row in store.rows()}
