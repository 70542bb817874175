"""The shipped benchmark itself: real networks, real inputs, every stage at work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.config import find_spec
from harness.networks import zoo

ROOT = Path(__file__).resolve().parents[2]


def test_one_input_is_proved_by_branching_and_one_has_a_counterexample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    out = tmp_path / "run"
    options = ["--variants", "baseline", "--inputs", "5", "--timeout", "600", "--max-domains", "64", "--device", "cpu"]
    assert main(["bench", "cifar10_cnnb", *options, "--out", str(out)]) == 0
    row = json.loads((out / "summary.json").read_text())["variants"]["baseline"]
    assert sum(row["sets"].values()) == 5
    assert row["errors"] == 0
    assert row["stages"]["bab"] >= 1
    assert row["stages"]["attack"] >= 1
    assert row["sets"]["VS"] >= 1
    assert len(list((out / "counterexamples").iterdir())) == row["sets"]["AT"] + row["sets"]["SK"]


@pytest.mark.parametrize("variant", find_spec("cifar10_cnnb", (ROOT,)).variant_names)
def test_the_shipped_networks_are_those_of_their_manifests(variant: str) -> None:
    """Loading checks the hash, the shapes and, for a grafted network, the number of linear neurons."""
    folder = ROOT / "models" / "cifar10_cnnb"
    manifest = zoo.read_manifest(zoo.manifest_path(folder, variant))
    network = zoo.load_network(folder, variant)
    plain = [p for name, p in network.named_parameters() if not name.endswith((".slope", ".intercept"))]
    assert sum(p.numel() for p in plain) == 2_118_856
    assert manifest.grafted_neurons == (0 if variant == "baseline" else 8316)
    assert {manifest.metrics[name]["n"] for name in ("SA", "RA")} == {10_000}
