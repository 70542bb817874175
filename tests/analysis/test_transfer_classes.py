"""The classes of transferred counterexamples, on the published counts and on made-up examples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.analysis.table import ResultRow, rows_from_published
from harness.analysis.transfer import (
    Expected,
    Transfer,
    TransferClass,
    TransferExample,
    expected_of,
)
from harness.domain import Stage, Verdict

KINDS = {
    "clean_misclassified": TransferExample(0, 3, 5, 4, 4),
    "attack_fails": TransferExample(0, 3, 5, 3, 3),
    "attack_works_same_class": TransferExample(0, 3, 5, 3, 5),
    "attack_works_other_class": TransferExample(0, 3, 5, 3, 6),
}


def made_of(counts: dict[str, int], expected: Expected) -> Transfer:
    examples = [KINDS[name] for name, count in counts.items() if name in KINDS for _ in range(count)]
    return Transfer("baseline", "grafted", tuple(examples), expected)


@pytest.mark.parametrize("name", KINDS)
def test_each_example_is_of_one_class(name: str) -> None:
    assert KINDS[name].outcome.value == name


def test_an_input_that_is_wrong_anyway_is_no_attack_whatever_the_example_does() -> None:
    for shown in (3, 4, 5):
        assert TransferExample(0, 3, 5, 4, shown).outcome is TransferClass.CLEAN_MISCLASSIFIED
    assert Transfer("a", "b", (TransferExample(0, 3, 5, 4, 3),), Expected(0, 0, 0)).healed == 1


def test_the_published_counts_give_the_published_rates(shared_dir: Path) -> None:
    golden = shared_dir / "golden" / "cnn_b"
    published = json.loads((golden / "transfer_pretrained.json").read_text())["baseline_examples_on_grafted"]
    rows = rows_from_published(golden / "results_pretrained.json")
    transfer = made_of(published, expected_of(row for row in rows if row.variant == "grafted"))
    raw = transfer.to_json()
    assert {key: raw[key] for key in published} == published
    assert [round(value, 1) for value in raw["percent"].values()] == [38.7, 43.8, 15.5, 2.1]
    assert (round(raw["SA"], 1), round(raw["RA"], 1)) == (61.3, 43.8)
    assert raw["expected"]["n"] == 997
    assert raw["expected"]["SA"] == pytest.approx(100 * 751 / 997)
    assert raw["expected"]["RA"] == pytest.approx(100 * 569 / 997)
    assert "more than noise from 75.3 % of all inputs" in transfer.words


def test_the_grafted_examples_on_the_baseline_give_the_texts_accuracy(shared_dir: Path) -> None:
    rows = rows_from_published(shared_dir / "golden" / "cnn_b" / "results_pretrained.json")
    skipped = {row.index for row in rows if row.variant == "baseline" and row.stage is Stage.CLEAN}
    attacked = [row.index for row in rows if row.variant == "grafted" and row.stage is Stage.ATTACK]
    wrong = sum(index in skipped for index in attacked)
    transfer = made_of(
        {"clean_misclassified": wrong, "attack_fails": 120, "attack_works_same_class": 32}, Expected(0, 0, 0)
    )
    assert (len(transfer.examples), wrong) == (182, 30)
    assert transfer.sa == pytest.approx(83.5, abs=0.05)
    assert transfer.ra == pytest.approx(65.9, abs=0.05)


def test_what_to_expect_counts_results_only() -> None:
    rows = [
        ResultRow("b", 0, Verdict.SAT, Stage.CLEAN),
        ResultRow("b", 1, Verdict.SAT, Stage.BAB),
        ResultRow("b", 2, Verdict.UNSAT),
        ResultRow("b", 3, Verdict.TIMEOUT),
    ]
    assert expected_of(rows) == Expected(4, 3, 2)
    assert expected_of([]).sa is None


def test_the_same_class_by_chance_is_that_of_classes_dealt_anew() -> None:
    """Two targets a half each, met by two classes a half each: half of all pairs agree."""
    pairs = [(5, 5), (6, 6), (5, 5), (6, 6)]
    examples = tuple(TransferExample(i, 3, target, 3, shown) for i, (target, shown) in enumerate(pairs))
    raw = Transfer("a", "b", examples, Expected(4, 4, 0)).to_json()
    assert raw["expected"]["same_class_by_chance"] == 50.0
    assert raw["percent"]["attack_works_same_class"] == 100.0


def test_no_examples_give_no_rates() -> None:
    raw = Transfer("a", "b", (), Expected(0, 0, 0)).to_json()
    assert (raw["SA"], raw["RA"], raw["count"], raw["noise"]) == (None, None, 0, None)
    assert set(raw["percent"].values()) == {None}
    assert "no counterexamples" in raw["words"]
