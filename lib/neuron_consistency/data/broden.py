"""Densely labelled images in Broden's format: the real Broden, parts of it, and the rendered scenes.

Source: Bau et al. 2017 (Network Dissection) and the README of their `broden1_224` archive.
"""

import copy
import io
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuron_consistency.data.archive import Files
from neuron_consistency.data.decode import decode_image, opened, resize
from neuron_consistency.data.prefetch import grouped, stream
from neuron_consistency.data.sources.base import Layout
from neuron_consistency.data.text import is_number
from neuron_consistency.errors import DatasetError, ParameterError

CATEGORIES = ("color", "texture", "material", "scene", "part", "object")  # the order of P1's Table 2
LABELS = 256 * 256  # numbers that two channels of a map can tell apart
SIDE = 10_000  # pixels of a map at most
LAYOUT = "A folder or zip in Broden's format holds index.csv, label.csv and images/."


class BrodenSet:
    """A densely labelled set, opened from a folder or read inside its zip.

    Attributes:
        labels: one row for each label in each of its categories: number, name, category.
        label_size: (h, w) of the label maps.
    """

    def __init__(self, files: Files, *, limit: int | None) -> None:
        self.files = files
        self.index = self._table("index.csv", ["image", "sh", "sw"]).iloc[:limit]
        if self.index.empty:
            raise DatasetError(f"{files} has no images.")
        sizes = self.index[["sh", "sw"]].drop_duplicates().to_numpy()
        if len(sizes) != 1 or not all(map(is_number, sizes[0])):
            raise DatasetError(f"{files}/index.csv: all label maps must have one size (columns sh, sw).")
        self.label_size = (int(sizes[0][0]), int(sizes[0][1]))
        if not 0 < min(self.label_size) <= max(self.label_size) <= SIDE:
            raise DatasetError(f"{files}/index.csv: a label map has from 1 to {SIDE} pixels a side (columns sh, sw).")
        self.labels = self._read_labels()
        self._codes: dict[str, np.ndarray] = {}
        for category in CATEGORIES:  # 0 for labels of other categories, -1 for those that label.csv lacks
            codes = np.full(int(self.labels["number"].max()) + 1, -1, dtype=np.int32)
            codes[[0, *self.labels["number"]]] = 0
            own = self.labels.loc[self.labels["category"] == category, "number"].to_numpy()
            codes[own] = own
            self._codes[category] = codes
        self._images = [str(name) for name in self.index["image"]]

    @classmethod
    def open(cls, path: str | Path, *, limit: int | None = None) -> "BrodenSet":
        """Opens a set.

        Args:
            path: the set's folder or zip, or a folder that holds one named broden*.
            limit: only the first so many images.

        Raises:
            DatasetError: nothing of that layout is there, a table is damaged, or the zip is truncated.
            ParameterError: limit below 1.
        """
        if limit is not None and limit < 1:
            raise ParameterError(f"limit ({limit}) must be at least 1.")
        root = Path(path).expanduser()
        layout = Layout(r"broden.*", ("", "*"), lambda files: files.has("index.csv") and files.has("label.csv"))
        if root.exists() and (files := layout.find(root)) is not None:
            return cls(files, limit=limit)
        raise DatasetError(
            f"No densely labelled set in {root}: looked for index.csv and label.csv there and in broden* folders and "
            f"zips below it. {LAYOUT} The real one is broden1_224.zip of http://netdissect.csail.mit.edu; "
            "NEURON_CONSISTENCY_DATA names the folder that holds it."
        )

    def __len__(self) -> int:
        return len(self.index)

    def head(self, images: int) -> "BrodenSet":
        """The set of the first so many images, with the labels of the whole."""
        part = copy.copy(self)
        part.__dict__.pop("_fields", None)
        part.index = self.index.head(images)
        return part

    def labelled(self, category: str) -> Tensor:
        """Which images are labelled in a category. Shape: (N,) bool."""
        return torch.from_numpy(np.array([bool(field) for field in self._fields[category]]))

    def image(self, index: int, *, image_size: int) -> Tensor:
        """One image, as `image_batches` gives it. Shape: (3, S, S) float32 in [0, 1]."""
        return self._image(index, image_size).float().div_(255)

    def image_labels(self, index: int, category: str) -> Tensor:
        """Labels of one image in a category in which it is labelled.

        Shape:
            (L, h, w) int32 label numbers, one map for each value of the field, 0 where unlabelled; or, where the
            labels are of the whole image (scene, texture), (L,) int32.

        Raises:
            DatasetError: a map is missing, corrupt, of another size, or holds a number that label.csv lacks.
        """
        fields = self._fields[category][index].split(";")
        if all(is_number(field) for field in fields):
            return self._known(np.array(fields, dtype=np.int32), category, self._images[index])
        return torch.stack([self._known(self._map(field), category, field) for field in fields])

    def image_batches(self, batch_size: int, *, image_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, resized as a whole (bilinear), so that label maps still fit; read a few batches ahead.

        Shape:
            yields places (B,) int64 and images (B, 3, S, S) float32 in [0, 1].

        Raises:
            DatasetError: an image is missing or corrupt.
        """

        def load(group: Sequence[int]) -> Tensor:
            return torch.stack([self._image(index, image_size) for index in group])

        groups = grouped(len(self), batch_size)
        for group, images in zip(groups, stream(load, groups), strict=True):
            yield torch.tensor(group), images.float().div_(255)

    def label_batches(
        self, batch_size: int, *, exchange: Mapping[str, Tensor] | None = None
    ) -> Iterator[list[dict[str, Tensor]]]:
        """The labels of all images in order, read a few batches ahead, as `image_labels` gives them.

        Args:
            batch_size: images in a batch.
            exchange: by category, the image that each image has its labels from; None leaves every image its own.

        Shape:
            yields for each image of a batch its labels by category, for the categories in which it is labelled;
            exchange: (N,) int64 each.

        Raises:
            DatasetError: as `image_labels`.
        """

        def load(group: Sequence[int]) -> list[dict[str, Tensor]]:
            own = [[category for category in CATEGORIES if self._fields[category][index]] for index in group]
            return [
                {name: self.image_labels(int(exchange[name][index]) if exchange else index, name) for name in names}
                for index, names in zip(group, own, strict=True)
            ]

        yield from stream(load, grouped(len(self), batch_size))

    @cached_property
    def _fields(self) -> dict[str, list[str]]:
        """The index by category; a category without a column labels no image."""
        return {c: list(self.index[c]) if c in self.index else [""] * len(self) for c in CATEGORIES}

    def _table(self, name: str, columns: Sequence[str]) -> pd.DataFrame:
        try:
            table = pd.read_csv(io.BytesIO(self.files.read(name)), dtype=str, keep_default_na=False)
        except (ValueError, pd.errors.ParserError) as error:
            raise DatasetError(f"{self.files}/{name} is not a table of comma-separated values ({error}).") from error
        missing = [column for column in columns if column not in table]
        if missing:
            raise DatasetError(f"{self.files}/{name} lacks the columns {', '.join(missing)}. {LAYOUT}")
        return table

    def _read_labels(self) -> pd.DataFrame:
        """label.csv by category, of which it gives a list such as "part(1);material(2)"."""
        table = self._table("label.csv", ["number", "name", "category"])
        table["category"] = table["category"].str.findall(r"(\w+)(?:\(\d+\))?")
        labels = table.explode("category", ignore_index=True)[["number", "name", "category"]]
        try:
            labels = labels.dropna(ignore_index=True).astype({"number": int})
        except (ValueError, OverflowError) as error:
            raise DatasetError(f"{self.files}/label.csv: {error}.") from error
        if labels.empty or not labels["number"].between(0, LABELS - 1).all():
            raise DatasetError(f"{self.files}/label.csv needs labels with numbers from 0 to {LABELS - 1}.")
        return labels

    def _image(self, index: int, size: int) -> Tensor:
        name = f"images/{self._images[index]}"
        return resize(decode_image(self.files.read(name), f"{self.files}/{name}"), size, size)

    def _map(self, name: str) -> np.ndarray:
        """A field of the index as a map: the file of that name, or one number everywhere."""
        if is_number(name):
            return np.full(self.label_size, int(name), dtype=np.int32)
        with opened(self.files.read(f"images/{name}"), f"{self.files}/images/{name}") as image:
            pixels = np.asarray(image.convert("RGB"))
        if pixels.shape[:2] != self.label_size:
            raise DatasetError(
                f"{self.files}/images/{name} has {pixels.shape[0]}x{pixels.shape[1]} pixels, but index.csv says "
                f"{self.label_size[0]}x{self.label_size[1]}."
            )
        return pixels[:, :, 0].astype(np.int32) + 256 * pixels[:, :, 1].astype(np.int32)

    def _known(self, numbers: np.ndarray, category: str, name: str) -> Tensor:
        codes = self._codes[category]
        unknown = numbers[numbers >= len(codes)]
        values: np.ndarray = codes[np.minimum(numbers, len(codes) - 1)]
        if unknown.size or (values < 0).any():
            number = int(unknown.flat[0] if unknown.size else numbers[values < 0].flat[0])
            raise DatasetError(f"{name} in {self.files}: its {category} label {number} is not in label.csv.")
        return torch.from_numpy(values)
