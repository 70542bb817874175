"""Benchmark files: what is read, and that each mistake is one line with file, line, key and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import BenchmarkSpec, find_spec, known_benchmarks, load_spec
from harness.domain import UsageError

MINIMAL = """\
name: tiny
title: A tiny one
dataset: cifar10
architecture: none
input_shape: [3, 32, 32]
classes: 10
eps: 2/255
baseline: base
protocols:
  full: {inputs: 10, timeout_s: 180}
  cpu: {inputs: 5, timeout_s: 1.5}
variants:
  - name: base
    title: Base
    network: models/tiny/base.onnx.gz
  - {name: other, title: Other, network: models/tiny/other.onnx.gz, parent: base}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "specs" / "tiny" / "benchmark.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_becomes_frozen_values(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, MINIMAL))
    assert spec.eps == 2 / 255
    assert spec.variant_names == ("base", "other")
    assert spec.inputs_size == 3072
    assert spec.protocols.cpu.timeout_s == 1.5
    assert spec.network_path("base") == tmp_path / "models/tiny/base.onnx.gz"
    with pytest.raises(ValueError, match="frozen"):
        setattr(spec, "eps", 0.1)  # noqa: B010


def test_paths_of_a_lone_file_are_relative_to_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINIMAL)
    assert find_spec(path).network_path("base") == tmp_path / "models/tiny/base.onnx.gz"


def test_specs_are_found_by_name_by_file_and_by_folder(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    for name in ("tiny", str(path), str(path.parent)):
        assert find_spec(name, roots=[tmp_path]).name == "tiny"
    assert known_benchmarks([tmp_path]) == ["tiny"]


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL)
    with pytest.raises(UsageError, match=r"no benchmark 'tinny'; known: tiny"):
        find_spec("tinny", roots=[tmp_path])


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("dataset: cifar10", "dataset: svhn", 3, ["dataset", "'cifar10' or 'mnist'"]),
        ("classes: 10", "clases: 10", 6, ["unknown key 'clases'", "allowed here", "classes"]),
        ("eps: 2/255", "eps: two", 7, ["eps", "'two'", "2/255"]),
        ("eps: 2/255", "eps: 2/0", 7, ["eps", "'2/0'"]),
        ("eps: 2/255", "eps: .nan", 7, ["eps", "finite"]),
        ("eps: 2/255", "eps: -0.1", 7, ["eps", "greater than 0", "-0.1"]),
        (
            "inputs: 5, timeout_s",
            "inputs: 5, timeout",
            11,
            ["unknown key 'protocols.cpu.timeout'", "inputs, timeout_s"],
        ),
        ("inputs: 5", "inputs: five", 11, ["protocols.cpu.inputs", "five"]),
        ("    title: Base\n", "", 13, ["'variants[0].title' is missing"]),
        ("models/tiny/base.onnx.gz", "/etc/base.onnx.gz", 15, ["variants[0].network", "relative"]),
        ("models/tiny/base.onnx.gz", "../base.onnx.gz", 15, ["variants[0].network", "inside"]),
        ("name: other", "name: a/b", 16, ["variants[1].name"]),
        ("parent: base", "parnt: base", 16, ["unknown key 'variants[1].parnt'", "parent"]),
        ("baseline: base", "baseline: bass", 1, ["'bass' is no variant", "base, other"]),
        ("parent: base", "parent: bass", 1, ["'bass'", "base, other"]),
        ("classes: 10", "classes: 10\nclasses: 11", 7, ["'classes'", "line 6"]),
        ("input_shape: [3, 32, 32]", "input_shape: [3, 32, 32", 6, ["not valid YAML"]),
    ],
)
def test_each_mistake_is_one_line_with_place_and_remedy(
    tmp_path: Path, old: str, new: str, line: int, words: list[str]
) -> None:
    assert old in MINIMAL
    path = write(tmp_path, MINIMAL.replace(old, new))
    with pytest.raises(UsageError) as caught:
        load_spec(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}:"), message
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"benchmark\.yaml"):
        load_spec(write(tmp_path, text))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"binary\.yaml"):
        load_spec(path)


def test_the_shipped_benchmark_is_the_thesis_protocol() -> None:
    spec: BenchmarkSpec = find_spec("cifar10_cnnb")
    assert (spec.protocols.full.inputs, spec.protocols.full.timeout_s) == (1000, 180)
    assert spec.baseline == "baseline"
    assert spec.eps == 2 / 255
    ours = {row.variant: row for row in spec.published if row.source == "thesis, self-trained"}
    assert (ours["baseline"].VA, ours["grafted_norank"].VA, ours["grafted_min"].VA) == (41.5, 47.0, 49.2)
