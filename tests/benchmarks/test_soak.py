"""The soak at a small size: it decides what it says it does, and its figures are of that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.soak import Sample, Soak, lines, main, soak
from harness.run.store import Store


def test_every_instance_goes_through_the_whole_workflow(tmp_path: Path) -> None:
    found = soak(tmp_path, 40, 4)
    assert dict(found.sets) == {"SK": 0, "AT": 8, "VS": 24, "VF": 8}
    assert [sample.decided for sample in found.samples] == list(range(2, 41, 2))
    assert found.deciding.decided == 40
    assert found.cpu_ms > 0
    with Store.read(tmp_path / "run" / "results.db") as store:
        rows = store.rows()
    assert len({row.key for row in rows}) == 40
    assert sum(row.witness is not None and row.witness.counts for row in rows) == 8
    assert (tmp_path / "run" / "report.html").is_file()
    shown = "\n".join(lines(found))
    assert "40 instances: SK 0, AT 8, VS 24, VF 8" in shown


def test_growth_is_of_the_memory_that_goes_on_growing() -> None:
    zero = Sample(0, 0.0, 0.0, 0.0)
    flat = tuple(Sample(i, 1.0, 1.0, 50.0 + min(i, 200)) for i in range(0, 1001, 50))
    leaking = tuple(Sample(i, 1.0, 1.0, 50.0 + i / 1024) for i in range(0, 1001, 50))

    def growth(samples: tuple[Sample, ...]) -> float:
        return Soak(1000, samples, zero, zero, zero, zero, 0.0, {}).growth_bytes

    assert growth(flat) == pytest.approx(0.0, abs=1e-6)
    assert growth(leaking) == pytest.approx(1024.0)


@pytest.mark.nightly
def test_ten_thousand_instances(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "--folder", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    # A result is written and forgotten: what grows is the plan's bookkeeping, a few hundred bytes an instance.
    assert found["growth_bytes"] < 2000
