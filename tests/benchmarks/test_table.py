from __future__ import annotations

import pytest
from answers import answer, of_set

from benchmarks.startup import StartupFigures
from benchmarks.table import number, set_lines, startup_lines, target_lines
from benchmarks.targets import compare
from harness.domain import Verdict


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0, "0"), (12.0, "12"), (0.12345, "0.123"), (23456.7, "23,457"), (99.96, "100")]
)
def test_numbers_have_a_few_digits_and_what_is_not_known_a_dash(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_wrong_answer_stands_in_the_block() -> None:
    lines = set_lines("T", of_set(answer(Verdict.UNSAT, Verdict.SAT)), None)
    assert any(line.strip().startswith("WRONG n.onnx 0.vnnlib") for line in lines)


def test_what_the_engine_does_not_say_is_a_dash() -> None:
    text = "\n".join(set_lines("T", of_set(answer(Verdict.UNKNOWN)), None))
    assert "seconds by stage: -" in text
    assert "kernel - GFLOP/s" in text
    assert "no earlier measurement" in text


def test_the_ratio_to_the_last_measurement() -> None:
    now = of_set(answer(Verdict.UNSAT, domains=30, work_s=4.0, wall_s=4.0))
    earlier = {**now.as_json(), "domains": 10, "started": "2026-01-01T10:11:12", "commit": "0123456789-dirty"}
    lines = set_lines("T", now, earlier)
    (compared,) = [line.split() for line in lines if line.split()[:1] == ["domains"]]
    assert compared == ["domains", "10", "30", "3.00"]
    assert "  against 2026-01-01 10:11, 0123456-dirty" in lines


def test_startup_prints_medians_and_ratios() -> None:
    text = "\n".join(startup_lines(StartupFigures((2.0, 9.0, 1.0), (2.5,), (3.0,)), None))
    assert "1.25 x" in text
    assert "1.50 x" in text


def test_every_target_has_its_row() -> None:
    rows = compare({}, None)
    assert len(target_lines(rows)) == len(rows) + 2
