"""Counterexamples shown to another network, on networks so small that every class is known by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.analysis.summary import RunHeader
from harness.cli.main import main
from harness.domain import Counterexample, Instance, InstanceResult, Job, Limits, Stage, UsageError, Verdict
from harness.files import sha256_bytes
from harness.formats.compressed import gzip_bytes
from harness.formats.vnnlib import parse_property, robustness_box, write_robustness_property
from harness.report.source import HEADER_META
from harness.run.store import Store
from harness.workflow.transfer import clean_input, leave_transfers, measure_transfers, robust_label

EPS = 0.08
LABEL = 0
WEIGHTS = {
    # y = (x0, x1, 0), and y = (x0, x1 + 0.3 x2 - 0.15, x3)
    "a": (np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]), np.zeros(3)),
    "b": (np.array([[1, 0, 0, 0], [0, 1, 0.3, 0], [0, 0, 0, 1]]), np.array([0, -0.15, 0])),
}
# Unperturbed inputs, and what `a` takes for class 1.
INPUTS = {
    "attack_fails": ((0.6, 0.5, 0.0, 0.0), (0.55, 0.56, 0.0, 0.0)),
    "clean_misclassified": ((0.6, 0.5, 1.0, 0.0), (0.55, 0.56, 1.0, 0.0)),
    "attack_works_same_class": ((0.6, 0.5, 0.5, 0.0), (0.55, 0.56, 0.5, 0.0)),
    "attack_works_other_class": ((0.6, 0.5, 0.0, 0.58), (0.55, 0.56, 0.0, 0.6)),
}


def network(name: str) -> bytes:
    weight, bias = WEIGHTS[name]
    tensors = [
        numpy_helper.from_array(weight.astype(np.float32), "w"),
        numpy_helper.from_array(bias.astype(np.float32), "c"),
    ]
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "c"], ["y"], transB=1)],
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def outputs(name: str, x: tuple[float, ...]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    weight, bias = WEIGHTS[name]
    return (weight @ np.array(x) + bias).astype(np.float32)


def shown(name: str, x: tuple[float, ...]) -> Counterexample:
    return Counterexample(np.array(x, np.float32), outputs(name, x))


def job_of(name: str, index: int, network_sha256: str, property_sha256: str) -> Job:
    onnx_name, prop = f"onnx/{name}.onnx", f"vnnlib/p{index}.vnnlib"
    instance = Instance(Path(onnx_name), Path(prop), 5.0, onnx_name, prop)
    return Job(f"{name}{index}", instance, name, index, Limits(5.0), network_sha256, property_sha256)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that writes a run: all inputs attacked under `a`; under `b` as told, by input."""

    def make(of_b: dict[int, tuple[Verdict, Stage | None]]) -> Path:
        folder = tmp_path / f"run{len(of_b)}"
        sha = {}
        for name in WEIGHTS:
            path = folder / f"benchmark/onnx/{name}.onnx.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip_bytes(network(name)))
            sha[name] = sha256_bytes(network(name))
        with Store.open(folder / "results.db", create=True) as store:
            header = RunHeader("hand", ("a", "b"), len(INPUTS), 5.0, "CPU", eps=EPS, baseline="a")
            store.meta[HEADER_META] = header.to_json()
            for index, (x, adversarial) in enumerate(INPUTS.values()):
                box = robustness_box(np.array(x, np.float32), EPS)
                text = write_robustness_property(*box, LABEL, 3).encode()
                prop = f"vnnlib/p{index}.vnnlib"
                (folder / "benchmark/vnnlib").mkdir(exist_ok=True)
                (folder / f"benchmark/{prop}.gz").write_bytes(gzip_bytes(text))

                def add(name: str, verdict: Verdict, stage: Stage | None, point: Counterexample | None) -> None:
                    job = job_of(name, index, sha[name], sha256_bytes(text))  # noqa: B023 - called at once
                    result = InstanceResult(job, verdict, verdict, stage, 1.0, 1.0, counterexample=point)
                    store.add(result, tool="dummy")

                add("a", Verdict.SAT, Stage.ATTACK, shown("a", adversarial))
                if index in of_b:
                    verdict, stage = of_b[index]
                    add("b", verdict, stage, shown("b", x) if stage is Stage.CLEAN else None)
        return folder

    return make


OF_B = {
    0: (Verdict.TIMEOUT, None),
    1: (Verdict.SAT, Stage.CLEAN),
    3: (Verdict.UNKNOWN, None),
}


