"""A benchmark that runs in seconds: real CIFAR-10 images, networks of 64 neurons that fit a few of them by heart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from harness.config import BenchmarkSpec, load_spec
from harness.data.datasets import load_images
from harness.domain import InstanceResult, Job, ResultSet
from harness.formats.compressed import gzip_bytes
from harness.workflow.options import RunPlan

INPUTS = 8
PATCH, CHANNELS = 8, 4

SPEC = """\
name: tiny
title: Tiny networks on CIFAR-10
dataset: cifar10
architecture: tiny
input_shape: [3, 32, 32]
classes: 10
eps: 2/255
seed: 3
baseline: base
protocols:
  full: {inputs: 1000, timeout_s: 180}
  cpu: {inputs: %d, timeout_s: 20}
variants:
  - {name: base, title: Base, network: models/tiny/base.onnx.gz}
  - {name: other, title: Other, network: models/tiny/other.onnx.gz, parent: base}
published:
  - {variant: base, source: a paper, SA: 78.1, VA: 41.5}
"""


class Silent:
    """A reporter that says nothing."""

    def planned(self, plan: RunPlan) -> None: ...
    def step(self, text: str) -> None: ...
    def resumed(self, sets: Mapping[str, Mapping[ResultSet, int]]) -> None: ...
    def working(self, job: Job, stage: str, domains: int) -> None: ...
    def decided(self, result: InstanceResult) -> None: ...


def make_benchmark(root: Path, misclassified: dict[str, set[int]] | None = None) -> BenchmarkSpec:
    """Returns the benchmark `tiny` below `root`: `base` and `other` get the first images right, but for those named."""
    wrong = {"base": {1}, "other": {1, 2}} if misclassified is None else misclassified
    for seed, (name, indices) in enumerate(wrong.items()):
        write_network(root / f"models/tiny/{name}.onnx.gz", seed, indices)
    path = root / "specs/tiny/benchmark.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SPEC % INPUTS)
    return load_spec(path)


def write_network(path: Path, seed: int, wrong: set[int], shape: tuple[int, int, int] = (3, 32, 32)) -> None:
    """Writes a network whose last layer is solved so that it gets the first images right, but for those in `wrong`."""
    rng = np.random.default_rng(seed)
    kernel = rng.normal(0, 0.2, (CHANNELS, shape[0], PATCH, PATCH)).astype(np.float32)
    side = shape[1] // PATCH
    weight = np.zeros((10, CHANNELS * side * side), np.float32)
    if shape == (3, 32, 32):
        weight = _readout(kernel, wrong)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip_bytes(_model(kernel, weight, shape).SerializeToString()))


def _readout(kernel: NDArray[np.float32], wrong: set[int]) -> NDArray[np.float32]:
    images = load_images("cifar10", "test", count=INPUTS)
    x = images.images.astype(np.float32) / 255
    side = 32 // PATCH
    patches = x.reshape(INPUTS, 3, side, PATCH, side, PATCH)
    features = np.maximum(np.einsum("nchiwj,kcij->nkhw", patches, kernel), 0).reshape(INPUTS, -1)
    labels = [int(y) if i not in wrong else (int(y) + 1) % 10 for i, y in enumerate(images.labels)]
    solution, *_ = np.linalg.lstsq(features, np.eye(10, dtype=np.float32)[labels], rcond=None)
    return np.ascontiguousarray(solution.T.astype(np.float32))


def _model(kernel: NDArray[Any], weight: NDArray[Any], shape: tuple[int, int, int]) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["a"], strides=[PATCH, PATCH], name="conv1"),
        helper.make_node("Relu", ["a"], ["b"], name="relu1"),
        helper.make_node("Flatten", ["b"], ["c"], name="flatten"),
        helper.make_node("Gemm", ["c", "weight", "bias"], ["output"], transB=1, name="fc1"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, *shape])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 10])],
        [
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.zeros(10, np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
