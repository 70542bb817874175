"""Stores whose bytes were changed behind the program's back: never believed, and what is good of them is saved."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.domain import Counterexample, EngineRecord, InstanceResult, Job, UsageError, Verdict
from harness.run.access import DamagedStoreError
from harness.run.salvage import mend_store
from harness.run.store import Store
from harness.run.stored import StoredResult

MakeJob = Callable[..., Job]
MakeResult = Callable[..., InstanceResult]
ROWS = 60


@pytest.fixture
def whole(tmp_path: Path, make_job: MakeJob, make_result: MakeResult) -> Path:
    """A closed store of some pages, with blobs in it."""
    path = tmp_path / "whole" / "results.db"
    rng = np.random.default_rng(0)
    with Store.open(path, create=True) as store:
        store.meta["header"] = {"benchmark": "tiny", "padding": "x" * 3000}
        for index in range(ROWS):
            job = make_job(f"k{index:02d}" * 16, index=index)
            x = Counterexample(rng.normal(size=200).astype(np.float32)) if index % 3 == 0 else None
            record = EngineRecord(domains=index, entered_bab=True, neurons=10) if index % 2 else None
            store.add(make_result(job, counterexample=x, record=record, message="m" * index), tool="t")
    return path


def rows_of(path: Path) -> dict[str, StoredResult]:
    with Store.read(path) as store:
        return {row.key: row for row in store.rows()}


def blobs_of(path: Path, keys: Iterator[str] | dict[str, StoredResult]) -> dict[str, bytes | None]:
    with Store.read(path) as store:
        found = {key: store.counterexample(key) for key in keys}
    return {key: None if one is None else one.x.tobytes() for key, one in found.items()}


def damaged(whole: Path, name: str, change: Callable[[bytearray], None]) -> Path:
    path = whole.parent.parent / name / "results.db"
    path.parent.mkdir()
    data = bytearray(whole.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def check_never_believed_and_mended(path: Path, whole: Path) -> str:
    """Reads a store that may be damaged, mends it where it is, and compares whatever is told of it with the original.

    Returns:
        `unharmed`, `mended` or `refused`.
    """
    original, blobs = rows_of(whole), blobs_of(whole, rows_of(whole))
    before = path.read_bytes()
    complaint = ""
    try:
        found = rows_of(path)
        assert (found, blobs_of(path, found)) == (original, blobs)
        assert mend_store(path) is None
    except UsageError as error:
        complaint = str(error)
    else:
        return "unharmed"
    assert "\n" not in complaint
    try:
        saved = mend_store(path)
    except UsageError as error:
        complaint = str(error)
    else:
        complaint = ""
    if complaint:
        assert "\n" not in complaint
        assert path.read_bytes() == before, "what cannot be mended stays as it was"
        return "refused"
    assert saved is not None
    assert saved.aside.read_bytes() == before
    found = rows_of(path)
    assert len(found) == saved.kept
    assert all(row == original[key] for key, row in found.items())
    assert blobs_of(path, found) == {key: blobs[key] for key in found}
    assert {p.name.partition(".db")[2] for p in path.parent.iterdir()} <= {"", ".damaged-1", "-wal", "-shm"}
    return "mended"


def flip(seed: int, bits: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        rng = random.Random(seed)
        for _ in range(bits):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)

    return change


def seen_with(whole: Path, seeds: range) -> dict[str, int]:
    seen = dict.fromkeys(("unharmed", "mended", "refused"), 0)
    for seed in seeds:
        path = damaged(whole, f"flipped-{seed}", flip(seed, 1 + seed % 8))
        seen[check_never_believed_and_mended(path, whole)] += 1
        shutil.rmtree(path.parent)
    return seen


def test_flipped_bits_are_never_believed_and_good_rows_are_saved(whole: Path) -> None:
    seen = seen_with(whole, range(16))
    assert seen["mended"] > 5
    assert seen["refused"] < 4


@pytest.mark.nightly
def test_many_flipped_bits(whole: Path) -> None:
    seen = seen_with(whole, range(16, 3000))
    assert seen["refused"] < 0.05 * sum(seen.values()), seen


def check_all_is_saved(path: Path, complaint: str) -> None:
    with pytest.raises(DamagedStoreError, match=complaint):
        rows_of(path)
    saved = mend_store(path)
    assert saved is not None
    assert saved.kept >= ROWS - 1
    assert len(rows_of(path)) == saved.kept


def behind_the_back(whole: Path, statement: str) -> None:
    """Changes a store as no SQL does: nothing takes a digest back."""
    with closing(sqlite3.connect(whole)) as database, database:
        triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            database.execute(f"DROP TRIGGER {name}")
        assert database.execute(statement).rowcount == 1
        for _, sql in triggers:
            database.execute(sql)


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("UPDATE results SET message = CAST(X'c328' AS TEXT) WHERE idx = 7", "1 of its rows"),
        ("DELETE FROM meta WHERE name = 'schema_version'", "its version"),
        ("UPDATE meta SET value = '0' WHERE name = 'schema_version'", "its version"),
        # A byte of a row's head that changes shifts its values, and takes the last of them, the digest, away.
        ("UPDATE results SET finished_at = digest, digest = NULL WHERE idx = 7", "finished_at is b"),
    ],
)
def test_what_only_a_look_at_the_values_tells_is_mended(whole: Path, statement: str, complaint: str) -> None:
    behind_the_back(whole, statement)
    check_all_is_saved(whole, complaint)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_noticed_and_its_beginning_is_saved(whole: Path, share: float) -> None:
    def cut(data: bytearray) -> None:
        del data[int(len(data) * share) :]

    path = damaged(whole, "cut", cut)
    with pytest.raises(DamagedStoreError, match="damaged"):
        Store.read(path)
    outcome = check_never_believed_and_mended(path, whole)
    assert outcome == ("mended" if share > 0.1 else outcome)
    if share == 0.9:
        assert 0 < len(rows_of(path)) < ROWS


def test_without_its_first_page_a_file_keeps_its_rows(whole: Path) -> None:
    def erase(data: bytearray) -> None:
        data[:4096] = bytes(4096)

    path = damaged(whole, "headless", erase)
    saved = mend_store(path)
    assert saved is not None
    assert (saved.kept, saved.header) == (ROWS, True)
    assert rows_of(path) == rows_of(whole)


def test_one_wrong_value_costs_one_row(whole: Path) -> None:
    key = f"k{7:02d}" * 16

    def change(data: bytearray) -> None:
        place = data.index(b"m" * ROWS_MESSAGE)
        data[place] = ord("M")

    path = damaged(whole, "one", change)
    with pytest.raises(DamagedStoreError, match="1 of its rows are not what was written"):
        Store.open(path)
    saved = mend_store(path)
    assert saved is not None
    assert (saved.kept, saved.header, saved.aside.name) == (ROWS - 1, True, "results.db.damaged-1")
    assert "59 results are good and kept" in saved.words(path)
    assert "\n" not in saved.words(path)
    assert key in rows_of(path)
    with Store.read(path) as store:
        assert store.meta["header"]["benchmark"] == "tiny"


ROWS_MESSAGE = ROWS - 1


def test_rows_in_the_log_of_a_killed_run_are_saved_too(
    tmp_path: Path, make_job: MakeJob, make_result: MakeResult
) -> None:
    path = tmp_path / "run" / "results.db"
    with Store.open(path, create=True) as store:
        for index in range(5):
            store.add(make_result(make_job(f"old{index}", index=index)), tool="t")
    with Store.open(path) as store:
        for index in range(5, 9):
            store.add(make_result(make_job(f"new{index}", index=index)), tool="t")
        killed = tmp_path / "killed"
        shutil.copytree(path.parent, killed)
    assert (killed / "results.db-wal").stat().st_size > 0
    data = bytearray((killed / "results.db").read_bytes())
    data[:100] = bytes(100)
    (killed / "results.db").write_bytes(data)
    saved = mend_store(killed / "results.db")
    if saved is not None:  # else the log alone was enough: it has the pages that were changed
        assert saved.kept >= 5
    assert len(rows_of(killed / "results.db")) >= 5


def test_what_is_none_of_ours_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    assert mend_store(path) is None
    path.touch()
    assert mend_store(path) is None
    path.write_text("a letter\n" * 1000)
    with pytest.raises(DamagedStoreError):
        mend_store(path)
    path.unlink()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE songs (title TEXT)")
    assert mend_store(path) is None
    assert [p.name for p in tmp_path.iterdir()] == ["results.db"]


def test_changes_by_sql_are_no_damage(whole: Path) -> None:
    with closing(sqlite3.connect(whole)) as database, database:
        database.execute("UPDATE results SET wall_s = 77.0 WHERE idx = 3")
        database.execute("DELETE FROM results WHERE idx = 4")
        database.execute("INSERT OR REPLACE INTO meta VALUES ('header', '{}')")
        database.execute("INSERT OR REPLACE INTO results SELECT * FROM results WHERE idx = 5")
    found = {row.index: row for row in rows_of(whole).values()}
    assert found[3].wall_s == 77.0
    assert len(found) == ROWS - 1
    assert mend_store(whole) is None


def test_a_row_that_is_stored_again_has_its_new_digest(
    tmp_path: Path, make_job: MakeJob, make_result: MakeResult
) -> None:
    path = tmp_path / "results.db"
    failed, job = make_result(verdict=Verdict.ERROR), make_job("k")
    twin = replace(job, variant="twin")
    with Store.open(path, create=True) as store:
        assert store.add(failed, tool="t")
        assert store.add(make_result(job), tool="t")
        assert not store.add(make_result(job, verdict=Verdict.SAT), tool="t")
        assert store.adopt(twin)
    with closing(sqlite3.connect(path)) as database:
        (count,) = database.execute("SELECT COUNT(digest) FROM results").fetchone()
    assert count == 2
    assert {row.variant for row in Store.read(path).rows()} == {"baseline", "twin"}


def test_a_store_of_before_digests_gets_them_when_it_is_opened(whole: Path) -> None:
    with closing(sqlite3.connect(whole)) as database, database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("DROP TABLE meta_digests")
        database.execute("ALTER TABLE results DROP COLUMN digest")
    assert len(rows_of(whole)) == ROWS
    Store.open(whole).close()
    path = damaged(whole, "later", lambda data: data.__setitem__(data.index(b"m" * ROWS_MESSAGE), ord("M")))
    with pytest.raises(DamagedStoreError):
        Store.open(path)
