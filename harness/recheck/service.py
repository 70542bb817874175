"""Requests in, answers out: the engine's line protocol, served by the second verifier."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import torch

from harness.domain import LgBenchError, Property, Stage, ToolAnswer, Verdict
from harness.formats.engine_protocol import EngineRequest, decode_request, encode_answer
from harness.formats.onnx_file import OnnxSession, load_model_bytes, open_session, run_flat
from harness.formats.vnnlib import read_property
from harness.recheck.proof import Finding, decide
from harness.verifier.graph import Graph
from harness.verifier.onnx_reader import read_graph
from harness.verifier.patience import OutOfTimeError, until
from harness.verifier.problem import problems_of
from harness.verifier.rounding import UNITS

READER_POINTS = 16
"""Points of a box at which our reading of the network is compared with ONNX Runtime's."""
READER_TOLERANCE = 1e-3
"""Largest difference there, relative to the largest output: float32 against float64."""


def serve(requests: IO[str], events: IO[str]) -> None:
    """Answers requests until the input ends; the protocol is `harness.formats.engine_protocol`'s."""
    for line in requests:
        if not line.strip():
            continue
        request = decode_request(line)
        for key, answer in _answers(request):
            events.write(json.dumps(encode_answer(key, answer)) + "\n")
            events.flush()
        events.write('{"event": "done"}\n')
        events.flush()


def recheck(
    network: Path, property_file: Path, timeout_s: float, seed: int = 0, arithmetic: str = "float32"
) -> ToolAnswer:
    """Returns what the second verifier finds of one instance; what it cannot use is `error` with the reason.

    `unsat`: no input of the property's boxes violates it, in real arithmetic and, unless that is all that is asked for,
    in any float32 evaluation within the rounding model of docs/design/003-rounding.md; shown by float64 bounds alone.
    `sat` comes with an input whose evaluation on ONNX Runtime violates. Everything else is `unknown` or `timeout`.
    """
    began = time.monotonic()

    def is_over() -> bool:
        return time.monotonic() - began >= timeout_s

    try:
        data = load_model_bytes(network)
        graph, session, prop = read_graph(data, str(network)), open_session(data), read_property(property_file)
        _compare(graph, session, prop, seed)
        problems = problems_of(prop, graph, str(property_file), session.input.dtype)
        with until(is_over):
            found = decide(graph, session, problems, seed, is_over, UNITS[arithmetic])
    except OutOfTimeError:
        found = Finding(Verdict.TIMEOUT)
    except LgBenchError as error:
        found = Finding(Verdict.ERROR, str(error))
    seconds = time.monotonic() - began
    stage = Stage.BAB if found.domains else Stage.INCOMPLETE
    return ToolAnswer(found.verdict, seconds, seconds, stage, found.counterexample, found.message)


def _answers(request: EngineRequest) -> Iterator[tuple[str, ToolAnswer]]:
    """Yields each answer as soon as it is found."""
    for key, path in request.properties.items():
        yield key, recheck(request.network, path, request.limits.timeout_s, request.seed, request.arithmetic)


def _compare(graph: Graph, session: OnnxSession, prop: Property, seed: int) -> None:
    """Raises LgBenchError where our reading of a network computes something else than ONNX Runtime does."""
    random = np.random.default_rng(seed)
    for case in prop.cases[:1]:
        if case.box.is_empty or case.box.size != session.input.size:
            return
        share = random.random((READER_POINTS, case.box.size))
        points = (case.box.lower + share * (case.box.upper - case.box.lower)).astype(session.input.dtype)
        ours = graph(torch.from_numpy(points.astype(np.float64)).view(-1, *graph.input_shape)).numpy()
        theirs = np.stack([run_flat(session, point) for point in points]).astype(np.float64)
        difference = float(np.abs(ours - theirs).max())
        if not difference <= READER_TOLERANCE * (1.0 + float(np.abs(theirs).max())):
            raise LgBenchError(f"the network as it is read here differs from ONNX Runtime's by {difference:.3g}")
