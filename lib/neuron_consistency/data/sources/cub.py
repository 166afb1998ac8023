"""CUB-200-2011 in its official layout: photographs of 200 kinds of birds, with a box and 15 parts of each bird."""

import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from neuron_consistency import taxonomy
from neuron_consistency.data.decode import fit_points, readable
from neuron_consistency.data.sources.base import FileSource, Layout, Listing, choose, gather
from neuron_consistency.errors import DatasetError

BOXES = "bounding_boxes.txt"
PARTS = ("parts/parts.txt", "parts/part_locs.txt")


class _Numbered(dict[str, Any]):
    """What a table tells by number, of which a missing one is an error."""

    missing: str

    def __missing__(self, number: str) -> Any:
        raise DatasetError(self.missing.format(number))


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
        tables = ("classes.txt", "image_class_labels.txt", "train_test_split.txt", BOXES, *PARTS)
        return self.files.signature("images.txt", *(name for name in tables if self.files.has(name)), "images/")

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
        labels, halves = self._rows("image_class_labels.txt", 1), self._rows("train_test_split.txt", 1)
        for number, (path,) in sorted(self._rows("images.txt", 1).items(), key=lambda row: int(row[0])):
            name, item = names.get(labels[number][0], ""), f"images/{path}"
            wanted = halves[number][0] == ("1" if self.split == "train" else "0")
            if wanted and name in images and item in there:
                images[name].append(item)
                number_of[item] = number
        listing = gather(self, chosen, images, per_class)
        items = [item.decode() for item in listing.items]
        numbers = [number_of[item] for item in items]
        sizes = torch.tensor([self._size(item) for item in items]).float()
        names_of_parts, parts = self._parts(numbers, sizes)
        return replace(listing, boxes=self._boxes(numbers, sizes), parts=parts, part_names=names_of_parts)

    def _size(self, item: str) -> tuple[int, int]:
        """Width and height of an image; of one that cannot be read, which is dealt with where it is decoded, any."""
        with suppress(DatasetError), readable(item), Image.open(io.BytesIO(self.files.read(item))) as image:
            return image.size
        return 1, 1

    def _boxes(self, numbers: list[str], sizes: Tensor) -> Tensor | None:
        if not self.files.has(BOXES):
            return None
        rows = self._rows(BOXES, 4)
        found = [self._numbers(rows[number], BOXES) for number in numbers]
        corner, side = torch.tensor(found).reshape(-1, 2, 2).unbind(1)
        corners = torch.stack([corner, corner + side], 1)
        return fit_points(corners, sizes).clamp(0, 1).flatten(1)

    def _parts(self, numbers: list[str], sizes: Tensor) -> tuple[tuple[str, ...], Tensor | None]:
        """The parts' names and where each is seen; NaN where it is not, or is cut off with the image's edges."""
        if not all(self.files.has(name) for name in PARTS):
            return (), None
        names = {number: " ".join(words) for number, words in self._rows(PARTS[0], None).items()}
        place_of = {number: place for place, number in enumerate(numbers)}
        points = torch.full((len(numbers), len(names), 2), torch.nan)
        order = _Numbered({number: place for place, number in enumerate(names)})
        order.missing = f"{self.files}/{PARTS[1]}: there is no part {{}} in {PARTS[0]}. {self._cure}"
        for line in self._lines(PARTS[1], 5):
            if line[0] in place_of:
                x, y, visible = self._numbers(line[2:], PARTS[1])
                if visible:
                    points[place_of[line[0]], order[line[1]]] = torch.tensor([x, y])
        points = fit_points(points, sizes)
        seen = ((points >= 0) & (points <= 1)).all(2, keepdim=True)
        return tuple(names.values()), torch.where(seen, points, torch.nan)

    @property
    def _cure(self) -> str:
        return "Unpack the official CUB_200_2011.tgz again."

    def _rows(self, name: str, fields: int | None) -> _Numbered:
        """A table by its first column, the number of an image or class; `fields` follow it (None: any)."""
        rows = _Numbered((line[0], line[1:]) for line in self._lines(name, None if fields is None else fields + 1))
        rows.missing = f"{self.files}/{name} has no row of image {{}}. {self._cure}"
        return rows

    def _lines(self, name: str, fields: int | None) -> list[list[str]]:
        lines = [line.split() for line in self.files.read(name).decode(errors="replace").splitlines() if line.strip()]
        wrong = [line for line in lines if not line[0].isdigit() or len(line) != (fields or len(line))]
        if wrong:
            raise DatasetError(f"{self.files}/{name}: {' '.join(wrong[0])!r} is not a row of this table. {self._cure}")
        return lines

    def _numbers(self, row: list[str], name: str) -> list[float]:
        try:
            return [float(field) for field in row]
        except ValueError as error:
            raise DatasetError(f"{self.files}/{name}: {' '.join(row)!r} holds no numbers. {self._cure}") from error
