"""From a trained network to committed files: fold, round, measure, export, write network and manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from harness.data.images import ImageSet
from harness.domain import LgBenchError, UsageError
from harness.files import sha256_bytes
from harness.formats.compressed import write_gz
from harness.networks import zoo
from harness.networks.batch_norm import batch_norm_state, fold_batch_norm
from harness.networks.export import (
    PARITY_TOLERANCE,
    ROUNDINGS,
    check_parity,
    export_onnx,
    round_weights_,
)
from harness.training.evaluate import Accuracy, PgdConfig, evaluate
from harness.training.loop import EpochRecord, TrainingConfig


@dataclass(frozen=True, slots=True)
class Origin:
    """What a manifest says of where a network comes from."""

    benchmark: str
    variant: str
    architecture: str
    note: str = ""
    """How its training differs from the published one."""
    parent: zoo.ParentNetwork | None = None
    mask: zoo.FileHash | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    rounding: str = "float16"
    """Of `ROUNDINGS`; `none` leaves the weights as they are, e.g. those of a network that somebody else made."""


def publish(
    network: nn.Module,
    folder: Path,
    origin: Origin,
    config: TrainingConfig,
    history: tuple[EpochRecord, ...],
    test: ImageSet,
    attack: PgdConfig | None = None,
    progress: Callable[[int], None] = lambda _done: None,
) -> zoo.NetworkManifest:
    """Folds, rounds and measures the network, and writes `<variant>.onnx.gz` and `<variant>.json`.

    What is measured is what is written: first batch normalisation is merged into the layers before it, then weights are
    rounded (unless the origin says `none`). Nothing is written when the exported file and the PyTorch network disagree.
    The manifest is written last, so it stands only beside a complete network.

    Args:
        network: trained; it is not changed.
        folder: `models/<benchmark>`.
        origin: where the network comes from.
        config: its training.
        history: the epochs of the training, all of them; one record of epoch -1 where there was none.
        test: the whole test set.
        attack: what RA is measured under; None is PGD-100 with one restart at the training's eps.
        progress: called with the number of test inputs measured.

    Raises:
        UsageError: the training has no finished epoch.
        LgBenchError: a weight is too large to be rounded, or the folded or the exported network differs.
    """
    if not history:
        raise UsageError("the training has finished no epoch, so there is no network to publish")
    input_shape = tuple(test.images.shape[1:])
    attack = PgdConfig.pgd100(config.eps) if attack is None else attack
    network = fold_batch_norm(network, input_shape)
    if origin.rounding in ROUNDINGS:
        round_weights_(network, origin.rounding)
    exported, parity = _exported(network, input_shape, origin.variant)
    accuracy = evaluate(network, test, attack, seed=0, progress=progress)
    path = zoo.network_path(folder, origin.variant)
    manifest = zoo.NetworkManifest(
        benchmark=origin.benchmark,
        variant=origin.variant,
        architecture=origin.architecture,
        input_shape=input_shape,
        onnx=zoo.FileHash(path.name, sha256_bytes(exported)),
        parameters=zoo.parameter_count(network),
        activations=zoo.activations(network, input_shape),
        training=_training_record(config, history, origin.note),
        metrics=metrics(accuracy, attack, seed=0),
        versions=zoo.versions(),
        parity=parity,
        parent=origin.parent,
        mask=origin.mask,
        rounding=origin.rounding,
        batch_norm=batch_norm_state(network),
        data={**origin.data, "test_sha256": images_sha256(test)},
    )
    write_gz(path, exported)
    zoo.write_manifest(zoo.manifest_path(folder, origin.variant), manifest)
    return manifest


def _exported(network: nn.Module, input_shape: tuple[int, ...], variant: str) -> tuple[bytes, zoo.Parity]:
    """Returns the network as ONNX, and how far that is from PyTorch.

    Raises:
        LgBenchError: the two disagree.
    """
    exported = export_onnx(network, input_shape)
    parity = check_parity(network, exported, input_shape)
    if not parity.agrees:
        raise LgBenchError(
            f"{variant}: not written, because ONNX Runtime and PyTorch differ by {parity.max_rel_diff:.3g} of "
            f"the largest logit, where {PARITY_TOLERANCE:g} is allowed"
        )
    return exported, zoo.Parity(parity.max_abs_diff, parity.inputs)


def _training_record(config: TrainingConfig, history: tuple[EpochRecord, ...], note: str) -> zoo.TrainingRecord:
    # The first of equals, as the training itself keeps it.
    best = max(history, key=lambda record: record.val_ra)
    epochs = sum(record.epoch >= 0 for record in history)
    plain = json.loads(json.dumps(asdict(config)))
    return zoo.TrainingRecord(plain, config.digest(), epochs, best.epoch, best.val_sa, best.val_ra, note)


def metrics(accuracy: Accuracy, attack: PgdConfig, seed: int) -> dict[str, dict[str, Any]]:
    """Returns `SA` and `RA` as a manifest and `lgbench evaluate --json` state them."""
    return {
        "SA": {"value": accuracy.sa, "n": accuracy.n},
        "RA": {
            "value": accuracy.ra,
            "n": accuracy.n,
            "attack": f"pgd-{attack.steps}",
            "restarts": attack.restarts,
            "eps": attack.eps,
            "alpha": attack.alpha,
            "seed": seed,
        },
    }


def images_sha256(images: ImageSet) -> str:
    """Returns the SHA-256 of the pixels in the order (N, H, W, C), whatever file they came from; other shapes as is."""
    pixels = images.images.transpose(0, 2, 3, 1) if images.images.ndim == 4 else images.images
    return sha256_bytes(np.ascontiguousarray(pixels).tobytes())
