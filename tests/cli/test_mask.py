"""`lgbench mask`: the contract for scripts, derived and random scores, and every kind of bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.cli.main import main
from harness.cli.score import parse_gammas
from harness.domain import UsageError
from harness.grafting.npz import json_value, read_npz, write_npz

NEURONS = 40


@pytest.fixture
def arrays() -> dict[str, NDArray[Any]]:
    """Scores of a small network, as a user's own script would write them."""
    random = np.random.default_rng(0)
    names = ("gradient", "magnitude", "variance")
    scores = {name: random.random(NEURONS).astype(np.float32) for name in names}
    return {**scores, "instability": random.integers(0, 9, NEURONS), "layer_sizes": np.array([30, 10])}


def run(arrays: dict[str, NDArray[Any]], *more: str, heuristic: str = "gap") -> tuple[int, Path]:
    scores, out = Path("scores.npz"), Path("out/mask.npz")
    write_npz(scores, arrays)
    command = ["mask", "--scores", str(scores), "--heuristic", heuristic, "--ranking", "min", "--out", str(out)]
    return main([*command, *more]), out


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
        ({"--gammas": ""}, "not a list of numbers"),
        ({"--ratio": "-0.1"}, "[0, 1]"),
        ({"--ratio": "half"}, "--ratio"),
        ({"--instability-ranking": "best"}, "--instability-ranking"),
        ({"--heuristic": "hydra"}, "no 'hydra' scores"),
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


def test_gammas_are_a_list_of_numbers_inf_among_them() -> None:
    assert parse_gammas("2, 1.5,inf") == (2.0, 1.5, float("inf"))
    with pytest.raises(UsageError):
        parse_gammas("")


def mask_of(arrays: dict[str, NDArray[Any]], *more: str, heuristic: str) -> tuple[NDArray[Any], dict[str, str]]:
    code, out = run(arrays, *more, heuristic=heuristic)
    assert code == 0
    written = read_npz(out)
    return written["mask"], json_value(out, written, "provenance")


def test_product_of_means_where_the_product_is_not_known(arrays: dict[str, NDArray[Any]]) -> None:
    derived, said = mask_of(arrays, heuristic="product")
    assert said["significance"] == "gradient * magnitude"
    product = arrays["gradient"] * arrays["magnitude"]
    known, plain = mask_of({**arrays, "product": product}, heuristic="product")
    assert (derived == known).all()
    assert "significance" not in plain
    other, _ = mask_of({**arrays, "product": product[::-1].copy()}, heuristic="product")
    assert (other != known).any(), "the file's own product goes before the derived one"
    del arrays["magnitude"]
    assert run(arrays, heuristic="product")[0] == 2


def test_random_of_a_seed(arrays: dict[str, NDArray[Any]]) -> None:
    first, said = mask_of(arrays, heuristic="random")
    assert said["significance"] == "seed 0"
    assert (first == mask_of(arrays, heuristic="random")[0]).all()
    other, said = mask_of(arrays, "--seed", "7", heuristic="random")
    assert said["significance"] == "seed 7"
    assert (first != other).any()


def test_aliases_and_local(arrays: dict[str, NDArray[Any]], capsys: pytest.CaptureFixture[str]) -> None:
    for alias, name in (("gap", "gradient"), ("sap", "magnitude"), ("vap", "variance")):
        (a, said), (b, _) = mask_of(arrays, heuristic=alias), mask_of(arrays, heuristic=name)
        assert (a == b).all()
        assert said["heuristic"] == name
    capsys.readouterr()
    mask, said = mask_of(arrays, "--local", "--ratio", "0.4", "--json", heuristic="sap")
    assert [layer["grafted"] for layer in json.loads(capsys.readouterr().out)["layers"]] == [12, 4]
    assert (mask[:30].sum(), mask[30:].sum()) == (12, 4)
    assert said["scope"] == "layer"


def test_options_from_the_environment(arrays: dict[str, NDArray[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = mask_of(arrays, "--ratio", "0.25", "--gammas", "1", heuristic="vap")
    Path("out/mask.npz").unlink()
    settings = {"SCORES": "scores.npz", "HEURISTIC": "vap", "RANKING": "min", "RATIO": "0.25", "GAMMAS": "1"}
    for name, value in {**settings, "OUT": "out/mask.npz", "JSON": "1"}.items():
        monkeypatch.setenv(f"LGBENCH_MASK_{name}", value)
    assert main(["mask"]) == 0
    assert (read_npz(Path("out/mask.npz"))["mask"] == expected).all()


def test_arrays_that_are_not_scores_do_no_harm(arrays: dict[str, NDArray[Any]]) -> None:
    expected, _ = mask_of(arrays, heuristic="gap")
    more = {"indices": np.arange(7), "note": np.array("of a script"), "table": np.zeros((2, 3))}
    assert (mask_of({**more, **arrays}, heuristic="gap")[0] == expected).all()


def test_nothing_and_everything(arrays: dict[str, NDArray[Any]]) -> None:
    assert mask_of(arrays, "--ratio", "0", heuristic="gap")[0].sum() == 0
    assert mask_of(arrays, "--ratio", "1", heuristic="gap")[0].all()


NOT_FINITE = np.where(np.arange(NEURONS) == 3, np.nan, 1.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gradient": None}, "no 'gradient' scores"),
        ({"instability": None}, "no 'instability' scores"),
        ({"layer_sizes": None}, "'layer_sizes' is missing"),
        ({"layer_sizes": np.array([30, 11])}, "does not add up"),
        ({"layer_sizes": np.array([30.0, 10.0])}, "does not add up"),
        ({"gradient": np.ones(NEURONS - 1)}, f"{NEURONS} neurons"),
        ({"instability": np.ones(NEURONS + 1)}, f"{NEURONS} neurons"),
        ({"gradient": NOT_FINITE}, "'gradient' of neuron 3 is nan"),
        ({"instability": NOT_FINITE}, "'instability' of neuron 3 is nan"),
        ({"gradient": np.full(NEURONS, 1e300)}, "'gradient' of neuron 0 is inf"),
        ({"gradient": np.ones((NEURONS, 1))}, "not a flat array"),
        ({"gradient": np.full(NEURONS, "1")}, "not a flat array"),
        (dict.fromkeys(("gradient", "magnitude", "variance", "instability")), "holds no scores"),
        (
            {name: np.zeros(0) for name in ("gradient", "magnitude", "variance", "instability")}
            | {"layer_sizes": np.zeros(0, np.int64)},
            "no neurons",
        ),
    ],
)
def test_bad_score_files_leave_the_earlier_mask(
    arrays: dict[str, NDArray[Any]],
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, NDArray[Any] | None],
    said: str,
) -> None:
    code, out = run(arrays)
    assert code == 0
    before = out.read_bytes()
    capsys.readouterr()
    changed = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    assert run(changed)[0] == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "scores.npz: " in message
    assert said in message
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["mask.npz"]
