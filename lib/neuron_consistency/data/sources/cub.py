"""CUB-200-2011 in its official layout: photographs of 200 kinds of birds, with a box of each bird."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from neuron_consistency import taxonomy
from neuron_consistency.data.decode import fit_points, opened
from neuron_consistency.data.sources.base import FileSource, Layout, Listing, choose, gather
from neuron_consistency.data.text import is_number, text_of
from neuron_consistency.errors import DatasetError

BOXES = "bounding_boxes.txt"
PARTS = ("parts/parts.txt", "parts/part_locs.txt")  # not read, but among what identifies a copy
CURE = "Unpack the official CUB_200_2011.tgz again."


class Birds(FileSource):
    """images.txt and, by the numbers it gives, image_class_labels.txt, train_test_split.txt and bounding_boxes.txt."""

    archive = (
        "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
        "97eceeb196236b17998738112f37df78",
    )
    sets: ClassVar = {
        "cub200": (
            "CUB_200_2011/ or CUB_200_2011.tgz with the official images.txt, image_class_labels.txt, "
            "train_test_split.txt, bounding_boxes.txt, parts/ and images/",
            archive[0],
        )
    }
    tells: ClassVar = {"boxes": ""}

    @staticmethod
    def layout(name: str, split: str, **options: Any) -> Layout:
        return Layout(r"CUB_200_2011.*", ("", "CUB_200_2011"), lambda files: files.has("images.txt"), tar=True)

    def signature(self) -> str:
        self.require("images/")
        tables = ("images.txt", "classes.txt", "image_class_labels.txt", "train_test_split.txt", BOXES, *PARTS)
        return self.files.signature(*tables, "images/")

    def listing(self, classes: int | Sequence[str] | None, per_class: int | None) -> Listing:
        known = taxonomy.class_synsets("cub200")
        names = {number: name for number, (name,) in self._rows("classes.txt", 1).items()}
        if strange := sorted(set(names.values()) - set(known)):
            raise DatasetError(f"{self.files}/classes.txt: {strange[0]!r} is not a class of CUB-200-2011.")
        there = set(self.files.names("images/"))
        with_images = {item.split("/")[1] for item in there}  # a part of the archive: the classes that are there
        shown = {
            name: (name.partition(".")[2].replace("_", " "), wnid)
            for name, wnid in known.items()
            if name in names.values() and name in with_images
        }
        chosen = choose(shown, classes, self.name)
        images: dict[str, list[str]] = {name: [] for name in chosen}
        number_of = {}
        paths = {number: f"images/{path}" for number, (path,) in self._rows("images.txt", 1).items()}
        labels, halves = (self._rows(name, 1, of=paths) for name in ("image_class_labels.txt", "train_test_split.txt"))
        for number, item in sorted(paths.items(), key=lambda row: int(row[0])):
            name = names.get(labels[number][0], "")
            wanted = halves[number] == ["1" if self.split == "train" else "0"]
            if wanted and name in images and item in there:
                images[name].append(item)
                number_of[item] = number
        listing = gather(self, chosen, images, per_class)
        if not self.files.has(BOXES):
            return listing
        items = [item.decode() for item in listing.items]
        return replace(listing, boxes=self._boxes(items, [number_of[item] for item in items]))

    def _boxes(self, items: list[str], numbers: list[str]) -> Tensor:
        rows, found = self._rows(BOXES, 4, of=numbers), []
        for number in numbers:
            try:
                found.append([float(field) for field in rows[number]])
            except ValueError as error:
                raise DatasetError(
                    f"{self.files}/{BOXES}: {' '.join(rows[number])!r} holds no numbers. {CURE}"
                ) from error
        corner, side = torch.tensor(found).reshape(-1, 2, 2).unbind(1)
        sizes = torch.tensor([self._size(item) for item in items]).float()
        return fit_points(torch.stack([corner, corner + side], 1), sizes).clamp(0, 1).flatten(1)

    def _size(self, item: str) -> tuple[int, int]:
        """Width and height of an image; of one that cannot be read, which is dealt with where it is decoded, any."""
        with suppress(DatasetError), opened(self.files.read(item), item) as image:
            return image.size
        return 1, 1

    def _rows(self, name: str, fields: int, *, of: Iterable[str] = ()) -> dict[str, list[str]]:
        """A table of so many fields by its first column, the number of an image (it must know those `of`) or class."""
        text = text_of(self.files.read(name), f"{self.files}/{name}")
        lines = [line.split() for line in text.splitlines() if line.strip()]
        if wrong := [line for line in lines if not is_number(line[0]) or len(line) != fields + 1]:
            raise DatasetError(f"{self.files}/{name}: {' '.join(wrong[0])!r} is not a row of this table. {CURE}")
        rows = {number: row for number, *row in lines}
        if len(rows) < len(lines):
            raise DatasetError(f"{self.files}/{name} has a number twice. {CURE}")
        if missing := [number for number in of if number not in rows]:
            raise DatasetError(f"{self.files}/{name} has no row of image {missing[0]}. {CURE}")
        return rows
