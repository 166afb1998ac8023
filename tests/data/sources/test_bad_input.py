"""What is said of damaged, missing and strange files of each set, and of wishes that cannot be granted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layouts import NAMED, WNIDS, array, challenge, cub, devkit, photo, segmentation, tiny, write
from neuron_consistency.data.load import load_images
from neuron_consistency.errors import DatasetError, ParameterError

Change = tuple[bytes, bytes] | bytes | None  # of a file: other text in it, another content, or it is missing
MADE = {"tiny-imagenet": tiny, "cub200": cub, "voc2007": devkit, "imagenet9": challenge}
FOLDER = {
    "tiny-imagenet": "tiny-imagenet-200",
    "cub200": "CUB_200_2011",
    "voc2007": "VOCdevkit/VOC2007",
    "imagenet9": "bg_challenge",
}
DOG_MASK = "fg_mask/val/00_dog/n02084070_100.npy"
FILES: list[tuple[str, str, Change, str]] = [
    (
        "tiny-imagenet",
        "train/n01443537/n01443537_boxes.txt",
        (b"\t31\t", b" 31 "),
        r"n01443537_boxes.txt: \['n01443537_0.JPEG', '0', '8 31 63'\] is not a row of a Tiny ImageNet list of boxes",
    ),
    ("tiny-imagenet", f"train/{WNIDS[2]}/images/", None, f"no train images of {WNIDS[2]}"),
    ("cub200", "bounding_boxes.txt", (b"1 11.0 5.0 20.0 30.0\n", b""), r"s.txt has no row of image 1\. Unpack"),
    ("cub200", "bounding_boxes.txt", (b"1 11.0 5.0", b"1 11.0"), r"s.txt: '1 11.0 20.0 30.0' is not a row"),
    ("cub200", "bounding_boxes.txt", (b"1 11.0 5.0", b"1 11.0 x"), r"s.txt: '11.0 x 20.0 30.0' holds no numbers"),
    ("cub200", "image_class_labels.txt", (b"\n4 1\n", b"\n"), r"image_class_labels.txt has no row of image 4"),
    ("cub200", "train_test_split.txt", (b"\n2 1\n", b"\ntwo 1\n"), r"train_test_split.txt: 'two 1' is not a row"),
    ("cub200", "classes.txt", (b"10.Red_winged", b"10.Red_legged"), r"'010.Red_legged_Blackbird' is not a class"),
    ("cub200", "images.txt", None, r"cub200 are not in .*CUB_200_2011.tgz"),
    ("cub200", "images/", None, r"CUB_200_2011 has no folder images/: unpack the official archive"),
    ("cub200", "classes.txt", None, r"classes.txt cannot be read from .*CUB_200_2011 .No such file"),
    ("cub200", "train_test_split.txt", None, r"train_test_split.txt cannot be read"),
    ("voc2007", "Annotations/000005.xml", b"<annotation><size>", r"/000005.xml is not an annotation of .*unpack"),
    ("voc2007", "Annotations/000005.xml", (b">40<", b">0<"), r"000005.xml is not an annotation"),
    ("voc2007", "Annotations/000005.xml", (b"xmin", b"x"), r"000005.xml is not an annotation"),
    ("voc2007", "Annotations/000005.xml", None, r"Annotations/000005.xml cannot be read from .*VOC2007"),
    ("voc2007", "ImageSets/Main/trainval.txt", b"\n", r"trainval.txt lists no images"),
    ("voc2007", "ImageSets/Main/trainval.txt", b"../../secret\n", r"has no train images of"),
    ("voc2007", "SegmentationClass/000005.png", b"no image", r"Class/000005.png is not a readable image"),
    ("voc2007", "SegmentationClass/000005.png", segmentation(np.zeros((20, 40)))[:60], r"is not a readable image"),
    ("voc2007", "SegmentationClass/000005.png", segmentation(np.zeros((20, 40)), "RGB"), r"5.png has colours, not num"),
    ("voc2007", "Annotations/", None, r"VOC2007 has no folder Annotations/: unpack the official archive"),
    ("voc2007", "JPEGImages/", None, r"VOC2007 has no folder JPEGImages/: unpack the official archive"),
    ("imagenet9", "original/val/09_plant/1.JPEG", photo(1), r"09_plant is not a class of ImageNet-9.*Unpack"),
    *(
        ("imagenet9", DOG_MASK, data, r"n02084070_100.npy is not a map of numbers")  # and is never unpickled
        for data in (
            array(np.array([[{}]], dtype=object)), array(np.zeros(5)), array(np.zeros((2, 2, 3))), b"", b"no array",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "change", "message"), FILES)
def test_damaged_and_missing_files_are_named(
    tmp_path: Path, name: str, file: str, change: Change, message: str
) -> None:
    files, changed = MADE[name](), f"{FOLDER[name]}/{file}"
    if change is None:
        assert any(kept.startswith(changed) for kept in files)
        files = {kept: data for kept, data in files.items() if not kept.startswith(changed)}
    elif isinstance(change, tuple):
        assert change[0] in files[changed]
        files[changed] = files[changed].replace(*change)
    else:
        files[changed] = change
    root = write(tmp_path, files)
    if name == "tiny-imagenet" and file.endswith("/"):
        (root / changed).mkdir(parents=True)
    split = "val" if name == "imagenet9" else "train"
    with pytest.raises(DatasetError, match=message):
        load_images(name, split, root=root, image_size=16, classes=NAMED if name == "voc2007" else None).masks(
            torch.tensor([0])
        )


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        (
            "imagenot",
            {},
            ParameterError,
            "Unknown dataset 'imagenot': use cifar10, cub200, folder, imagenet, ",
        ),
        ("tiny-imagenet", {"split": "test"}, ParameterError, "Unknown split 'test'"),
        ("tiny-imagenet", {"classes": ["tabbi"]}, DatasetError, r"Unknown class 'tabbi' .*tabby"),
        ("tiny-imagenet", {"classes": 5}, ParameterError, "has 4 classes"),
        ("tiny-imagenet", {"per_class": 0}, ParameterError, "per_class must be at least 1"),
        ("tiny-imagenet", {"image_size": 0}, ParameterError, "image_size"),
        ("tiny-imagenet", {"seed": 1}, ParameterError, "Options that 'tiny-imagenet' does not have: seed"),
        ("cub200", {"variant": "original"}, ParameterError, "Options that 'cub200' does not have: variant"),
        ("voc2010", {}, ParameterError, "Unknown dataset 'voc2010': use .*voc2007"),
        ("voc2007", {"variant": "original"}, ParameterError, "Options that 'voc2007' does not have: variant"),
        ("voc2007", {"per_class": 0}, ParameterError, "per_class must be at least 1"),
        ("imagenet9", {"variant": "mixed"}, ParameterError, "variant='mixed': ImageNet-9 has original, mixed_same, mi"),
        ("imagenet9", {}, DatasetError, r"The train images of imagenet9 are not in .*in9l/train.*backgrounds_chall"),
        ("imagenet9", {"colour": 1}, ParameterError, "Options that 'imagenet9' does not have: colour"),
        ("imagenet9", {"split": "val", "classes": ["mammal"]}, DatasetError, "Unknown class 'mammal' of imagenet9"),
    ],
)
def test_impossible_wishes_are_named(
    tmp_path: Path, name: str, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    root = write(tmp_path, MADE.get(name, dict)())
    with pytest.raises(error, match=message):
        load_images(**{"name": name, "split": "train", "root": root, "image_size": 16, **change})
