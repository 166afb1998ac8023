"""Densely labelled sets by name: rendered where they are not yet, or found where the user keeps them."""

import os
from pathlib import Path

from neuron_consistency.data.broden import BrodenSet
from neuron_consistency.data.scenes import scene_fingerprint, write_scenes
from neuron_consistency.errors import DatasetError, ParameterError

SEED = 1  # of the rendered scenes: not the 0 that networks are trained and evaluated on


def open_dense_set(name: str, *, cache: Path, images: int, image_size: int = 224, classes: int = 0) -> BrodenSet:
    """Opens a set in Broden's format.

    Args:
        name: "scenes" renders them once; "broden" looks in the folder that NEURON_CONSISTENCY_DATA names; anything
            else is the path of a folder or zip.
        cache: folder for rendered scenes.
        images: how many are rendered, or the first so many of the set; 0 takes all of a set.
        image_size: side at which scenes are rendered.
        classes: how many classes of objects the scenes show; 0 shows all.

    Raises:
        DatasetError: there is no such set, or it is damaged.
        ParameterError: no number of scenes to render.
    """
    if name == "scenes":
        if images < 1:
            raise ParameterError(f"images={images}: say how many scenes to render")
        chosen = {"images": images, "image_size": image_size, "classes": classes or None, "seed": SEED}
        folder = cache / f"dense-scenes-{scene_fingerprint(**chosen)}"
        if not folder.exists():
            write_scenes(folder, images=images, image_size=image_size, classes=classes or None, seed=SEED)
        return BrodenSet.open(folder)
    place = os.environ.get("NEURON_CONSISTENCY_DATA") if name == "broden" else name
    if not place:
        raise DatasetError(
            "no folder to look for Broden in: let the environment variable NEURON_CONSISTENCY_DATA name the one that "
            "holds broden1_224 or its zip, or give its path"
        )
    return BrodenSet.open(place, limit=images or None)
