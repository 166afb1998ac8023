"""What a training image may look like: mirrored and shifted."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def augment(images: Tensor, *, generator: torch.Generator, padding: int | None = None) -> Tensor:
    """Each image mirrored with probability 1/2 and shifted by up to `padding` pixels (reflected edges).

    Shape:
        images, result: (B, 3, H, W); `padding` defaults to H / 16.
    """
    batch, _, height, width = images.shape
    pad = height // 16 if padding is None else padding
    mirror = (torch.rand(batch, generator=generator) < 0.5).to(images.device)
    shift = torch.randint(0, 2 * pad + 1, (batch, 2), generator=generator).to(images.device)
    images = torch.where(mirror[:, None, None, None], images.flip(3), images)
    padded = functional.pad(images, (pad,) * 4, mode="reflect")
    rows = shift[:, 0, None] + torch.arange(height, device=images.device)
    columns = shift[:, 1, None] + torch.arange(width, device=images.device)
    index = torch.arange(batch, device=images.device)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)  # channels_last in memory
