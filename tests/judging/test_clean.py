from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import identity_job, linear, linear_model

from harness.domain import ResultSet, Stage, Verdict, WitnessVerdict, result_set
from harness.judging.clean import clean_labels, clean_outputs, clean_result
from harness.judging.judge import Judge


def test_labels_are_those_of_the_largest_output_and_the_first_of_equals() -> None:
    images = np.array([[0.2, 0.8], [0.8, 0.2], [0.5, 0.5]], np.float32)
    labels = clean_labels(linear(np.eye(2)), images)
    assert labels.tolist() == [1, 0, 0]
    assert labels.dtype == np.int64


def test_outputs_come_one_row_an_image_in_the_networks_type(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(linear_model([[1, 2], [3, 4], [5, 6]], dtype=np.float64))
    outputs = clean_outputs(path, np.array([[1, 0], [0, 1]], np.float32))
    assert outputs.tolist() == [[1, 3, 5], [2, 4, 6]]
    assert outputs.dtype == np.float64


def test_no_images_give_no_labels() -> None:
    assert clean_labels(linear(np.eye(2)), np.empty((0, 2), np.float32)).shape == (0,)


def test_images_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="takes 2 values"):
        clean_labels(linear(np.eye(2)), np.zeros((1, 3), np.float32))


def test_a_misclassified_input_is_its_own_counterexample(tmp_path: Path) -> None:
    x = np.array([0.2, 0.8], np.float32)  # the property belongs to label 0
    result = clean_result(identity_job(tmp_path), x, None, Judge())
    assert (result.verdict, result.tool_verdict, result.stage) == (Verdict.SAT, None, Stage.CLEAN)
    assert result_set(result.verdict, result.stage) is ResultSet.SK
    assert result.witness is not None
    assert result.witness.verdict is WitnessVerdict.CORRECT
    assert result.counterexample is not None
    np.testing.assert_array_equal(result.counterexample.y, x)
    assert (result.wall_s, result.work_s, result.message) == (0.0, 0.0, "")


def test_a_property_of_another_label_is_an_error_and_not_skipped(tmp_path: Path) -> None:
    x = np.array([0.8, 0.2], np.float32)
    result = clean_result(identity_job(tmp_path), x, x, Judge())
    assert (result.verdict, result.stage) == (Verdict.ERROR, None)
    assert result_set(result.verdict, result.stage) is ResultSet.VF
    assert "spec_not_violated" in result.message
