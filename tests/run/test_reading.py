"""Results are read without the right to write, whoever owns them and however their run ended."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.domain import InstanceResult, UsageError
from harness.run.store import Store

MakeJob = Callable[..., object]
MakeResult = Callable[..., InstanceResult]
NOBODY = 65534


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Takes the superuser's rights away, which no permission stops; an ordinary user needs nothing taken away."""
    own = os.geteuid()
    if own != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(own)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others may look into, unlike those of `tmp_path`."""
    made = Path(tempfile.mkdtemp(prefix="lgbench-test-"))
    made.chmod(0o755)
    yield made
    for path in (made, *made.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(made)


def closed_to_writing(folder: Path) -> Path:
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return folder / "results.db"


def keys(store: Store) -> list[str]:
    return [row.key for row in store.rows()]


def test_a_finished_run_of_somebody_else_is_read(folder: Path, make_job: MakeJob, make_result: MakeResult) -> None:
    with Store.open(folder / "results.db", create=True) as store:
        store.add(make_result(make_job("a")), tool="t")
        store.meta["header"] = {"benchmark": "tiny"}
    path = closed_to_writing(folder)
    before = sorted(folder.iterdir())
    with as_somebody_else(), Store.read(path) as store:
        assert keys(store) == ["a"]
        assert store.meta["header"] == {"benchmark": "tiny"}
        with pytest.raises(UsageError, match="readonly"):
            store.meta["header"] = {}
        assert Store.is_begun(path)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("index_file", [True, False])
def test_what_only_the_log_of_a_killed_run_has_is_read_too(
    folder: Path, tmp_path: Path, make_job: MakeJob, make_result: MakeResult, index_file: bool
) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.add(make_result(make_job("a")), tool="t")
        # The files as a kill leaves them: nothing was carried from the log into the database.
        for path in tmp_path.glob("results.db*"):
            if index_file or not path.name.endswith("-shm"):
                shutil.copy(path, folder / path.name)
    path = closed_to_writing(folder)
    with as_somebody_else(), Store.read(path) as store:
        assert keys(store) == ["a"]
        with pytest.raises(UsageError, match="readonly"):
            store.meta["header"] = {}


def test_a_reader_sees_one_state_of_a_run_that_goes_on(
    tmp_path: Path, make_job: MakeJob, make_result: MakeResult
) -> None:
    path = tmp_path / "results.db"
    with Store.open(path, create=True) as writer:
        writer.add(make_result(make_job("a")), tool="t")
        with Store.read(path) as reader:
            writer.add(make_result(make_job("b")), tool="t")
            writer.meta["header"] = 1
            assert keys(reader) == ["a"]
            assert "header" not in reader.meta
        with Store.read(path) as reader:
            assert keys(reader) == ["a", "b"]


def test_what_is_no_store_is_refused_and_not_made(tmp_path: Path) -> None:
    missing, empty, text = tmp_path / "none/results.db", tmp_path / "empty.db", tmp_path / "text.db"
    empty.touch()
    text.write_text("no database at all, but long enough to be looked at")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE other (x)")
    other.close()
    for path, words in (
        (missing, "no results there"),
        (empty, "not a results store"),
        (text, "damaged"),
        (tmp_path / "other.db", "not a results store"),
    ):
        with pytest.raises(UsageError, match=words):
            Store.read(path)
    assert not missing.parent.exists()
    assert empty.stat().st_size == 0


def test_a_name_that_looks_like_a_uri_is_a_name(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "what? 100% #1" / "results.db"
    with Store.open(path, create=True) as store:
        store.add(make_result(), tool="t")
    with Store.read(path) as store:
        assert keys(store) == ["k"]
