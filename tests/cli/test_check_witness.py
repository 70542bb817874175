from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from harness.cli.main import main

NET, PROP = "ACASXU_run2a_1_2_batch_2000", "prop_2"


@pytest.fixture
def files(shared_dir: Path) -> list[str]:
    folder = shared_dir / "vnncomp_results" / "2025_acasxu_witnesses"
    return [
        str(folder / "onnx" / f"{NET}.onnx"),
        str(folder / "vnnlib" / f"{PROP}.vnnlib"),
        str(folder / "alpha_beta_crown" / f"{NET}_{PROP}.counterexample"),
    ]


@pytest.mark.parametrize(
    ("rules", "verdict"), [("2026", "correct"), ("2025-small", "correct_up_to_tolerance"), ("2022", "correct")]
)
def test_the_class_stands_alone_on_the_first_line(
    files: list[str], capsys: pytest.CaptureFixture[str], rules: str, verdict: str
) -> None:
    assert main(["check-witness", *files, "--rules", rules]) == 0
    assert capsys.readouterr().out == f"{verdict}\n"


def test_a_gzipped_result_file_and_json(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "result.txt.gz"
    path.write_bytes(gzip.compress(b"sat\n" + Path(files[2]).read_bytes()))
    assert main(["check-witness", *files[:2], str(path.with_suffix("")), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["rules"], len(told["outputs"])) == ("correct", "2026", 5)


def test_what_is_no_witness_is_classified(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "witness"
    for text, verdict in (("", "no_ce"), ("((X_0 1))", "wrong_shape"), ("sat 1 2 3", "malformed_ce")):
        path.write_text(text)
        assert main(["check-witness", *files[:2], str(path)]) == 0
        out, err = capsys.readouterr()
        assert out == f"{verdict}\n"
        assert err.count("\n") == 1


@pytest.mark.parametrize("position", [0, 1, 2])
def test_files_that_are_missing_or_something_else(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], position: int
) -> None:
    given = list(files)
    given[position] = str(tmp_path / "none")
    assert main(["check-witness", *given]) == 2
    assert f"{tmp_path / 'none'}: no such file" in capsys.readouterr().err
    (tmp_path / "none").write_bytes(b"((((")
    assert main(["check-witness", *given]) == (0 if position == 2 else 2)
