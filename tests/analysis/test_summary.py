"""The contract of summary.json, key by key."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.summary import RunHeader, build_summary
from harness.analysis.table import ResultRow
from harness.domain import Stage, UsageError, Verdict

HEADER = RunHeader(
    benchmark="cifar10_cnnb",
    variants=("baseline", "grafted_min"),
    inputs=5,
    timeout_s=20.0,
    device="cpu",
    eps=2 / 255,
    max_domains=64,
    baseline="baseline",
    command="lgbench bench cifar10_cnnb --inputs 5",
    published=({"variant": "baseline", "source": "thesis", "VA": 41.5},),
    provenance={"torch": "2.13.0"},
)
ROWS = [
    ResultRow("baseline", 0, Verdict.SAT, Stage.CLEAN, 0.25, 0.25),
    ResultRow("baseline", 1, Verdict.SAT, Stage.ATTACK, 1.0, 0.5),
    ResultRow("baseline", 2, Verdict.UNSAT, Stage.INCOMPLETE, 1.0, 0.5),
    ResultRow("baseline", 3, Verdict.TIMEOUT, None, 9.0, 8.0, 64, True, 100, 20, 20),
    ResultRow("baseline", 4, Verdict.ERROR, None, 1.0, 1.0, message="the engine crashed"),
    ResultRow("grafted_min", 0, Verdict.SAT, Stage.CLEAN),
    ResultRow("grafted_min", 1, Verdict.SAT, Stage.CLEAN),
    ResultRow("grafted_min", 2, Verdict.UNSAT, Stage.INCOMPLETE),
    ResultRow("grafted_min", 3, Verdict.UNSAT, Stage.BAB, 2.0, 1.5, 12, True, 100, 30, 10),
]
MANIFESTS = {
    "baseline": {
        "metrics": {
            "SA": {"value": 78.0, "n": 10000},
            "RA": {"value": 61.0, "n": 10000, "attack": "pgd-100", "restarts": 1},
        }
    }
}


@pytest.fixture
def summary() -> dict[str, Any]:
    return build_summary(ROWS, HEADER, MANIFESTS, [{"property": "p", "verdicts": ["sat", "unsat"]}])


def test_the_keys_of_the_contract_and_no_others(summary: dict[str, Any]) -> None:
    assert list(summary) == [
        *("schema", "benchmark", "variants", "inputs", "timeout_s", "device", "eps", "timeout_on", "max_domains"),
        *("baseline", "inputs_of", "asked", "labelled", "title", "protocol", "command", "started_at", "finished_at"),
        *("seed", "tool", "rules", "arithmetic", "titles", "published", "provenance", "complete", "transitions"),
        "conflicts",
    ]
    assert list(summary["variants"]["baseline"]) == [
        *("sets", "SA", "RA", "VA", "UNR", "UNR_nonlinear", "measured", "stages", "errors", "missing", "domains"),
        *("wall_s", "work_s"),
    ]
    assert list(summary["transitions"][0]) == [
        *("from", "to", "order", "matrix", "inputs", "only_in_from", "only_in_to"),
    ]


def test_the_head_of_the_document(summary: dict[str, Any]) -> None:
    assert summary["schema"] == 1
    assert summary["benchmark"] == "cifar10_cnnb"
    assert (summary["device"], summary["inputs"], summary["eps"]) == ("cpu", 5, 2 / 255)
    assert (summary["timeout_s"], summary["timeout_on"], summary["max_domains"]) == (20.0, "work", 64)
    assert summary["published"] == [{"variant": "baseline", "source": "thesis", "VA": 41.5}]
    assert summary["conflicts"] == [{"property": "p", "verdicts": ["sat", "unsat"]}]


def test_a_variants_block(summary: dict[str, Any]) -> None:
    assert list(summary["variants"]) == ["baseline", "grafted_min"]
    assert summary["variants"]["baseline"] == {
        "sets": {"SK": 1, "AT": 1, "VS": 1, "VF": 2},
        "SA": 78.0,
        "RA": 61.0,
        "VA": 20.0,
        "UNR": 20.0,
        "UNR_nonlinear": 20.0,
        "measured": {
            "SA": {"n": 10000},
            "RA": {"n": 10000, "attack": "pgd-100", "restarts": 1},
            "VA": {"n": 5},
            "UNR": {"n": 1, "unrecorded": 0},
        },
        "stages": {"clean": 1, "attack": 1, "incomplete": 1, "bab": 0, "unstated": 0},
        "errors": 1,
        "missing": 0,
        "domains": 64,
        "wall_s": 9.0,
        "work_s": 10.25,
    }


def test_an_unfinished_run_says_what_is_missing(summary: dict[str, Any]) -> None:
    grafted = summary["variants"]["grafted_min"]
    assert grafted["missing"] == 1
    assert sum(grafted["sets"].values()) == 4
    assert grafted["VA"] == 40.0
    assert grafted["measured"]["SA"] == {"n": 5, "inputs": "this run's"}
    assert (grafted["SA"], grafted["RA"]) == (None, None)
    assert summary["complete"] is False
    assert build_summary(ROWS, replace(HEADER, inputs=5, variants=("baseline", "grafted_min")), {})["complete"] is False
    assert build_summary([], HEADER, {})["variants"]["baseline"]["SA"] is None


def test_elapsed_seconds_are_those_of_the_batch_or_of_one_instance_after_the_other() -> None:
    batch = build_summary(ROWS, HEADER, {})["variants"]["baseline"]
    one_by_one = build_summary(ROWS, replace(HEADER, timeout_on="wall"), {})["variants"]["baseline"]
    assert (batch["wall_s"], one_by_one["wall_s"]) == (9.0, 12.25)
    assert build_summary([], HEADER, {})["variants"]["baseline"]["wall_s"] == 0.0


def test_a_finished_run_is_complete() -> None:
    rows = [*ROWS, ResultRow("grafted_min", 4, Verdict.UNSAT, Stage.BAB)]
    assert build_summary(rows, HEADER, {})["complete"] is True


def test_transitions_start_from_the_baseline_and_count_missing_records(summary: dict[str, Any]) -> None:
    (moved,) = summary["transitions"]
    assert (moved["from"], moved["to"], moved["order"]) == ("baseline", "grafted_min", ["SK", "AT", "VS", "VF"])
    assert moved["matrix"] == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]]
    assert (moved["inputs"], moved["only_in_from"], moved["only_in_to"]) == (4, 1, 0)


def test_a_run_without_a_baseline_or_labels_claims_neither_transitions_nor_accuracy() -> None:
    summary = build_summary(ROWS, replace(HEADER, baseline=None, labelled=False), MANIFESTS)
    assert summary["transitions"] == []
    block = summary["variants"]["baseline"]
    assert (block["SA"], block["RA"]) == (None, None)
    assert "SA" not in block["measured"]


def test_unplanned_results_are_refused() -> None:
    with pytest.raises(ValueError, match="grafted_min"):
        build_summary(ROWS, replace(HEADER, variants=("baseline",)), {})
    with pytest.raises(ValueError, match="5 results of 'baseline' in a run over 3 inputs"):
        build_summary(ROWS, replace(HEADER, inputs=3), {})


def test_the_document_is_json_and_its_header_comes_back(summary: dict[str, Any]) -> None:
    again = json.loads(json.dumps(summary, allow_nan=False))
    assert again == summary
    assert RunHeader.from_json(again) == replace(HEADER, published=again["published"])
    assert RunHeader.from_json(json.loads(json.dumps(HEADER.to_json()))).to_json() == HEADER.to_json()


def test_an_incomplete_header_is_one_clear_line() -> None:
    with pytest.raises(UsageError, match="header is incomplete"):
        RunHeader.from_json({"benchmark": "x"})


def test_every_key_is_documented(summary: dict[str, Any]) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/results-schema.md").read_text(encoding="utf-8")
    section = page.split("## `summary.json`")[1]
    for part, keys in zip(section.split("A variant's block:"), (summary, summary["variants"]["baseline"]), strict=True):
        cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
        assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(keys)
