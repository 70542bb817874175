from __future__ import annotations

import csv
from pathlib import Path

from harness.domain import Verdict
from harness.formats.results_csv import ResultRow, write_results


def test_six_columns_without_header(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    rows = [
        ResultRow("cifar10_cnnb", "onnx/a, b.onnx", "vnnlib/p.vnnlib", 0.0, Verdict.UNSAT, 1.25),
        ResultRow("cifar10_cnnb", "onnx/a, b.onnx", "vnnlib/q.vnnlib", 0.5, Verdict.TIMEOUT, 20.0000001),
    ]
    write_results(path, rows)
    with path.open(newline="") as stream:
        found = list(csv.reader(stream))
    assert found == [
        ["cifar10_cnnb", "onnx/a, b.onnx", "vnnlib/p.vnnlib", "0.000000", "unsat", "1.250000"],
        ["cifar10_cnnb", "onnx/a, b.onnx", "vnnlib/q.vnnlib", "0.500000", "timeout", "20.000000"],
    ]
