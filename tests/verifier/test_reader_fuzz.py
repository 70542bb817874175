"""Damaged files: whatever the damage, the reader returns a graph or says what is wrong, in one line, and soon."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from families import ALL_FAMILIES, member
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from harness.domain import LgBenchError
from harness.verifier.graph import size
from harness.verifier.onnx_reader import read_graph

Random = np.random.Generator
EDGES = (-(2**63), -(2**31), -7, -1, 0, 1, 2, 3, 7, 1000, 2**20, 2**31, 2**40, 2**63 - 1)


def cut(model: bytes, random: Random) -> bytes:
    return model[: int(random.integers(len(model)))]


def flipped(model: bytes, random: Random) -> bytes:
    """Changes a few bytes anywhere."""
    data = bytearray(model)
    for place in random.integers(0, len(data), int(random.integers(1, 6))):
        data[place] = int(random.integers(256))
    return bytes(data)


def spliced(model: bytes, random: Random) -> bytes:
    """Takes a piece out, or puts one in twice."""
    first, last = sorted(random.integers(0, len(model), 2))
    return model[:first] + model[last:] if random.random() < 0.5 else model[:last] + model[first:]


def rewired(model: bytes, random: Random) -> bytes:
    """Changes the meaning but not the form: names, attributes, dimensions, operators, constants."""
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    for _ in range(int(random.integers(1, 4))):
        node = graph.node[int(random.integers(len(graph.node)))]
        change = int(random.integers(7))
        if change == 0 and node.input:
            names = [n for other in graph.node for n in (*other.input, *other.output)]
            node.input[int(random.integers(len(node.input)))] = names[int(random.integers(len(names)))]
        elif change == 1 and node.attribute:
            _change_attribute(node.attribute[int(random.integers(len(node.attribute)))], random)
        elif change == 2 and node.attribute:
            del node.attribute[int(random.integers(len(node.attribute)))]
        elif change == 3:
            kinds = sorted({other.op_type for other in graph.node} | {"Expand", "Tile", "Pad", "Range", "Size", "Gemm"})
            node.op_type = kinds[int(random.integers(len(kinds)))]
        elif change == 4 and node.input:
            del node.input[int(random.integers(len(node.input)))]
        elif graph.initializer:
            _change_constant(graph.initializer[int(random.integers(len(graph.initializer)))], random)
    return bytes(proto.SerializeToString())


def _change_attribute(attribute: onnx.AttributeProto, random: Random) -> None:
    if attribute.ints and random.random() < 0.8:
        attribute.ints[int(random.integers(len(attribute.ints)))] = EDGES[int(random.integers(len(EDGES)))]
    elif attribute.ints:
        attribute.ints.append(1)
    else:
        attribute.i = EDGES[int(random.integers(len(EDGES)))]
        attribute.f = float(random.choice([np.nan, np.inf, -1.0, 0.0, 1e38]))


def _change_constant(tensor: onnx.TensorProto, random: Random) -> None:
    if tensor.data_type == onnx.TensorProto.INT64:
        values = np.frombuffer(tensor.raw_data, np.int64).copy()
        if values.size:
            values[int(random.integers(values.size))] = EDGES[int(random.integers(len(EDGES)))]
        tensor.raw_data = values.tobytes()
    elif tensor.dims and random.random() < 0.5:
        tensor.dims[int(random.integers(len(tensor.dims)))] = EDGES[int(random.integers(len(EDGES)))]
    elif tensor.dims:
        tensor.dims.append(1)


DAMAGES: tuple[Callable[[bytes, Random], bytes], ...] = (cut, flipped, spliced, rewired)


def assert_read_or_refused(model: bytes) -> bool:
    """Returns whether the model was read."""
    try:
        graph = read_graph(model, "net.onnx")
    except LgBenchError as error:
        message = str(error)
    else:
        assert all(0 < size(node.shape) <= 2**24 for node in graph.nodes)
        return True
    assert message.startswith("net.onnx")
    assert message.isprintable()
    return False


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_a_damaged_file_is_read_or_refused_in_one_line(family: str, damage: Callable[[bytes, Random], bytes]) -> None:
    model, random = member(family, 0), np.random.default_rng(len(family))
    read = [assert_read_or_refused(damage(model, random)) for _ in range(15)]
    assert not all(read) or damage is flipped


def test_the_damage_is_one_that_the_form_survives() -> None:
    """Else the changes of meaning would never reach the rules."""
    random, survived = np.random.default_rng(0), 0
    for family in ALL_FAMILIES:
        try:
            onnx.load_model_from_string(rewired(member(family, 0), random))
        except DecodeError:
            continue
        survived += 1
    assert survived == len(ALL_FAMILIES)
