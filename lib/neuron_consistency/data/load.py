"""Sets of images by name, with WordNet-named classes: small ones held in memory, large ones read as needed."""

import hashlib
import json
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from neuron_consistency.artifacts import SEAL, atomic_path, verify
from neuron_consistency.data.broden import BrodenSet
from neuron_consistency.data.find import open_source
from neuron_consistency.data.image_set import ImageSet, MultiLabelSet
from neuron_consistency.data.pixels import FilePixels, LabelMaps, Loaded
from neuron_consistency.data.scenes.write import scene_fingerprint, write_scenes
from neuron_consistency.data.sources.base import Source
from neuron_consistency.errors import DatasetError, ParameterError, StoreError

FORMAT = 1  # of prepared images: one more makes every cached array and every fingerprint a new one
SEED = 1  # of the dense rendered scenes: not the 0 that networks are trained and evaluated on
MEMORY = 4 << 30  # bytes of pixels beyond which a set stays on disk


def load_images(
    name: str, split: str, *, root: str | Path | None = None, image_size: int,
    classes: int | Sequence[str] | None = None, per_class: int | None = None, cache: Path | None = None,
    skip_corrupt: bool = False, download: bool = False, memory: int = MEMORY, **options: Any,
) -> ImageSet:  # fmt: skip
    """A split of a set of images.

    Args:
        name: scenes, tiny-imagenet, imagenet, imagenette, cifar10, stl10, cub200, imagenet9, folder, or the path of a
            folder of classes; of several labels an image: scenes-multilabel, voc2007, voc2012.
        split: "train" or "val" (of cub200 and voc2007 the official test images).
        root: the folder that holds the set, its archive or a part of it; None is NEURON_CONSISTENCY_DATA.
        image_size: side in pixels; photographs are resized (bilinear, antialiased) and cut to the central square; those
            of VOC are not cut, so that no object is lost, but squeezed.
        classes: so many, evenly spaced in the sorted list (of the scenes, the first so many); or those named.
        per_class: the first so many images of each class; None is all (of the scenes, 200 and 50). Where an image may
            have several labels, it is taken while one of its classes has fewer.
        cache: a folder for prepared arrays; None prepares them anew each time.
        skip_corrupt: leave unreadable images out, with a warning for each, instead of stopping.
        download: fetch the set where it has a public address and is not there.
        memory: bytes of pixels that may be held in memory; larger sets, and imagenet, stay files.
        options: of the rendered scenes seed, background_correlation and, of those of one object, variant; of imagenet9
            its variant; of voc2007 and voc2012 difficult, whether objects so marked count (they do not, otherwise).

    Shape:
        a `MultiLabelSet`, with labels (N, K), where an image may have several; else labels (N,).

    Raises:
        DatasetError: the set is missing, damaged, laid out otherwise, or has a class without a synset.
        ParameterError: unknown set, split or option; impossible size or number.
        StoreError: no space is left for the prepared arrays.
    """
    source = open_source(name, split, root, download=download, **options)
    return read_images(
        source, image_size=image_size, classes=classes, per_class=per_class, cache=cache, skip_corrupt=skip_corrupt,
        memory=memory,
    )  # fmt: skip


def read_images(
    source: Source, *, image_size: int, classes: int | Sequence[str] | None = None, per_class: int | None = None,
    cache: Path | None = None, skip_corrupt: bool = False, memory: int = MEMORY,
) -> ImageSet:  # fmt: skip
    """The images of an opened source; all else is as in `load_images`."""
    name, split = source.name, source.split
    fingerprint = _fingerprint(source, split, image_size, classes, per_class)
    listing = source.listing(classes, per_class)
    files = FilePixels(source, listing.items, image_size, listing.classes, skip_corrupt)
    kind = ImageSet if listing.owners is None else partial(MultiLabelSet, owners=listing.owners)
    images = kind(
        name, split, listing.classes, listing.synsets, listing.labels, files, fingerprint,
        None if listing.boxes is None else (listing.boxes * image_size).round().long(),
        LabelMaps(source, listing.items, image_size, listing.classes) if source.has_masks else None,
        np.char.decode(listing.items, "utf8", "replace") if listing.items.dtype.kind == "S" else None,
    )  # fmt: skip
    if source.file_backed or math.prod(files.shape) > memory:
        return images
    prepared = cache / f"{Path(name).name}-{split}-{fingerprint[:16]}.safetensors" if cache is not None else None
    loaded = _prepared(prepared, skip_corrupt) if prepared is not None else None
    if loaded is None:
        loaded = files.load_all(source.processes)
        if prepared is not None:
            _prepare(prepared, loaded)
    images = replace(images.take(torch.tensor(loaded.places)), pixels=loaded.pixels)
    return replace(images, boxes=torch.tensor(loaded.boxes)) if loaded.boxes else images


def dataset_fingerprint(
    name: str, split: str, *, root: str | Path | None = None, image_size: int,
    classes: int | Sequence[str] | None = None, per_class: int | None = None, **options: Any,
) -> str:  # fmt: skip
    """The fingerprint of `load_images` with the same arguments, found without decoding an image.

    Raises:
        DatasetError, ParameterError: as `load_images`.
    """
    for neutral in ("cache", "skip_corrupt", "memory"):
        options.pop(neutral, None)
    return _fingerprint(open_source(name, split, root, **options), split, image_size, classes, per_class)


def _fingerprint(
    source: Source, split: str, size: int, classes: int | Sequence[str] | None, per_class: int | None
) -> str:
    if size < 8:
        raise ParameterError(f"image_size must be at least 8 pixels, got {size}.")
    if per_class is not None and per_class < 1:
        raise ParameterError(f"per_class must be at least 1, got {per_class}.")
    choice = list(classes) if isinstance(classes, Sequence) else classes
    # The class of the source is part of the content: another name for it would rename networks.
    parts = [FORMAT, type(source).__name__, source.signature(), split, size, choice, per_class, *source.fitting]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _prepare(path: Path, loaded: Loaded) -> None:
    tensors = {"pixels": loaded.pixels.permute(0, 2, 3, 1), "places": torch.tensor(loaded.places)}
    notes = json.dumps(SEAL | {"failures": loaded.failures, "boxes": loaded.boxes})
    with atomic_path(path) as part:
        safetensors.torch.save_file(tensors, part, {"notes": notes})


def _prepared(path: Path, skip_corrupt: bool) -> Loaded | None:
    """What an earlier call decoded; None where there is nothing whole, or it left out images that this call may not."""
    if not path.is_file():
        return None
    try:
        verify(path)
        with safetensors.safe_open(path, framework="pt") as file:
            notes = json.loads(file.metadata()["notes"])
            pixels, places = file.get_tensor("pixels").permute(0, 3, 1, 2), file.get_tensor("places").tolist()
            loaded = Loaded(places, pixels, notes["boxes"], notes["failures"])
    except (StoreError, safetensors.SafetensorError, OSError, KeyError, ValueError, TypeError):
        return None
    if loaded.failures and not skip_corrupt:
        return None
    for failure in loaded.failures:
        warnings.warn(f"Left out: {failure}", stacklevel=3)
    return loaded


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
