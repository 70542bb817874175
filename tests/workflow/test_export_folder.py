"""A benchmark as VNN-COMP takes it: what is in the folder, and that the shipped script makes the same again."""

from __future__ import annotations

import ast
import csv
import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import vnnlib
from tiny_benchmark import INPUTS, make_benchmark

from harness.config import BenchmarkSpec
from harness.domain import UsageError
from harness.formats.compressed import read_text
from harness.formats.instances import read_list
from harness.formats.vnnlib import parse_property
from harness.workflow import export_generate
from harness.workflow.export import Exported, ExportOptions, export_benchmark, generator_source
from harness.workflow.export_generate import draw, load_inputs, silent

RIGHT = {0, 3, 4, 5, 6, 7}
"""What both tiny networks get right of the images that are asked for."""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkSpec:
    return make_benchmark(tmp_path_factory.mktemp("benchmark"))


def exported(spec: BenchmarkSpec, out: Path, **wishes: object) -> Exported:
    return export_benchmark(spec, ExportOptions(out, **{"inputs": INPUTS, **wishes}), silent)  # type: ignore[arg-type]


def listed(folder: Path) -> list[list[str]]:
    return list(csv.reader((folder / "instances.csv").read_text().splitlines()))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_both_versions_list_the_same_drawn_instances(spec: BenchmarkSpec, tmp_path: Path) -> None:
    done = exported(spec, tmp_path / "out", instances=5)
    assert (done.instances, done.timeout_sum_s, done.seed) == (5, 900.0, 3)
    first, second = (listed(tmp_path / "out" / version) for version in ("1.0", "2.0"))
    assert first == second
    assert [row[0] for row in first] == ["onnx/base.onnx"] * 3 + ["onnx/other.onnx"] * 2
    assert {row[2] for row in first} == {"180"}
    drawn = [int(row[1][-12:-7]) for row in first]
    assert set(drawn) <= RIGHT
    assert drawn[:3] == sorted(drawn[:3])
    assert set(drawn[3:]) < set(drawn[:3])
    for version in ("1.0", "2.0"):
        for row in read_list(tmp_path / "out" / version / "instances.csv"):
            assert not row.problem
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "1.0", "2.0", "README.md", "data", "generate_properties.py", "requirements.txt",
    }  # fmt: skip


def test_both_versions_of_a_property_say_the_same(spec: BenchmarkSpec, tmp_path: Path) -> None:
    exported(spec, tmp_path / "out", instances=2)
    name = listed(tmp_path / "out/1.0")[0][1]
    first, second = (parse_property(read_text(tmp_path / f"out/{v}" / name), v).cases[0] for v in ("1.0", "2.0"))
    assert np.array_equal(first.box.lower, second.box.lower)
    assert np.array_equal(first.box.upper, second.box.upper)
    for p, q in zip(first.polytopes, second.polytopes, strict=True):
        assert np.array_equal(p.coefficients, q.coefficients)


def test_without_wishes_it_is_six_hours_or_all_there_is(spec: BenchmarkSpec, tmp_path: Path) -> None:
    assert exported(spec, tmp_path / "few").instances == 2 * len(RIGHT)
    assert exported(spec, tmp_path / "limit", timeout_s=4000.0).instances == 5
    assert exported(spec, tmp_path / "all", timeout_s=4000.0, every=True).instances == 2 * len(RIGHT)


def test_the_seed_draws(spec: BenchmarkSpec, tmp_path: Path) -> None:
    rows = []
    for name, seed in (("a", 1), ("b", 2), ("c", 1)):
        exported(spec, tmp_path / name, instances=4, seed=seed)
        rows.append(listed(tmp_path / name / "2.0"))
    assert rows[0] == rows[2]
    assert rows[0] != rows[1]


def test_a_draw_depends_on_seed_and_number_only() -> None:
    assert draw(range(100), 7, 3) == draw(range(100), 7, 100)[:3]
    kept = [index for index in draw(range(100), 7, 100) if index % 2]
    assert kept == draw(range(1, 100, 2), 7, 100)
    # A fixed value: another order would re-sample every published benchmark.
    assert draw(range(10), 1, 10) == [7, 4, 8, 6, 5, 2, 3, 0, 9, 1]


@pytest.mark.parametrize("zipped", [False, True])
def test_the_shipped_script_stands_alone_and_makes_the_same(spec: BenchmarkSpec, tmp_path: Path, zipped: bool) -> None:
    out = tmp_path / "out"
    exported(spec, out, instances=4, gzip=zipped)
    before = contents(out)
    assert any(name.endswith(".vnnlib.gz") for name in before) == zipped
    run_script(out, "3")
    assert contents(out) == before
    run_script(out, "4")
    after = contents(out)
    assert after != before
    assert {name for name in after if "/vnnlib/" in name} != {name for name in before if "/vnnlib/" in name}
    for row in read_list(out / "2.0/instances.csv"):
        assert not row.problem


