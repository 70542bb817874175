"""The readers, each as its users call it: given a folder with one file of its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from harness.config import load_spec
from harness.data.folders import read_cifar10_batch, read_idx, read_npz
from harness.data.user_set import read_user_set
from harness.domain import Counterexample, Instance, Job, LgBenchError, Limits
from harness.formats.competition import read_limits, read_results, read_verdicts
from harness.formats.instances import read_rows
from harness.formats.onnx_file import load_model_bytes, open_session, run_flat
from harness.formats.published import read_published, read_published_times
from harness.formats.vnnlib import read_property
from harness.grafting.masks import read_mask
from harness.grafting.scores import read_scores
from harness.judging.judge import Judge
from harness.networks.user_model import load_weights_
from harness.sweep_config import load_sweep
from harness.tools import toy_networks
from harness.verifier.graph import size
from harness.verifier.onnx_reader import read_graph

NAMES = {"vnnlib.gz": "file.vnnlib.gz", "onnx": "file.onnx", "checkpoint": "file.pt", "idx": "file"}
"""Kind to the file's name; the others are called `file`."""


def _property(path: Path) -> None:
    read_property(path)


def _network(path: Path) -> None:
    """The judge's way, and the engine's."""
    data = load_model_bytes(path)
    session = open_session(path)
    if session.input.size <= 2**20:
        Judge().replay(_job(path, path), Counterexample(np.zeros(session.input.size, np.float32)))
        run_flat(session, np.zeros(session.input.size, np.float32))
    read_graph(data, str(path))


def _engine(path: Path) -> None:
    graph = read_graph(path.read_bytes(), str(path))
    assert all(0 < size(node.shape) <= 2**24 for node in graph.nodes)


def _list(path: Path) -> None:
    rows, problems = read_rows(path)
    assert all(problem.startswith(str(path)) and problem.isprintable() for problem in problems), problems
    for row in rows:
        files = (row.instance.property, *(file for _, file in row.networks or [("", row.instance.network)]))
        assert all(path.parent in file.parents and ".." not in file.parts for file in files), files
        assert row.problem.isprintable()
    read_limits(path)


def _witness(path: Path) -> None:
    for prop in ("one.vnnlib", "two.vnnlib"):
        Judge().replay_text(
            _job(path.parent / "net.onnx", path.parent / prop), path.read_bytes().decode("utf-8", "replace")
        )


def _job(network: Path, prop: Path) -> Job:
    return Job("", Instance(network, prop, 1.0), "net", 0, Limits(1.0))


def _each(path: Path, *readers: Callable[[Path], object]) -> None:
    """Gives a file to readers that want different things in it; a refusal by one does not spare the others."""
    refusals = []
    for read in readers:
        try:
            read(path)
        except LgBenchError as error:
            refusals.append(str(error))
    assert all(map(str.isprintable, refusals)), refusals


def _table(path: Path) -> None:
    _each(path, read_results, read_verdicts)


def _weights(path: Path) -> None:
    network = torch.nn.Sequential()
    network.add_module("fc", torch.nn.Linear(2, 3))
    load_weights_(network, path)


def _images(path: Path) -> None:
    _each(path, read_npz, read_user_set, read_published_times)


READERS: Mapping[str, tuple[Callable[[Path], object], ...]] = {
    "vnnlib": (_property,),
    "query": (_property,),
    "vnnlib.gz": (_property,),
    "onnx": (_network, _engine),
    "instances": (_list,),
    "results": (_table,),
    "witness": (_witness,),
    "spec": (load_spec, read_published),
    "sweep": (load_sweep,),
    "mask": (read_mask,),
    "scores": (read_scores,),
    "checkpoint": (_weights,),
    "batch": (read_cifar10_batch,),
    "images": (_images,),
    "idx": (lambda path: read_idx(path, 3),),
}


def prepare(folder: Path) -> None:
    """Leaves what lists and witnesses refer to."""
    from fuzz_corpus import PLAIN, QUERY

    (folder / "onnx").mkdir()
    (folder / "vnnlib").mkdir()
    for name in ("net.onnx", "onnx/net.onnx"):
        (folder / name).write_bytes(toy_networks.absolute_sum())
    for name, text in (("one", PLAIN), ("two", QUERY), ("vnnlib/p", PLAIN), ("vnnlib/q", PLAIN)):
        (folder / f"{name}.vnnlib").write_text(text)
