"""Images mirrored and shifted, each by itself."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neuron_consistency.training.augmentation import augment


@given(size=st.integers(8, 50), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_augmentation_keeps_shape_range_and_memory_format(size: int, seed: int) -> None:
    """Every value comes from the same channel of the same image."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.arange(12).view(4, 3, 1, 1) / 12
    images = (base + torch.rand(4, 3, size, size, generator=generator) / 12).contiguous(
        memory_format=torch.channels_last
    )
    moved = augment(images, generator=generator)
    assert moved.shape == images.shape
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal((moved * 12).floor(), base.mul(12).round().expand_as(moved))


def test_augmentation_mirrors_and_shifts_each_image_by_itself() -> None:
    """Undone by hand: each result is a crop of the padded image or of its mirror; all kinds occur."""
    images = torch.rand(40, 3, 16, 16)
    moved = augment(images, generator=torch.Generator().manual_seed(0))
    kinds = set()
    for image, result in zip(images, moved, strict=True):
        found = [
            (mirrored, y, x)
            for mirrored in (False, True)
            for y in range(3)
            for x in range(3)
            if torch.equal(
                nn.functional.pad(image.flip(2) if mirrored else image, (1,) * 4, mode="reflect")[
                    :, y : y + 16, x : x + 16
                ],
                result,
            )
        ]
        assert len(found) == 1
        kinds.add(found[0])
    assert len(kinds) > 9
    again = augment(images, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again, moved)
