"""What a split of a classification set holds: one kind of source for each layout."""

import csv
import difflib
import functools
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuron_consistency import taxonomy
from neuron_consistency.data.decoding import decode_image, fit
from neuron_consistency.data.files import Files
from neuron_consistency.errors import DatasetError, ParameterError

SPLITS = ("train", "val")
IMAGES = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".ppm")
ARRAYS = {"cifar10": "cifar-10-batches-py", "stl10": "stl10_binary"}  # the folders torchvision makes
Box = tuple[int, int, int, int]
BOXED = 64  # side of Tiny ImageNet's images, in whose pixels its boxes are


@dataclass(frozen=True)
class Listing:
    """The chosen images of a split: `items` are what the source reads them by.

    Shape:
        labels: (N,) int64, or (N, K) float32 of 0 and 1 where an image may have several; items: (N,) names or numbers;
        boxes: (N, 4) in a unit square, or None; parts: (N, P, 2) in a unit square, NaN where not visible, or None;
        owners: (M, 2) int64, the image and the class of each of M boxes where an image may have several.
    """

    classes: tuple[str, ...]
    synsets: tuple[str, ...]
    labels: Tensor
    items: np.ndarray
    boxes: Tensor | None = None
    parts: Tensor | None = None
    part_names: tuple[str, ...] = ()
    owners: Tensor | None = None


class Source(ABC):
    """One split of a set, found but not read."""

    name: str
    file_backed = False
    has_masks = False
    processes = 0  # worker processes where the caller names none: reading files is well served by threads

    @abstractmethod
    def signature(self) -> str:
        """A hash that changes with the content, found without decoding an image."""

    @abstractmethod
    def listing(self, classes: int | Sequence[str] | None, per_class: int | None) -> Listing:
        """The first `per_class` images of each of the chosen classes."""

    @abstractmethod
    def read(self, item: Any, size: int) -> tuple[Tensor, list[Box]]:
        """An image (3, size, size) uint8; and its boxes, from a source that knows them only then."""

    def has_mask(self, item: Any) -> bool:
        """Whether `mask` can read one."""
        return self.has_masks

    def mask(self, item: Any, size: int) -> Tensor:
        """Where the objects of an image are: (size, size) uint8, 0 the background, c + 1 the c-th class (or just 1)."""
        raise DatasetError(f"{self.name} has no masks of its objects.")


class FileSource(Source):
    """Image files, each read and fitted as asked for."""

    def __init__(self, name: str, split: str, files: Files, *, margin: float) -> None:
        self.name, self.split, self.files, self.margin = name, split, files, margin
        self.file_backed = name == "imagenet"

    def read(self, item: Any, size: int) -> tuple[Tensor, list[Box]]:
        name = item.decode()
        return fit(decode_image(self.files.read(name), f"{self.files}/{name}"), size, margin=self.margin), []


class TinyImageNet(FileSource):
    """The official layout: train/<wnid>/images and <wnid>_boxes.txt; val/images and val_annotations.txt."""

    def signature(self) -> str:
        return self.files.signature("wnids.txt", f"{self.split}/")

    def listing(self, classes: int | Sequence[str] | None, per_class: int | None) -> Listing:
        wnids = sorted(self.files.read("wnids.txt").decode().split())
        if self.files.has("train/"):  # a part of the archive: the classes that are there
            there = set(self.files.folders("train/"))
            wnids = [wnid for wnid in wnids if wnid in there]
        chosen = choose(wnids, wnids, classes, self.name)
        boxes: dict[str, list[int]] = {}
        images: dict[str, list[str]] = {wnids[i]: [] for i in chosen}
        if self.split == "train":
            for wnid in images:
                images[wnid] = self.files.names(f"train/{wnid}/images/")
                if self.files.has(f"train/{wnid}/{wnid}_boxes.txt"):
                    for name, *box in self._rows(f"train/{wnid}/{wnid}_boxes.txt", 5):
                        boxes[f"train/{wnid}/images/{name}"] = [int(side) for side in box]
        else:
            there = set(self.files.names("val/images/"))
            for name, wnid, *box in sorted(self._rows("val/val_annotations.txt", 6)):
                if wnid in images and f"val/images/{name}" in there:
                    images[wnid].append(f"val/images/{name}")
                    boxes[f"val/images/{name}"] = [int(side) for side in box]
        listing = gather(self.name, self.split, [*images], [*images], list(images.values()), per_class)
        names = [item.decode() for item in listing.items]
        if not all(name in boxes for name in names):
            return listing
        corners = torch.tensor([boxes[name] for name in names]) + torch.tensor([0, 0, 1, 1])  # ends excluded
        return Listing(listing.classes, listing.synsets, listing.labels, listing.items, corners / BOXED)

    def _rows(self, name: str, fields: int) -> list[list[str]]:
        rows = [line.split("\t") for line in self.files.read(name).decode().splitlines() if line]
        wrong = [row for row in rows if len(row) != fields or not all(side.isdigit() for side in row[-4:])]
        if wrong:
            raise DatasetError(f"{self.files}/{name}: {wrong[0]} is not a row of a Tiny ImageNet list of boxes.")
        return rows


