"""The long steps of `lgbench score`, with their progress: learned scores, instability from a run or the engine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.cli.models import GivenNetwork
from harness.cli.training_common import NetworkName, counting, stop_on_signal, torch_device
from harness.data.images import ImageSet
from harness.domain import UsageError
from harness.files import sha256_bytes
from harness.grafting.hydra import HydraConfig, HydraTraining
from harness.grafting.instability import Instability, InstabilitySource, instability
from harness.networks.export import export_onnx
from harness.report.source import STORE_FILE, planned_rows
from harness.run.store import Store
from harness.tools.builtin import BuiltinTool
from harness.workflow.root_bounds import Ball, root_records

CHECKPOINTS = Path("checkpoints")


def run_instability(folder: Path, variant: str, network_sha256: str) -> Instability:
    """Returns the instability counts from the results of a run: those it planned last, each input once.

    Args:
        folder: of the run.
        variant: what the run calls the network.
        network_sha256: of the network's uncompressed ONNX bytes.

    Raises:
        UsageError: the run has no results of that very network, or none of them entered branch and bound.
    """
    with Store.read(folder / STORE_FILE) as store:
        # In the order of their time: where no plan was recorded, the last result of an input holds.
        rows = sorted(planned_rows(store), key=lambda row: row.finished_at)
        same = [row for row in rows if (row.variant, row.network_sha256) == (variant, network_sha256)]
        keys = {row.index: row.key for row in same}
        if not keys:
            raise UsageError(f"{folder}: has no results of '{variant}' as it is now; run that network first")
        records = [record for key in keys.values() if (record := store.record(key)) is not None]
    return instability(records)


def bounded_instability(
    model: str, given: GivenNetwork, images: ImageSet, eps: float, source: InstabilitySource, device: str, seed: int
) -> Instability:
    """Returns the counts over test inputs that the engine bounds at the root, in a process of its own.

    Args:
        model: as the command line names the network.
        given: the network.
        images: test inputs; those that are misclassified do not count.
        eps: radius around each.
        source: which of them count.
        device: `auto`, `cpu` or `cuda`.
        seed: of the engine's attacks, which decide what would enter branch and bound.

    Raises:
        UsageError: no input counts.
        LgBenchError: the engine failed.
    """
    every_input = source is InstabilitySource.CROWN
    what = "rightly classified test inputs" if every_input else "test inputs, attacked first"
    with (
        tempfile.TemporaryDirectory(prefix="lgbench-") as scratch,
        counting(f"{given.name}: bounding {what}", len(images)) as progress,
        _network_file(model, given, Path(scratch)) as file,
    ):
        tool = BuiltinTool(Path(scratch), device=torch_device(device).type, seed=seed)
        wrong = len(images)

        def show(done: int, right: int) -> None:
            nonlocal wrong
            wrong = len(images) - right
            progress(wrong + done)

        ball = Ball(eps, given.classes)
        records = root_records(file, images, ball, tool, Path(scratch), every_input=every_input, progress=show)
    if not records:
        raise UsageError(f"{given.name}: classifies none of the {len(images)} test inputs rightly; name more --inputs")
    return instability(records)


def learned_significance(
    given: GivenNetwork, config: HydraConfig, images: ImageSet, device: str
) -> dict[str, NDArray[np.float32]] | None:
    """Returns the scores that Hydra learns, with a progress bar; None where Ctrl-C came, and the same call goes on.

    Args:
        given: the network.
        config: what determines the scores.
        images: training images.
        device: `auto`, `cpu` or `cuda`.
    """
    key = sha256_bytes(f"{given.sha256}/{sorted(asdict(config).items())}/{len(images)}".encode())[:12]
    checkpoint = CHECKPOINTS / f"hydra-{key}.ckpt"
    training = HydraTraining(given.network.to(torch_device(device)), config, images, checkpoint)
    with counting(f"{given.name}: learning scores", training.steps) as progress, stop_on_signal() as stop:
        finished = training.run(lambda p: progress(p.step), stop)
    if not finished:
        return None
    checkpoint.unlink(missing_ok=True)
    return training.significance()


@contextmanager
def _network_file(model: str, given: GivenNetwork, scratch: Path) -> Iterator[Path]:
    """Yields the network as an ONNX file whose activations have the names that masks use."""
    if given.manifest is not None:
        yield NetworkName.parse(model).file
        return
    path = scratch / "network.onnx"
    path.write_bytes(export_onnx(given.network.cpu(), given.input_shape))
    yield path
