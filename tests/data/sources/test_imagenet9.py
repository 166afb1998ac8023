"""ImageNet-9 with its variants, in the layout of the Backgrounds Challenge."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layouts import levels, packed, photo, write
from neuron_consistency.data.load import dataset_fingerprint, load_images
from neuron_consistency.data.sources.imagenet9 import VARIANTS
from neuron_consistency.errors import DatasetError, ParameterError

CLASSES = [
    "00_dog", "01_bird", "02_wheeled vehicle", "03_reptile", "04_carnivore", "05_insect", "06_musical instrument",
    "07_primate", "08_fish",
]  # fmt: skip
CHALLENGE = VARIANTS[:-1]  # without in9l, which is to train on


def array(mask: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, mask)
    return file.getvalue()


def challenge() -> dict[str, bytes]:
    """One image a class and variant, its grey level 25 c + v; the object's mask covers the c + 1 left columns of 10."""
    files = {}
    for c, folder in enumerate(CLASSES):
        for v, variant in enumerate(CHALLENGE):
            stem = f"n0208407{c}_{100 + c}"
            name = f"fg_{stem}_bg_n01503061_7" if variant.startswith("mixed") else stem
            files[f"bg_challenge/{variant}/val/{folder}/{name}.JPEG"] = photo(25 * c + v, (20, 20))
        mask = np.zeros((20, 20), dtype=bool)
        mask[:, : 2 * (c + 1)] = True
        files[f"bg_challenge/fg_mask/val/{folder}/{stem}.npy"] = array(mask)
    return files


def training(name: str = "in9l") -> dict[str, bytes]:
    """Two images a class to train on, and one that nobody has looked through."""
    files = {f"{name}/train/{f}/{n}.JPEG": photo(20 * c + n) for c, f in enumerate(CLASSES) for n in range(2)}
    return files | {f"{name}/val/{f}/0.JPEG": photo(255) for f in CLASSES}


@pytest.mark.parametrize("archive", ["", "backgrounds_challenge_data.tar.gz", "bg_challenge.zip"])
def test_each_variant_has_its_own_images_of_the_same_classes(tmp_path: Path, archive: str) -> None:
    root = packed(tmp_path / "data", challenge(), archive)
    for v, variant in enumerate(CHALLENGE):
        images = load_images("imagenet9", "val", root=root, image_size=20, variant=variant)
        assert levels(images) == [25 * c + v for c in range(9)]
        assert images.labels.tolist() == list(range(9))
    assert images.classes[2] == "wheeled vehicle"
    assert images.synsets[0] == "n02084071"
    default = load_images("imagenet9", "val", root=root, image_size=20)
    assert levels(default) == [25 * c for c in range(9)]
    hyphened = load_images("imagenet9", "val", root=root, image_size=20, variant="mixed-rand")
    assert levels(hyphened) == [25 * c + 2 for c in range(9)], "the rendered scenes spell their variants so"


@pytest.mark.parametrize("archive", ["", "in9l.tar.gz"])
def test_training_images_are_the_large_set_by_default(tmp_path: Path, archive: str) -> None:
    root = packed(tmp_path / "data", training(), archive)
    assert levels(load_images("imagenet9", "train", root=root, image_size=16)) == [
        20 * c + n for c in range(9) for n in range(2)
    ]
    chosen = load_images("imagenet9", "train", root=root, image_size=16, classes=["fish", "n02084071"], per_class=1)
    assert (chosen.classes, levels(chosen)) == (("fish", "dog"), [160, 0])
    held = load_images("imagenet9", "val", root=root, image_size=16, variant="in9l")
    assert levels(held) == [255] * 9


