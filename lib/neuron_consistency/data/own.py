"""Images of one's own to score a network on: a folder of classes, fitted as the network wants its images."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from neuron_consistency import taxonomy
from neuron_consistency.data.archive import Files
from neuron_consistency.data.find import SOURCES, open_source, own_place
from neuron_consistency.data.image_set import ImageSet
from neuron_consistency.data.load import read_images
from neuron_consistency.data.sources.base import SPLITS
from neuron_consistency.data.sources.folders import ByFolder
from neuron_consistency.errors import DatasetError, ParameterError


class OwnFolder(ByFolder):
    """A folder or zip of classes as it is, also below a single folder: classes need no synsets."""

    def __init__(self, place: Path, split: str | None) -> None:
        files = Files(place)
        folders = files.folders()
        if len(folders) == 1 and folders[0] not in SPLITS and files.folders(f"{folders[0]}/"):
            files = files.within(folders[0])
        super().__init__("folder", split or ("val" if files.has("val/") else "train"), files)
        self.name = place.resolve().name.removesuffix(".zip")
        if split is None and not self.halves:
            self.split = "all"

    def _synset(self, folder: str, table: dict[str, str]) -> str:
        if folder in table:
            return super()._synset(folder, table)
        with suppress(DatasetError):
            return taxonomy.resolve(folder) if re.fullmatch(r"n\d{8}", folder) else ""
        return ""


def load_folder_set(
    place: str | Path, *, split: str | None = None, image_size: int, margin: float = 1.0,
    interpolation: str = "bilinear", **reading: Any,
) -> ImageSet:  # fmt: skip
    """A folder or zip of classes of one's own, or a set of `load_images` by name.

    The classes of a folder need no synsets: those of `synsets.csv` and of folders called by a wnid are known, all
    others are "". A folder's name stays as it is.

    Args:
        place: the path, from here or from the folder that NEURON_CONSISTENCY_DATA names; or the name.
        split: "train" or "val"; None is all images of a folder without halves, else val.
        image_size: side in pixels.
        margin: the short side is resized to `margin * image_size`, then the central square is cut. It and
            `interpolation` hold for photographs in folders of classes; other sets are fitted as in `load_images`.
        interpolation: "bilinear" or "bicubic", with antialiasing.
        reading: classes, per_class, cache, skip_corrupt and memory of `load_images`.

    Raises:
        DatasetError: fewer than two classes, a class without images, an image that cannot be read, several labels an
            image, or as `load_images`.
        ParameterError: an impossible margin or interpolation, or as `load_images`.
    """
    if not 1 <= margin <= 4 or interpolation not in ("bilinear", "bicubic") or split not in (None, *SPLITS):
        raise ParameterError(
            f"margin={margin!r}, interpolation={interpolation!r}, split={split!r}: use a margin of at least 1 "
            f"and at most 4, bilinear or bicubic, and {', '.join(SPLITS)} or None"
        )
    path = None if str(place) in SOURCES else own_place(place)
    if path is None and str(place) not in SOURCES and {*str(place)} & {*"/\\."}:
        raise ParameterError(
            f"There is no folder or zip {place}: give one that holds a folder of images for each class."
        )
    source = OwnFolder(path, split) if path else open_source(str(place), split or "val", None)
    if isinstance(source, ByFolder):
        source.margin, source.interpolation = source.fitting = margin, interpolation
    images = read_images(source, image_size=image_size, **reading)
    if images.labels.ndim > 1:
        raise DatasetError(f"{place} has images of several labels: use a set with one label an image.")
    if images.num_classes < 2:
        raise DatasetError(f"{place} has one class, {images.classes[0]}: at least two are needed.")
    return images
