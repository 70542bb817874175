"""`lgbench score` and `mask` on a tiny network, and on the published scores."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from harness.cli.main import main
from harness.cli.score import parse_gammas
from harness.cli.score_steps import run_instability
from harness.domain import EngineRecord, Instance, InstanceResult, Job, Limits, UsageError, Verdict
from harness.grafting.npz import read_npz
from harness.grafting.scores import read_scores
from harness.networks import zoo
from harness.report.source import JOBS_META
from harness.run.store import Store


def test_the_contract_for_scripts(tmp_path: Path, shared_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = shared_dir / "golden/cnn_b/scores_selftrained.npz"
    out = tmp_path / "mask.npz"
    command = ["mask", "--scores", str(scores), "--heuristic", "gradient", "--ranking", "dense", "--out", str(out)]
    assert main([*command, "--gammas", "2,1.5,1,0", "--ratio", "0.5", "--json"]) == 0
    assert [layer["grafted"] for layer in json.loads(capsys.readouterr().out)["layers"]] == [3337, 4856, 123]
    arrays = read_npz(out)
    assert arrays["mask"].dtype == np.uint8
    assert arrays["layer_sizes"].tolist() == [8192, 8192, 250]
    assert arrays["stage_picks"].shape == (4, 2079)
    assert (arrays["mask"] == read_npz(shared_dir / "golden/cnn_b/masks_selftrained.npz")["grad_dense"]).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"--heuristic": "entropy"}, "unknown heuristic"),
        ({"--ranking": "best"}, "--ranking"),
        ({"--ratio": "1.5"}, "[0, 1]"),
        ({"--ratio": "nan"}, "[0, 1]"),
        ({"--gammas": "2,x"}, "not a list of numbers"),
        ({"--gammas": "-1"}, ">= 0"),
        ({"--scores": "nowhere.npz"}, "no such file"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, shared_dir: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], said: str
) -> None:
    out = tmp_path / "mask.npz"
    options = {
        "--scores": str(shared_dir / "golden/cnn_b/scores_selftrained.npz"),
        "--heuristic": "gap",
        "--ranking": "min",
        "--out": str(out),
        **changes,
    }
    assert main(["mask", *(part for pair in options.items() for part in pair)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert said in message
    assert not out.exists()


def test_gammas() -> None:
    assert parse_gammas("2, 1.5,inf") == (2.0, 1.5, float("inf"))
    with pytest.raises(UsageError):
        parse_gammas("")


@pytest.mark.parametrize("planned", [True, False])
def test_an_input_counts_once_after_a_resume_with_other_limits(zoo_folder: Path, tmp_path: Path, planned: bool) -> None:
    manifest = zoo.read_manifest(zoo_folder / "baseline.json")
    with Store.open(tmp_path / "run/results.db", create=True) as store:
        for second, key in enumerate(("short limit", "long limit")):
            limits = Limits(5.0 * (second + 1))
            instance = Instance(Path("n.onnx"), Path("p.vnnlib"), limits.timeout_s)
            job = Job(key, instance, "baseline", 0, limits, manifest.onnx.sha256, "0" * 64)
            unstable = {"relu1": np.arange(64) < 10 * (second + 1), "relu2": np.zeros(6, np.bool_)}
            record = EngineRecord(unstable=unstable, entered_bab=True, neurons=70)
            done = InstanceResult(job, Verdict.UNKNOWN, Verdict.UNKNOWN, None, 1.0, 1.0, record=record)
            store.add(done, tool="builtin", finished_at=datetime(2000, 1, 1, 0, 0, second, tzinfo=UTC))
        if planned:
            store.meta[JOBS_META] = [("short limit", "baseline", 0)]
    found = run_instability(tmp_path / "run", "baseline", manifest.onnx.sha256)
    assert (found.inputs, found.unr) == (1, pytest.approx(100 * (10 if planned else 20) / 70))


def test_instability_comes_from_the_runs_results_of_that_network(zoo_folder: Path, tmp_path: Path) -> None:
    manifest = zoo.read_manifest(zoo_folder / "baseline.json")
    random = np.random.default_rng(0)
    masks = [{"relu1": random.random(64) < 0.3, "relu2": random.random(6) < 0.3} for _ in range(3)]
    with Store.open(tmp_path / "run/results.db", create=True) as store:
        for index, (mask, entered, network) in enumerate(
            zip(masks, (True, False, True), (manifest.onnx.sha256, manifest.onnx.sha256, "0" * 64), strict=True)
        ):
            limits = Limits(5.0, max_domains=0)
            instance = Instance(Path("n.onnx"), Path(f"p{index}.vnnlib"), 5.0)
            job = Job(f"{index:064}", instance, "baseline", index, limits, network, f"{index:064}")
            record = EngineRecord(unstable=mask if entered else None, entered_bab=entered, neurons=70)
            store.add(
                InstanceResult(job, Verdict.UNKNOWN, Verdict.UNKNOWN, None, 1.0, 1.0, record=record), tool="builtin"
            )
    out = zoo_folder / "with.npz"
    command = ["score", str(zoo_folder / "baseline"), "--out", str(out), "--data", ".", "--images", "30"]
    assert main([*command, "--run", str(tmp_path / "run")]) == 0
    scores = read_scores(out)
    expected = np.concatenate([masks[0]["relu1"], masks[0]["relu2"]])
    assert (scores.array("instability") == expected).all(), "the only open input of this very network"
    assert scores.provenance["instability_inputs"] == "1"
    assert main([*command, "--run", str(tmp_path / "run"), "--variant", "grafted"]) == 2
