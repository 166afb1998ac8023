"""Rendered scenes as sources of images: one object each, or several."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from neuron_consistency.data.prefetch import cores
from neuron_consistency.data.scenes.drawing import Bytes
from neuron_consistency.data.scenes.groups import group_classes, render_group
from neuron_consistency.data.scenes.render import choose_classes, object_classes, render_scene
from neuron_consistency.data.scenes.write import scene_fingerprint
from neuron_consistency.data.sources.base import Box, Listing, Source, gather
from neuron_consistency.versions import RENDERER


class Rendered(Source):
    """Pictures 0, 1, ... of a renderer; of each class every fifth is in "val", as in the folders of `write_scenes`."""

    has_masks = True
    strange = "Unknown options of the rendered scenes"
    tells: ClassVar = {"boxes": "", "masks": ""}

    def __init__(self, split: str, **options: Any) -> None:
        self.split, self.given = split, options
        self.processes = min(cores(), 8)  # drawing is Python, which threads only slow down

    @classmethod
    def open(cls, name: str, split: str, root: Path | None, *, download: bool, **options: Any) -> Source | None:
        return cls(split, **options)

    def listing(self, classes: int | Sequence[str] | None, per_class: int | None) -> Listing:
        synset_of = object_classes().set_index("name")["wnid"].to_dict()
        names = [name.replace("_", " ") for name in choose_classes(classes)]
        wanted = per_class or (200 if self.split == "train" else 50)
        rounds = range(5 * wanted + 5)
        images = {
            name: [k * len(names) + c for k in rounds if ((k + c) % 5 == 4) == (self.split == "val")]
            for c, name in enumerate(names)
        }
        return gather(self, {name: (name, synset_of[name]) for name in names}, images, wanted)

    def read(self, item: Any, size: int, classes: Sequence[str]) -> tuple[Tensor, list[Box]]:
        image, boxes, _ = self.draw(int(item), image_size=size, classes=classes, **self.given)
        return torch.from_numpy(image).permute(2, 0, 1), boxes

    def mask(self, item: Any, size: int, classes: Sequence[str]) -> Tensor:
        return torch.from_numpy(self.draw(int(item), image_size=size, classes=classes, **self.given)[2])

    @abstractmethod
    def draw(self, index: int, **options: Any) -> tuple[Bytes, list[Box], Bytes]:
        """The picture of that number, the boxes of its objects, and their label map."""


class Scenes(Rendered):
    """Pictures of one object."""

    name = "scenes"
    sets: ClassVar = {name: ("nothing: they are rendered", "this library")}
    options = ("seed", "background_correlation", "variant")

    def signature(self) -> str:
        return str(scene_fingerprint(**self.given))

    def draw(self, index: int, **options: Any) -> tuple[Bytes, list[Box], Bytes]:
        scene = render_scene(index, **options)
        return scene.image, [scene.box], scene.mask.astype(np.uint8)


class SceneGroups(Rendered):
    """Pictures of 1 to 4 objects, each class's own in turn among them."""

    name = "scenes-multilabel"
    sets: ClassVar = {name: ("nothing: they are rendered", "this library")}
    options = ("seed", "background_correlation")

    def signature(self) -> str:
        return f"{RENDERER} {sorted(self.given.items())}"

    def listing(self, classes: int | Sequence[str] | None, per_class: int | None) -> Listing:
        listing = super().listing(classes, per_class)
        seed, number = self.given.get("seed", 0), len(listing.classes)
        present = [group_classes(int(item), number, seed=seed) for item in listing.items]
        owners = torch.tensor([(image, label) for image, own in enumerate(present) for label in own])
        labels = torch.zeros(len(present), number)
        labels[owners[:, 0], owners[:, 1]] = 1
        return replace(listing, labels=labels, owners=owners)

    def draw(self, index: int, **options: Any) -> tuple[Bytes, list[Box], Bytes]:
        group = render_group(index, **options)
        return group.image, group.boxes, group.labels
