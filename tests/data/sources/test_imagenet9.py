"""ImageNet-9 with its variants, in the layout of the Backgrounds Challenge."""

from pathlib import Path

import pytest
import torch

from layouts import CHALLENGE, challenge, levels, packed, training, write
from neuron_consistency.data.load import load_images
from neuron_consistency.errors import DatasetError


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
