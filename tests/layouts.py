"""Datasets written small, in the layouts of their archives."""

import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from neuron_consistency.data.image_set import ImageSet, MultiLabelSet
from neuron_consistency.data.load import load_images
from neuron_consistency.data.sources.imagenet9 import VARIANTS


def photo(value: int, size: tuple[int, int] = (64, 64), kind: str = "JPEG", mode: str = "RGB") -> bytes:
    """An image file of one grey level."""
    file = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value, value, value)).save(file, kind, quality=95)
    return file.getvalue()


def write(root: Path, files: dict[str, bytes]) -> Path:
    """The files in a folder."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def zipped(root: Path, files: dict[str, bytes], name: str) -> Path:
    """The files in a zip archive in a folder."""
    with zipfile.ZipFile(root / name, "w") as archive:
        for member, data in files.items():
            archive.writestr(member, data)
    return root / name


def tarred(root: Path, files: dict[str, bytes], name: str) -> Path:
    """The files in a tar archive in a folder, compressed as its name says."""
    with tarfile.open(root / name, "w:gz" if name.endswith("gz") else "w") as archive:
        for member, data in files.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return root / name


def packed(root: Path, files: dict[str, bytes], name: str) -> Path:
    """A folder that holds the files, or the archive of that name with them."""
    root.mkdir(parents=True, exist_ok=True)
    if not name:
        return write(root, files)
    (zipped if name.endswith("zip") else tarred)(root, files, name)
    return root


def levels(images: ImageSet) -> list[int]:
    """The mean grey level of each image."""
    return [round(255 * float(batch.mean())) for _, batch, _ in images.batches(1, device=torch.device("cpu"))]


def multilabel(name: str, split: str, **options: Any) -> MultiLabelSet:
    """A set whose images may have several labels."""
    images = load_images(name, split, **options)
    assert isinstance(images, MultiLabelSet)
    return images


WNIDS = ["n01443537", "n02123045", "n02124075", "n07753592"]  # goldfish, tabby, Egyptian cat, banana


def tiny(classes: Iterable[str] = WNIDS, per_class: int = 3) -> dict[str, bytes]:
    """Tiny ImageNet's official layout; image n of class c has the grey level 40 c + 10 n; one is of one channel."""
    files = {"wnids.txt": "\n".join(reversed(list(classes))).encode() + b"\n"}
    annotations = []
    for c, wnid in enumerate(classes):
        names = [f"{wnid}_{n}.JPEG" for n in range(per_class)]
        for n, name in enumerate(names):
            files[f"train/{wnid}/images/{name}"] = photo(40 * c + 10 * n, mode="L" if n == 1 else "RGB")
        boxes = "".join(f"{name}\t0\t8\t31\t{63 - n}\n" for n, name in enumerate(names))
        files[f"train/{wnid}/{wnid}_boxes.txt"] = boxes.encode()
        for n in range(2):
            files[f"val/images/val_{2 * c + n}.JPEG"] = photo(40 * c + 5)
            annotations.append(f"val_{2 * c + n}.JPEG\t{wnid}\t4\t0\t60\t55\n")
    files["val/val_annotations.txt"] = "".join(reversed(annotations)).encode()
    return {f"tiny-imagenet-200/{name}": data for name, data in files.items()}


BIRDS = ["002.Laysan_Albatross", "003.Sooty_Albatross", "010.Red_winged_Blackbird"]


