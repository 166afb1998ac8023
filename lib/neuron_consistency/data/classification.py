"""What a split of a classification set holds: one kind of source for each layout."""

import csv
import difflib
import functools
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from neuron_consistency import taxonomy
from neuron_consistency.data.decoding import decode_image, fit
from neuron_consistency.data.files import Files, unpacked
from neuron_consistency.errors import DatasetError, ParameterError

SPLITS = ("train", "val")
IMAGES = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".ppm")
CLASS_FOLDERS = "{train,val}/<class>/*.JPEG"
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
    """One split of a set, found but not read. A class of sources serves the `sets` it names, and registers by that.

    Attributes:
        sets: names of the sets, each with what is accepted on disk and where it is to be had.
        options: names of what may be chosen beside the split.
        tells: what its sets know of an image ("boxes", "masks", "labels" where one may have several), and under what
            condition ("" is always).
        strange: what is said of other options.
        processes: worker processes where the caller names none: reading files is well served by threads.
    """

    sets: ClassVar[dict[str, tuple[str, str]]] = {}
    options: ClassVar[tuple[str, ...]] = ()
    tells: ClassVar[dict[str, str]] = {}
    strange: ClassVar[str] = "Options that {!r} does not have"
    name: str
    file_backed = False
    has_masks = False
    processes = 0

    @classmethod
    def open(cls, name: str, split: str, root: Path | None, *, download: bool, **options: Any) -> "Source | None":
        """The split in the folder `root`, fetched where that is wanted and possible; None where it is not there."""
        raise NotImplementedError

    @abstractmethod
    def signature(self) -> str:
        """A hash that changes with the content, found without decoding an image."""

    @abstractmethod
    def listing(self, classes: int | Sequence[str] | None, per_class: int | None) -> Listing:
        """The first `per_class` images of each of the chosen classes."""

    @abstractmethod
    def read(self, item: Any, size: int, classes: Sequence[str]) -> tuple[Tensor, list[Box]]:
        """A listed image (3, size, size) uint8; and its boxes, from a source that knows them only then.

        `classes` are those of its listing.
        """

    def has_mask(self, item: Any) -> bool:
        """Whether `mask` can read one."""
        return self.has_masks

    def mask(self, item: Any, size: int, classes: Sequence[str]) -> Tensor:
        """Where the objects of an image are: (size, size) uint8, 0 the background, c + 1 the c-th class (or just 1)."""
        raise DatasetError(f"{self.name} has no masks of its objects.")


@dataclass(frozen=True)
class Layout:
    """Where a split may be.

    Attributes:
        archives: a pattern of the names of the set's folders and archives.
        folders: at or in these, the folders that may hold it; "*" is every one directly inside.
        known: whether a folder holds it.
        first: a name taken before the others.
        tar: whether it is also found in tar archives, which are unpacked.
    """

    archives: str
    folders: tuple[str, ...]
    known: Callable[[Files], bool]
    first: str = ""
    tar: bool = False

    def find(self, root: Path) -> Files | None:
        """The first fitting folder at or in `root`, folders before archives."""
        inside = root.iterdir() if root.is_dir() else ()
        named = [path for path in inside if re.fullmatch(self.archives, path.name)]
        for place in [root, *sorted(named, key=lambda path: (path.is_file(), path.name != self.first, path.name))]:
            if self.tar and place.is_file() and re.search(r"\.(tar(\.\w+)?|tgz)$", place.name):
                place = unpacked(place)
            elif place.is_file() and place.suffix != ".zip" and (self.tar or place != root):
                continue
            files = Files(place)
            below = files.folders() if "*" in self.folders and (files.zip or place != root) else []
            for name in [name for folder in self.folders for name in (below if folder == "*" else [folder])]:
                inner = files.within(name) if name else files
                if self.known(inner):
                    return inner
        return None


