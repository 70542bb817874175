"""The adapters: their property and network rewriting, and, on request, the real verifiers."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from adapters.common import plain_text, read_task
from adapters.neuralsat.solve import with_full_shapes
from harness.cli.main import main
from harness.domain import WitnessVerdict
from harness.formats.vnnlib import parse_property
from harness.formats.vnnlib2_writer import write_robustness_query
from harness.judging.judge import Judge
from harness.tools import toy_networks
from harness.tools.registry import ADAPTERS, INSTALLED

TWO_BOXES = toy_networks.prop(
    2,
    2,
    [
        (toy_networks.box([(-0.5, 0.1)] * 2), "(<= Y_1 Y_0)"),
        (toy_networks.box([(0.5, 1.0)] * 2), toy_networks.at_least(1.4)),
    ],
)


def installed(name: str) -> str:
    if not (ADAPTERS / name / INSTALLED).is_file():
        pytest.skip(f"{name} is not installed: bash adapters/{name}/install_tool.sh v1")
    return name


@pytest.mark.parametrize(
    "text",
    [
        TWO_BOXES,
        toy_networks.prop(2, 2, [(toy_networks.box([(0.1, 0.2)] * 2), toy_networks.at_least(0.3))]),
        write_robustness_query(np.zeros(2, np.float32), np.full(2, 0.1, np.float32), 0, (1, 2), (1, 2)),
    ],
)
def test_the_plain_text_is_the_same_property(text: str) -> None:
    first, second = (parse_property(t, "p") for t in (text, plain_text(parse_property(text, "p"))))
    assert len(first.cases) == len(second.cases)
    for one, other in zip(first.cases, second.cases, strict=True):
        assert np.array_equal(one.box.lower, other.box.lower)
        assert np.array_equal(one.box.upper, other.box.upper)
        assert [p.coefficients.tolist() for p in one.polytopes] == [p.coefficients.tolist() for p in other.polytopes]
        assert [p.rhs.tolist() for p in one.polytopes] == [p.rhs.tolist() for p in other.polytopes]


def test_a_point_near_a_box_is_moved_into_it_and_replayed(tmp_path: Path) -> None:
    network, prop, result = tmp_path / "net.onnx", tmp_path / "p.vnnlib", tmp_path / "r"
    network.write_bytes(toy_networks.absolute_sum())
    prop.write_text(toy_networks.prop(2, 2, [(toy_networks.box([(0.5, 1.0)] * 2), toy_networks.at_least(1.4))]))
    task = read_task(["toys", str(network), str(prop), str(result), "1000"])
    assert result.read_text() == "timeout\n"
    assert task.confirmed(np.array([1.00001, 0.9]))
    assert result.read_text().startswith("sat\n((X_0 1)\n(X_1 0.899999976)")
    assert not task.confirmed(np.array([0.5, 0.5]))


def test_a_property_of_another_network_is_refused(tmp_path: Path) -> None:
    network, prop = tmp_path / "net.onnx", tmp_path / "p.vnnlib"
    network.write_bytes(toy_networks.convolution())
    prop.write_text(TWO_BOXES)
    with pytest.raises(SystemExit, match="is not about"):
        read_task(["toys", str(network), str(prop), str(tmp_path / "r"), "1000"])


def test_constants_get_the_dimensions_of_what_they_meet() -> None:
    model = onnx.load_model_from_string(toy_networks.grafted())
    before = onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "slope"))
    wide = with_full_shapes(model)
    onnx.checker.check_model(wide)
    used = {name for node in wide.graph.node if node.op_type in ("Mul", "Add") for name in node.input}
    shapes = {t.name: tuple(t.dims) for t in wide.graph.initializer if t.name in used}
    assert set(shapes.values()) == {(1, 2)}
    after = onnx.numpy_helper.to_array(next(t for t in wide.graph.initializer if t.name == "slope_2d"))
    assert np.array_equal(after[0], before)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["marabou", "neuralsat", "auto_lirpa"])
def test_a_real_verifier_conforms(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tool", "check", installed(name), "--timeout", "120", "--json"]) == 0, capsys.readouterr().out


@pytest.mark.nightly
def test_neuralsat_decides_two_of_three_cifar_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["run", "cifar10_cnnb", "--tool", installed("neuralsat"), "--timeout", "60"]
    assert main([*given, "--inputs", "3", "--variants", "baseline", "--out", str(tmp_path / "r"), "--json"]) == 0
    sets = json.loads(capsys.readouterr().out)["variants"]["baseline"]["sets"]
    assert sets["SK"] == 0, "the first three are classified rightly"
    assert sets["AT"] + sets["VS"] >= 2


@pytest.mark.nightly
def test_marabou_solves_three_of_five_acasxu_instances(tmp_path: Path, shared_dir: Path) -> None:
    folder = tmp_path / "acasxu"
    shutil.copytree(shared_dir / "vnncomp_cases" / "acasxu", folder)
    with (folder / "labels.csv").open() as stream:
        labels = {(row["onnx"], row["vnnlib"]): row["label"] for row in csv.DictReader(stream)}
    nets = {"prop_2": "2_4", "prop_3": "2_1", "prop_4": "1_4"}
    rows = [(f"onnx/ACASXU_run2a_{net}_batch_2000.onnx", f"vnnlib/{prop}.vnnlib") for prop, net in nets.items()]
    rows += [(f"onnx/ACASXU_run2a_{net}_batch_2000.onnx", "vnnlib/prop_3.vnnlib") for net in ("1_1", "1_5")]
    (folder / "instances.csv").write_text("".join(f"{net},{prop},116\n" for net, prop in rows))
    given = ["run", "--instances", str(folder / "instances.csv"), "--tool", installed("marabou")]
    assert main([*given, "--out", str(tmp_path / "r")]) == 0
    with (tmp_path / "r" / "results.csv").open() as stream:
        found = {(row[1], row[2]): row[4] for row in csv.reader(stream)}
    solved = {key: word for key, word in found.items() if word in ("sat", "unsat")}
    assert len(solved) >= 3
    assert {key: labels[key] for key in solved} == solved


@pytest.mark.nightly
def test_marabous_witness_of_version_2(tmp_path: Path) -> None:
    from harness.domain import Instance, Job, Limits
    from harness.tools.registry import ToolOptions, make_tool

    network, prop = tmp_path / "net.onnx", tmp_path / "p.vnnlib"
    network.write_bytes(toy_networks.absolute_sum())
    prop.write_text(write_robustness_query(np.full(2, 0.5, np.float32), np.ones(2, np.float32), 1, (1, 2), (1, 2)))
    job = Job("k", Instance(network, prop, 60.0), "net", 0, Limits(60.0))
    ((_, answer),) = make_tool(installed("marabou"), ToolOptions(tmp_path / "logs")).decide([job])
    assert Judge().replay_text(job, answer.witness_text).check.verdict is WitnessVerdict.CORRECT
