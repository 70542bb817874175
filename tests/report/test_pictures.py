"""Images of inputs: the right ones, and differences that can be drawn again."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.data.datasets import load_images
from harness.report.pictures import LEVELS, find_pictures, packed, pictures_json, sprite

SUMMARY: dict[str, Any] = {"benchmark": "cifar10_cnnb", "eps": 2 / 255}
IMAGES = load_images("cifar10", "test", None, 8)


def attack(index: int, radius: float = 2 / 255) -> np.ndarray[Any, Any]:
    x = IMAGES.images[index].ravel() / 255.0
    return (x + radius * np.where(np.arange(x.size) % 2, 1, -1)).astype(np.float32)


def test_each_image_stands_in_its_place_of_the_sprite() -> None:
    address, columns = sprite(np.asarray(IMAGES.images, np.uint8))
    kind, data = address.split(",")
    assert kind == "data:image/png;base64"
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    y, x = divmod(7, columns)
    np.testing.assert_array_equal(
        sheet[32 * y : 32 * y + 32, 32 * x : 32 * x + 32].transpose(2, 0, 1), IMAGES.images[7]
    )


def test_many_images_become_small() -> None:
    address, _ = sprite(np.repeat(np.asarray(IMAGES.images, np.uint8), 50, axis=0))
    assert address.startswith("data:image/jpeg;base64,")


def test_differences_are_parts_of_eps_and_packed_two_a_byte() -> None:
    found = find_pictures(SUMMARY, 7, {("baseline", 3): attack(3), ("baseline", 5): attack(5, 1 / 255)})
    assert found is not None
    assert found.differences["baseline", 3][:2].tolist() == [-LEVELS, LEVELS]
    assert abs(found.differences["baseline", 5][0]) in (3, 4)
    raw = base64.b64decode(packed(np.array([-7, 7, 0], np.int8)))
    assert [raw[0] >> 4, raw[0] & 15, raw[1] >> 4] == [1, 15, 8]
    data = pictures_json(found, ["other", "baseline"])
    assert sorted(data["differences"]) == ["1:3", "1:5"]
    assert data["names"][data["labels"][0]] == "cat"
    assert pictures_json(found, ["other", "baseline"], differences=False)["differences"] == {}


@pytest.mark.parametrize("wrong", [attack(4), attack(3)[:10], attack(3, 3 / 255)])
def test_images_that_are_not_the_inputs_are_not_shown(wrong: np.ndarray[Any, Any]) -> None:
    assert find_pictures(SUMMARY, 7, {("baseline", 3): wrong}) is None


def test_unknown_benchmarks_and_plain_lists_have_no_images() -> None:
    assert find_pictures({"benchmark": "nobody knows", "eps": 0.1}, 3, {}) is None
    assert find_pictures({"benchmark": "cifar10_cnnb", "eps": None}, 3, {}) is None
    assert pictures_json(None, []) == {}
