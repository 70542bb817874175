"""NumPy archives without pickle: what score files and mask files have in common."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.domain import UsageError
from harness.files import read_arrays, write_atomically


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Replaces `path` by a compressed archive; the same arrays give the same bytes.

    The name is taken as it is: no suffix is added.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(path, buffer.getvalue())


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Returns all arrays of an archive.

    Raises:
        UsageError: there is no such file, it is not an archive of arrays, or it would have to run code to be read.
    """
    try:
        return read_arrays(path)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file") from error
    except ValueError as error:
        raise UsageError(f"{path}: not a readable .npz archive of plain arrays ({error})") from error


def json_array(value: object) -> NDArray[np.str_]:
    """Returns a value as a 0-d string array of JSON, for structured data in an archive."""
    return np.array(json.dumps(value, sort_keys=True))


def json_value(path: Path, arrays: Mapping[str, NDArray[Any]], name: str) -> Any:
    """Returns the value that `json_array` stored under `name`; None if there is no such array.

    Raises:
        UsageError: the array holds no JSON.
    """
    if name not in arrays:
        return None
    try:
        return json.loads(str(arrays[name]))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: array '{name}' is not JSON ({error})") from error


def layer_sizes(path: Path, arrays: Mapping[str, NDArray[Any]], neurons: int) -> tuple[int, ...]:
    """Returns the `layer_sizes` of an archive, checked against its number of neurons.

    Raises:
        UsageError: the array is missing, is not of whole numbers, or does not add up.
    """
    sizes = arrays.get("layer_sizes")
    if sizes is None:
        raise UsageError(f"{path}: array 'layer_sizes' is missing")
    # Summed as Python's integers: numpy's wrap around.
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or (sizes < 1).any() or sum(sizes.tolist()) != neurons:
        raise UsageError(f"{path}: 'layer_sizes' does not add up to the {neurons} neurons of the other arrays")
    return tuple(int(size) for size in sizes)


def named_shapes(path: Path, names: Any, shapes: Any) -> dict[str, tuple[int, ...]]:
    """Returns activation name to neuron shape, in order, of the JSON values `names` and `shapes` of an archive.

    Raises:
        UsageError: they are no list of distinct names and no list of as many lists of positive whole numbers.
    """
    named = isinstance(names, list) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    shaped = isinstance(shapes, list) and all(
        isinstance(shape, list) and all(type(size) is int and 0 < size < 2**31 for size in shape) for shape in shapes
    )
    if not named or not shaped or len(names) != len(shapes):
        raise UsageError(f"{path}: 'names' and 'shapes' are no names of activations with a shape for each")
    return {name: tuple(shape) for name, shape in zip(names, shapes, strict=True)}
