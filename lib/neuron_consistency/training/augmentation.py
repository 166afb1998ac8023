"""What a training image may look like: mirrored and shifted."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from neuron_consistency.runtime import WHOLE, Part


def augment(images: Tensor, *, generator: torch.Generator, part: Part = WHOLE) -> Tensor:
    """Each image mirrored with probability 1/2 and shifted by up to a sixteenth of its height (reflected edges).

    Args:
        images: a batch, or this process's part of one.
        generator: the same in all processes.
        part: this one of the processes that have equal parts of a batch in turn. An image moves alike whatever their
            number.

    Shape:
        images, result: (B, 3, H, W).
    """
    batch, _, height, width = images.shape
    pad = height // 16
    own = slice(part.rank * batch, (part.rank + 1) * batch)
    mirror = (torch.rand(part.size * batch, generator=generator) < 0.5)[own].to(images.device)
    shift = torch.randint(0, 2 * pad + 1, (part.size * batch, 2), generator=generator)[own].to(images.device)
    images = torch.where(mirror[:, None, None, None], images.flip(3), images)
    padded = functional.pad(images, (pad,) * 4, mode="reflect")
    rows = shift[:, 0, None] + torch.arange(height, device=images.device)
    columns = shift[:, 1, None] + torch.arange(width, device=images.device)
    index = torch.arange(batch, device=images.device)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)  # channels_last in memory
