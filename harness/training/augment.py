"""Augmentation of whole batches on their device: random crop after zero-padding, random horizontal flip."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CROP_PADDING = 4


def crop_and_flip(x: Tensor, generator: torch.Generator, padding: int = CROP_PADDING) -> Tensor:
    """Returns each image shifted by up to `padding` pixels (zeros move in) and mirrored with probability 1/2.

    Args:
        x: images, `(batch, C, H, W)`.
        generator: source of the randomness, on the device of `x`.
        padding: pixels of zero padding on every side before the crop.
    """
    batch, channels, height, width = x.shape
    padded = functional.pad(x, (padding,) * 4)
    top = torch.randint(0, 2 * padding + 1, (batch, 1), generator=generator, device=x.device)
    left = torch.randint(0, 2 * padding + 1, (batch, 1), generator=generator, device=x.device)
    flip = torch.randint(0, 2, (batch, 1), generator=generator, device=x.device).bool()
    rows = top + torch.arange(height, device=x.device)
    columns = torch.arange(width, device=x.device).expand(batch, width)
    columns = left + torch.where(flip, width - 1 - columns, columns)
    image = torch.arange(batch, device=x.device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=x.device).view(1, -1, 1, 1)
    return padded[image, channel, rows.view(batch, 1, height, 1), columns.view(batch, 1, 1, width)]