def test_images_nobody_looked_through_never_stand_in_for_the_challenge(tmp_path: Path) -> None:
    """The training archive of a variant has a val/ too."""
    root = packed(tmp_path / "data", training("mixed_rand"), "mixed_rand.tar.gz")
    assert len(load_images("imagenet9", "train", root=root, image_size=16, variant="mixed_rand")) == 18
    with pytest.raises(DatasetError, match=r"The val images of imagenet9 are not in .*bg_challenge/<variant>/val/"):
        load_images("imagenet9", "val", root=root, image_size=16, variant="mixed_rand")
    packed(tmp_path / "data", challenge(), "backgrounds_challenge_data.tar.gz")
    images = load_images("imagenet9", "val", root=root, image_size=16, variant="mixed_rand")
    assert levels(images) == [25 * c + 2 for c in range(9)]


def test_masks_belong_to_the_variants_that_show_the_object(tmp_path: Path) -> None:
    """A mixed image is named by its foreground first, an original by itself."""
    files = challenge()
    del files["bg_challenge/fg_mask/val/00_dog/n02084070_100.npy"]
    root = write(tmp_path, files)
    for variant in ("original", "mixed_same", "mixed-rand", "mixed_next", "only_fg"):
        images = load_images("imagenet9", "val", root=root, image_size=10, variant=variant)
        assert images.masked.tolist() == [False] + [True] * 8
        masks = images.masks(torch.arange(1, 9))
        assert (masks.shape, masks.dtype) == ((8, 1, 10, 10), torch.bool)
        assert masks[:, 0].sum((1, 2)).tolist() == [10 * (c + 1) for c in range(1, 9)]
        assert masks[:, :, :, 0].all()
        with pytest.raises(DatasetError, match=r"00_dog/n02084070_100.npy cannot be read"):
            images.masks(torch.tensor([0]))
    for variant in ("no_fg", "only_bg_b", "only_bg_t"):
        images = load_images("imagenet9", "val", root=root, image_size=10, variant=variant)
        assert not images.masked.any()
        with pytest.raises(DatasetError, match=r"imagenet9 .val. has no masks.*use the explanation"):
            images.masks(torch.tensor([1]))


@pytest.mark.parametrize(
    "data", [array(np.array([[{}]], dtype=object)), array(np.zeros(5)), array(np.zeros((2, 2, 3))), b"", b"no array"]
)
def test_a_mask_that_is_no_map_is_named_and_never_unpickled(tmp_path: Path, data: bytes) -> None:
    files = challenge() | {"bg_challenge/fg_mask/val/00_dog/n02084070_100.npy": data}
    images = load_images("imagenet9", "val", root=write(tmp_path, files), image_size=10)
    with pytest.raises(DatasetError, match=r"n02084070_100.npy is not a map of numbers"):
        images.masks(torch.tensor([0]))


def test_fingerprints_tell_variants_apart_where_files_do_not(tmp_path: Path) -> None:
    files = {f"bg_challenge/{v}/val/{f}/1.JPEG": photo(7) for v in ("only_bg_b", "only_bg_t") for f in CLASSES}
    root = write(tmp_path, files)
    prints = {
        dataset_fingerprint("imagenet9", "val", root=root, image_size=16, variant=v)
        for v in ("only_bg_b", "only_bg_t", "only-bg-t")
    }
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"variant": "mixed"}, ParameterError, "variant='mixed': ImageNet-9 has original, mixed_same, mixed_rand"),
        ({"split": "train"}, DatasetError, r"The train images of imagenet9 are not in .*in9l/train.*backgrounds_chall"),
        ({"colour": 1}, ParameterError, "Options that 'imagenet9' does not have: colour"),
        ({"classes": ["mammal"]}, DatasetError, "Unknown class 'mammal' of imagenet9"),
    ],
)
def test_impossible_wish_is_named(tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str) -> None:
    wish: dict[str, Any] = {"name": "imagenet9", "split": "val", "image_size": 16, **change}
    with pytest.raises(error, match=message):
        load_images(root=write(tmp_path, challenge()), **wish)


def test_a_strange_class_folder_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, challenge() | {"bg_challenge/original/val/09_plant/1.JPEG": photo(1)})
    with pytest.raises(DatasetError, match=r"original/val/09_plant is not a class of ImageNet-9.*Unpack"):
        load_images("imagenet9", "val", root=root, image_size=16)
