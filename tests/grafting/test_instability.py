"""Instability counts from engine records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.domain import EngineRecord, UsageError
from harness.grafting.instability import Instability, instability
from harness.grafting.npz import read_npz


def record(first: list[int], second: list[int], *, entered: bool = True) -> EngineRecord:
    masks = {"relu1": np.array(first, np.bool_).reshape(1, -1), "relu2": np.array(second, np.bool_)}
    return EngineRecord(unstable=masks, entered_bab=entered)


def test_only_inputs_that_entered_branch_and_bound_count() -> None:
    found = instability(
        [
            record([1, 1, 0], [0]),
            record([1, 1, 1], [1], entered=False),
            EngineRecord(unstable=None, entered_bab=True),
            EngineRecord(),
            record([1, 0, 0], [1]),
        ]
    )
    assert found.inputs == 2
    assert found.counts["relu1"].tolist() == [2, 1, 0]
    assert found.counts["relu2"].tolist() == [1]
    assert found.unr == 100 * 4 / (2 * 4)


def test_no_input_in_branch_and_bound_is_refused() -> None:
    with pytest.raises(UsageError, match="no input entered"):
        instability([record([1, 1, 1], [1], entered=False)])


def test_records_of_two_networks_are_refused() -> None:
    with pytest.raises(UsageError, match="different networks"):
        instability([record([1, 1, 1], [1]), record([1, 1], [1])])


@pytest.mark.parametrize(
    ("file", "inputs", "unr"), [("scores_selftrained", 411, 13.2818), ("scores_pretrained", 455, 15.8458)]
)
def test_unr_of_the_published_counts(shared_dir: Path, file: str, inputs: int, unr: float) -> None:
    counts = read_npz(shared_dir / f"golden/cnn_b/{file}.npz")["instability"].astype(np.int64)
    assert Instability({"all": counts}, inputs).unr == pytest.approx(unr, abs=5e-5)
