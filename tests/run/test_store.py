from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from harness.domain import (
    Counterexample,
    EngineRecord,
    InstanceResult,
    Job,
    Limits,
    ResultSet,
    Stage,
    UsageError,
    Verdict,
    WitnessCheck,
    WitnessVerdict,
)
from harness.run import digests, schema
from harness.run.store import Store

ROOT = Path(__file__).resolve().parents[2]
MakeJob = Callable[..., Job]
MakeResult = Callable[..., InstanceResult]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "run" / "results.db", create=True) as opened:
        yield opened


def test_a_full_result_comes_back_as_it_was(store: Store, make_job: MakeJob, make_result: MakeResult) -> None:
    job = make_job("k", variant="grafted", index=12, limits=Limits(7.5, "wall", 64))
    result = make_result(
        job,
        verdict=Verdict.UNKNOWN,
        tool_verdict=Verdict.SAT,
        stage=Stage.ATTACK,
        witness=WitnessCheck(WitnessVerdict.CORRECT_UP_TO_TOLERANCE, "by 1e-5"),
        message="not proved",
        record=EngineRecord(domains=9, entered_bab=True, neurons=100, unstable_nonlinear=2),
    )
    assert store.add(result, tool="builtin", finished_at=datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC))
    (row,) = store.rows()
    assert (row.key, row.variant, row.index) == ("k", "grafted", 12)
    assert (row.network_name, row.property_name) == ("onnx/grafted.onnx", "vnnlib/k.vnnlib")
    assert (row.network_sha256, row.property_sha256) == ("sha of grafted", "sha of k")
    assert (row.timeout_s, row.timeout_on, row.max_domains) == (7.5, "wall", 64)
    assert (row.verdict, row.tool_verdict, row.stage) == (Verdict.UNKNOWN, Verdict.SAT, Stage.ATTACK)
    assert row.result_set is ResultSet.VF
    assert (row.wall_s, row.work_s, row.message, row.tool) == (1.5, 0.25, "not proved", "builtin")
    assert row.witness == WitnessCheck(WitnessVerdict.CORRECT_UP_TO_TOLERANCE, "by 1e-5")
    assert (row.domains, row.entered_bab, row.neurons) == (9, True, 100)
    assert (row.unstable, row.unstable_nonlinear) == (None, None), "no mask was recorded"
    assert row.finished_at == "2026-01-02T03:04:05.678+00:00"


def test_a_bare_result_comes_back_with_what_is_missing_missing(store: Store, make_result: MakeResult) -> None:
    store.add(make_result(tool_verdict=None, stage=None), tool="dummy")
    (row,) = store.rows()
    assert (row.tool_verdict, row.stage, row.witness, row.max_domains) == (None, None, None, None)
    assert (row.domains, row.entered_bab, row.neurons, row.unstable, row.unstable_nonlinear) == (
        0,
        False,
        0,
        None,
        None,
    )
    assert store.counterexample("k") is None
    assert store.record("k") is None
    assert store.counterexample("no such key") is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_counterexamples_come_back_bit_for_bit(store: Store, make_result: MakeResult, dtype: type[np.floating]) -> None:
    x = np.array([0.1, -0.0, 1e-40, 3.0], dtype)
    store.add(make_result(counterexample=Counterexample(x, np.array([1.0, np.nan], np.float64))), tool="t")
    found = store.counterexample("k")
    assert found is not None
    assert found.y is not None
    assert (found.x.dtype, found.x.tobytes()) == (np.dtype(dtype), x.tobytes())
    np.testing.assert_array_equal(found.y, [1.0, np.nan])
    assert found.y.dtype == np.float64


