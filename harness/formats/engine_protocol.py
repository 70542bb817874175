"""The line protocol between the runner and the engine's process: one JSON object a line, arrays as base64.

The parent writes one request line to the engine's standard input and reads events from its standard output until the
`done` event; several requests may follow one another. Nothing else is ever written to that stream.

Events: `{"event": "answer", "key": ..., ...}` for each decided instance, in the order of decision;
`{"event": "progress", "key": ..., "stage": ..., "domains": ...}` now and then; `{"event": "done"}` at the end of a
request.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.domain import Counterexample, EngineRecord, Limits, Stage, ToolAnswer, Verdict

PROTOCOL_VERSION = 2

_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """All instances of one network that the engine has to decide together."""

    network: Path
    """`.onnx` or `.onnx.gz`."""
    properties: Mapping[str, Path]
    """Job key to property file; the order is the order of the instances."""
    limits: Limits
    seed: int = 0
    device: str = "cpu"
    """`cpu` or `cuda`."""
    arithmetic: str = "float32"
    """Of `domain.ARITHMETICS`."""


def encode_request(request: EngineRequest) -> str:
    """Returns the request as one line, with its line end."""
    limits = request.limits
    return (
        json.dumps(
            {
                "protocol": PROTOCOL_VERSION,
                "network": str(request.network),
                "properties": {key: str(path) for key, path in request.properties.items()},
                "timeout_s": limits.timeout_s,
                "timeout_on": limits.timeout_on,
                "max_domains": limits.max_domains,
                "seed": request.seed,
                "device": request.device,
                "arithmetic": request.arithmetic,
            }
        )
        + "\n"
    )


def decode_request(line: str) -> EngineRequest:
    """Returns the request of one line.

    Raises:
        ValueError: the line is not a request of this protocol version.
    """
    raw = json.loads(line)
    if not isinstance(raw, dict) or raw.get("protocol") != PROTOCOL_VERSION:
        raise ValueError("not a request of this protocol version")
    return EngineRequest(
        Path(raw["network"]),
        {key: Path(path) for key, path in raw["properties"].items()},
        Limits(raw["timeout_s"], raw["timeout_on"], raw["max_domains"]),
        raw["seed"],
        raw["device"],
        raw["arithmetic"],
    )


def encode_answer(key: str, answer: ToolAnswer) -> dict[str, Any]:
    """Returns the `answer` event of one job, ready for `json.dumps`."""
    record, witness = answer.record, answer.counterexample
    return {
        "event": "answer",
        "key": key,
        "verdict": answer.verdict.value,
        "stage": None if answer.stage is None else answer.stage.value,
        "wall_s": answer.wall_s,
        "work_s": answer.work_s,
        "message": answer.message,
        "x": None if witness is None else encode_array(witness.x),
        "y": None if witness is None or witness.y is None else encode_array(witness.y),
        "record": None if record is None else encode_record(record),
    }


def decode_answer(event: Mapping[str, Any]) -> tuple[str, ToolAnswer]:
    """Returns job key and answer of an `answer` event.

    Raises:
        KeyError, ValueError: the event is not well-formed.
    """
    witness = None
    if event["x"] is not None:
        witness = Counterexample(decode_array(event["x"]), None if event["y"] is None else decode_array(event["y"]))
    answer = ToolAnswer(
        Verdict(event["verdict"]),
        float(event["wall_s"]),
        float(event["work_s"]),
        None if event["stage"] is None else Stage(event["stage"]),
        witness,
        str(event["message"]),
        None if event["record"] is None else decode_record(event["record"]),
    )
    return str(event["key"]), answer


def encode_record(record: EngineRecord) -> dict[str, Any]:
    """Returns an engine record as JSON values; masks as packed bits. Also the store's format."""
    unstable = record.unstable
    return {
        "root_margins": None if record.root_margins is None else encode_array(record.root_margins),
        "domains": record.domains,
        "entered_bab": record.entered_bab,
        "neurons": record.neurons,
        "unstable_nonlinear": record.unstable_nonlinear,
        "seconds": dict(record.seconds),
        "multiply_adds": record.multiply_adds,
        "unstable": None
        if unstable is None
        else {name: [int(m.size), _text(np.packbits(m.ravel()))] for name, m in unstable.items()},
    }


def decode_record(raw: Mapping[str, Any]) -> EngineRecord:
    """Returns the engine record that `encode_record` wrote; masks are flat.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: it is none, or has a number that no record can have.
    """
    masks = raw["unstable"]
    return EngineRecord(
        root_margins=None if raw["root_margins"] is None else decode_array(raw["root_margins"]),
        domains=_count(raw["domains"]),
        unstable=None if masks is None else {_name(name): _unpack(size, text) for name, (size, text) in masks.items()},
        entered_bab=bool(raw["entered_bab"]),
        neurons=_count(raw["neurons"]),
        unstable_nonlinear=_count(raw["unstable_nonlinear"]),
        seconds={str(k): float(v) for k, v in raw.get("seconds", {}).items()},
        multiply_adds=int(raw.get("multiply_adds", 0)),
    )


def encode_array(array: NDArray[Any]) -> list[str]:
    """Returns a flat array as [numpy type name, base64 of its little-endian bytes]."""
    flat = np.ascontiguousarray(array).ravel()
    return [flat.dtype.newbyteorder("<").str, _text(flat)]


def decode_array(raw: list[str]) -> NDArray[Any]:
    """Returns the flat array that `encode_array` wrote.

    Raises:
        ValueError: the type is not a plain number type, or the bytes do not fit it.
    """
    dtype = np.dtype(raw[0])
    if dtype.kind not in "fiub":
        raise ValueError(f"arrays of type {raw[0]} are not accepted")
    return np.frombuffer(base64.b64decode(raw[1]), dtype).copy()


def _text(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _unpack(size: int, text: str) -> NDArray[np.bool_]:
    packed = np.frombuffer(base64.b64decode(text), np.uint8)
    # Asked for more bits than there are, numpy adds zeros, as many as it is told.
    if packed.size != -(-_count(size) // 8):
        raise ValueError(f"{packed.size} bytes for a mask of {size} neurons")
    return np.unpackbits(packed, count=size).astype(np.bool_)


def _count(value: Any) -> int:
    """Returns a number of things that the store can hold."""
    count = int(value)
    if not 0 <= count <= _MOST:
        raise ValueError(f"{count} is no number of neurons or domains")
    return count


def _name(text: str) -> str:
    """Returns a name that can be written as UTF-8, unlike any text of a JSON string."""
    text.encode()
    return text
