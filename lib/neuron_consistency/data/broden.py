"""Densely labelled images in Broden's format: the real Broden, parts of it, and the rendered scenes.

Source: Bau et al. 2017 (Network Dissection) and the README of their `broden1_224` archive.
"""

import copy
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from neuron_consistency.data.archive import Files
from neuron_consistency.data.decode import decode_image, readable, resize
from neuron_consistency.data.prefetch import stream
from neuron_consistency.data.sources.base import Layout
from neuron_consistency.errors import DatasetError, ParameterError

CATEGORIES = ("color", "texture", "material", "scene", "part", "object")  # the order of P1's Table 2
LAYOUT = "A folder or zip in Broden's format holds index.csv, label.csv and images/."


class BrodenSet:
    """A densely labelled set, opened from a folder or read inside its zip.

    Attributes:
        labels: one row for each label in each of its categories: number, name, category, frequency (images with
            it), coverage (sum over images of its share of the pixels). Labels of fewer images are left out here
            and are 0 in the maps.
        label_size: (h, w) of the label maps.
        fingerprint: identifies the content, by file names and sizes or checksums, and the choice of images.
    """

    def __init__(self, files: Files, *, split: str | None, limit: int | None, min_frequency: int) -> None:
        self.files = files
        index = self._table("index.csv", ["image", "split", "sh", "sw"])
        self.index = index if split is None else index[index["split"] == split]
        if limit is not None:
            self.index = self.index.head(limit)
        if self.index.empty:
            splits = ", ".join(sorted(index["split"].unique()))
            raise DatasetError(
                f"{files} has no images of split {split!r} (limit {limit}). Its splits: {splits or 'none'}."
            )
        sizes = self.index[["sh", "sw"]].drop_duplicates().to_numpy()
        if len(sizes) != 1 or not all(str(side).isdigit() for side in sizes[0]):
            raise DatasetError(f"{files}/index.csv: all label maps must have one size (columns sh, sw).")
        self.label_size = (int(sizes[0][0]), int(sizes[0][1]))
        every = self._read_labels()
        self.labels = every[every["frequency"] >= min_frequency].reset_index(drop=True)
        self.num_labels = int(self.labels["number"].nunique())
        self._codes: dict[str, np.ndarray] = {}
        for category in CATEGORIES:
            codes = np.full(int(every["number"].max()) + 1, -1, dtype=np.int32)
            codes[[0, *every["number"]]] = 0
            kept = self.labels.loc[self.labels["category"] == category, "number"].to_numpy()
            codes[kept] = kept
            self._codes[category] = codes
        self._choice = f"{split} {limit} {min_frequency}"
        self._images = [str(name) for name in self.index["image"]]

    @classmethod
    def open(
        cls, path: str | Path, *, split: str | None = None, limit: int | None = None, min_frequency: int = 1
    ) -> "BrodenSet":
        """Opens a set.

        Args:
            path: the set's folder or zip, or a folder that holds one named broden*.
            split: "train" or "val"; None takes all images.
            limit: only the first so many of them.
            min_frequency: leaves out labels of fewer images of the whole set in that category.

        Raises:
            DatasetError: nothing of that layout is there, a table is damaged, or the zip is truncated.
            ParameterError: limit or min_frequency below 1.
        """
        if min_frequency < 1 or (limit is not None and limit < 1):
            raise ParameterError(f"limit ({limit}) and min_frequency ({min_frequency}) must be at least 1.")
        root = Path(path).expanduser()
        layout = Layout(r"broden.*", ("", "*"), lambda files: files.has("index.csv") and files.has("label.csv"))
        if root.exists() and (files := layout.find(root)) is not None:
            return cls(files, split=split, limit=limit, min_frequency=min_frequency)
        raise DatasetError(
            f"No densely labelled set in {root}: looked for index.csv and label.csv there and in broden* folders and "
            f"zips below it. {LAYOUT} The real one is broden1_224.zip of http://netdissect.csail.mit.edu; "
            "NEURON_CONSISTENCY_DATA names the folder that holds it."
        )

    @cached_property
    def fingerprint(self) -> str:
        content = self.files.signature("index.csv", "label.csv", "images/")
        return hashlib.sha256(f"{content} {self._choice}".encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.index)

    def head(self, images: int) -> "BrodenSet":
        """The set of the first so many images; its labels keep the frequencies of the whole."""
        part = copy.copy(self)
        part.__dict__.pop("_fields", None)
        part.index = self.index.head(images)
        part._choice = f"{self._choice} {images}"
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
        return torch.from_numpy(self._labels(index, category))

    def image_batches(self, batch_size: int, *, image_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, resized as a whole (bilinear), so that label maps still fit; read a few batches ahead.

        Shape:
            yields places (B,) int64 and images (B, 3, S, S) float32 in [0, 1].

        Raises:
            DatasetError: an image is missing or corrupt.
        """

        def load(group: Sequence[int]) -> Tensor:
            return torch.stack([self._image(index, image_size) for index in group])

        groups = self._groups(batch_size)
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

        yield from stream(load, self._groups(batch_size))

    def _groups(self, batch_size: int) -> list[range]:
        return [range(start, min(start + batch_size, len(self))) for start in range(0, len(self), batch_size)]

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
        """label.csv by category; frequency and coverage within it from c_<category>.csv where there is one."""
        table = self._table("label.csv", ["number", "name", "category", "frequency", "coverage"])
        rows = []
        for row in table.itertuples():
            for category, frequency in re.findall(r"(\w+)(?:\((\d+)\))?", str(row.category)):
                rows.append((row.number, row.name, category, frequency or row.frequency, row.coverage))
        labels = pd.DataFrame(rows, columns=["number", "name", "category", "frequency", "coverage"])
        for category in CATEGORIES:
            if self.files.has(f"c_{category}.csv"):
                own = self._table(f"c_{category}.csv", ["number", "coverage"]).set_index("number")["coverage"]
                chosen = labels["category"] == category
                labels.loc[chosen, "coverage"] = labels.loc[chosen, "number"].map(own).fillna(labels["coverage"])
        try:
            return labels.astype({"number": int, "frequency": int, "coverage": float})
        except ValueError as error:
            raise DatasetError(f"{self.files}/label.csv: {error}.") from error

    def _image(self, index: int, size: int) -> Tensor:
        name = f"images/{self._images[index]}"
        return resize(decode_image(self.files.read(name), f"{self.files}/{name}"), size, size)

    def _labels(self, index: int, category: str) -> np.ndarray:
        fields = self._fields[category][index].split(";")
        if all(field.isdigit() for field in fields):
            return self._known(np.array(fields, dtype=np.int32), category, self._images[index])
        maps = [
            np.full(self.label_size, int(field), dtype=np.int32) if field.isdigit() else self._map(field)
            for field in fields
        ]
        return np.stack([self._known(m, category, field) for m, field in zip(maps, fields, strict=True)])

    def _map(self, name: str) -> np.ndarray:
        with (
            readable(f"{self.files}/images/{name}"),
            Image.open(io.BytesIO(self.files.read(f"images/{name}"))) as image,
        ):
            pixels = np.asarray(image.convert("RGB"))
        if pixels.shape[:2] != self.label_size:
            raise DatasetError(
                f"{self.files}/images/{name} has {pixels.shape[0]}x{pixels.shape[1]} pixels, but index.csv says "
                f"{self.label_size[0]}x{self.label_size[1]}."
            )
        return pixels[:, :, 0].astype(np.int32) + 256 * pixels[:, :, 1].astype(np.int32)

    def _known(self, numbers: np.ndarray, category: str, name: str) -> np.ndarray:
        codes = self._codes[category]
        unknown = numbers[numbers >= len(codes)]
        values: np.ndarray = codes[np.minimum(numbers, len(codes) - 1)]
        if unknown.size or (values < 0).any():
            number = int(unknown.flat[0] if unknown.size else numbers[values < 0].flat[0])
            raise DatasetError(f"{name} in {self.files}: its {category} label {number} is not in label.csv.")
        return values
