"""The test images of a run for its page: one sprite, labels, and counterexamples as quantised differences."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config import find_spec
from harness.data.datasets import DATASETS, EMBEDDED, load_images
from harness.domain import FloatArray, UsageError
from harness.report.details import Place

LEVELS = 7
"""A difference is stored as one of -7 to 7 sevenths of eps, four bits a pixel."""
LOSSLESS_IMAGES = 300
"""More images than these are stored as JPEG, to keep the page small."""
_TOLERANCE = 1.05
CLASS_NAMES: Mapping[str, tuple[str, ...]] = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "mnist": tuple(map(str, range(10))),
}


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The first images of a data set and what attacks made of them."""

    images: NDArray[np.uint8]
    """`(N, C, H, W)`, input k of the run at k."""
    labels: NDArray[np.int64]
    """`(N,)`."""
    names: tuple[str, ...]
    """Of the classes."""
    eps: float
    differences: Mapping[Place, NDArray[np.int8]]
    """-`LEVELS` to `LEVELS`, `(C * H * W,)`: the counterexample less the image, in parts of eps."""


def find_pictures(summary: Mapping[str, Any], highest: int, attacks: Mapping[Place, FloatArray]) -> Pictures | None:
    """Returns the images of a run's inputs; None where they are not known.

    They are the embedded samples of the benchmark's data set. Whether these are the run's inputs is not taken on trust:
    each counterexample must lie within eps of its image, else there are no pictures.

    Args:
        summary: the run; a plain list of instances (without eps) has no images.
        highest: the largest index of an input.
        attacks: the counterexamples.
    """
    eps = summary["eps"]
    if eps is None:
        return None
    try:
        dataset = find_spec(str(summary["benchmark"])).dataset
        data = load_images(dataset, "test", None, min(highest + 1, EMBEDDED))
    except UsageError:
        return None
    if not isinstance(data.images.flat[0], np.uint8) or dataset not in DATASETS:
        return None
    images = np.asarray(data.images, np.uint8)
    differences: dict[Place, NDArray[np.int8]] = {}
    for (variant, index), x in attacks.items():
        if index >= len(images):
            continue
        if x.size != images[index].size:
            return None
        difference = (x.astype(np.float64) - images[index].ravel() / 255.0) / eps
        if np.abs(difference).max() > _TOLERANCE:
            return None
        differences[variant, index] = np.rint(LEVELS * np.clip(difference, -1, 1)).astype(np.int8)
    return Pictures(images, data.labels, CLASS_NAMES[dataset], float(eps), differences)


def sprite(images: NDArray[np.uint8]) -> tuple[str, int]:
    """Returns all images in one as a data address, and how many stand in a row of it."""
    from PIL import Image

    count, channels, height, width = images.shape
    columns = max(1, math.ceil(math.sqrt(count)))
    rows = math.ceil(count / columns)
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    sheet[:count] = images.transpose(0, 2, 3, 1)
    sheet = sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    flat = sheet.reshape(rows * height, columns * width, channels)
    picture = Image.fromarray(flat[..., 0] if channels == 1 else flat)
    stream = io.BytesIO()
    if count <= LOSSLESS_IMAGES:
        picture.save(stream, "PNG", optimize=True)
        kind = "png"
    else:
        picture.save(stream, "JPEG", quality=88, subsampling=0)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}", columns


def packed(difference: NDArray[np.int8]) -> str:
    """Returns a difference as base64 text: two values a byte, each plus 8, the first in the high half."""
    values = (difference.ravel() + 8).astype(np.uint8)
    if values.size % 2:
        values = np.append(values, np.uint8(8))
    return base64.b64encode((values[0::2] << 4 | values[1::2]).tobytes()).decode()


def pictures_json(pictures: Pictures | None, variants: list[str], *, differences: bool = True) -> dict[str, Any]:
    """Returns what the page's script draws from; an empty object where there are no pictures.

    Returns:
        `sprite` (a data address), `columns`, `shape` (C, H, W), `labels`, `names`, `eps`, `levels`, and `differences`:
        `variant number:input` to the packed difference.
    """
    if pictures is None:
        return {}
    address, columns = sprite(pictures.images)
    return {
        "sprite": address,
        "columns": columns,
        "shape": list(pictures.images.shape[1:]),
        "labels": pictures.labels.tolist(),
        "names": list(pictures.names),
        "eps": pictures.eps,
        "levels": LEVELS,
        "differences": {
            f"{variants.index(variant)}:{index}": packed(values)
            for (variant, index), values in pictures.differences.items()
        }
        if differences
        else {},
    }
