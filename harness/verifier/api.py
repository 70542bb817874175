"""What others call: one instance in this process, or a stream of requests from the runner."""

from __future__ import annotations

import importlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import torch

from harness.domain import (
    LgBenchError,
    Limits,
    Property,
    Stage,
    ToolAnswer,
    UnsupportedNetworkError,
    UnsupportedPropertyError,
    Verdict,
)
from harness.formats.engine_protocol import EngineRequest, decode_request, encode_answer
from harness.formats.onnx_file import load_model_bytes
from harness.formats.vnnlib import read_property
from harness.verifier.config import EngineConfig
from harness.verifier.engine import Emit, Engine, Progress
from harness.verifier.kernels.choice import has_numba
from harness.verifier.warm_up import warm_up as compile_ahead

EMPTY_BOX = "the property's box is empty: some lower bound is above its upper bound, so no input can violate it"


def use_cores(workers: int) -> None:
    """Sets torch to the cores that this process may use, and to exact float32 products (no TF32)."""
    torch.set_num_threads(max(1, workers))
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def available_cores() -> int:
    """Returns the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warm_up(device: str = "cpu") -> None:
    """Compiles whatever the engine may run on a device, or loads it: minutes the first time, then about a second.

    Nobody has to call it. Batch mode compiles what it needs, when it needs it, outside the instances' time; in
    competition mode an instance's time pays, unless an earlier process has left the compiled code behind.
    """
    use_cores(available_cores())
    compile_ahead(torch.device(device))


def import_compiled() -> None:
    """Imports what the engine computes with on a CPU: for processes that will decide more than one instance.

    Numba imports half of itself only when the first compiled function is loaded; here it does so at once.
    """
    if has_numba():
        for module in ("sparse_root", "sparse_fold", "refine", "team_search", "input_split"):
            importlib.import_module(f"harness.verifier.{module}")
        registry = importlib.import_module("numba.core.registry")
        registry.cpu_target.typing_context.refresh()
        registry.cpu_target.target_context.refresh()


def verify_instance(
    network: Path,
    property_file: Path,
    timeout_s: float,
    device: str = "cpu",
    seed: int = 0,
    max_domains: int | None = None,
    arithmetic: str = "float32",
) -> ToolAnswer:
    """Returns the engine's answer on one instance, decided in competition manner (the limit is on the wall clock).

    Args:
        network: ONNX, may be gzipped.
        property_file: VNN-LIB, may be gzipped.
        timeout_s: seconds.
        device: `cpu` or `cuda`.
        seed: of everything random.
        max_domains: bound on the domains of one branch and bound; None: none.
        arithmetic: what `unsat` speaks of, of `domain.ARITHMETICS`.

    Raises:
        UsageError: a file cannot be read, or network and property do not fit.
    """
    answers: list[ToolAnswer] = []
    limits = Limits(timeout_s, "wall", max_domains)
    request = EngineRequest(network, {"instance": property_file}, limits, seed, device, arithmetic)
    serve_request(request, lambda _key, answer: answers.append(answer), strict=True)
    return answers[0]


def serve_request(request: EngineRequest, emit: Emit, strict: bool = False, progress: Progress | None = None) -> None:
    """Decides all instances of a request and emits one answer for each.

    Args:
        request: network, properties, limits.
        emit: receives key and answer.
        strict: bad input raises (UsageError); else it is the answer `error` of the instances it concerns.
        progress: told what is being worked on, from any thread.
    """
    cores = available_cores()
    use_cores(cores)
    config = EngineConfig(seed=request.seed, device=request.device, arithmetic=request.arithmetic, workers=cores)
    try:
        engine = Engine(load_model_bytes(request.network), str(request.network), config)
    except UnsupportedNetworkError as error:
        _all(request.properties, Verdict.UNKNOWN, str(error), emit)
        return
    except LgBenchError as error:
        if strict:
            raise
        _all(request.properties, Verdict.ERROR, str(error), emit)
        return
    engine.decide(_properties(engine, request, emit, strict), request.limits, emit, progress)


def _properties(engine: Engine, request: EngineRequest, emit: Emit, strict: bool) -> Iterator[tuple[str, Property]]:
    """Yields the properties that are left to decide, each read when it is asked for.

    Answered here: what cannot be read or does not fit the network, with `error`; what no input satisfies, with `unsat`;
    what is valid but not supported, with `unknown`.
    """
    for key, path in request.properties.items():
        try:
            prop = read_property(path)
            problems = engine.problems(prop, str(path))
        except UnsupportedPropertyError as error:
            _all({key: path}, Verdict.UNKNOWN, str(error), emit)
        except LgBenchError as error:
            if strict:
                raise
            _all({key: path}, Verdict.ERROR, str(error), emit)
        else:
            if not problems:
                _all({key: path}, Verdict.UNSAT, EMPTY_BOX, emit, Stage.INCOMPLETE)
            else:
                yield key, prop


def _all(
    properties: Mapping[str, Path], verdict: Verdict, message: str, emit: Emit, stage: Stage | None = None
) -> None:
    for key in properties:
        emit(key, ToolAnswer(verdict, 0.0, 0.0, stage, message=message))


def serve(requests: IO[str], events: IO[str]) -> None:
    """Answers requests until the input ends; the protocol is `harness.formats.engine_protocol`'s."""
    import_compiled()
    lock = threading.Lock()

    def send(event: Mapping[str, object]) -> None:
        with lock:
            events.write(json.dumps(event) + "\n")
            events.flush()

    def answered(key: str, answer: ToolAnswer) -> None:
        send(encode_answer(key, answer))

    def working(key: str, stage: str, domains: int) -> None:
        send({"event": "progress", "key": key, "stage": stage, "domains": domains})

    for line in requests:
        if line.strip():
            serve_request(decode_request(line), answered, progress=working)
            send({"event": "done"})
