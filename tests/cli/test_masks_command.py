"""`lgbench masks`: the published comparison, figures, and mistakes in one line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from harness.cli.main import main


@pytest.fixture
def files(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", mask=(random.random(70) < 0.5).astype(np.uint8), layer_sizes=[64, 6])
    np.savez(tmp_path / "several.npz", one=np.ones(70, np.uint8), two=np.zeros(70, np.uint8))
    np.savez(
        tmp_path / "scores.npz",
        layer_sizes=[64, 6],
        instability=random.integers(0, 9, 70).astype(np.float32),
        **{name: random.random(70).astype(np.float32) for name in ("gradient", "magnitude", "variance")},
    )
    return tmp_path


def test_comparison_of_masks(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = [str(files / "a.npz"), str(files / "b.npz"), f"{files}/several.npz:one"]
    assert main(["masks", "compare", *named, "--json", "--out", str(files / "figures")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["sets"] == ["a", "b", "one"]
    assert sum(said["venn"].values()) == 70
    assert said["dJ"] == pytest.approx(1 - np.mean(list(said["jaccard"].values())))
    assert {path.name for path in (files / "figures").iterdir()} == {f"overlap.{s}" for s in ("png", "svg", "csv")}
    assert main(["masks", "compare", *named, "--names", "x,y,z"]) == 0
    assert "Jaccard x, y: " in capsys.readouterr().out


def test_the_published_recipes(shared_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = shared_dir / "golden/cnn_b"
    command = ["masks", "recipes", "--scores", str(golden / "scores_pretrained.npz")]
    command += ["--given", f"{golden}/mask_provided_fat.npz"]
    assert main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["given"] == 8317
    assert len({row["recipe"] for row in said["recipes"]}) == 27
    best = said["recipes"][0]
    assert (best["inter"], round(best["jaccard"], 6)) == (6300, 0.609697)
    assert best["recipe"].endswith("|SAP")
    assert main([*command, "--csv"]) == 0
    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == 27


def test_figures_of_a_selection(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["masks", "draw", "--scores", str(files / "scores.npz"), "--heuristic", "sap", "--ranking", "dense"]
    assert main([*command, "--out", str(files / "figures")]) == 0
    names = {Path(line).name for line in capsys.readouterr().out.splitlines()}
    assert names == {
        f"{n}.{s}" for n in ("scores_magnitude", "selection_magnitude_dense") for s in ("png", "svg", "csv")
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "{}/a.npz"], "at least two masks"),
        (["compare", "{}/a.npz", "{}/none.npz"], "none.npz: no such file"),
        (["compare", "{}/a.npz", "{}/several.npz"], "there are: one, two"),
        (["compare", "{}/a.npz", "{}/scores.npz:gradient"], "zeros and ones only"),
        (["compare", "{}/a.npz", "{}/b.npz", "--names", "x"], "--names needs 2 different names"),
        (["recipes", "--scores", "{}/a.npz", "--given", "{}/b.npz"], "holds no scores"),
        (["draw", "--scores", "{}/scores.npz", "--heuristic", "magic", "--out", "{}/f"], "unknown heuristic 'magic'"),
        (["draw", "--scores", "{}/scores.npz", "--heuristic", "gap", "--ratio", "2", "--out", "{}/f"], "ratio"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["masks", *(argument.format(files) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (files / "f").exists()