def test_engine_records_come_back_with_their_masks(store: Store, make_result: MakeResult) -> None:
    masks = {"relu1": np.array([[True, False, True]]), "relu2": np.array([True] * 9)}
    record = EngineRecord(np.array([0.5, -0.25]), 4, masks, True, 12, 7)
    store.add(make_result(record=record), tool="t")
    (row,) = store.rows()
    assert (row.unstable, row.unstable_nonlinear) == (11, 7)
    found = store.record("k")
    assert found is not None
    assert found.unstable is not None
    assert found.root_margins is not None
    assert list(found.unstable) == ["relu1", "relu2"]
    np.testing.assert_array_equal(found.unstable["relu1"], [True, False, True])
    np.testing.assert_array_equal(found.unstable["relu2"], masks["relu2"])
    np.testing.assert_array_equal(found.root_margins, record.root_margins)
    assert (found.domains, found.entered_bab, found.neurons, found.unstable_nonlinear) == (4, True, 12, 7)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_but_error_is_final(store: Store, make_result: MakeResult, verdict: Verdict) -> None:
    store.add(make_result(verdict=verdict), tool="t")
    (row,) = store.rows()
    assert row.final == (verdict is not Verdict.ERROR)
    assert store.finished_keys() == ({"k"} if row.final else set())


def test_an_error_is_replaced_and_a_final_result_is_not(store: Store, make_result: MakeResult) -> None:
    failed = make_result(verdict=Verdict.ERROR, message="it crashed", counterexample=Counterexample(np.zeros(2)))
    assert store.add(failed, tool="t")
    assert store.add(make_result(verdict=Verdict.UNSAT), tool="t")
    assert not store.add(make_result(verdict=Verdict.SAT), tool="t")
    assert not store.add(failed, tool="t")
    (row,) = store.rows()
    assert (row.verdict, row.message) == (Verdict.UNSAT, "")
    assert store.counterexample("k") is None, "what the failed attempt left is gone"


def test_rows_are_ordered_and_can_be_limited_to_planned_keys(
    store: Store, make_job: MakeJob, make_result: MakeResult
) -> None:
    for key, variant, index in (("c", "b", 1), ("a", "b", 0), ("old", "a", 10), ("d", "a", 9)):
        store.add(make_result(make_job(key, variant=variant, index=index)), tool="t")
    assert [(row.variant, row.index) for row in store.rows()] == [("a", 9), ("a", 10), ("b", 0), ("b", 1)]
    wanted = [row.place for row in store.rows() if row.key in "acd"]
    assert [row.key for row in store.rows([*wanted, ("never run", "a", 9), ("b", "a", 999)])] == ["d", "a", "c"]


def test_jobs_of_one_key_have_a_row_each_and_share_the_result(
    store: Store, make_job: MakeJob, make_result: MakeResult
) -> None:
    twin = make_job("k", variant="copy", index=5)
    assert not store.adopt(twin), "nothing is known yet"
    store.add(make_result(make_job("k"), verdict=Verdict.ERROR), tool="t")
    assert not store.adopt(twin), "an error is nothing to share"
    store.add(make_result(make_job("k"), wall_s=3.25), tool="t")
    assert store.adopt(twin)
    assert store.adopt(twin)
    original, copy = store.rows()
    assert (copy.variant, copy.index, copy.network_name) == ("copy", 5, "onnx/copy.onnx")
    assert (copy.verdict, copy.wall_s, copy.finished_at) == (original.verdict, 3.25, original.finished_at)


def test_a_twin_that_failed_before_takes_over_the_result(
    store: Store, make_job: MakeJob, make_result: MakeResult
) -> None:
    twin = make_job("k", variant="copy", index=5)
    store.add(make_result(twin, verdict=Verdict.ERROR), tool="t")
    store.add(make_result(make_job("k")), tool="t")
    assert store.adopt(twin)
    assert {row.verdict for row in store.rows()} == {Verdict.UNSAT}


