"""`lgbench sweep`: complete, shared, resumable after a kill at any moment, unharmed by mistakes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sweep_toy
import torch
from sweep_toy import SWEEP, command, install, make_files

from harness.cli.main import main
from harness.files import sha256_file
from harness.networks import zoo
from harness.networks.grafted import GraftedReLU
from harness.report.source import load_run

DRIVER = Path(__file__).with_name("sweep_toy.py")


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, one_thread: None) -> Path:
    install(monkeypatch.setattr)
    if "grid_to_table" not in request.node.name:
        # Drawing takes longer than all of a toy sweep.
        monkeypatch.setattr("harness.cli.sweep.write_tradeoff_figures", lambda *_: [])
    monkeypatch.chdir(tmp_path)
    make_files()
    return tmp_path


def result(out: str = "out") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(out, "sweep.json").read_text())
    return document


def networks(out: str = "out") -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(Path(out, "models").iterdir())}


def test_a_sweep_from_grid_to_table(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("--json")) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == result()
    assert printed["complete"]
    assert (printed["inputs"], printed["max_domains"], printed["timeout_s"]) == (6, 4, 5)
    names = [point["variant"] for point in printed["points"]]
    assert names[0] == "baseline"
    assert names[1:] == [
        f"gap-min-g2_1p5_1_0-r{ratio}-{method}-wrt-s1"
        for ratio in ("0p25", "0p5") for method in ("graft", "prune")
    ]  # fmt: skip
    for point in printed["points"]:
        assert point["n"]["SA"] == point["n"]["RA"] == (30 if point["variant"] == "baseline" else 24)
        assert point["n"]["VA"] == 6
        assert point["1-RA/SA"] == pytest.approx(100 - 100 * point["RA"] / point["SA"])
        assert point["VA/RA"] == pytest.approx(100 * point["VA"] / point["RA"])
        assert point["n"]["VA/RA"] == {"VA": 6, "RA": point["n"]["RA"]}
        assert point["attack"] == "pgd-100"
    with Path("out/sweep.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert [line["variant"] for line in lines] == names
    assert lines[1]["gammas"] == "2,1.5,1,0"
    assert float(lines[1]["VA"]) == printed["points"][1]["VA"]
    for name in ("tradeoff", "tradeoff_plane"):
        assert all(Path("out/figures", f"{name}.{suffix}").stat().st_size for suffix in ("png", "svg", "csv"))
    assert not list(Path("out/checkpoints").glob("*"))


def test_pruned_neurons_stay_zero(toys: Path) -> None:
    assert main(command()) == 0
    pruned = {
        path.stem for path in Path("out/models").glob("*.json")
        if json.loads(path.read_text())["data"].get("slope") == 0
    }  # fmt: skip
    assert len(pruned) == 2
    for name in pruned:
        for module in zoo.load_network(Path("out/models"), name).modules():
            if isinstance(module, GraftedReLU):
                assert not module.slope[module.mask].any()
                assert not module.intercept[module.mask].any()
        assert zoo.read_manifest(Path("out/models", f"{name}.json")).grafted_neurons in (16, 36)


def test_pruning_without_retraining_trains_nothing(toys: Path) -> None:
    make_files(SWEEP.replace("[0.25, 0.5]", "[0.5]").replace("[graft, prune]", "[prune]\n  retrain: [false]"))
    assert main(command()) == 0
    (path,) = (path for path in Path("out/models").glob("*.json") if path.stem != "baseline")
    manifest = zoo.read_manifest(path)
    assert "no fine-tuning" in manifest.training.note
    pruned, before = (zoo.load_network(Path("out/models"), name) for name in (path.stem, "baseline"))
    assert torch.equal(pruned.get_submodule("conv1").weight, before.get_submodule("conv1").weight)


def test_points_with_the_same_mask_share_one_network(toys: Path) -> None:
    # With one gamma of 0 the ranking of the instability does not matter: the masks are equal, the recipes are not.
    text = SWEEP.replace("method: [graft, prune]", "gammas: [[0]]")
    make_files(text.replace("ranking: [min]", "ranking: [min]\n  instability_ranking: [same, norank]"))
    assert main(command()) == 0
    assert len(result()["points"]) == 5
    assert len(list(Path("out/models").glob("*.onnx.gz"))) == 3
    values = {point["variant"]: point["VA"] for point in result()["points"]}
    assert values["gap-min-g0-r0p5-graft-wrt-s1"] == values["gap-min-inorank-g0-r0p5-graft-wrt-s1"]


def test_a_second_start_makes_nothing(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(command()) == 0
    before, answers = networks(), sweep_toy.SEEN["answer"]
    monkeypatch.setattr("harness.cli.pipeline.Trainer", None)
    assert main(command()) == 0
    assert networks() == before
    assert sweep_toy.SEEN["answer"] == answers


def test_an_added_point_makes_one_network_more(toys: Path) -> None:
    assert main(command()) == 0
    before = networks()
    make_files(SWEEP.replace("[0.25, 0.5]", "[0.25, 0.5, 0.75]"))
    assert main(command()) == 0
    after = networks()
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 4
    assert len(result()["points"]) == 7


def test_slices_end_where_one_start_does(toys: Path) -> None:
    assert main(command(out="whole")) == 0
    codes = []
    while not codes or codes[-1]:
        codes.append(main(command("--max-seconds", "0.3")))
        assert len(codes) < 80
    assert codes[0] == 1
    assert networks() == networks("whole")
    assert result()["points"] == result("whole")["points"]


@pytest.mark.slow
def test_killed_anywhere_the_same_command_goes_on(toys: Path) -> None:
    """The real thing: SIGKILL within a training, before a network is written, and during verification."""
    assert main(command(out="whole")) == 0
    for event in ("batch:3", "publish:2", "answer:9"):
        driver = [sys.executable, str(DRIVER), "--kill-at", event, *command()]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (DRIVER.parents[2], DRIVER.parents[1])))}
        done = subprocess.run(driver, env=environment, check=False, capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not Path("out/sweep.json").exists()
    assert load_run(Path("out")).rows
    assert main(command()) == 0
    assert networks() == networks("whole")
    assert result()["points"] == result("whole")["points"]


def test_an_interrupted_verification_is_told_and_goes_on(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decide = sweep_toy.ToyEngine.decide

    def interrupted(self: Any, jobs: Any) -> Any:
        if jobs[0].limits.max_domains == 4:
            raise KeyboardInterrupt
        yield from decide(self, jobs)

    with monkeypatch.context() as patch:
        patch.setattr(sweep_toy.ToyEngine, "decide", interrupted)
        assert main(command()) == 1
    assert not result()["complete"]
    assert main(command()) == 0
    assert result()["complete"]


def test_a_dry_run_lists_and_writes_nothing(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "toy_sweep", "--out", "out", "--dry-run", "--json"]) == 0
    work = json.loads(capsys.readouterr().out)
    assert len(work["points"]) == 4
    assert (work["instances"], work["verification_s_at_most"]) == (30, 150)
    assert not Path("out").exists()
    assert main(command("--dry-run")) == 0
    assert "scores: to be computed first" in capsys.readouterr().out
    assert main(command()) == 0
    before = networks()
    for path in Path("out/models").glob("*"):
        if zoo.MANIFEST_SUFFIX in path.name and path.stem != "baseline":
            path.unlink()
            break
    capsys.readouterr()
    assert main(command("--dry-run", "--json")) == 0
    work = json.loads(capsys.readouterr().out)
    assert (work["networks"], work["networks_missing"], work["epochs"]) == (4, 1, 2)
    assert work["training_s"] > 0
    assert sum(not point["made"] for point in work["points"]) == 1
    assert set(networks()) < set(before)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("method:", "methods:", "toy_sweep.yaml:9: unknown key 'grid.methods'"),
        ("[0.25, 0.5]", "[0.25, 1.5]", "toy_sweep.yaml:8: key 'grid.ratio[1]'"),
        ("[0.25, 0.5]", "[0.5, 0.5]", "'0.5' stands twice"),
        ("[GAP]", "[GUP]", "grid.heuristic[0]"),
        ("benchmark: toy", "benchmark: nowhere", "there is no benchmark 'nowhere'"),
        ("verification: {inputs: 6", "verification: {inputs: 0", "verification.inputs"),
        ("training: {epochs: 2", "scores: {file: none.npz}\ntraining: {epochs: 2", "none.npz: "),
    ],
)
def test_mistakes_are_told_in_a_line(
    toys: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    Path("specs/sweeps/toy_sweep.yaml").write_text(SWEEP.replace(old, new))
    assert main(command()) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not Path("out/models/scores.npz").exists()


def test_without_a_baseline_the_command_that_makes_it_is_named(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("models/toy/baseline.json").unlink()
    assert main(command()) == 2
    assert "scripts/train_all toy --data DIR" in capsys.readouterr().err
    assert not Path("out").exists()


def test_another_runs_folder_is_left_alone(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command()) == 0
    before = sha256_file(Path("out/results.db"))
    Path("specs/sweeps/other.yaml").write_text(SWEEP.replace("name: toy_sweep", "name: other"))
    assert main(["sweep", "other", "--out", "out", "--data", "."]) == 2
    assert "holds a run of toy_sweep, not of other" in capsys.readouterr().err
    assert sha256_file(Path("out/results.db")) == before


def test_an_unknown_sweep_names_those_there_are(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "nothing"]) == 2
    assert "toy_sweep" in capsys.readouterr().err
