"""Pascal VOC in its official layout: several labels an image, a box for each object, and some images with masks."""

import io
import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from neuron_consistency import taxonomy
from neuron_consistency.data.archive import Files
from neuron_consistency.data.decode import fit_map, opened
from neuron_consistency.data.sources.base import FileSource, Layout, Listing, choose
from neuron_consistency.data.text import text_of
from neuron_consistency.errors import DatasetError

SETS = {  # by year and split: the official list of images; labels of the test images of 2012 are not public
    "voc2007": {"train": "trainval", "val": "test"},
    "voc2012": {"train": "train", "val": "val"},
}
VOID = 255  # in a mask: the outlines, and what was not labelled


class Voc(FileSource):
    """ImageSets/Main/<set>.txt, Annotations/<image>.xml, JPEGImages/<image>.jpg, SegmentationClass/<image>.png.

    Whole images are squeezed into the square, so that no labelled object is cut off. An object marked difficult counts
    only where that is asked for: the official evaluation passes over such a class of an image, so here it is a 0. An
    image that shows no object of the chosen classes is left out.

    Source: Everingham et al. 2010, and the development kits of 2007 and 2012.
    """

    sets: ClassVar = {
        name: (
            f"VOCdevkit/{name.upper()}/ with ImageSets/Main/, Annotations/, JPEGImages/ and SegmentationClass/, or the "
            "official VOC*.tar",
            f"http://host.robots.ox.ac.uk/pascal/VOC/{name}/",
        )
        for name in SETS
    }
    options = ("difficult",)
    tells: ClassVar = {"boxes": "", "masks": ""}
    margin = None

    def __init__(self, name: str, split: str, files: Files, *, difficult: bool = False) -> None:
        super().__init__(name, split, files)
        self.difficult, self.list = difficult, f"ImageSets/Main/{SETS[name][split]}.txt"
        self.has_masks = files.has("SegmentationClass/")

    @staticmethod
    def layout(name: str, split: str, **options: Any) -> Layout:
        chosen, year = f"ImageSets/Main/{SETS[name][split]}.txt", name.upper()
        others = "train" if SETS[name][split] == "test" else "test"  # archives of the images not asked for
        archives = rf"VOC(?!{others})(devkit|.*{name[3:]}).*"
        return Layout(archives, (f"VOCdevkit/{year}", year, ""), lambda files: files.has(chosen), tar=True)

    @classmethod
    def download(cls, name: str, split: str, root: Path) -> None:
        from torchvision.datasets import VOCDetection

        VOCDetection(root, year=name[3:], image_set=SETS[name][split], download=True)

    def signature(self) -> str:
        self.require("Annotations/", "JPEGImages/")
        kinds = ["Annotations/", "JPEGImages/", *(["SegmentationClass/"] if self.has_masks else [])]
        return f"{self.name} {self.difficult} {self.files.signature(self.list, *kinds)}"

    def listing(self, classes: int | Sequence[str] | None, per_class: int | None) -> Listing:
        known = taxonomy.class_synsets("voc")
        names = list(choose({name: (name, wnid) for name, wnid in known.items()}, classes, self.name))
        place_of = {name: place for place, name in enumerate(names)}
        counts, items, labels = np.zeros(len(names), dtype=int), list[bytes](), list[Tensor]()
        boxes, owners = list[tuple[float, ...]](), list[tuple[int, int]]()
        there = {name.lower(): name for name in self.files.names("JPEGImages/")}
        for stem in self._stems():
            if (image := there.get(f"jpegimages/{stem}.jpg".lower())) is None:
                continue
            things = [(place_of[name], box) for name, box in self._things(stem) if name in place_of]
            present = sorted({place for place, _ in things})
            if not present or (per_class is not None and counts[present].min() >= per_class):
                continue
            counts[present] += 1
            owners += [(len(items), place) for place, _ in things]
            boxes += [box for _, box in things]
            labels.append(torch.zeros(len(names)).index_fill(0, torch.tensor(present), 1))
            items.append(image.encode())
        empty = [name for name, count in zip(names, counts, strict=True) if not count]
        if empty and (classes is not None or not items):  # a part of the archive keeps the classes of the whole
            raise DatasetError(f"{self.name} has no {self.split} images of {', '.join(empty[:5])} in {self.files}.")
        synsets, objects = tuple(known[name] for name in names), (torch.tensor(boxes), torch.tensor(owners))
        return Listing(tuple(names), synsets, torch.stack(labels), np.array(items), *objects)

    def has_mask(self, item: Any) -> bool:
        return self.files.has(_mask_file(item))

    def mask(self, item: Any, size: int, classes: Sequence[str]) -> Tensor:
        """Of the chosen classes; the outlines and what was not labelled count as background."""
        name = _mask_file(item)
        if not self.files.has(name):
            raise DatasetError(
                f"{self.files} has no {name}: only some images of VOC have masks. `masked` says which; take a `subset`."
            )
        numbers = [0] * 256
        for number, known in enumerate(taxonomy.class_synsets("voc"), 1):
            numbers[number] = 1 + classes.index(known) if known in classes else 0
        with opened(self.files.read(name), f"{self.files}/{name}") as coded:
            coded.load()
        if coded.mode not in ("P", "L"):
            raise DatasetError(f"{self.files}/{name} has colours, not numbers of classes. Unpack the official archive.")
        return torch.tensor(numbers, dtype=torch.uint8)[fit_map(coded, size, margin=None).long()]

    def _stems(self) -> list[str]:
        text = text_of(self.files.read(self.list), f"{self.files}/{self.list}")
        lines = [line.split() for line in text.splitlines() if line.strip()]
        if not lines:
            raise DatasetError(f"{self.files}/{self.list} lists no images. Unpack the official archive again.")
        return [line[0] for line in lines]

    def _things(self, stem: str) -> list[tuple[str, tuple[float, ...]]]:
        """The class of each object, and its box in a unit square; VOC's begin at pixel 1 and include their last."""
        name, known = f"Annotations/{stem}.xml", taxonomy.class_synsets("voc")
        try:
            root = ElementTree.parse(io.BytesIO(self.files.read(name))).getroot()
            if (year := root.findtext("folder", "").strip().lower()) in SETS and year != self.name:
                raise ValueError(f"it is of {year}, not of {self.name}")
            width, height = (float(root.findtext(f"size/{side}", "")) for side in ("width", "height"))
            things = []
            for thing in root.findall("object"):
                ends = [float(thing.findtext(f"bndbox/{at}", "")) for at in ("xmin", "ymin", "xmax", "ymax")]
                if not all(map(math.isfinite, (*ends, width, height))):
                    raise ValueError("a side is not a finite number")
                (x0, x1), (y0, y1) = sorted(ends[::2]), sorted(ends[1::2])
                box = ((x0 - 1) / width, (y0 - 1) / height, x1 / width, y1 / height)
                if (called := thing.findtext("name", "").strip().lower()) not in known:
                    raise ValueError(f"{called!r} is none of its classes")
                if self.difficult or thing.findtext("difficult", "0").strip() != "1":
                    things.append((called, tuple(min(max(end, 0.0), 1.0) for end in box)))
            return things
        except (ElementTree.ParseError, LookupError, ValueError, ZeroDivisionError) as error:
            raise DatasetError(
                f"{self.files}/{name} is not an annotation of {self.name} ({error}). Correct it, or unpack the "
                "official archive again."
            ) from error


def _mask_file(item: bytes) -> str:
    return f"SegmentationClass/{PurePosixPath(item.decode()).stem}.png"
