from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cases import SETTINGS, check_names, load_set
from harness.domain import UsageError, Verdict


def test_names_are_checked_and_taken_once() -> None:
    assert check_names(["a", "b", "a"], ["a", "b", "c"]) == ("a", "b")
    with pytest.raises(UsageError, match="choose from a, b"):
        check_names(["x"], ["a", "b"])


@pytest.mark.parametrize(
    ("name", "sat", "unsat", "before"),
    [("cnn_a", 53, 41, 94), ("acasxu", 47, 139, None), ("mnistfc", 23, 49, None), ("oval21", 3, 17, None)],
)
def test_public_sets(shared_dir: Path, tmp_path: Path, name: str, sat: int, unsat: int, before: int | None) -> None:
    found = load_set(name, shared_dir / "vnncomp_cases", tmp_path)
    labels = [case.label for case in found.cases]
    assert (labels.count(Verdict.SAT), labels.count(Verdict.UNSAT)) == (sat, unsat)
    assert found.full
    assert before is None or sum(case.solved_before for case in found.cases) == before
    assert {case.job.limits.timeout_s for case in found.cases} == {SETTINGS[name].timeout_s}
    assert sum(len(jobs) for _, jobs in found.by_network()) == len(found.cases)


def test_shorter_sets_say_so(shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / "vnncomp_cases"
    few = load_set("oval21", folder, tmp_path, limit=2)
    assert (len(few.cases), few.full) == (2, False)
    quick = load_set("oval21", folder, tmp_path, timeout_s=3)
    assert (quick.timeout_s, quick.full) == (3, False)
    assert load_set("oval21", folder, tmp_path, limit=999, timeout_s=1e9).full


def test_own_networks(tmp_path: Path) -> None:
    found = load_set("cnnb", tmp_path, tmp_path, limit=3)
    assert len(found.cases) + found.skipped == 3
    assert not found.full
    assert all(case.job.instance.property.is_file() for case in found.cases)


def test_missing_cases_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="labels"):
        load_set("acasxu", tmp_path, tmp_path)