def run_script(folder: Path, *arguments: str) -> str:
    """Runs the script where the package cannot be imported."""
    probe = "import sys; sys.modules['harness'] = None; import runpy; sys.argv = sys.argv[1:]; "
    command = [sys.executable, "-I", "-c", probe + "runpy.run_path(sys.argv[0], run_name='__main__')"]
    done = subprocess.run(
        [*command, str(folder / "generate_properties.py"), *arguments],
        cwd=folder, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_serves_a_flat_folder_and_other_data(spec: BenchmarkSpec, tmp_path: Path) -> None:
    exported(spec, tmp_path / "out", instances=4)
    flat = tmp_path / "flat"
    shutil.copytree(tmp_path / "out/1.0", flat)
    shutil.copytree(tmp_path / "out/data", flat / "data")
    shutil.copy(tmp_path / "out/generate_properties.py", flat)
    images, labels = load_inputs(flat / "data/inputs.npz", (3, 32, 32))
    # The same images as floats, channels last, and only those from number 4 on.
    np.savez(tmp_path / "mine.npz", images=np.moveaxis(images.reshape(-1, 3, 32, 32), 1, -1)[4:], labels=labels[4:])
    said = run_script(flat, "9", "--all", "--data", str(tmp_path / "mine.npz"))
    assert said == "8 instances\n"
    rows = read_list(flat / "instances.csv")
    assert len(rows) == 8
    first = read_text(rows[0].instance.property)
    assert "declare-const X_0 Real" in first
    assert not any(name in generator_source() for name in ("from harness", "import harness"))


def test_the_script_asks_for_no_python_after_3_9() -> None:
    tree = ast.parse(generator_source(), feature_version=(3, 9))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "zip"]
    assert not [ast.unparse(call) for call in calls if call.keywords], "zip takes no keywords there"


def test_two_networks_are_compared_in_2_only(spec: BenchmarkSpec, tmp_path: Path) -> None:
    done = exported(spec, tmp_path / "out", instances=4, two_network=True, delta=0.25)
    assert done.versions == ("2.0",)
    assert not (tmp_path / "out/1.0").exists()
    assert "Copied into `2.0/` together" in (tmp_path / "out/README.md").read_text()
    rows = listed(tmp_path / "out/2.0")
    assert {row[0] for row in rows} == {"[('base', 'onnx/base.onnx'), ('graft', 'onnx/other.onnx')]"}
    kinds = [row[1].removeprefix("vnnlib/").split("_")[0] for row in rows]
    assert kinds == ["difference"] * 2 + ["regression"] * 2
    for row in rows:
        query = vnnlib.parse_query_file(str(tmp_path / "out/2.0" / row[1]))
        assert [network.name for network in query.networks] == ["base", "graft"]
    assert " 0.25)" in read_text(tmp_path / "out/2.0" / rows[0][1])


@pytest.mark.parametrize(
    ("wishes", "what"),
    [
        ({"instances": 121}, "more than VNN-COMP's six hours"),
        ({"timeout_s": 0.0}, "a time limit is a positive number"),
        ({"timeout_s": float("inf")}, "a time limit is a positive number"),
        ({"timeout_s": 30_000.0}, "one instance is more than"),
        ({"two_network": True, "delta": 0.0}, "--delta 0.0"),
        ({"two_network": True, "variants": ("other",)}, "compares base with others"),
        ({"variants": ("none",)}, "has no variant 'none'"),
        ({"variants": ()}, "names none"),
    ],
)
def test_bad_wishes_leave_nothing(spec: BenchmarkSpec, tmp_path: Path, wishes: dict[str, object], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        exported(spec, tmp_path / "out", **wishes)
    assert not list(tmp_path.iterdir())


def test_a_filled_folder_is_not_touched_and_an_empty_one_is_taken(spec: BenchmarkSpec, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UsageError, match="not an empty folder"):
        exported(spec, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    assert exported(spec, tmp_path / "empty", instances=1).instances == 1


def test_where_no_input_is_right_nothing_is_left(tmp_path: Path) -> None:
    spec = make_benchmark(tmp_path / "b", {"base": set(range(INPUTS)), "other": set()})
    with pytest.raises(UsageError, match="no input is classified rightly"):
        exported(spec, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_an_interrupted_export_leaves_nothing(spec: BenchmarkSpec, tmp_path: Path) -> None:
    def stop(what: str, _done: int, _total: int) -> None:
        if what.startswith("writing"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_benchmark(spec, ExportOptions(tmp_path / "out", inputs=INPUTS), stop)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_script_leaves_the_old_instances(spec: BenchmarkSpec, tmp_path: Path) -> None:
    exported(spec, tmp_path / "out", instances=4)
    before = contents(tmp_path / "out")

    def stop(_what: str, done: int, _total: int) -> None:
        if _what.startswith("writing") and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_generate.generate(tmp_path / "out", 8, on_progress=stop)
    after = contents(tmp_path / "out")
    assert {name: after[name] for name in before} == before


def test_gzipped_files_hold_what_the_plain_ones_do(spec: BenchmarkSpec, tmp_path: Path) -> None:
    exported(spec, tmp_path / "plain", instances=2)
    exported(spec, tmp_path / "zipped", instances=2, gzip=True)
    plain = {n: d for n, d in contents(tmp_path / "plain").items() if n.endswith((".onnx", ".vnnlib", ".csv"))}
    zipped = contents(tmp_path / "zipped")
    assert {name.rpartition(".")[2] for name in plain} == {"onnx", "vnnlib", "csv"}
    for name, data in plain.items():
        assert (zipped[name] if name.endswith(".csv") else gzip.decompress(zipped[f"{name}.gz"])) == data


def test_inputs_of_another_form_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for arrays, what in (
        ({"images": np.zeros((2, 3))}, "has no arrays"),
        ({"images": np.zeros((2, 3)), "labels": np.zeros(2)}, "not of shape"),
        ({"images": np.full((2, 1, 2, 2), 1.5), "labels": np.zeros(2)}, "neither bytes nor"),
        ({"images": np.zeros((2, 1, 2, 2)), "labels": np.zeros(3)}, "not of shape"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=what):
            load_inputs(path, (1, 2, 2))
