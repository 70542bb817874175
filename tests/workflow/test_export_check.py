"""The check of benchmark folders: ours and public ones pass; each thing that can be wrong is named with its line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tiny_benchmark import INPUTS, make_benchmark

from harness.domain import UsageError
from harness.formats.vnnlib import robustness_box, write_robustness_property
from harness.formats.vnnlib2_writer import write_difference_query, write_robustness_query
from harness.workflow.export import ExportOptions, export_benchmark
from harness.workflow.export_check import check_folder
from harness.workflow.export_generate import silent

LOWER, UPPER = robustness_box(np.full(4, 0.5, np.float32), 0.25)


def network(path: Path, factor: float = 1.0) -> None:
    graph = helper.make_graph(
        [helper.make_node("Slice", ["x", "zero", "two", "one"], ["s"]), helper.make_node("Mul", ["s", "f"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [
            helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
            helper.make_tensor("two", TensorProto.INT64, [1], [2]),
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("f", TensorProto.FLOAT, [1], [factor]),
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two instances in both versions, and a third of two networks in neither."""
    root = tmp_path / "set"
    for version in ("1.0", "2.0"):
        place = root / version
        network(place / "onnx/a.onnx")
        network(place / "onnx/b.onnx", -1.0)
        (place / "vnnlib").mkdir()
        (place / "vnnlib/p.vnnlib").write_text(
            write_robustness_property(LOWER, UPPER, 0, 2)
            if version == "1.0"
            else write_robustness_query(LOWER, UPPER, 0, (1, 4), (1, 2))
        )
        (place / "instances.csv").write_text("onnx/a.onnx,vnnlib/p.vnnlib,5\nonnx/b.onnx,vnnlib/p.vnnlib,5\n")
    return root


def problems(folder: Path, valid: tuple[float, float] | None = None) -> list[str]:
    return [str(problem).replace(f"{folder}/", "") for problem in check_folder(folder, valid).problems]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_good_folder_has_no_problems(folder: Path) -> None:
    report = check_folder(folder)
    assert not report.problems
    assert (report.versions, report.instances, report.properties, report.networks) == (["1.0", "2.0"], 4, 2, 4)
    assert report.timeout_sum_s == 10.0
    assert any("valid range" in note for note in report.notes)


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("1.0/instances.csv", "p.vnnlib,5\n", "p.vnnlib\n", "1.0/instances.csv:1: 2 columns"),
        ("1.0/instances.csv", ",5\n", ",-5\n", "1.0/instances.csv:1: the time limit '-5'"),
        ("1.0/instances.csv", ",5\n", ",6\n", "2.0/instances.csv:1: another time limit than at"),
        ("1.0/instances.csv", "onnx/b.onnx", "onnx/c.onnx", "1.0/instances.csv:2: 'onnx/c.onnx' is no file"),
        ("1.0/instances.csv", "onnx/b.onnx", "onnx/a.onnx", "1.0/instances.csv:2: the same network and property"),
        ("1.0/instances.csv", "onnx/b.onnx", "onnx/onnx/b.onnx", "1.0/instances.csv:2: 'onnx/onnx/b.onnx' is not"),
        ("2.0/instances.csv", "onnx/a.onnx", "onnx/a.onnx.gz", "2.0/instances.csv:1: 'onnx/a.onnx.gz' does not end in"),
        ("2.0/instances.csv", "vnnlib/p", "../p", "2.0/instances.csv:1: '../p.vnnlib' does not lie in"),
        ("1.0/vnnlib/p.vnnlib", "(<= X_2 0.75)", "(<= X_2)", "1.0/vnnlib/p.vnnlib:12: column 16: a side of"),
        ("1.0/vnnlib/p.vnnlib", "(<= X_2 0.75)", "(<= X_2 0.125)", "1.0/vnnlib/p.vnnlib:11: X_2: an empty box"),
        ("1.0/vnnlib/p.vnnlib", "(assert (<= X_2 0.75))\n", "", "1.0/vnnlib/p.vnnlib:3: column 16: X_2 has no finite"),
        ("2.0/vnnlib/p.vnnlib", "X[0,2] 0.75", "X[0,2] 1e-1", "2.0/vnnlib/p.vnnlib:11: column 21: 'e' is not"),
        ("2.0/vnnlib/p.vnnlib", "X[0,2] 0.75", "X[0,2] 75", "2.0/vnnlib/p.vnnlib:11: column 20: Type mismatch"),
        ("2.0/vnnlib/p.vnnlib", "X float32", "X float64", "2.0/vnnlib/p.vnnlib:1: declares input X as float64"),
        ("2.0/vnnlib/p.vnnlib", "Y float32 [1,2]", "Y float32 [1,2,1]", "2.0/vnnlib/p.vnnlib:15: column 7: Not enough"),
        ("2.0/vnnlib/p.vnnlib", "Y float32 [1,2]", "Y float32 [1,3]", "2.0/vnnlib/p.vnnlib:1: declares output Y of"),
        ("1.0/onnx/b.onnx", "", "", "1.0/instances.csv:2: "),
    ],
)  # fmt: skip
def test_each_thing_that_is_wrong_is_named(folder: Path, file: str, old: str, new: str, expected: str) -> None:
    if file.endswith(".onnx"):
        (folder / file).write_bytes(b"no model")
        expected += "1.0/onnx/b.onnx: not an ONNX model"
    else:
        edit(folder / file, old, new)
    found = problems(folder)
    assert any(line.startswith(expected) for line in found), found


