"""What resumable trainings have in common: where they began, what is random in a batch, how a checkpoint is read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from harness.data.images import ImageSet
from harness.domain import UsageError


def origin_of(network: nn.Module, images: ImageSet, setting: bytes = b"") -> str:
    """Returns a hash of the starting weights, the training images, and what else a training began from."""
    digest = hashlib.sha256(setting)
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    digest.update(np.ascontiguousarray(images.images).data)
    digest.update(np.ascontiguousarray(images.labels).data)
    return digest.hexdigest()


def batch_generator(device: torch.device, seed: int, epoch: int, step: int) -> torch.Generator:
    """Returns the source of everything random in one batch: a function of these numbers, so nothing of it is stored."""
    text = f"{seed}/{epoch}/{step}"
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return torch.Generator(device).manual_seed(number)


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Returns the content of a checkpoint; no code of the file is run.

    Raises:
        UsageError: it cannot be read, or is no checkpoint.
    """
    try:
        payload = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise UsageError(f"{path}: not a readable checkpoint ({error}); delete it to start again") from error
    if not isinstance(payload, dict):
        raise UsageError(f"{path}: not a checkpoint; delete it to start again")
    return payload
