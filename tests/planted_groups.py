"""Filters of which we know the groups, and images that fire them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.networks.models import Classifier


class Corners(nn.Module):
    """Six filters: three of the upper half of an image, three of the lower half; or all of noise of their own."""

    def __init__(self, *, grouped: bool) -> None:
        super().__init__()
        self.grouped, self.filters = grouped, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        maps = images[:, :1].repeat(1, 6, 1, 1)
        if self.grouped:
            maps[:, :3, 4:], maps[:, 3:, :4] = 0, 0
        else:
            maps = torch.cat([images.roll((shift, shift), (2, 3))[:, :2] for shift in (0, 1, 2)], 1)
        seen: Tensor = self.filters(maps)
        return seen.mean((2, 3))


def corners(*, grouped: bool) -> Classifier:
    model = Classifier(Corners(grouped=grouped), "corners", {"filters": ("filters", 6)})
    model.mean.zero_()
    model.std.fill_(1)
    return model.eval()


def noise(count: int, *, seed: int) -> ImageSet:
    pixels = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    pixels[:, :, :, :] //= 4
    pixels[0, :, :4], pixels[1, :, 4:] = 255, 255  # the two that fire the upper and the lower filters most
    return ImageSet("noise", "val", ("a", "b"), ("a", "b"), torch.arange(count) % 2, pixels, "noise")