def test_boxes_have_to_lie_in_the_valid_range(folder: Path) -> None:
    edit(folder / "1.0/vnnlib/p.vnnlib", "(<= X_3 0.75)", "(<= X_3 1.5)")
    edit(folder / "2.0/vnnlib/p.vnnlib", "(>= X[0,1] 0.25)", "(>= X[0,1] -0.5)")
    assert problems(folder) == []
    assert problems(folder, (0.0, 1.0)) == [
        "1.0/vnnlib/p.vnnlib:14: X_3: a bound outside the valid range [0, 1]: [0.25, 1.5]",
        "2.0/vnnlib/p.vnnlib:8: X[0,1]: a bound outside the valid range [0, 1]: [-0.5, 0.75]",
    ]


def test_all_problems_are_found_at_once(folder: Path) -> None:
    edit(folder / "1.0/vnnlib/p.vnnlib", "(<= X_2 0.75)", "(<= X_2)")
    edit(folder / "2.0/vnnlib/p.vnnlib", "X float32", "X float64")
    (folder / "2.0/onnx/b.onnx").unlink()
    # Of the two rows each thing is said once, and the type of X is wrong for the network that is there.
    files = [line.split(":")[0] for line in problems(folder)]
    assert files == ["1.0/vnnlib/p.vnnlib", "2.0/vnnlib/p.vnnlib", "2.0/instances.csv"]


def test_versions_belong_into_their_folders(folder: Path) -> None:
    shutil.copy(folder / "1.0/vnnlib/p.vnnlib", folder / "2.0/vnnlib/p.vnnlib")
    assert problems(folder) == ["2.0/vnnlib/p.vnnlib:1: a VNN-LIB 1.0 property in the folder of 2.0"]


def test_both_versions_have_one_order(folder: Path) -> None:
    path = folder / "2.0/instances.csv"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    assert [line[:27] for line in problems(folder)] == ["2.0/instances.csv:1: anothe"]
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    assert problems(folder) == ["2.0/instances.csv:1: 1 instances, but 1.0/instances.csv lists 2"]


def test_properties_of_one_name_collide(folder: Path) -> None:
    shutil.rmtree(folder / "2.0")
    (folder / "1.0/vnnlib/sub").mkdir()
    shutil.copy(folder / "1.0/vnnlib/p.vnnlib", folder / "1.0/vnnlib/sub/p.vnnlib")
    edit(folder / "1.0/instances.csv", "onnx/b.onnx,vnnlib/p", "onnx/b.onnx,./vnnlib/sub/p")
    (line,) = problems(folder)
    assert line.startswith("1.0/instances.csv:2: './vnnlib/sub/p.vnnlib' has the name of 'vnnlib/p.vnnlib'")


