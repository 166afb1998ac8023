"""The rendered scenes: labelled pictures of 28 classes, drawn from tables, written to disk in Broden's format.

An instrument: every pixel's colour, object, part, material, texture and scene are known, and the correlation between a
class and its background is a parameter. What is drawn stands in ``scene_objects.tsv`` and ``scene_layouts.tsv``.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from neuron_consistency.artifacts import atomic_folder
from neuron_consistency.data.scenes.compositions import compositions, names_in, vocabulary
from neuron_consistency.data.scenes.drawing import Bytes, Integers
from neuron_consistency.data.scenes.render import Scene, choose_classes, display_name, render_scene
from neuron_consistency.errors import ParameterError, StoreError
from neuron_consistency.versions import RENDERER

PIXEL_CATEGORIES = ("color", "object", "part", "material")
INDEX = ("image", "split", "ih", "iw", "sh", "sw", *PIXEL_CATEGORIES, "scene", "texture")


class Labels:
    """Broden's labels: one number a name over all categories, and how often each name was met.

    Numbers follow the tables' order, not falling frequency as Broden's do, so that a picture's files do not depend on
    how many are written. Only names that the chosen classes can bring are listed.
    """

    def __init__(self, chosen: Sequence[str]) -> None:
        drawn = [
            c for kind, own in compositions().items() for name, c in own.items() if kind != "object" or name in chosen
        ]
        known = names_in(drawn)
        self.numbers: dict[str, int] = {}
        self.tables: dict[str, Integers] = {}
        for category, names in vocabulary().items():
            table = [0]
            for name in names:
                label = display_name(name, category)
                table.append(self.numbers.setdefault(label, len(self.numbers) + 1) if name in known[category] else 0)
            self.tables[category] = np.array(table)
        size = len(self.numbers) + 1
        self.frequency = {category: np.zeros(size, dtype=int) for category in self.tables}
        self.coverage = {category: np.zeros(size) for category in self.tables}

    def count(self, category: str, maps: Iterable[Integers]) -> None:
        """Tally the label maps of one picture (a whole-picture label is a map of one pixel)."""
        share = sum(np.bincount(m.ravel(), minlength=len(self.numbers) + 1) / m.size for m in maps)
        self.coverage[category] += share
        self.frequency[category] += share > 0

    def write(self, folder: Path) -> None:
        """Write label.csv, category.csv and c_<category>.csv."""
        counts = pd.DataFrame(
            [
                (number, name, category, self.frequency[category][number], self.coverage[category][number])
                for name, number in self.numbers.items()
                for category, table in self.tables.items()
                if number in table
            ],
            columns=["number", "name", "owner", "frequency", "coverage"],
        )
        counts["category"] = counts["owner"] + "(" + counts["frequency"].astype(str) + ")"
        labels = counts.groupby(["number", "name"], as_index=False).agg(
            category=("category", ";".join), frequency=("frequency", "sum"), coverage=("coverage", "sum")
        )
        _write_csv(folder / "label.csv", labels.assign(syns=""))
        owned = counts.groupby("owner", sort=False)
        for category, own in owned:
            ranked = own.sort_values(["frequency", "number"], ascending=[False, True])
            ranked.insert(0, "code", range(1, len(own) + 1))
            _write_csv(folder / f"c_{category}.csv", ranked[["code", "number", "name", "frequency", "coverage"]])
        extent = owned.agg(first=("number", "first"), last=("number", "last"), count=("number", "size"))
        extent["frequency"] = owned["frequency"].sum()
        _write_csv(folder / "category.csv", extent.loc[[*self.tables]].rename_axis("name").reset_index())


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, index=False, float_format="%.6f", lineterminator="\r\n")


def _write_png(path: Path, pixels: Bytes) -> None:
    Image.fromarray(pixels).save(path, compress_level=1)


def _write_scene(folder: Path, stem: str, scene: Scene, labels: Labels) -> list[object]:
    """Write one picture and its maps; its row of index.csv from the fifth field on."""
    _write_png(folder / f"{stem}.png", scene.image)
    fields: dict[str, str] = {}
    for category in PIXEL_CATEGORIES:
        maps = [labels.tables[category][numbers] for numbers in scene.maps[category]]
        labels.count(category, maps)
        names = []
        for level, numbers in enumerate(maps, 1):
            names.append(f"{stem}_{category}{f'_{level}' if category == 'part' else ''}.png")
            coded = np.zeros((*numbers.shape, 3), dtype=np.uint8)
            coded[..., 0], coded[..., 1] = numbers & 255, numbers >> 8
            _write_png(folder / names[-1], coded)
        fields[category] = ";".join(names)
    for category, whole in (("scene", [scene.scene]), ("texture", scene.textures)):
        codes = labels.tables[category][whole]
        if len(codes):
            labels.count(category, codes[:, None])
        fields[category] = ";".join(map(str, codes))
    size = scene.maps["color"][0].shape
    return [*size, *(fields[category] for category in INDEX[6:])]


def write_scenes(
    folder: Path, *, images: int, image_size: int = 64, seed: int = 0, classes: int | Sequence[str] | None = None,
    background_correlation: float = 0.0,
) -> Path:  # fmt: skip
    """Write pictures 0 to ``images - 1`` of ``render_scene`` in Broden's format, all of them or nothing.

    Classes take turns, so they are balanced. Of each class every fifth picture is in the split "val", the rest in
    "train". Beside Broden's files stands classes.csv: image, class, wnid, and the box of the visible object in pixels
    (ends excluded).

    Raises:
        ParameterError, DatasetError: a parameter cannot work, or a class is unknown.
        StoreError: the folder exists, or cannot be written (a full disk).
    """
    if images < 1:
        raise ParameterError(f"images={images}: write at least one")
    folder, chosen = Path(folder), choose_classes(classes)
    if folder.exists():
        raise StoreError(f"{folder} exists already: delete it, or write the scenes to another folder")
    draw = partial(
        render_scene, seed=seed, image_size=image_size, classes=chosen, background_correlation=background_correlation
    )
    labels, index, boxes = Labels(chosen), list[list[object]](), list[list[object]]()
    try:
        with atomic_folder(folder) as part:
            for number in range(images):
                scene = draw(number)
                stem = f"{number // 1000:03d}/{number:06d}"
                if number % 1000 == 0:
                    (part / "images" / stem).parent.mkdir(parents=True, exist_ok=True)
                split = "val" if (number // len(chosen) + number % len(chosen)) % 5 == 4 else "train"
                row = _write_scene(part / "images", stem, scene, labels)
                index.append([f"{stem}.png", split, image_size, image_size, *row])
                wnid = compositions()["object"][chosen[number % len(chosen)]].wnid
                boxes.append([f"{stem}.png", scene.name, wnid, *scene.box])
            _write_csv(part / "index.csv", pd.DataFrame(index, columns=INDEX))
            columns = ["image", "class", "wnid", "x0", "y0", "x1", "y1"]
            _write_csv(part / "classes.csv", pd.DataFrame(boxes, columns=columns))
            labels.write(part)
    except OSError as error:
        raise StoreError(f"the rendered scenes cannot be written to {folder}: {error}") from error
    return folder


def scene_fingerprint(**parameters: object) -> str:
    """A key for caches: a hash of the parameters and the renderer's version."""
    return hashlib.sha256(json.dumps([parameters, RENDERER], sort_keys=True, default=str).encode()).hexdigest()[:16]
