"""Witnesses to properties of several networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.cli.main import main
from harness.formats.vnnlib2_writer import write_difference_query
from harness.judging.replay_several import replay_several
from harness.tools import toy_networks

LOWER, UPPER = np.zeros(2, np.float32), np.ones(2, np.float32)
# |x_0| + |x_1| is 1.25 at (1, 0.25), relu(x_0 + x_1) / 2 + (x_0 - x_1) / 4 + 1 / 4 is 1.0625 there.
GOOD = "A float32 [1,2]\n1.0\n0.25\nP float32 [1,2]\n0.0\n0.0\nB float32 [1,2]\n1.0\n0.25\nQ float32 [1,2]\n0.0\n0.0\n"


@pytest.fixture
def networks(tmp_path: Path) -> list[tuple[str, Path]]:
    for name, model in (("base", toy_networks.absolute_sum()), ("graft", toy_networks.grafted())):
        (tmp_path / f"{name}.onnx").write_bytes(model)
    (tmp_path / "p.vnnlib").write_text(write_difference_query(LOWER, UPPER, 0.1796875, (1, 2), (1, 2)))
    return [(name, tmp_path / f"{name}.onnx") for name in ("base", "graft")]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (GOOD, "correct"),
        (f"sat\n{GOOD}", "correct"),
        (GOOD.replace("1.0\n0.25", "1.00005\n0.25"), "correct_up_to_tolerance"),
        (GOOD.replace("1.0\n0.25", "1.0\n2.0"), "spec_not_violated"),
        (GOOD.replace("1.0\n0.25", "1.0\n0.0"), "spec_not_violated"),
        (GOOD.replace("1.0\n0.25", "1.0\n0.2501", 1), "unsupported"),
        (GOOD.replace("1.0\n0.25", "1.0\n0.5", 1), "spec_not_violated"),
        (GOOD.partition("B")[0], "malformed_ce"),
        (GOOD.replace("[1,2]", "[2,1]"), "wrong_shape"),
        ("", "no_ce"),
    ],
)
def test_a_witness_has_one_class_by_call_and_by_command(
    networks: list[tuple[str, Path]], capsys: pytest.CaptureFixture[str], text: str, verdict: str
) -> None:
    prop = networks[0][1].with_name("p.vnnlib")
    assert replay_several(networks, prop, text).check.verdict == verdict
    witness = prop.with_name("w")
    witness.write_text(text)
    assert main(["check-witness", str([(name, str(path)) for name, path in networks]), str(prop), str(witness)]) == 0
    assert capsys.readouterr().out == f"{verdict}\n"
