"""Networks and labels of VNN-COMP: no contradiction with what many tools agreed on."""

from __future__ import annotations

import csv
import os
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
    """Returns the folder of a set; where it is missing the test is skipped, but fails when CI=true."""
    folder = shared_dir / "vnncomp_cases" / name
    if not (folder / "labels.csv").is_file():
        reason = f"the public cases are missing (looked for {folder / 'labels.csv'})"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    rows = labelled(folder)
    assert rows
    assert all(locate(folder / row[kind]) is not None for row in rows for kind in ("onnx", "vnnlib"))
    return folder


def first_of(rows: Sequence[Row], label: str = "", **parts: str) -> Row:
    """Returns the first row of a label whose columns contain the given parts; fails where there is none."""
    fitting = (row for row in rows if label in ("", row["label"]))
    return next(row for row in fitting if all(part in row[column] for column, part in parts.items()))


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
def test_deeper_fully_connected_ones(shared_dir: Path) -> None:
    folder = cases_of(shared_dir, "mnistfc")
    rows = labelled(folder)
    chosen = [first_of(rows, onnx=net, label=label) for net in ("256x4", "256x6") for label in ("unsat", "sat")]
    assert_no_contradiction(folder, chosen, Limits(60.0, "work", 30))


@pytest.mark.slow
def test_deeper_convolutional_ones(shared_dir: Path) -> None:
    folder = cases_of(shared_dir, "oval21")
    rows = labelled(folder)
    chosen = [first_of(rows, onnx="base", label=label) for label in ("unsat", "sat")]
    assert_no_contradiction(folder, [*chosen, first_of(rows, onnx="deep", label="unsat")], Limits(60.0, "work", 60))


@pytest.mark.slow
def test_a_few_of_low_dimension(shared_dir: Path) -> None:
    """Every property once, among them a union of boxes (6) and disjunctions of conjunctions (7, 8); both labels."""
    folder = cases_of(shared_dir, "acasxu")
    rows = labelled(folder)
    chosen = [first_of(rows, vnnlib=f"prop_{k}.") for k in range(1, 11)]
    chosen += [first_of(rows, vnnlib="prop_2.", label="sat"), first_of(rows, vnnlib="prop_3.", label="sat")]
    unique = list({(row["onnx"], row["vnnlib"]): row for row in chosen}.values())
    verdicts = assert_no_contradiction(folder, unique, Limits(60.0, "work", 400))
    assert verdicts[Verdict.SAT] >= 1
    assert verdicts[Verdict.UNSAT] >= 1


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["sdp_cifar_cnn_a", "mnistfc", "oval21", "acasxu"])
def test_all_labelled_cases(shared_dir: Path, name: str) -> None:
    folder = cases_of(shared_dir, name)
    assert_no_contradiction(folder, labelled(folder), Limits(60.0, "work"))
