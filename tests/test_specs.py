"""The shipped benchmarks: complete, trainable as they stand, and beside them the figures that were printed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cli.training_common import training_config
from harness.config import find_spec, known_benchmarks
from harness.data.datasets import DATASETS
from harness.networks.architectures import ARCHITECTURES

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = known_benchmarks((ROOT,))
# Benchmark to its table of the thesis, and the table's columns to our variants and the name of their source.
TABLES = {
    "cifar10_convbig": "4.1 CIFAR10 ConvBig",
    "mnist_convbig": "4.2 MNIST ConvBig",
}
COLUMNS = {
    "own baseline": ("baseline", "thesis, self-trained"),
    "paper baseline": ("baseline", "ICML 2022 paper"),
    "wrt norank": ("grafted_norank", "thesis, self-trained"),
    "wrt min": ("grafted_min", "thesis, self-trained"),
    "nwrt norank": ("grafted_norank_nwrt", "thesis, self-trained"),
    "nwrt min": ("grafted_min_nwrt", "thesis, self-trained"),
    "paper grafted": ("grafted_min", "ICML 2022 paper"),
}


def test_the_studys_benchmarks_are_here() -> None:
    assert {"cifar10_cnnb", "cifar10_convbig", "cifar10_convhuge", "mnist_convbig"} <= set(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_fits_its_data_and_its_architecture(name: str) -> None:
    spec = find_spec(name, (ROOT,))
    assert spec.name == name
    assert spec.architecture.startswith(f"{spec.dataset}_")
    info = DATASETS[spec.dataset]
    assert (spec.input_shape, spec.classes) == (info.shape, info.classes)
    network = ARCHITECTURES[spec.architecture]().eval()
    assert network(torch.zeros(1, *spec.input_shape)).shape == (1, spec.classes)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmarks_networks_are_those_that_training_writes(name: str) -> None:
    spec = find_spec(name, (ROOT,))
    assert spec.grafting is not None
    for variant in spec.variants:
        assert variant.network == f"models/{name}/{variant.name}.onnx.gz"
        assert (variant.graft is None) == (variant.name == spec.baseline)
        assert variant.parent == (None if variant.graft is None else spec.baseline)
    for length in ("full", "short"):
        config = training_config(spec, length)
        assert config.eps == spec.eps, "trained at the radius that is verified"
        assert config.alpha == pytest.approx(1.25 * config.eps)
    assert training_config(spec, "full").epochs == 200
    assert spec.grafting.full.epochs == 100
    assert {spec.grafting.full.schedule, spec.grafting.short.schedule} == {"cosine"}


@pytest.mark.parametrize("name", TABLES)
def test_the_figures_beside_ours_are_the_printed_ones(name: str, shared_dir: Path) -> None:
    spec = find_spec(name, (ROOT,))
    table = json.loads((shared_dir / "golden" / "thesis_tables.json").read_text())[TABLES[name]]
    found = {(row.variant, row.source): row for row in spec.published}
    used = set()
    for column, title in enumerate(table["cols"]):
        if COLUMNS[title][0] not in spec.variant_names:
            continue
        row = found[COLUMNS[title]]
        used.add(COLUMNS[title])
        for metric in ("SA", "RA", "VA", "UNR"):
            printed, size = _figure(table[metric][column])
            assert getattr(row, metric) == printed, (title, metric)
            assert size is None or size in row.note, (title, metric)
    assert used == set(found), "and no others"


def _figure(cell: Any) -> tuple[float, str | None]:
    """Returns the figure of a cell and, where it is printed, the number of images: `5.6 (500)`."""
    match = re.fullmatch(r"([\d.]+)(?: \((\d+)\))?", str(cell))
    assert match is not None
    return float(match[1]), match[2]
