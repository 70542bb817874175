from __future__ import annotations

import json

import pytest

from benchmarks.scale_model import Cluster, Costs, formula, simulate
from benchmarks.scale_out import COSTS_MS, JOB_TIMES, main
from harness.run.dispatch import ChunkSizes

FREE = Costs(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
SIZES = ChunkSizes(2, 32)
EVEN = {"a": [2.0], "b": [4.0]}


def test_one_worker_takes_the_sum_of_all_jobs() -> None:
    for play in (simulate(50, EVEN, Cluster(1), FREE, SIZES), formula(50, EVEN, Cluster(1), FREE)):
        assert play.total_s == pytest.approx(300.0)
        assert play.busy == pytest.approx(1.0)


def test_workers_share_the_work_and_speed_divides_it() -> None:
    played = simulate(400, EVEN, Cluster(8, speed=2.0), FREE, SIZES)
    assert played.deciding_s == pytest.approx(400 * 6 / 8 / 2, rel=0.02)


def test_what_is_serial_is_not_divided() -> None:
    costs = Costs(input_s=0.5, answer_s=0.1, relay_s=0.05, chunk_s=0.0, start_s=10.0, row_s=0.01)
    played, paper = (
        simulate(500, EVEN, Cluster(1000), costs, SIZES),
        formula(500, EVEN, Cluster(1000), costs),
    )
    for outcome in (played, paper):
        assert (outcome.before_s, outcome.after_s) == (250.0, 10.0)
        assert outcome.deciding_s == pytest.approx(10 + 1000 * 0.1, rel=0.1)
    assert played.runner_busy > 0.85


def test_lost_workers_cost_what_they_had_and_no_job() -> None:
    calm = simulate(300, EVEN, Cluster(4), FREE, SIZES)
    rough = simulate(300, EVEN, Cluster(4, lost=30.0), Costs(0, 0, 0, 0, 60.0, 0), SIZES)
    assert rough.deciding_s > 1.2 * calm.deciding_s
    assert rough.busy < calm.busy


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_the_formula_and_the_simulation_agree_on_measured_times(workers: int) -> None:
    times = json.loads(JOB_TIMES.read_text())["work_s"]
    costs = Costs(**{f"{name}_s": value / 1000 for name, value in COSTS_MS.items()})
    played, paper = (
        simulate(300, times, Cluster(workers), costs, SIZES),
        formula(300, times, Cluster(workers), costs),
    )
    assert played.total_s == pytest.approx(paper.total_s, rel=0.15)


def test_the_program_prints_a_row_for_each_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--inputs", "20,40", "--workers", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["20", "40"]