class FileSource(Source):
    """Image files, each read and fitted as asked for."""

    archive: ClassVar[tuple[str, str] | None] = None  # address and MD5 of one that holds the set
    margin: float = 1

    def __init__(self, name: str, split: str, files: Files) -> None:
        self.name, self.split, self.files = name, split, files

    @staticmethod
    @abstractmethod
    def layout(name: str, split: str, **options: Any) -> Layout:
        """Where the split may be.

        Raises:
            ParameterError: an option has an impossible value.
        """

    @classmethod
    def open(cls, name: str, split: str, root: Path | None, *, download: bool, **options: Any) -> "Source | None":
        layout = cls.layout(name, split, **options)
        if root is None:
            return None
        files = layout.find(root)
        if files is None and download:
            try:
                cls.download(name, split, root)
            except (OSError, RuntimeError) as error:
                raise DatasetError(
                    f"{name} cannot be downloaded ({error}). Get it from {cls.sets[name][1]}."
                ) from error
            files = layout.find(root)
        return None if files is None else cls(name, split, files, **options)

    @classmethod
    def download(cls, name: str, split: str, root: Path) -> None:
        """Fetches the split into the folder, where it has a public address."""
        from torchvision.datasets.utils import download_url

        if cls.archive is not None:
            download_url(cls.archive[0], root, md5=cls.archive[1])

    def require(self, *folders: str) -> None:
        """Raise DatasetError where a folder of the layout is not there."""
        if missing := [folder for folder in folders if not self.files.has(folder)]:
            raise DatasetError(f"{self.files} has no folder {missing[0]}: unpack the official archive there again.")

    def read(self, item: Any, size: int, classes: Sequence[str]) -> tuple[Tensor, list[Box]]:
        name = item.decode()
        return fit(decode_image(self.files.read(name), f"{self.files}/{name}"), size, margin=self.margin), []


class TinyImageNet(FileSource):
    """The official layout: train/<wnid>/images and <wnid>_boxes.txt; val/images and val_annotations.txt."""

    archive = ("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de")
    sets: ClassVar = {
        "tiny-imagenet": (
            "tiny-imagenet-200/ or tiny-imagenet*.zip with the official wnids.txt, train/ and val/",
            archive[0],
        )
    }
    tells: ClassVar = {"boxes": ""}

    @staticmethod
    def layout(name: str, split: str, **options: Any) -> Layout:
        def known(files: Files) -> bool:
            return files.has("wnids.txt") and files.has(f"{split}/")

        return Layout(r"tiny-imagenet.*", ("", "*"), known, first="tiny-imagenet-200")

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
        return replace(listing, boxes=corners / BOXED)

    def _rows(self, name: str, fields: int) -> list[list[str]]:
        rows = [line.split("\t") for line in self.files.read(name).decode().splitlines() if line]
        wrong = [row for row in rows if len(row) != fields or not all(side.isdigit() for side in row[-4:])]
        if wrong:
            raise DatasetError(f"{self.files}/{name}: {wrong[0]} is not a row of a Tiny ImageNet list of boxes.")
        return rows


class ByFolder(FileSource):
    """A folder a class: torchvision's ImageFolder layout, classes named by wnid or mapped to synsets by a file."""

    sets: ClassVar = {
        "imagenet": (
            f"imagenet*/, ILSVRC*/ or a zip of that name with {CLASS_FOLDERS}",
            "https://image-net.org/download.php",
        ),
        "imagenette": (f"imagenette2*/ with {CLASS_FOLDERS}", "https://github.com/fastai/imagenette"),
        "folder": (f"{CLASS_FOLDERS}, or <class>/*.jpg, and synsets.csv (class,synset)", "any folder of your own"),
    }

    @staticmethod
    def layout(name: str, split: str, **options: Any) -> Layout:
        def of_wnids(files: Files) -> bool:
            return files.has(f"{split}/") and bool(re.match(r"n\d{8}", "".join(files.folders(f"{split}/")[:1])))

        def of_any(files: Files) -> bool:
            return not files.zip or any(files.has(n) for n in ("train/", "val/", "synsets.csv", "synsets.tsv"))

        if name == "folder":
            return Layout(r"(?!)", ("", "*"), of_any)
        archives = r"imagenette2?.*" if name == "imagenette" else r"(imagenet(?!te).*|ILSVRC.*)"
        return Layout(archives, ("", "*"), of_wnids)

    @classmethod
    def download(cls, name: str, split: str, root: Path) -> None:
        from torchvision.datasets import Imagenette

        if name == "imagenette":
            Imagenette(root, split, size="320px", download=True)

    def __init__(self, name: str, split: str, files: Files) -> None:
        super().__init__(name, split, files)
        self.file_backed, self.margin = name == "imagenet", 1 if name == "folder" else 256 / 224
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

    sets: ClassVar = {
        "cifar10": (ARRAYS["cifar10"] + "/", "https://www.cs.toronto.edu/~kriz/cifar.html"),
        "stl10": (ARRAYS["stl10"] + "/", "https://cs.stanford.edu/~acoates/stl10/"),
    }

    @classmethod
    def open(cls, name: str, split: str, root: Path | None, *, download: bool, **options: Any) -> Source | None:
        if root is None or not ((root / ARRAYS[name]).is_dir() or download):
            return None
        return cls(name, split, root, download=download)

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

    def read(self, item: Any, size: int, classes: Sequence[str]) -> tuple[Tensor, list[Box]]:
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
