"""Images with their labels, and what is known of where the objects are: boxes, masks."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from neuron_consistency.data.find import sets_that_tell
from neuron_consistency.data.pixels import FilePixels, LabelMaps
from neuron_consistency.data.prefetch import cores, grouped, stream
from neuron_consistency.errors import DatasetError, ParameterError
from neuron_consistency.runtime import WHOLE, Part


@dataclass(frozen=True)
class ImageSet:
    """Images of classes.

    Attributes:
        name, split: "tiny-imagenet", "train".
        classes: display names; synsets: their wnids, one a class, "" where a class has none.
        fingerprint: identifies the content: the files (names with sizes or checksums) or the scenes' parameters and
            renderer, the chosen classes and images, and the image size.
        names: what the image files are called within their folder, or None for images that are no files.
        label_maps: where the objects are, pixel by pixel, or None where the set does not tell; `masks` reads it.

    Shape:
        labels: (N,) int64, on the CPU. names: (N,) str. pixels: (N, 3, S, S) uint8, or files decoded as
        asked. boxes: (N, 4) int64, x0 y0 x1 y1 in pixels of these images, ends excluded, or None.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    synsets: tuple[str, ...]
    labels: Tensor
    pixels: Tensor | FilePixels
    fingerprint: str
    boxes: Tensor | None = None
    label_maps: LabelMaps | None = None
    names: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        return int(self.pixels.shape[-1])

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def masked(self) -> Tensor:
        """Which images have a mask of their objects. Shape: (N,) bool."""
        return torch.zeros(len(self), dtype=torch.bool) if self.label_maps is None else self.label_maps.known()

    def masks(self, indices: Tensor) -> Tensor:
        """The true masks of the objects in the images at `indices`, read when first asked for and then kept.

        Shape:
            indices: (B,) int64; result: (B, 1, S, S) bool, on the CPU, True on an object.

        Raises:
            DatasetError: the set has no masks, or one of these images has none, or its file is damaged.
        """
        return self._label_maps(indices) > 0

    def _label_maps(self, indices: Tensor) -> Tensor:
        if self.label_maps is None:
            raise DatasetError(
                f"{self.name} ({self.split}) has no masks of its objects. Sets that have: {sets_that_tell('masks')}. "
                "Without one, use the explanation as the mask."
            )
        return self.label_maps.load(indices.tolist())[:, None]

    def take(self, rows: Tensor) -> Self:
        """The images at `rows` (N',) int64 on the CPU, in that order, under the same fingerprint."""
        pixels = self.pixels
        return replace(
            self,
            labels=self.labels[rows],
            pixels=pixels.take(rows) if isinstance(pixels, FilePixels) else pixels[rows.to(pixels.device)],
            boxes=None if self.boxes is None else self.boxes[rows],
            label_maps=None if self.label_maps is None else self.label_maps.take(rows),
            names=None if self.names is None else self.names[rows.numpy()],
        )

    def subset(self, indices: Tensor) -> Self:
        """The images at `indices` (N',) int64, in that order. The fingerprint follows from this one's and them."""
        rows = indices.cpu()
        digest = hashlib.sha256(self.fingerprint.encode() + rows.numpy().astype("<i8").tobytes()).hexdigest()[:32]
        return replace(self.take(rows), fingerprint=digest)

    def first_of_each_class(self, count: int) -> Tensor:
        """The places of the first `count` images of each class (0: of all), in order. Shape: (N',) int64."""
        kept = [members[: count or None] for members in self._strata()]
        return torch.cat(kept).sort().values

    def split_off(self, fraction: float, *, seed: int) -> tuple[Self, Self]:
        """The rest, and a random `fraction` of each class (at least one image where it has two), in order.

        Raises:
            ParameterError: fraction outside [0, 1).
        """
        if not 0 <= fraction < 1:
            raise ParameterError(f"The fraction to split off must be in [0, 1), got {fraction}.")
        generator = torch.Generator().manual_seed(seed)
        held = torch.zeros(len(self), dtype=torch.bool)
        for members in self._strata():
            count = max(round(fraction * len(members)), int(fraction > 0 and len(members) > 1))
            held[members[torch.randperm(len(members), generator=generator)[:count]]] = True
        return self.subset((~held).nonzero().squeeze(1)), self.subset(held.nonzero().squeeze(1))

    def _strata(self) -> Iterator[Tensor]:
        """The places of the images of each class."""
        for label in range(self.num_classes):
            yield (self.labels == label).nonzero().squeeze(1)

    def batch(self, indices: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images and labels at `indices`, on the device.

        Shape:
            indices: (B,) int64. Returns (B, 3, S, S) float32 in [0, 1], channels_last, and their labels; fewer than B
            where files are corrupt and may be skipped.

        Raises:
            DatasetError: an image file is corrupt; it is named.
        """
        if isinstance(self.pixels, Tensor):
            return _as_float(self.pixels[indices.to(self.pixels.device)], device), self.labels[indices.cpu()].to(device)
        groups = [part.tolist() for part in torch.tensor_split(indices.cpu(), cores())]
        loaded = list(stream(self.pixels.load, groups))
        self.pixels.check([failure for part in loaded for failure in part.failures])
        labels = self.labels[torch.tensor([place for part in loaded for place in part.places], dtype=torch.int64)]
        return _as_float(torch.cat([part.pixels for part in loaded]), device), labels.to(device)

    def batches(
        self, batch_size: int, *, device: torch.device, part: Part = WHOLE
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All images in order; files are decoded a few batches ahead.

        Args:
            batch_size: images in a batch.
            device: where they go.
            part: of several processes that deal the batches out among them, this one.

        Shape:
            yields indices (B,) int64 on the CPU, then what `batch` returns.

        Raises:
            DatasetError: an image file is corrupt; it is named.
        """
        if isinstance(self.pixels, Tensor):
            for indices in torch.arange(len(self)).split(batch_size)[part.rank :: part.size]:  # type: ignore[no-untyped-call]
                rows = slice(int(indices[0]), int(indices[-1]) + 1)
                yield indices, _as_float(self.pixels[rows], device), self.labels[rows].to(device)
            return
        groups = grouped(len(self), batch_size)[part.rank :: part.size]
        for loaded in stream(self.pixels.load, groups):
            self.pixels.check(loaded.failures)
            if loaded.places:
                indices = torch.tensor(loaded.places)
                yield indices, _as_float(loaded.pixels, device), self.labels[indices].to(device)

    def to(self, device: torch.device) -> Self:
        """The set with its pixels on the device, where they are in memory and take at most half of what is free."""
        if not isinstance(self.pixels, Tensor) or self.pixels.device == device:
            return self
        if device.type == "cuda" and self.pixels.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
            return self
        return replace(self, pixels=self.pixels.to(device))


@dataclass(frozen=True, kw_only=True)
class MultiLabelSet(ImageSet):
    """Images that may each show objects of several classes: an `ImageSet` with a row of labels an image.

    Shape:
        labels: (N, K) float32 of 0 and 1, on the CPU. boxes: (M, 4) int64, of all objects of all images in order, as in
        `ImageSet`, or None. owners: (M, 2) int64, the image of each object and its class.
    """

    owners: Tensor

    def masks(self, indices: Tensor, classes: Tensor | None = None) -> Tensor:
        """The true masks of all objects in the images at `indices`, or of one class in each.

        Shape:
            indices: (B,) int64; classes: (B,) int64, or None for all; result: (B, 1, S, S) bool, on the CPU.

        Raises:
            DatasetError: the set has no masks, or one of these images has none, or its file is damaged.
        """
        maps = self._label_maps(indices)
        return maps > 0 if classes is None else maps == classes.cpu()[:, None, None, None] + 1

    def take(self, rows: Tensor) -> Self:
        """The images at `rows` (N',) int64 on the CPU, in that order, under the same fingerprint."""
        image_of = self.owners[:, 0].contiguous()
        first = torch.searchsorted(image_of, rows)
        counts = torch.searchsorted(image_of, rows, right=True) - first
        images = torch.repeat_interleave(torch.arange(len(rows)), counts)
        objects = torch.arange(len(images)) + torch.repeat_interleave(first - counts.cumsum(0) + counts, counts)
        taken = ImageSet.take(replace(self, boxes=None), rows)
        return replace(
            taken,
            owners=torch.stack([images, self.owners[objects, 1]], 1),
            boxes=None if self.boxes is None else self.boxes[objects],
        )

    def _strata(self) -> Iterator[Tensor]:
        """All images: their classes overlap."""
        yield torch.arange(len(self))


def _as_float(pixels: Tensor, device: torch.device) -> Tensor:
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    if device.type == "cuda" and pixels.device.type == "cpu":
        pixels = pixels.pin_memory().to(device, non_blocking=True)
    return pixels.to(device).to(torch.float32).div_(255)