def pair(folder: Path, names: tuple[str, str], text: str) -> Path:
    shutil.rmtree(folder / "1.0")
    (folder / "2.0/vnnlib/p.vnnlib").write_text(text)
    (folder / "2.0/instances.csv").write_text(
        f"\"[('{names[0]}', 'onnx/a.onnx'), ('{names[1]}', 'onnx/b.onnx')]\",./vnnlib/p.vnnlib,5\n"
    )
    return folder


@pytest.mark.parametrize("quote", ["'", '""'])
def test_two_networks(folder: Path, quote: str) -> None:
    pair(folder, ("base", "graft"), write_difference_query(LOWER, UPPER, 0.5, (1, 4), (1, 2)))
    path = folder / "2.0/instances.csv"
    path.write_text(path.read_text().replace("'", quote))
    report = check_folder(folder, (0.0, 1.0))
    assert not report.problems
    assert report.networks == 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.replace("B float32 [1,4]", "B float32 [1,5]"), "2.0/vnnlib/p.vnnlib:7: column 4: B[0,4] has no"),
        (lambda t: t.replace("(assert (== B[0,2] A[0,2]))\n", ""), "2.0/vnnlib/p.vnnlib:7: column 4: B[0,2] has no"),
        (lambda t: t.replace("(>= A[0,2] 0.25)", "(>= A[0,2] -0.25)"), "2.0/vnnlib/p.vnnlib:14: A[0,2]: a bound"),
        (lambda t: t.replace("graft", "other"), "2.0/instances.csv:1: no file is listed for the network 'other'"),
        (lambda t: t.replace("declare-input B float32", "declare-input B real"), "2.0/vnnlib/p.vnnlib:"),
    ],
)  # fmt: skip
def test_two_networks_with_a_mistake(folder: Path, change: Callable[[str], str], expected: str) -> None:
    text = write_difference_query(LOWER, UPPER, 0.5, (1, 4), (1, 2))
    assert change(text) != text
    found = problems(pair(folder, ("base", "graft"), change(text)), (0.0, 1.0))
    assert any(line.startswith(expected) for line in found), found


def test_what_we_export_is_well_formed(tmp_path: Path) -> None:
    spec = make_benchmark(tmp_path / "b")
    for two in (False, True):
        out = tmp_path / f"out{two}"
        export_benchmark(spec, ExportOptions(out, inputs=INPUTS, instances=4, gzip=two, two_network=two), silent)
        report = check_folder(out)
        assert report.problems == []
        assert not report.notes
    # Our own folder says what its inputs may be.
    edit(tmp_path / "outFalse/data/benchmark.json", "1.0\n", "0.25\n")
    assert check_folder(tmp_path / "outFalse").problems


@pytest.mark.parametrize("name", ["acasxu", "mnistfc", "oval21", "sdp_cifar_cnn_a"])
def test_public_sets_are_well_formed(shared_dir: Path, tmp_path: Path, name: str) -> None:
    source = shared_dir / "vnncomp_cases" / name
    rows = (source / "instances.csv").read_text().splitlines(keepends=True)
    for part in ("onnx", "vnnlib"):
        (tmp_path / part).symlink_to(source / part)
    (tmp_path / "instances.csv").write_text("".join(rows[:: len(rows) // 5]))
    report = check_folder(tmp_path)
    assert report.problems == []
    assert report.versions == ["flat"]


def test_a_folder_without_a_list_is_no_benchmark(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no benchmark"):
        check_folder(tmp_path)


def test_a_list_is_missing_beside_another(folder: Path) -> None:
    (folder / "2.0/instances.csv").unlink()
    assert problems(folder) == ["2.0: there is no instances.csv in it"]


def test_more_than_six_hours_is_a_note(folder: Path) -> None:
    for version in ("1.0", "2.0"):
        edit(folder / version / "instances.csv", ",5\n", ",21600\n")
    report = check_folder(folder)
    assert not report.problems
    assert any("21605 s" in note for note in report.notes)