class ByFolder(FileSource):
    """A folder a class: torchvision's ImageFolder layout, classes named by wnid or mapped to synsets by a file."""

    def __init__(self, name: str, split: str, files: Files, *, margin: float) -> None:
        super().__init__(name, split, files, margin=margin)
        self.halves = any(files.has(f"{half}/") for half in SPLITS)
        if self.halves and not files.has(f"{split}/"):
            raise DatasetError(f"{files} has no folder {split}/, only the other split.")
        self.places = ("train/" if files.has("train/") else f"{split}/", f"{split}/") if self.halves else ("", "")

    def signature(self) -> str:
        content = self.files.signature("synsets.csv", "synsets.tsv", self.places[1])
        return f"{content} {self.files.folders(self.places[0])}"

    def listing(self, classes: int | Sequence[str] | None, per_class: int | None) -> Listing:
        folders = self.files.folders(self.places[0])
        table = self._synsets()
        synsets = [self._synset(folder, table) for folder in folders]
        chosen = choose(folders, synsets, classes, self.name)
        images = [self._images(folders[i]) for i in chosen]
        return gather(
            self.name, self.split, [folders[i] for i in chosen], [synsets[i] for i in chosen], images, per_class
        )

    def _images(self, folder: str) -> list[str]:
        names = [n for n in self.files.names(f"{self.places[1]}{folder}/") if n.lower().endswith(IMAGES)]
        if self.halves:
            return names
        return [name for place, name in enumerate(names) if (place % 5 == 4) == (self.split == "val")]

    def _synset(self, folder: str, table: dict[str, str]) -> str:
        if self.name == "folder":
            try:
                return taxonomy.resolve(table.get(folder, folder))
            except DatasetError as error:
                raise DatasetError(
                    f"{error} Name the synset of folder {folder!r} in {self.files}/synsets.csv (class,synset)."
                ) from error
        if not re.fullmatch(r"n\d{8}", folder):
            raise DatasetError(f"{self.files}: class folder {folder!r} is not named by a wnid (n02123045).")
        return taxonomy.resolve(folder)

    def _synsets(self) -> dict[str, str]:
        for name, separator in (("synsets.csv", ","), ("synsets.tsv", "\t")):
            if self.files.has(name):
                rows = list(csv.reader(io.StringIO(self.files.read(name).decode("utf-8-sig")), delimiter=separator))
                if any(len(row) < 2 for row in rows if row):
                    raise DatasetError(f"{self.files}/{name}: each line needs a class and its synset.")
                return {row[0].strip(): row[1].strip() for row in rows if row}
        return {}


