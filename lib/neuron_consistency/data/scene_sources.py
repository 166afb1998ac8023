"""Rendered scenes as sources of images: one object each, or several."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from neuron_consistency.data.classification import Box, Listing, Source, gather
from neuron_consistency.data.files import cores
from neuron_consistency.errors import ParameterError
from neuron_consistency.versions import RENDERER


class Rendered(Source):
    """Pictures 0, 1, ... of a renderer; of each class every fifth is in "val", as in the folders of `write_scenes`."""

    has_masks = True
    known: tuple[str, ...] = ()  # options

    def __init__(self, split: str, **options: Any) -> None:
        from neuron_consistency.data import scenes

        self.split, self.options, self.scenes = split, options, scenes
        self.processes = min(cores(), 8)  # drawing is Python, which threads only slow down
        unknown = sorted(set(options) - set(self.known))
        if unknown:
            raise ParameterError(f"Unknown options of the rendered scenes: {', '.join(unknown)}.")

    def listing(self, classes: int | Sequence[str] | None, per_class: int | None) -> Listing:
        known = self.scenes.object_classes().set_index("name")["wnid"].to_dict()
        self.chosen = [name.replace("_", " ") for name in self.scenes.choose_classes(classes)]
        wanted = per_class or (200 if self.split == "train" else 50)
        rounds = range(5 * wanted + 5)
        images = [
            [k * len(self.chosen) + c for k in rounds if ((k + c) % 5 == 4) == (self.split == "val")][:wanted]
            for c in range(len(self.chosen))
        ]
        return gather(self.name, self.split, self.chosen, [known[name] for name in self.chosen], images, wanted)

    @abstractmethod
    def draw(self, item: Any, size: int) -> Any:
        """The picture of that number."""


class Scenes(Rendered):
    """Pictures of one object."""

    name = "scenes"
    known = ("seed", "background_correlation", "variant")

    def signature(self) -> str:
        return str(self.scenes.scene_fingerprint(**self.options))

    def draw(self, item: Any, size: int) -> Any:
        return self.scenes.render_scene(int(item), image_size=size, classes=self.chosen, **self.options)

    def read(self, item: Any, size: int) -> tuple[Tensor, list[Box]]:
        scene = self.draw(item, size)
        return torch.from_numpy(scene.image).permute(2, 0, 1), [scene.box]

    def mask(self, item: Any, size: int) -> Tensor:
        return torch.from_numpy(self.draw(item, size).mask.astype("u1"))


class SceneGroups(Rendered):
    """Pictures of 1 to 4 objects, each class's own in turn among them."""

    name = "scenes-multilabel"
    known = ("seed", "background_correlation")

    def __init__(self, split: str, **options: Any) -> None:
        from neuron_consistency.data import scene_groups

        super().__init__(split, **options)
        self.groups = scene_groups

    def signature(self) -> str:
        return f"{RENDERER} {sorted(self.options.items())}"

    def listing(self, classes: int | Sequence[str] | None, per_class: int | None) -> Listing:
        listing = super().listing(classes, per_class)
        seed, number = self.options.get("seed", 0), len(self.chosen)
        present = [self.groups.group_classes(int(item), number, seed=seed) for item in listing.items]
        owners = torch.tensor([(image, label) for image, own in enumerate(present) for label in own])
        labels = torch.zeros(len(present), number)
        labels[owners[:, 0], owners[:, 1]] = 1
        return replace(listing, labels=labels, owners=owners)

    def draw(self, item: Any, size: int) -> Any:
        return self.groups.render_group(int(item), image_size=size, classes=self.chosen, **self.options)

    def read(self, item: Any, size: int) -> tuple[Tensor, list[Box]]:
        group = self.draw(item, size)
        return torch.from_numpy(group.image).permute(2, 0, 1), group.boxes

    def mask(self, item: Any, size: int) -> Tensor:
        return torch.from_numpy(self.draw(item, size).labels)
