"""Score files: round trip, files of others, and damaged ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.domain import UsageError
from harness.grafting.instability import Instability
from harness.grafting.npz import write_npz
from harness.grafting.scores import collect_scores, read_scores, write_scores
from harness.grafting.significance import Heuristic


def layers(seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {"relu1": random.random((2, 3, 3), np.float32), "relu2": random.random(4, np.float32)}


def test_round_trip(tmp_path: Path) -> None:
    counts = {"relu2": np.arange(4), "relu1": np.arange(18)}
    scores = collect_scores(
        {Heuristic.GRADIENT: layers(1), Heuristic.VARIANCE: layers(2)}, Instability(counts, 20), {"network": "baseline"}
    )
    write_scores(tmp_path / "a.npz", scores)
    write_scores(tmp_path / "b.npz", scores)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = read_scores(tmp_path / "a.npz")
    assert found.layer_sizes == (18, 4)
    assert found.names == ("relu1", "relu2")
    assert found.shapes == ((2, 3, 3), (4,))
    assert found.provenance == {"network": "baseline"}
    assert found.array("instability").tolist() == [*range(18), *range(4)], "in the order of the significance"
    assert (found.array("gradient")[:18] == layers(1)["relu1"].ravel()).all()
    assert (found.array("variance")[18:] == layers(2)["relu2"]).all()


def test_the_published_file_is_read(shared_dir: Path) -> None:
    scores = read_scores(shared_dir / "golden/cnn_b/scores_selftrained.npz")
    assert scores.layer_sizes == (8192, 8192, 250)
    assert scores.names == ()
    assert int((scores.array("gradient") == 0).sum()) == 4121


def test_a_score_that_is_not_there(shared_dir: Path) -> None:
    scores = read_scores(shared_dir / "golden/cnn_b/scores_selftrained.npz")
    with pytest.raises(UsageError, match="no 'hydra' scores; there are: gradient"):
        scores.array("hydra")


def test_counts_of_another_network_are_refused() -> None:
    with pytest.raises(UsageError, match="relu2"):
        collect_scores({Heuristic.GRADIENT: layers(1)}, Instability({"relu1": np.zeros(18, np.int64)}, 1))


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"layer_sizes": np.array([3])},
        {"gradient": np.zeros(3)},
        {"layer_sizes": np.array([2]), "gradient": np.zeros(3)},
        {"layer_sizes": np.array([3.0]), "gradient": np.zeros(3)},
        {"layer_sizes": np.array([3]), "gradient": np.zeros(3), "instability": np.zeros(2)},
        {"layer_sizes": np.array([3]), "gradient": np.array(["a", "b", "c"])},
        {"layer_sizes": np.array([3]), "gradient": np.zeros(3), "names": np.array('["a", "b"]')},
        {"layer_sizes": np.array([3]), "gradient": np.zeros(3), "names": np.array("[")},
    ],
)
def test_what_is_no_score_file(tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = tmp_path / "scores.npz"
    write_npz(path, arrays)
    with pytest.raises(UsageError, match=r"scores\.npz: "):
        read_scores(path)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    np.savez(path, gradient=np.array([object()]), layer_sizes=np.array([1]))
    with pytest.raises(UsageError, match="not a readable"):
        read_scores(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"text"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scores.npz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="not a readable"):
        read_scores(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_scores(tmp_path / "scores.npz")