def test_of_twins_the_final_one_says_what_a_key_has(store: Store, make_job: MakeJob, make_result: MakeResult) -> None:
    def claim(value: float, domains: int, verdict: Verdict, variant: str) -> InstanceResult:
        point, record = Counterexample(np.array([value])), EngineRecord(domains=domains)
        return make_result(make_job("k", variant=variant), verdict=verdict, counterexample=point, record=record)

    # Killed between two rows of one key: the first in the order of the table still has a wrong claim of before.
    store.add(claim(1.0, 7, Verdict.ERROR, "a"), tool="x")
    store.add(claim(2.0, 9, Verdict.SAT, "b"), tool="x")
    found, record = store.counterexample("k"), store.record("k")
    assert found is not None
    assert record is not None
    assert (found.x.tolist(), record.domains) == ([2.0], 9)


def test_what_others_wrote_is_known(store: Store, tmp_path: Path, make_job: MakeJob, make_result: MakeResult) -> None:
    for index in range(3):
        store.add(make_result(make_job(f"k{index}", index=index)), tool="x")
    store.meta.set_all({"header": 1, "jobs": []})
    assert store.edited() == ([], [])
    with sqlite3.connect(tmp_path / "run" / "results.db") as other:
        other.execute("UPDATE results SET wall_s = 0 WHERE idx = 1")
        other.execute("UPDATE meta SET value = '2' WHERE name = 'header'")
    other.close()
    assert store.edited() == ([("baseline", 1)], ["header"])


@pytest.mark.parametrize("change", ["timeout_s = -1", "timeout_on = 'day'", "wall_s = 'long'", "message = x'00'"])
def test_a_value_that_no_run_writes_is_one_clear_line(store: Store, make_result: MakeResult, change: str) -> None:
    store.add(make_result(), tool="x")
    store._db.execute(f"UPDATE results SET {change}")
    with pytest.raises(UsageError, match="results file is damaged"):
        store.rows()


@pytest.mark.parametrize(
    "change", ["counterexample_x = 'text'", "counterexample_x = x'00'", "counterexample_x_dtype = 'x'"]
)
def test_a_counterexample_that_is_no_array_is_one_clear_line(
    store: Store, make_result: MakeResult, change: str
) -> None:
    store.add(make_result(counterexample=Counterexample(np.ones(2))), tool="x")
    store._db.execute(f"UPDATE results SET {change}")
    with pytest.raises(UsageError, match="results file is damaged"):
        store.counterexample("k")


def test_the_header_is_a_mapping_of_json_values(store: Store, tmp_path: Path) -> None:
    store.meta["benchmark"] = {"name": "cifar10_cnnb", "eps": 2 / 255, "variants": ["baseline"]}
    store.meta["device"] = None
    store.meta["device"] = "cpu"
    with Store.open(tmp_path / "run" / "results.db") as other:
        assert dict(other.meta) == {
            "benchmark": {"name": "cifar10_cnnb", "eps": 2 / 255, "variants": ["baseline"]},
            "device": "cpu",
        }
        assert other.meta.get("missing") is None
        assert len(other.meta) == 2
    del store.meta["device"]
    assert list(store.meta) == ["benchmark"]
    with pytest.raises(KeyError):
        store.meta["device"]
    with pytest.raises(KeyError):
        del store.meta["device"]


def test_the_schemas_version_is_not_the_callers(store: Store) -> None:
    with pytest.raises(ValueError, match="schema_version"):
        store.meta["schema_version"] = 99
    with pytest.raises(KeyError):
        del store.meta["schema_version"]
    assert "schema_version" not in store.meta


def test_a_reader_sees_results_while_the_run_goes_on(store: Store, tmp_path: Path, make_result: MakeResult) -> None:
    with Store.open(tmp_path / "run" / "results.db") as reader:
        assert reader.rows() == []
        store.add(make_result(), tool="t")
        assert [row.key for row in reader.rows()] == ["k"]


WRITE_FOREVER = """
import sys
from pathlib import Path
from harness.domain import *
from harness.run.store import Store
instance = Instance(Path("n.onnx"), Path("p.vnnlib"), 1.0)
with Store.open(Path(sys.argv[1]), create=True) as store:
    for index in range(10**9):
        job = Job(f"k{index}", instance, "v", index, Limits(1.0))
        store.add(InstanceResult(job, Verdict.UNSAT, None, None, 0.0, 0.0), tool="t")
        print(index, flush=True)
"""


