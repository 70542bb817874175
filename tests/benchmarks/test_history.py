from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.history import Record, keep, last_of, of_arithmetic, read, read_all, results_file
from harness.domain import UsageError


def record(started: str, **sets: Any) -> Record:
    return {"started": started, "commit": "0123456789abcdef-dirty", "sets": sets}


NOW = {"timeout_s": 60.0, "cases": 100, "skipped": 0}


def test_one_file_a_day_and_commit(tmp_path: Path) -> None:
    assert results_file(tmp_path, record("2026-01-02T03:04:05+00:00")).name == "2026-01-02-0123456.json"
    assert results_file(tmp_path, {"started": "2026-01-02T", "commit": None}).name == "2026-01-02-unknown.json"


def test_records_are_added_and_never_lost(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.json"
    keep(path, record("a"))
    keep(path, record("b"))
    keep(path, record("b", cnn_a={"domains": 1}))  # the same measurement, further on
    assert [r["started"] for r in read(path)] == ["a", "b"]
    assert read(path)[1]["sets"] == {"cnn_a": {"domains": 1}}


@pytest.mark.parametrize("text", ["", "{}", "[1]", "[{}]"])
def test_foreign_files_are_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"r\.json"):
        keep(path, record("a"))
    assert path.read_text() == text


def test_the_last_earlier_figures_with_the_same_settings(tmp_path: Path) -> None:
    keep(tmp_path / "b.json", record("2026-01-03", cnn_a={**NOW, "domains": 3}))
    keep(tmp_path / "a.json", record("2026-01-01", cnn_a={**NOW, "domains": 1}))
    keep(tmp_path / "c.json", record("2026-01-04", cnn_a={**NOW, "timeout_s": 5.0}))
    keep(tmp_path / "d.json", record("2026-01-05", cnn_a={**NOW, "complete": False}))
    keep(tmp_path / "e.json", record("2026-01-06", oval21=NOW))
    records = read_all(tmp_path.glob("*.json"))
    found = last_of(records, "cnn_a", NOW, "2026-01-09")
    assert found is not None
    assert (found["domains"], found["started"]) == (3, "2026-01-03")
    assert last_of(records, "cnn_a", NOW, "2026-01-01") is None
    assert last_of(records, "mnistfc", NOW, "2026-01-09") is None


def test_proofs_of_other_arithmetic_are_not_compared() -> None:
    real, float32, old = ({**record(name), **more} for name, more in NAMED.items())
    assert of_arithmetic([real, float32, old], "float32") == [float32, old]
    assert of_arithmetic([real, float32, old], "real") == [real]


NAMED: dict[str, dict[str, str]] = {"a": {"arithmetic": "real"}, "b": {"arithmetic": "float32"}, "c": {}}
