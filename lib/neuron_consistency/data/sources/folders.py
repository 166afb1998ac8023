"""Datasets of photographs in folders or in torchvision's arrays."""

import functools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from neuron_consistency import taxonomy
from neuron_consistency.data.archive import Files, unpacked
from neuron_consistency.data.decode import fit
from neuron_consistency.data.sources.base import SPLITS, Box, FileSource, Layout, Listing, Source, choose, gather
from neuron_consistency.data.text import is_number, table_rows, text_of
from neuron_consistency.errors import DatasetError

CLASS_FOLDERS = "{train,val}/<class>/*.JPEG"
# the folders that torchvision makes, and the archives it makes them from
ARRAYS = {
    "cifar10": ("cifar-10-batches-py", "cifar-10-python.tar.gz"),
    "stl10": ("stl10_binary", "stl10_binary.tar.gz"),
}
BOXED = 64  # side of Tiny ImageNet's images, in whose pixels its boxes are


class TinyImageNet(FileSource):
    """The official layout: train/<wnid>/images and <wnid>_boxes.txt; val/images and val_annotations.txt.

    A copy whose images lie sorted in folders of classes, as others prepare it, is read, too; it tells no boxes.
    """

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
        wnids = sorted(text_of(self.files.read("wnids.txt"), f"{self.files}/wnids.txt").split())
        if self.files.has("train/"):  # a part of the archive: the classes that are there
            there = set(self.files.folders("train/"))
            wnids = [wnid for wnid in wnids if wnid in there]
        chosen = choose({wnid: (wnid, wnid) for wnid in wnids}, classes, self.name)
        boxes: dict[str, list[int]] = {}
        if self.split == "train" or not self.files.has("val/val_annotations.txt"):
            images = {wnid: self.images_in(f"{self.split}/{wnid}") for wnid in chosen}
        if self.split == "train":
            for wnid in filter(lambda wnid: self.files.has(f"train/{wnid}/{wnid}_boxes.txt"), chosen):
                for name, *box in self._rows(f"train/{wnid}/{wnid}_boxes.txt", 5):
                    boxes[f"train/{wnid}/images/{name}"] = [int(side) for side in box]
        elif self.files.has("val/val_annotations.txt"):
            self.require("val/images/")
            images, there = {wnid: [] for wnid in chosen}, set(self.images_in("val/images"))
            for name, wnid, *box in sorted(self._rows("val/val_annotations.txt", 6)):
                if wnid in images and f"val/images/{name}" in there:
                    images[wnid].append(f"val/images/{name}")
                    boxes[f"val/images/{name}"] = [int(side) for side in box]
        listing = gather(self, chosen, images, per_class)
        names = [item.decode() for item in listing.items]
        if not all(name in boxes for name in names):
            return listing
        corners = torch.tensor([boxes[name] for name in names]) + torch.tensor([0, 0, 1, 1])  # ends excluded
        return replace(listing, boxes=corners / BOXED)

    def _rows(self, name: str, fields: int) -> list[list[str]]:
        lines = text_of(self.files.read(name), f"{self.files}/{name}").splitlines()
        rows = [line.split("\t") for line in lines if line]
        wrong = [row for row in rows if len(row) != fields or not all(map(is_number, row[-4:]))]
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
        if name == "imagenette":
            return Layout(r"imagenette2?.*", ("", "*"), of_wnids, tar=True)
        return Layout(r"(imagenet(?!te).*|ILSVRC.*)", ("", "*"), of_wnids)

    @classmethod
    def download(cls, name: str, split: str, root: Path) -> None:
        from torchvision.datasets import Imagenette

        if name == "imagenette":
            Imagenette(root, split, size="320px", download=True)

    def __init__(self, name: str, split: str, files: Files) -> None:
        super().__init__(name, split, files)
        self.own, self.file_backed = name == "folder", name == "imagenet"
        self.margin = 1 if self.own else 256 / 224
        # a folder of that name that holds no folders is one of images, of railway trains
        self.halves = any(files.has(f"{half}/") and files.folders(f"{half}/") for half in SPLITS)
        if self.halves and not files.has(f"{split}/"):
            raise DatasetError(f"{files} has no folder {split}/, only the other split.")
        self.places = ("train/" if files.has("train/") else f"{split}/", f"{split}/") if self.halves else ("", "")

    def signature(self) -> str:
        content = self.files.signature("synsets.csv", "synsets.tsv", self.places[1])
        return f"{content} {self.files.folders(self.places[0])}"

    def listing(self, classes: int | Sequence[str] | None, per_class: int | None) -> Listing:
        table = self._synsets()
        known = {name: (name, self._synset(name, table)) for name in self.class_folders()}
        chosen = choose(known, classes, self.name)
        return gather(self, chosen, {folder: self._images(folder) for folder in chosen}, per_class)

    def class_folders(self) -> list[str]:
        """Names of the folders that are classes."""
        return self.files.folders(self.places[0])

    def _images(self, folder: str) -> list[str]:
        names = self.images_in(f"{self.places[1]}{folder}")
        if self.halves or self.split not in SPLITS:
            return names
        return [name for place, name in enumerate(names) if (place % 5 == 4) == (self.split == "val")]

    def _synset(self, folder: str, table: dict[str, str]) -> str:
        if self.own:
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
        for name in ("synsets.csv", "synsets.tsv"):
            if self.files.has(name):
                rows = table_rows(self.files.read(name), f"{self.files}/{name}")
                if any(len(row) < 2 for row in rows):
                    raise DatasetError(f"{self.files}/{name}: each line needs a class and its synset.")
                return {row[0]: row[1] for row in rows}
        return {}