def test_what_was_stored_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    command = [sys.executable, "-c", WRITE_FOREVER, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(50):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        told = 50 + len(writer.stdout.read().splitlines())
    with Store.open(path, create=True) as store:
        assert {row.index for row in store.rows()} >= set(range(told - 1))


def test_a_ctrl_c_while_a_digest_is_computed_is_a_ctrl_c_and_leaves_nothing(
    tmp_path: Path, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it computed by a function that SQLite calls, SQLite would make an error of its own of it."""

    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    path = tmp_path / "results.db"
    with Store.open(path, create=True) as store:
        store.add(make_result(), tool="builtin")
    monkeypatch.setattr(digests, "digest", interrupted)
    with pytest.raises(KeyboardInterrupt), Store.open(path) as store:
        store.meta["later"] = 1
    monkeypatch.undo()
    with Store.open(path) as store:
        assert (len(store.rows()), store.meta.get("later")) == (1, None)


def test_nothing_there_is_a_usage_error_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no results there"):
        Store.open(tmp_path / "none" / "results.db")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_store_is_opened_and_not_made_again(tmp_path: Path, make_result: MakeResult) -> None:
    for _ in range(2):
        with Store.open(tmp_path / "results.db", create=True) as store:
            store.add(make_result(), tool="t")
    with Store.open(tmp_path / "results.db") as store:
        assert len(store.rows()) == 1


def test_a_run_killed_before_the_tables_were_made_can_start_again(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    path.touch()
    with pytest.raises(UsageError, match="not a results store"):
        Store.open(path)
    assert not Store.is_begun(path)
    with Store.open(path, create=True) as store:
        assert store.rows() == []
    assert not Store.is_begun(path)


def test_a_run_is_begun_with_its_header_or_its_first_result(tmp_path: Path, make_result: MakeResult) -> None:
    assert not Store.is_begun(tmp_path / "none.db")
    with Store.open(tmp_path / "a.db", create=True) as store:
        store.meta["header"] = {}
    with Store.open(tmp_path / "b.db", create=True) as store:
        store.add(make_result(), tool="t")
    assert Store.is_begun(tmp_path / "a.db")
    assert Store.is_begun(tmp_path / "b.db")
    foreign(tmp_path / "c.db")
    with pytest.raises(UsageError, match="not a results store"):
        Store.is_begun(tmp_path / "c.db")


def of_version_1(path: Path, result: InstanceResult) -> None:
    """Leaves a store as the first schema has it, with one result."""
    with Store.open(path, create=True) as store:
        store.add(result, tool="t")
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE results DROP COLUMN prepare_s")
        db.execute("UPDATE meta SET value = '1' WHERE name = 'schema_version'")
    db.close()


def test_a_store_of_the_first_schema_is_read_and_left_alone(tmp_path: Path, make_result: MakeResult) -> None:
    of_version_1(tmp_path / "results.db", make_result())
    before = (tmp_path / "results.db").read_bytes()
    with Store.read(tmp_path / "results.db") as store:
        ((row),) = store.rows()
    assert (row.prepare_s, row.wall_s) == (0.0, 1.5)
    assert (tmp_path / "results.db").read_bytes() == before


def test_a_store_of_the_first_schema_is_migrated_where_a_run_goes_on(
    tmp_path: Path, make_job: MakeJob, make_result: MakeResult
) -> None:
    of_version_1(tmp_path / "results.db", make_result(make_job("a")))
    with Store.open(tmp_path / "results.db") as store:
        store.add(make_result(make_job("b"), prepare_s=2.5), tool="t")
    with Store.open(tmp_path / "results.db") as store:
        assert {row.key: row.prepare_s for row in store.rows()} == {"a": 0.0, "b": 2.5}


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE songs (title TEXT)")
    db.close()


def newer(path: Path) -> None:
    Store.open(path, create=True).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = '999' WHERE name = 'schema_version'")
    db.close()


def text(path: Path) -> None:
    path.write_text("not a database, but long enough to look at\n" * 100)


def torn(path: Path) -> None:
    with Store.open(path, create=True) as store:
        store.meta["padding"] = "x" * 100_000
    data = bytearray(path.read_bytes())
    data[5000:20_000] = os.urandom(15_000)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (foreign, "not a results store of this program"),
        (newer, f"schema 999, this program reads schemas 1 to {schema.SCHEMA_VERSION}"),
        (text, "damaged"),
        (torn, "damaged"),
    ],
)
@pytest.mark.parametrize("create", [False, True])
def test_a_file_that_is_no_store_is_one_clear_line_and_left_alone(
    tmp_path: Path, damage: object, message: str, create: bool
) -> None:
    path = tmp_path / "results.db"
    assert callable(damage)
    damage(path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=message) as error:
        Store.open(path, create=create)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="choose another --out"):
        Store.open(tmp_path / "file" / "results.db", create=True)
    (tmp_path / "results.db").mkdir()
    with pytest.raises(UsageError, match="cannot be read or written"):
        Store.open(tmp_path / "results.db", create=True)


def test_a_word_from_another_version_is_damage_and_not_a_crash(
    store: Store, tmp_path: Path, make_result: MakeResult
) -> None:
    store.add(make_result(), tool="t")
    with sqlite3.connect(tmp_path / "run" / "results.db") as db:
        db.execute("UPDATE results SET verdict = 'perhaps'")
    db.close()
    with pytest.raises(UsageError, match="'perhaps' is not a valid Verdict"):
        store.rows()


def test_a_header_that_cannot_be_read_or_written_is_one_clear_line(store: Store, tmp_path: Path) -> None:
    store.meta["header"] = {"benchmark": "tiny"}
    with sqlite3.connect(tmp_path / "run" / "results.db") as db:
        db.execute("DROP TABLE meta")
    db.close()
    accesses: tuple[Callable[[], object], ...] = (
        lambda: store.meta.get("header"),
        lambda: store.meta.update(header=1),
        lambda: store.meta.pop("header"),
        lambda: list(store.meta),
        lambda: len(store.meta),
    )
    for access in accesses:
        with pytest.raises(UsageError, match=r"results\.db: the results cannot be read or written"):
            access()


def test_values_that_are_set_together_are_set_all_or_none(store: Store) -> None:
    store.meta.set_all({"a": 1, "b": [2]})
    assert dict(store.meta) == {"a": 1, "b": [2]}
    with pytest.raises(TypeError):
        store.meta.set_all({"a": 3, "b": object()})
    assert dict(store.meta) == {"a": 1, "b": [2]}


def documented_columns() -> dict[str, tuple[str, str]]:
    """Reads the table of docs/results-schema.md: column to (SQL type, when it is missing)."""
    page = (ROOT / "docs" / "results-schema.md").read_text(encoding="utf-8")
    section = page.split("## Table `results`")[1].split("\n## ")[0]
    cells = [re.split(r"\s*(?<!\\)\|\s*", line.strip("| ")) for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): (row[1], row[4]) for row in cells}


def test_every_column_is_documented_with_its_type_and_whether_it_may_be_missing(store: Store, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "run" / "results.db") as db:
        table = db.execute("PRAGMA table_info(results)").fetchall()
    db.close()
    documented = documented_columns()
    assert list(documented) == [name for _, name, *_ in table], "the page lists the columns in the table's order"
    for _, name, kind, not_null, *_ in table:
        assert documented[name][0] == kind, name
        assert (documented[name][1] == "never") == bool(not_null), name


def test_the_page_names_the_schemas_version() -> None:
    page = (ROOT / "docs" / "results-schema.md").read_text(encoding="utf-8")
    assert f"schema version {schema.SCHEMA_VERSION}" in page
