"""Classification sets by name, with WordNet-named classes: small ones held in memory, large ones read as needed."""

import hashlib
import json
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from neuron_consistency.data.catalogue import open_source
from neuron_consistency.data.classification import Source
from neuron_consistency.data.files import cores, stream
from neuron_consistency.data.pixels import FilePixels
from neuron_consistency.errors import ParameterError
from neuron_consistency.store import atomic_path

FORMAT = 1  # of prepared images: one more makes every cached array and every fingerprint a new one
MEMORY = 4 << 30  # bytes of pixels beyond which a set stays on disk


@dataclass(frozen=True)
class ImageSet:
    """Images with WordNet-named classes.

    Attributes:
        name, split: "tiny-imagenet", "train".
        classes: display names; synsets: their wnids, one a class.
        fingerprint: identifies the content: the files (names with sizes or checksums) or the scenes' parameters and
            renderer, the chosen classes and images, and the image size.

    Shape:
        labels: (N,) int64, on the CPU. pixels: (N, 3, S, S) uint8, or files decoded as asked. boxes: (N, 4) int64,
        x0 y0 x1 y1 in pixels of these images, ends excluded, or None.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    synsets: tuple[str, ...]
    labels: Tensor
    pixels: Tensor | FilePixels
    fingerprint: str
    boxes: Tensor | None = None
    processes: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        return int(self.pixels.shape[-1])

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def subset(self, indices: Tensor) -> "ImageSet":
        """The images at `indices` (N',) int64, in that order. The fingerprint follows from this one's and them."""
        indices = indices.cpu()
        rows = indices.numpy()
        digest = hashlib.sha256(self.fingerprint.encode() + rows.astype("<i8").tobytes()).hexdigest()[:32]
        if isinstance(self.pixels, FilePixels):
            pixels: Tensor | FilePixels = replace(self.pixels, items=self.pixels.items[rows])
        else:
            pixels = self.pixels[indices.to(self.pixels.device)]
        boxes = None if self.boxes is None else self.boxes[indices]
        return replace(self, labels=self.labels[indices], pixels=pixels, fingerprint=digest, boxes=boxes)

    def split_off(self, fraction: float, *, seed: int) -> tuple["ImageSet", "ImageSet"]:
        """The rest, and a random `fraction` of each class (at least one image where it has two), in order.

        Raises:
            ParameterError: fraction outside [0, 1).
        """
        if not 0 <= fraction < 1:
            raise ParameterError(f"The fraction to split off must be in [0, 1), got {fraction}.")
        generator = torch.Generator().manual_seed(seed)
        held = torch.zeros(len(self), dtype=torch.bool)
        for label in range(self.num_classes):
            members = (self.labels == label).nonzero().squeeze(1)
            count = max(round(fraction * len(members)), int(fraction > 0 and len(members) > 1))
            held[members[torch.randperm(len(members), generator=generator)[:count]]] = True
        return self.subset((~held).nonzero().squeeze(1)), self.subset(held.nonzero().squeeze(1))

    def batch(self, indices: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images and labels at `indices`, on the device.

        Shape:
            indices: (B,) int64. Returns (B, 3, S, S) float32 in [0, 1], channels_last, and (B,) int64; fewer than B
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

    def batches(self, batch_size: int, *, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All images in order; files are decoded a few batches ahead, by `processes` worker processes or by threads.

        Shape:
            yields indices (B,) int64 on the CPU, then what `batch` returns.

        Raises:
            DatasetError: an image file is corrupt; it is named.
        """
        if isinstance(self.pixels, Tensor):
            for indices in torch.arange(len(self)).split(batch_size):  # type: ignore[no-untyped-call]
                part = slice(int(indices[0]), int(indices[-1]) + 1)
                yield indices, _as_float(self.pixels[part], device), self.labels[part].to(device)
            return
        for loaded in stream(self.pixels.load, self.pixels.groups(batch_size), self.processes):
            self.pixels.check(loaded.failures)
            if loaded.places:
                indices = torch.tensor(loaded.places)
                yield indices, _as_float(loaded.pixels, device), self.labels[indices].to(device)

    def to(self, device: torch.device) -> "ImageSet":
        """The set with its pixels on the device, where they are in memory and take at most half of what is free."""
        if not isinstance(self.pixels, Tensor) or self.pixels.device == device:
            return self
        if device.type == "cuda" and self.pixels.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
            return self
        return replace(self, pixels=self.pixels.to(device))


def _as_float(pixels: Tensor, device: torch.device) -> Tensor:
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    if device.type == "cuda" and pixels.device.type == "cpu":
        pixels = pixels.pin_memory().to(device, non_blocking=True)
    return pixels.to(device).to(torch.float32).div_(255)


def load_images(
    name: str,
    split: str,
    *,
    root: str | Path | None = None,
    image_size: int,
    classes: int | Sequence[str] | None = None,
    per_class: int | None = None,
    cache: Path | None = None,
    processes: int = 0,
    skip_corrupt: bool = False,
    download: bool = False,
    memory: int = MEMORY,
    **scene_options: Any,
) -> ImageSet:
    """A split of a classification set.

    Args:
        name: scenes, tiny-imagenet, imagenet, imagenette, cifar10, stl10, folder, or the path of a folder of classes.
        split: "train" or "val".
        root: the folder that holds the set, its archive or a part of it; None is NEURON_CONSISTENCY_DATA.
        image_size: side in pixels; photographs are resized (bilinear, antialiased) and cut to the central square.
        classes: so many, evenly spaced in the sorted list (of the scenes, the first so many); or those named.
        per_class: the first so many images of each class; None is all (of the scenes, 200 and 50).
        cache: a folder for prepared arrays; None prepares them anew each time.
        processes: worker processes that decode; 0 decodes with threads.
        skip_corrupt: leave unreadable images out, with a warning for each, instead of stopping.
        download: fetch the set where it has a public address and is not there.
        memory: bytes of pixels that may be held in memory; larger sets, and imagenet, stay files.
        scene_options: seed, background_correlation and variant of the rendered scenes.

    Raises:
        DatasetError: the set is missing, damaged, laid out otherwise, or has a class without a synset.
        ParameterError: unknown set, split or option; impossible size or number.
        StoreError: no space is left for the prepared arrays.
    """
    source = open_source(name, split, root, download=download, **scene_options)
    name = getattr(source, "name", name)
    fingerprint = _fingerprint(source, split, image_size, classes, per_class)
    prepared = cache / f"{Path(name).name}-{split}-{fingerprint[:16]}.safetensors" if cache is not None else None
    if prepared is not None and (found := _prepared(prepared, skip_corrupt)) is not None:
        return replace(found, name=name, split=split, fingerprint=fingerprint, processes=processes)
    listing = source.listing(classes, per_class)
    files = FilePixels(source, listing.items, image_size, skip_corrupt)
    images = ImageSet(
        name, split, listing.classes, listing.synsets, listing.labels, files, fingerprint,
        _scaled(listing.boxes, image_size), processes,
    )  # fmt: skip
    if source.file_backed or math.prod(files.shape) > memory:
        return images
    loaded = files.load_all(processes or source.processes)
    kept = torch.tensor(loaded.places)
    boxes = torch.tensor(loaded.boxes) if loaded.boxes else None if images.boxes is None else images.boxes[kept]
    images = replace(images, labels=images.labels[kept], pixels=loaded.pixels, boxes=boxes)
    if prepared is not None:
        _prepare(prepared, images, loaded.failures)
    return images


def dataset_fingerprint(
    name: str,
    split: str,
    *,
    root: str | Path | None = None,
    image_size: int,
    classes: int | Sequence[str] | None = None,
    per_class: int | None = None,
    **options: Any,
) -> str:
    """The fingerprint of `load_images` with the same arguments, found without decoding an image.

    Raises:
        DatasetError, ParameterError: as `load_images`.
    """
    for neutral in ("cache", "processes", "skip_corrupt", "memory"):
        options.pop(neutral, None)
    return _fingerprint(open_source(name, split, root, **options), split, image_size, classes, per_class)


def _fingerprint(
    source: Source, split: str, size: int, classes: int | Sequence[str] | None, per_class: int | None
) -> str:
    if size < 8:
        raise ParameterError(f"image_size must be at least 8 pixels, got {size}.")
    choice = list(classes) if isinstance(classes, Sequence) else classes
    parts = [FORMAT, type(source).__name__, source.signature(), split, size, choice, per_class]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _scaled(boxes: Tensor | None, size: int) -> Tensor | None:
    return None if boxes is None else (boxes * size).round().long()


def _prepare(path: Path, images: ImageSet, failures: list[str]) -> None:
    assert isinstance(images.pixels, Tensor)
    tensors = {"pixels": images.pixels.permute(0, 2, 3, 1), "labels": images.labels}
    if images.boxes is not None:
        tensors["boxes"] = images.boxes
    notes = {"classes": images.classes, "synsets": images.synsets, "failures": failures}
    with atomic_path(path) as part:
        try:
            safetensors.torch.save_file(tensors, part, {"notes": json.dumps(notes)})
        except safetensors.SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else 0, str(error)) from error


def _prepared(path: Path, skip_corrupt: bool) -> ImageSet | None:
    """What an earlier call prepared; None where there is nothing whole, or it left out images that this one may not."""
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            notes = json.loads(file.metadata()["notes"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, KeyError, ValueError):
        return None
    if notes["failures"] and not skip_corrupt:
        return None
    for failure in notes["failures"]:
        warnings.warn(f"Left out: {failure}", stacklevel=3)
    classes, synsets = tuple(notes["classes"]), tuple(notes["synsets"])
    pixels = tensors["pixels"].permute(0, 3, 1, 2)
    return ImageSet("", "", classes, synsets, tensors["labels"], pixels, "", tensors.get("boxes"))