def cub() -> dict[str, bytes]:
    """Four images a class of 60 x 40 pixels: the first, second and fourth to train on; image n has the grey level 20 n.

    The tables are in falling order, so that only their numbers tell what belongs together.
    """
    images = [f"{bird}/{bird[4:]}_{n}.jpg" for bird in BIRDS for n in range(4)]
    rows = {
        "images.txt": [f"{n} {name}" for n, name in enumerate(images, 1)],
        "image_class_labels.txt": [f"{n} {(n - 1) // 4 + 1}" for n in range(1, 13)],
        "train_test_split.txt": [f"{n} {int(n % 4 != 3)}" for n in range(1, 13)],
        "bounding_boxes.txt": [f"{n} {10.0 + n} 5.0 20.0 30.0" for n in range(1, 13)],
        "classes.txt": [f"{n} {bird}" for n, bird in enumerate(BIRDS, 1)],
        "parts/parts.txt": ["1 back", "2 left eye", "3 tail"],
        "parts/part_locs.txt": [
            f"{n} {part} {x} {y} {seen}"
            for n in range(1, 13)
            for part, x, y, seen in [(1, 30.0, 20.0, 1), (2, 0.0, 0.0, 0), (3, 20.0 - n, 39.0, 1)]
        ],
    }
    files = {name: "\n".join(reversed(lines)).encode() + b"\n" for name, lines in rows.items()}
    files["parts/parts.txt"] = "\n".join(rows["parts/parts.txt"]).encode()
    files |= {f"images/{name}": photo(20 * n, (60, 40)) for n, name in enumerate(images, 1)}
    return {f"CUB_200_2011/{name}": data for name, data in files.items()}


# By image: (class, xmin, ymin, xmax, ymax, difficult), first and last pixels of 40 x 20, counted from 1.
TRAIN: dict[str, list[tuple[str, int, int, int, int, int]]] = {
    "000005": [("dog", 1, 1, 20, 10, 0), ("person", 21, 11, 40, 20, 0), ("dog", 21, 1, 40, 10, 0)],
    "000007": [("person", 1, 1, 40, 20, 0), ("cat", 1, 1, 4, 4, 1)],
    "000009": [("cat", 11, 1, 30, 20, 0)],
    "000012": [("cat", 1, 1, 10, 10, 1)],
}


TEST = {"000001": TRAIN["000005"], "000002": TRAIN["000009"]}


NAMED = ["dog", "person", "cat"]


def annotation(objects: list[tuple[str, int, int, int, int, int]]) -> bytes:
    parts = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    text = "".join(
        f"<object><name>{name}</name><pose>Left</pose><difficult>{difficult}</difficult><bndbox><xmin>{x0}</xmin>"
        f"<ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}.0</ymax></bndbox>{parts}</object>"
        for name, x0, y0, x1, y1, difficult in objects
    )
    size = "<size><width>40</width><height>20</height><depth>3</depth></size>"
    return f"<annotation><folder>VOC</folder>{size}<segmented>1</segmented>{text}</annotation>".encode()


def segmentation(numbers: np.ndarray, mode: str = "P") -> bytes:
    image, file = Image.fromarray(numbers.astype("u1")), io.BytesIO()
    if mode == "P":
        image = image.convert("P")
        image.putdata(numbers.ravel().tolist())
        image.putpalette([n // 3 * 40 % 256 for n in range(768)])
    image.convert(mode).save(file, "PNG")
    return file.getvalue()


def devkit(year: str = "VOC2007", *lists: str) -> dict[str, bytes]:
    """Images of 40 x 20, in grey levels 10, 20, ... in order of the lists; of the first of each list there is a mask:
    dog (12) above, person (15) to the right below, a void border (255) between them, the rest background."""
    names = {"trainval": TRAIN, "train": TRAIN, "test": TEST, "val": TEST}
    numbers = np.zeros((20, 40), dtype=int)
    numbers[:8], numbers[8:12], numbers[12:, 20:] = 12, 255, 15
    files = {}
    for kind in lists or ("trainval", "test"):
        files[f"{year}/ImageSets/Main/{kind}.txt"] = "\n".join(names[kind]).encode() + b"\n"
        for n, (stem, objects) in enumerate(names[kind].items(), 1):
            files[f"{year}/Annotations/{stem}.xml"] = annotation(objects)
            files[f"{year}/JPEGImages/{stem}.jpg"] = photo(10 * n, (40, 20))
            if n == 1:
                files[f"{year}/SegmentationClass/{stem}.png"] = segmentation(numbers)
    return {f"VOCdevkit/{name}": data for name, data in files.items()}


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