def test_each_example_falls_into_the_class_that_it_was_made_for(make_run: Callable[..., Path]) -> None:
    there, back = measure_transfers(make_run(OF_B))
    assert [one.outcome.value for one in there.examples] == list(INPUTS)
    assert [one.target for one in there.examples] == [1, 1, 1, 1]
    assert [one.adversarial for one in there.examples] == [0, 1, 1, 2]
    assert (there.source, there.target, back.source, back.target) == ("a", "b", "b", "a")
    assert there.without_record == (2,)
    assert back.examples == ()


def test_without_any_result_of_the_other_its_network_is_not_known_and_nothing_is_dropped(
    make_run: Callable[..., Path],
) -> None:
    (there,) = measure_transfers(make_run({}), [("a", "b")])
    assert there.examples == ()
    assert there.left_out is not None
    assert sorted(there.left_out) == [0, 1, 2, 3]


def test_an_unperturbed_input_without_a_result_is_classified_anew(make_run: Callable[..., Path]) -> None:
    known = measure_transfers(make_run(OF_B))[0]
    anew = measure_transfers(make_run({0: OF_B[0]}))[0]
    assert anew.without_record == (1, 2, 3)
    assert [one.to_json() for one in anew.examples] == [one.to_json() for one in known.examples]


def test_a_network_or_property_that_changed_since_the_run_is_refused(make_run: Callable[..., Path]) -> None:
    folder = make_run(OF_B)
    prop = folder / "benchmark/vnnlib/p2.vnnlib.gz"
    kept = prop.read_bytes()
    prop.write_bytes(gzip_bytes(b"(declare-const X_0 Real)\n"))
    with pytest.raises(UsageError, match=r"p2.*changed since the run"):
        measure_transfers(folder)
    prop.write_bytes(kept)
    (folder / "benchmark/onnx/b.onnx.gz").write_bytes(gzip_bytes(network("a")))
    with pytest.raises(UsageError, match=r"b\.onnx.*changed since the run"):
        measure_transfers(folder)


def test_the_label_is_read_from_a_robustness_property_only() -> None:
    box = robustness_box(np.array([0.5], np.float32), 0.1)
    assert robust_label(parse_property(write_robustness_property(*box, 2, 4), "p")) == 2
    text = (
        "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n"
        "(assert (>= X_0 0))\n(assert (<= X_0 1))\n"
    )
    for wanted in ("(assert (<= Y_0 0.5))", "(assert (<= Y_0 Y_1))\n(assert (<= Y_1 3))"):
        assert robust_label(parse_property(f"{text}{wanted}\n", "p")) is None


@pytest.mark.parametrize("eps", [2 / 255, 0.1])
def test_every_byte_comes_back_from_its_box(eps: float) -> None:
    x = np.arange(256, dtype=np.float32) / np.float32(255)
    lower, upper = robustness_box(x, eps)
    text = write_robustness_property(lower, upper, 0, 2)
    box = parse_property(text, "p").cases[0].box
    assert clean_input(box, eps).dtype == np.float32
    assert np.array_equal(clean_input(box, eps), x)
    assert np.array_equal(clean_input(box, None), x)


def test_the_command_prints_both_directions_and_writes_what_is_asked(
    make_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = make_run(OF_B), tmp_path / "t.json"
    assert main(["transfer", str(folder), "--from", "a", "--to", "b", "--json", "--out", str(out)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [(one["from"], one["to"], one["count"]) for one in said["transfers"]] == [("a", "b", 4), ("b", "a", 0)]
    assert json.loads(out.read_text()) == said
    assert not (folder / "transfer.json").exists()
    assert main(["transfer", str(folder)]) == 0
    assert json.loads((folder / "transfer.json").read_text()) == said
    assert "Of 4 counterexamples of a, 2 also fool b (1 into the same class)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--from", "a"], "belong together"),
        (["--from", "a", "--to", "a"], "name two networks"),
        (["--from", "a", "--to", "c"], "has no network 'c'; it has a, b"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main(["transfer", str(make_run(OF_B)), *options]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1


def test_a_folder_without_a_run_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transfer", str(tmp_path)]) == 2
    assert "no results there" in capsys.readouterr().err


def test_earlier_pairs_stay_while_their_examples_are_the_runs(make_run: Callable[..., Path]) -> None:
    folder = make_run(OF_B)
    there, back = measure_transfers(folder)
    leave_transfers(folder, [there])
    path = leave_transfers(folder, [back])
    assert [one["from"] for one in json.loads(path.read_text())["transfers"]] == ["a", "b"]
    leave_transfers(folder, [replace(there, examples=there.examples[1:])])
    path = leave_transfers(folder, [back])
    assert [one["from"] for one in json.loads(path.read_text())["transfers"]] == ["b"]
    path.write_text("no JSON")
    assert json.loads(leave_transfers(folder, [there]).read_text())["schema"] == 1