class Arrays(Source):
    """CIFAR-10 and STL-10, read by torchvision, which checks their sums."""

    def __init__(self, name: str, split: str, root: Path, *, download: bool) -> None:
        self.name, self.split, self.root, self.download = name, split, root, download
        self.folder = root / ARRAYS[name]
        if not self.folder.is_dir():
            self._content  # noqa: B018  (torchvision fetches it)

    def signature(self) -> str:
        return Files(self.folder).signature("")

    @functools.cached_property
    def _content(self) -> tuple[Tensor, np.ndarray]:
        from torchvision.datasets import CIFAR10, STL10

        try:
            if self.name == "cifar10":
                cifar = CIFAR10(self.root, train=self.split == "train", download=self.download)
                return torch.from_numpy(cifar.data).permute(0, 3, 1, 2), np.array(cifar.targets)
            stl = STL10(self.root, split="train" if self.split == "train" else "test", download=self.download)
            return torch.from_numpy(stl.data), np.array(stl.labels)
        except (RuntimeError, OSError, ValueError) as error:
            raise DatasetError(f"{self.folder} is incomplete or damaged, or cannot be fetched ({error}).") from error

    def listing(self, classes: int | Sequence[str] | None, per_class: int | None) -> Listing:
        known = taxonomy.class_synsets(self.name)
        chosen = choose([*known], [*known.values()], classes, self.name)
        labels = self._content[1]
        images = [np.flatnonzero(labels == i).tolist() for i in chosen]
        synsets = [[*known.values()][i] for i in chosen]
        return gather(self.name, self.split, [[*known][i] for i in chosen], synsets, images, per_class)

    def read(self, item: Any, size: int) -> tuple[Tensor, list[Box]]:
        return fit(self._content[0][int(item)], size), []


def choose(
    names: Sequence[str], synsets: Sequence[str], classes: int | Sequence[str] | None, dataset: str
) -> list[int]:
    """Places of the chosen classes: all, `classes` evenly spaced ones, or those named (by name, synset or lemma)."""
    if classes is None:
        return list(range(len(names)))
    if isinstance(classes, int):
        if not 1 <= classes <= len(names):
            raise ParameterError(f"classes={classes}, but this copy of {dataset} has {len(names)} classes.")
        return [place * len(names) // classes for place in range(classes)]
    places = {}
    for place, (name, wnid) in enumerate(zip(names, synsets, strict=True)):
        own = [] if synsets.count(wnid) > 1 else [taxonomy.lemma(wnid).lower(), taxonomy.synset_name(wnid), wnid]
        for key in [*own, name]:  # a synset that several classes share names none of them
            places[key] = place
    for name in classes:
        if name not in places and name.lower() not in places:
            close = ", ".join(difflib.get_close_matches(name.lower(), places, n=3, cutoff=0.4))
            raise DatasetError(f"Unknown class {name!r} of {dataset}. Closest: {close or ', '.join(names[:10])}.")
    return [places.get(name, places.get(name.lower(), -1)) for name in classes]


def gather(
    dataset: str,
    split: str,
    names: Sequence[str],
    synsets: Sequence[str],
    images: Sequence[Sequence[str] | Sequence[int]],
    per_class: int | None,
) -> Listing:
    """The first `per_class` images of each class as one list."""
    if per_class is not None and per_class < 1:
        raise ParameterError(f"per_class must be at least 1, got {per_class}.")
    empty = [name for name, own in zip(names, images, strict=True) if not own]
    if empty or not names:
        raise DatasetError(f"{dataset} has no {split} images of {', '.join(empty[:5]) or 'any class'}.")
    kept = [own[:per_class] for own in images]
    items = [item.encode() if isinstance(item, str) else item for own in kept for item in own]
    labels = torch.repeat_interleave(torch.arange(len(kept)), torch.tensor([len(own) for own in kept]))
    return Listing(_display(names, synsets), tuple(synsets), labels, np.array(items))


def _display(names: Sequence[str], synsets: Iterable[str]) -> tuple[str, ...]:
    """Class names for tables: a wnid becomes its lemma, with the wnid where two share it (crane, maillot)."""
    shown = [
        taxonomy.lemma(wnid) if name == wnid else name.replace("_", " ")
        for name, wnid in zip(names, synsets, strict=True)
    ]
    return tuple(f"{text} ({name})" if shown.count(text) > 1 else text for text, name in zip(shown, names, strict=True))