class Arrays(Source):
    """CIFAR-10 and STL-10, read by torchvision, which checks their sums."""

    sets: ClassVar = {
        "cifar10": ("{}/ or {}".format(*ARRAYS["cifar10"]), "https://www.cs.toronto.edu/~kriz/cifar.html"),
        "stl10": ("{}/ or {}".format(*ARRAYS["stl10"]), "https://cs.stanford.edu/~acoates/stl10/"),
    }

    @classmethod
    def open(cls, name: str, split: str, root: Path | None, *, download: bool, **options: Any) -> Source | None:
        folder, archive = ARRAYS[name]
        if root is not None and not (root / folder).is_dir() and (root / archive).is_file():
            root = unpacked(root / archive)
        if root is None or not ((root / folder).is_dir() or download):
            return None
        return cls(name, split, root, download=download)

    def __init__(self, name: str, split: str, root: Path, *, download: bool) -> None:
        self.name, self.split, self.root, self.download = name, split, root, download
        self.folder = root / ARRAYS[name][0]
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
            # 2.6 of its 3 GB are images without labels, which nothing here reads, and need not be there
            labelled = {"train_list": [entry for entry in STL10.train_list if "unlabeled" not in entry[0]]}
            kind = STL10 if self.download else type("STL10", (STL10,), labelled)
            stl = kind(self.root, split="train" if self.split == "train" else "test", download=self.download)
            return torch.from_numpy(stl.data), np.array(stl.labels)
        except (RuntimeError, OSError, ValueError) as error:
            raise DatasetError(f"{self.folder} is incomplete or damaged, or cannot be fetched ({error}).") from error

    def listing(self, classes: int | Sequence[str] | None, per_class: int | None) -> Listing:
        known = {name: (name, wnid) for name, wnid in taxonomy.class_synsets(self.name).items()}
        images = {name: np.flatnonzero(self._content[1] == number).tolist() for number, name in enumerate(known)}
        return gather(self, choose(known, classes, self.name), images, per_class)

    def read(self, item: Any, size: int, classes: Sequence[str]) -> tuple[Tensor, list[Box]]:
        return fit(self._content[0][int(item)], size), []
