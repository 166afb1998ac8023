"""Pixels and label maps that stay in files until they are asked for; reading all pixels into memory once."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from neuron_consistency.data.prefetch import grouped, stream
from neuron_consistency.data.sources.base import Box, Source
from neuron_consistency.errors import DatasetError


@dataclass(frozen=True)
class InFiles:
    """What a source reads of its images as it is asked for.

    Attributes:
        source: reads one of the `items`.
        items: (N,) names or numbers.
        size: side in pixels.
        classes: of the listing.
    """

    source: Source
    items: np.ndarray
    size: int
    classes: tuple[str, ...] = ()

    def take(self, rows: Tensor) -> Self:
        """Those at `rows` (N',) int64 on the CPU."""
        return replace(self, items=self.items[rows.numpy()])


@dataclass(frozen=True)
class FilePixels(InFiles):
    """Images on disk (or, in a zip, inside it), decoded and fitted.

    Attributes:
        skip_corrupt: leave unreadable images out, with a warning, instead of stopping.
    """

    skip_corrupt: bool = False

    def __len__(self) -> int:
        return len(self.items)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), 3, self.size, self.size

    def load(self, places: Sequence[int]) -> "Loaded":
        """Decodes the images at `places`."""
        pixels = empty_pixels(len(places), self.size)
        kept: list[int] = []
        boxes: list[Box] = []
        failures: list[str] = []
        for place in places:
            try:
                pixels[len(kept)], own = self.source.read(self.items[place], self.size, self.classes)
            except DatasetError as error:
                failures.append(str(error))
            else:
                kept.append(place)
                boxes.extend(own)
        return Loaded(kept, pixels[: len(kept)], boxes, failures)

    def load_all(self, processes: int = 0) -> "Loaded":
        """Decodes every image, by so many worker processes, or by threads."""
        every = Loaded([], empty_pixels(len(self), self.size), [], [])
        groups = grouped(len(self), 64)
        for part in stream(self.load, groups, min(processes, len(groups))):
            self.check(part.failures)
            every.pixels[len(every.places) : len(every.places) + len(part.places)] = part.pixels
            every.places.extend(part.places)
            every.boxes.extend(part.boxes)
            every.failures.extend(part.failures)
        if not every.places:
            raise DatasetError(f"None of the {len(self)} images can be read. The first: {every.failures[0]}")
        return Loaded(every.places, every.pixels[: len(every.places)], every.boxes, every.failures)

    def check(self, failures: Sequence[str]) -> None:
        """Stops at, or only warns of, images that could not be read."""
        if failures and not self.skip_corrupt:
            more = f" ({len(failures) - 1} more in the same batch)" if len(failures) > 1 else ""
            cure = (
                "Replace it or take it out of the folder, or leave such images out with skip_corrupt=True (in Python)."
            )
            raise DatasetError(f"{failures[0]}{more} {cure}")
        for failure in failures:
            warnings.warn(f"Left out: {failure}", stacklevel=3)


@dataclass(frozen=True)
class Loaded:
    """Decoded images: their places, pixels (B, 3, S, S) uint8, all boxes where the source tells them; what failed."""

    places: list[int]
    pixels: Tensor
    boxes: list[Box]
    failures: list[str]


@dataclass(frozen=True)
class LabelMaps(InFiles):
    """Where the objects of a set's images are: read when first asked for, then kept, a byte a pixel.

    Attributes:
        kept: what has been read, by item; parts of a set share it.
    """

    kept: dict[Any, Tensor] = field(default_factory=dict, repr=False)

    def known(self) -> Tensor:
        """Which images have a map. Shape: (N,) bool."""
        return torch.tensor([self.source.has_mask(item) for item in self.items], dtype=torch.bool)

    def load(self, places: Sequence[int]) -> Tensor:
        """The maps at `places`. Shape: (B, S, S) uint8, 0 the background, c + 1 the c-th class."""
        for item in self.items[[*places]]:
            if item not in self.kept:
                self.kept[item] = self.source.mask(item, self.size, self.classes)
        empty = torch.zeros(0, self.size, self.size, dtype=torch.uint8)
        return torch.stack([self.kept[item] for item in self.items[[*places]]]) if len(places) else empty


def empty_pixels(number: int, size: int) -> Tensor:
    """Room for pixels, channels last in memory: networks want them so, and turning them costs more than scaling."""
    return torch.empty(number, size, size, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
