"""Records at the root: which inputs are asked what, that the engine leaves the second question open, and failures."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tiny_benchmark import INPUTS, make_benchmark

from harness.data.datasets import load_images
from harness.data.images import ImageSet
from harness.domain import EngineRecord, Job, LgBenchError, ToolAnswer, UsageError, Verdict
from harness.formats.onnx_file import open_session, run_flat
from harness.formats.vnnlib import read_property
from harness.tools.builtin import BuiltinTool
from harness.tools.contract import Answered
from harness.workflow.root_bounds import Ball, root_records

EPS = 2 / 255
RIGHT = INPUTS - 1  # the network of `make_benchmark` gets image 1 wrong


class Recorder:
    """Answers every job in reverse order, and remembers them."""

    name = "recorder"
    batched = True

    def __init__(self, verdict: Verdict = Verdict.UNKNOWN, unstable: dict[str, Any] | None = None) -> None:
        self.verdict, self.unstable, self.jobs = verdict, unstable, list[Job]()
        self.properties: list[Any] = []

    def identity(self) -> str:
        return "recorder"

    def decide(self, jobs: Sequence[Job]) -> Iterator[Answered]:
        self.jobs = list(jobs)
        self.properties = [read_property(job.instance.property, 3072, 10) for job in jobs]
        for job in reversed(jobs):
            record = EngineRecord(domains=job.index, unstable=self.unstable, entered_bab=True)
            yield Answered(job, ToolAnswer(self.verdict, 0.1, 0.1, message="as told", record=record))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = make_benchmark(tmp_path_factory.mktemp("tiny"))
    return spec.network_path("base")


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return load_images("cifar10", "test", count=INPUTS)


def test_only_right_inputs_are_asked_and_records_keep_their_order(
    network: Path, images: ImageSet, tmp_path: Path
) -> None:
    tool, told = Recorder(), list[tuple[int, int]]()
    records = root_records(network, images, Ball(EPS, 10), tool, tmp_path, progress=lambda *at: told.append(at))
    assert [record.domains for record in records] == [0, *range(2, INPUTS)]
    assert all(job.limits.max_domains == 0 for job in tool.jobs)
    assert [len(prop.cases[0].polytopes) for prop in tool.properties] == [9] * RIGHT
    assert told == [(k + 1, RIGHT) for k in range(RIGHT)]


def test_floats_are_taken_as_they_are(network: Path, images: ImageSet, tmp_path: Path) -> None:
    floats = ImageSet(images.images.astype(np.float32) / np.float32(255), images.labels)
    tools = Recorder(), Recorder()
    for tool, part, name in zip(tools, (images, floats), "ab", strict=True):
        root_records(network, part, Ball(EPS, 10), tool, tmp_path / name)
    assert [job.key for job in tools[0].jobs] == [job.key for job in tools[1].jobs]


def test_the_other_question_is_contradictory_and_attained_half_by_half(
    network: Path, images: ImageSet, tmp_path: Path
) -> None:
    tool = Recorder(unstable={"relu1": np.zeros(64, np.bool_)})
    root_records(network, images, Ball(EPS, 10), tool, tmp_path, every_input=True)
    session = open_session(network)
    for job, prop in zip(tool.jobs, tool.properties, strict=True):
        (case,) = prop.cases
        (region,) = case.polytopes
        label = int(images.labels[job.index])
        assert region.coefficients[:, label].tolist() == [1.0, -1.0]
        low, high = region.rhs[0], -region.rhs[1]
        assert np.nextafter(np.float32(low), np.float32(np.inf)) == np.float32(high) == high
        output = run_flat(session, images.images[job.index].ravel().astype(np.float32) / np.float32(255))
        assert output[label] == low


def crossing(network: Path, images: ImageSet) -> NDArray[np.bool_]:
    """Returns which neurons of the only activation can have either sign in the ball; exact, as no layer is before."""
    model = onnx.load_model_from_string(gzip.decompress(network.read_bytes()))
    kernel = numpy_helper.to_array(model.graph.initializer[0]).astype(np.float64)
    x = (images.images.astype(np.float32) / np.float32(255)).astype(np.float64)
    low, high = np.clip(x - EPS, 0, 1), np.clip(x + EPS, 0, 1)

    def product(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        patches = values.reshape(len(values), 3, 4, 8, 4, 8)
        return np.einsum("nchiwj,kcij->nkhw", patches, weights).reshape(len(values), -1)

    negative, positive = np.minimum(kernel, 0), np.maximum(kernel, 0)
    lower = product(low, positive) + product(high, negative)
    upper = product(high, positive) + product(low, negative)
    return (lower < 0) & (upper > 0)


@pytest.mark.slow
def test_our_engine_gives_the_unstable_neurons_of_every_input(network: Path, images: ImageSet, tmp_path: Path) -> None:
    tool = BuiltinTool(tmp_path, seed=1)
    records = root_records(network, images, Ball(EPS, 10), tool, tmp_path / "all", every_input=True)
    right = [k for k in range(INPUTS) if k != 1]
    assert len(records) == RIGHT
    for record, expected in zip(records, crossing(network, images)[right], strict=True):
        assert record.entered_bab
        assert record.unstable is not None
        assert (record.unstable["relu1"] == expected).all()
    decided = root_records(network, images, Ball(EPS, 10), tool, tmp_path / "open")
    assert any(record.unstable is None for record in decided), "the other question leaves decided inputs out"


@pytest.mark.parametrize("verdict", [Verdict.ERROR, Verdict.TIMEOUT])
def test_a_failing_engine_is_an_error(network: Path, images: ImageSet, tmp_path: Path, verdict: Verdict) -> None:
    with pytest.raises(LgBenchError, match=f"test input 7: the engine answered {verdict}: as told"):
        root_records(network, images, Ball(EPS, 10), Recorder(verdict), tmp_path)


def test_an_input_without_unstable_neurons_recorded_is_an_error(
    network: Path, images: ImageSet, tmp_path: Path
) -> None:
    with pytest.raises(LgBenchError, match="did not say"):
        root_records(network, images, Ball(EPS, 10), Recorder(), tmp_path, every_input=True)


def test_images_of_another_size_are_refused(network: Path, tmp_path: Path) -> None:
    wrong = ImageSet(np.zeros((2, 1, 28, 28), np.uint8), np.zeros(2, np.int64))
    with pytest.raises(UsageError, match="does not take the test inputs"):
        root_records(network, wrong, Ball(EPS, 10), Recorder(), tmp_path)
