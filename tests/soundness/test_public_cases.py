"""Networks and labels of VNN-COMP: no contradiction with what many tools agreed on."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from harness.domain import Limits, ToolAnswer, Verdict
from harness.formats.compressed import locate
from harness.formats.engine_protocol import EngineRequest
from harness.formats.onnx_file import open_session, run_flat
from harness.formats.vnnlib import read_property
from harness.verifier.api import serve_request
from harness.verifier.problem import Region

Row = dict[str, str]


def labelled(folder: Path) -> list[Row]:
    with (folder / "labels.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def by_network(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for network in sorted({row["onnx"] for row in rows}):
        yield network, [row for row in rows if row["onnx"] == network]


def answers_of(folder: Path, rows: Sequence[Row], limits: Limits) -> dict[tuple[str, str], ToolAnswer]:
    found: dict[tuple[str, str], ToolAnswer] = {}
    for network, own in by_network(rows):
        properties = {row["vnnlib"]: folder / row["vnnlib"] for row in own}

        def emit(key: str, answer: ToolAnswer, network: str = network) -> None:
            assert (network, key) not in found
            found[network, key] = answer

        serve_request(EngineRequest(folder / network, properties, limits), emit)
    return found


def violates(folder: Path, row: Row, answer: ToolAnswer) -> bool:
    """Whether the witness lies in the property's box (cast to float32) and its output, replayed, in a region."""
    prop = read_property(folder / row["vnnlib"])
    assert answer.counterexample is not None
    x = answer.counterexample.x
    y = torch.from_numpy(run_flat(open_session(folder / row["onnx"]), x).astype("float64"))[None]
    for case in prop.cases:
        inside = (x >= case.box.lower.astype("float32")).all() and (x <= case.box.upper.astype("float32")).all()
        for p in case.polytopes:
            region = Region(*(torch.tensor(a) for a in (p.coefficients, p.rhs, p.strict)))
            if inside and bool(region.contains(y)[0]):
                return True
    return False


def assert_no_contradiction(folder: Path, rows: Sequence[Row], limits: Limits) -> dict[Verdict, int]:
    answers = answers_of(folder, rows, limits)
    assert len(answers) == len(rows)
    for row in rows:
        answer = answers[row["onnx"], row["vnnlib"]]
        where = f"{row['onnx']} {row['vnnlib']}"
        assert answer.verdict is not Verdict.ERROR, f"{where}: {answer.message}"
        if answer.verdict is Verdict.UNSAT:
            assert row["label"] != "sat", f"{where}: wrong unsat"
        if answer.verdict is Verdict.SAT:
            # A replayed counterexample overrules any label.
            assert violates(folder, row, answer), f"{where}: the witness does not violate"
    counted = [answer.verdict for answer in answers.values()]
    return {verdict: counted.count(verdict) for verdict in Verdict}


def cases_of(shared_dir: Path, name: str) -> Path:
    folder = shared_dir / "vnncomp_cases" / name
    assert locate(folder / labelled(folder)[0]["vnnlib"]) is not None
    return folder


@pytest.mark.slow
def test_the_first_inputs_of_cnn_a(shared_dir: Path) -> None:
    folder = cases_of(shared_dir, "sdp_cifar_cnn_a")
    verdicts = assert_no_contradiction(folder, labelled(folder)[:8], Limits(60.0, "work", 500))
    assert verdicts[Verdict.SAT] + verdicts[Verdict.UNSAT] >= 6


@pytest.mark.slow
def test_a_few_fully_connected_ones(shared_dir: Path) -> None:
    folder = cases_of(shared_dir, "mnistfc")
    rows = [row for row in labelled(folder) if row["onnx"].endswith("256x2.onnx")]
    verdicts = assert_no_contradiction(folder, [*rows[:4], *rows[15:19]], Limits(60.0, "work", 100))
    assert verdicts[Verdict.SAT] + verdicts[Verdict.UNSAT] >= 3


@pytest.mark.slow
def test_two_deeper_convolutional_ones(shared_dir: Path) -> None:
    folder = cases_of(shared_dir, "oval21")
    rows = labelled(folder)
    chosen = [next(r for r in rows if r["label"] == label and "base" in r["onnx"]) for label in ("unsat", "sat")]
    assert_no_contradiction(folder, chosen, Limits(60.0, "work", 100))


@pytest.mark.slow
def test_a_few_of_low_dimension(shared_dir: Path) -> None:
    folder = cases_of(shared_dir, "acasxu")
    rows = [row for row in labelled(folder) if "_1_1_" in row["onnx"]]
    assert_no_contradiction(folder, rows, Limits(60.0, "work", 200))


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["sdp_cifar_cnn_a", "mnistfc", "oval21", "acasxu"])
def test_all_labelled_cases(shared_dir: Path, name: str) -> None:
    folder = cases_of(shared_dir, name)
    assert_no_contradiction(folder, labelled(folder), Limits(60.0, "work"))
