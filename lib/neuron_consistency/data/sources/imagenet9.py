"""ImageNet-9 in its official layout: nine classes, and the same objects before other backgrounds or none."""

import io
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neuron_consistency import taxonomy
from neuron_consistency.data.archive import Files
from neuron_consistency.data.decode import fit_map
from neuron_consistency.data.sources.base import FileSource, Layout, Listing, choose, gather
from neuron_consistency.errors import DatasetError, ParameterError

WITH_OBJECT = ("original", "mixed_same", "mixed_rand", "mixed_next", "only_fg")
VARIANTS = (*WITH_OBJECT, "no_fg", "only_bg_b", "only_bg_t", "in9l")


class ImageNet9(FileSource):
    """A folder a variant, and in it a folder a class of the wanted split; masks lie in fg_mask/, a .npy an image.

    Masks are of the variants that show the object in its place, each found by the number that the image's name begins
    with.

    Source: Xiao et al. 2021, "Noise or Signal", and the release of its Backgrounds Challenge.
    """

    sets: ClassVar = {
        "imagenet9": (
            "bg_challenge/<variant>/val/<class>/ and in9l/train/<class>/, or the official archives "
            "(backgrounds_challenge_data.tar.gz, in9l.tar.gz, <variant>.tar.gz)",
            "https://github.com/MadryLab/backgrounds_challenge",
        )
    }
    options = ("variant",)
    tells: ClassVar = {"masks": "where fg_mask/ lies beside its images"}

    def __init__(self, name: str, split: str, files: Files, *, variant: str | None = None) -> None:
        super().__init__(name, split, files)
        self.variant = variant_of(split, variant)
        self.has_masks = self.variant in WITH_OBJECT and files.has(f"fg_mask/{split}/")

    @staticmethod
    def layout(name: str, split: str, **options: Any) -> Layout:
        chosen = variant_of(split, options.get("variant"))
        # The archives of training images have a val/ too, of images that nobody has looked through.
        training = split == "train" or chosen == "in9l"
        archives = rf"{chosen}(\..*)?" if training else r"(bg|backgrounds)_challenge.*"
        return Layout(archives, ("bg_challenge", ""), lambda files: files.has(f"{chosen}/{split}/"), tar=True)

    def signature(self) -> str:
        masks = [f"fg_mask/{self.split}/"] if self.has_masks else []
        return f"{self.variant} {self.files.signature(f'{self.variant}/{self.split}/', *masks)}"

    def listing(self, classes: int | Sequence[str] | None, per_class: int | None) -> Listing:
        known, place = taxonomy.class_synsets(self.name), f"{self.variant}/{self.split}"
        folders = self.files.folders(f"{place}/")
        if strange := sorted(set(folders) - set(known)):
            raise DatasetError(
                f"{self.files}/{place}/{strange[0]} is not a class of ImageNet-9, which has {', '.join(known)}. "
                "Unpack the official archive again, and keep other folders out of it."
            )
        classes_of = {folder: (folder.partition("_")[2], known[folder]) for folder in folders}
        chosen = choose(classes_of, classes, self.name)
        return gather(self, chosen, {folder: self.images_in(f"{place}/{folder}") for folder in chosen}, per_class)

    def has_mask(self, item: Any) -> bool:
        return self.has_masks and self.files.has(self._mask_file(item))

    def mask(self, item: Any, size: int, classes: Sequence[str]) -> Tensor:
        name = self._mask_file(item)
        try:
            labels = np.load(io.BytesIO(self.files.read(name)), allow_pickle=False)
            if labels.ndim != 2:
                raise ValueError(f"its shape is {labels.shape}")
            return (fit_map(Image.fromarray(labels.astype("u1")), size, margin=self.margin) > 0).to(torch.uint8)
        except (ValueError, TypeError, EOFError) as error:
            raise DatasetError(f"{self.files}/{name} is not a map of numbers ({error}). Unpack it again.") from error

    def _mask_file(self, item: Any) -> str:
        *_, folder, name = item.decode().split("/")
        number = re.search(r"n\d{8}_\d+", name)  # mixed images: fg_<number>_bg_<number>
        return f"fg_mask/{self.split}/{folder}/{number[0] if number else name}.npy"


def variant_of(split: str, variant: str | None) -> str:
    """The variant's folder; without a choice the large set (in9l) to train on and the original images to evaluate on.

    Raises:
        ParameterError: no such variant.
    """
    chosen = ("in9l" if split == "train" else "original") if variant is None else variant.replace("-", "_")
    if chosen not in VARIANTS:
        raise ParameterError(f"variant={variant!r}: ImageNet-9 has {', '.join(VARIANTS)}.")
    return chosen
