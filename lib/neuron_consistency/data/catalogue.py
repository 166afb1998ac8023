"""Sets of images by name: what each is called on disk, where it is to be had, and finding it there."""

import os
import re
from pathlib import Path
from typing import Any

from neuron_consistency.data.backgrounds import ImageNet9
from neuron_consistency.data.birds import Birds
from neuron_consistency.data.classification import ARRAYS, SPLITS, Arrays, ByFolder, Source, TinyImageNet
from neuron_consistency.data.files import Files, unpacked
from neuron_consistency.data.official import Layout, OfficialSource
from neuron_consistency.data.scene_sources import SceneGroups, Scenes
from neuron_consistency.data.voc import SETS as VOC_SETS
from neuron_consistency.data.voc import Voc
from neuron_consistency.errors import DatasetError, ParameterError

TINY = ("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de")
BIRDS = (
    "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
    "97eceeb196236b17998738112f37df78",
)
CLASS_FOLDERS = "{train,val}/<class>/*.JPEG"
KNOWN = {  # name: what is accepted, where it is to be had
    "scenes": ("nothing: they are rendered", "this library"),
    "tiny-imagenet": ("tiny-imagenet-200/ or tiny-imagenet*.zip with the official wnids.txt, train/ and val/", TINY[0]),
    "imagenet": (
        f"imagenet*/, ILSVRC*/ or a zip of that name with {CLASS_FOLDERS}",
        "https://image-net.org/download.php",
    ),
    "imagenette": (f"imagenette2*/ with {CLASS_FOLDERS}", "https://github.com/fastai/imagenette"),
    "cifar10": (ARRAYS["cifar10"] + "/", "https://www.cs.toronto.edu/~kriz/cifar.html"),
    "stl10": (ARRAYS["stl10"] + "/", "https://cs.stanford.edu/~acoates/stl10/"),
    "cub200": (
        "CUB_200_2011/ or CUB_200_2011.tgz with the official images.txt, image_class_labels.txt, train_test_split.txt, "
        "bounding_boxes.txt, parts/ and images/",
        BIRDS[0],
    ),
    "imagenet9": (
        "bg_challenge/<variant>/val/<class>/ and in9l/train/<class>/, or the official archives "
        "(backgrounds_challenge_data.tar.gz, in9l.tar.gz, <variant>.tar.gz)",
        "https://github.com/MadryLab/backgrounds_challenge",
    ),
    **{
        name: (
            f"VOCdevkit/{name.upper()}/ with ImageSets/Main/, Annotations/, JPEGImages/ and SegmentationClass/, or the "
            "official VOC*.tar",
            f"http://host.robots.ox.ac.uk/pascal/VOC/{name}/",
        )
        for name in VOC_SETS
    },
    "scenes-multilabel": ("nothing: they are rendered", "this library"),
    "folder": (f"{CLASS_FOLDERS}, or <class>/*.jpg, and synsets.csv (class,synset)", "any folder of your own"),
}
OFFICIAL: dict[str, type[OfficialSource]] = {"cub200": Birds, "imagenet9": ImageNet9, **dict.fromkeys(VOC_SETS, Voc)}
RENDERED: dict[str, type[Scenes | SceneGroups]] = {"scenes": Scenes, "scenes-multilabel": SceneGroups}


def open_source(name: str, split: str, root: str | Path | None, *, download: bool = False, **options: Any) -> Source:
    """Finds a split of a set by name, or by the path of a folder or zip of classes.

    Raises:
        DatasetError: it is not there; the message says where it was sought, in which layouts, and where to get it.
        ParameterError: unknown set, split or option.
    """
    if split not in SPLITS:
        raise ParameterError(f"Unknown split {split!r}: use {' or '.join(SPLITS)}.")
    if name in RENDERED:
        return RENDERED[name](split, **options)
    if strange := sorted(set(options) - set(OFFICIAL[name].options if name in OFFICIAL else ())):
        raise ParameterError(f"Options that {name!r} does not have: {', '.join(strange)}.")
    if name not in KNOWN:
        if not Path(name).expanduser().exists():
            raise ParameterError(
                f"Unknown dataset {name!r}: use {', '.join(KNOWN)}, or the path of a folder of classes."
            )
        name, root = "folder", name
    place = root or os.environ.get("NEURON_CONSISTENCY_DATA")
    if not place or not Path(place).expanduser().exists():
        raise missing(name, split, place)
    place = Path(place).expanduser()
    if name in ARRAYS:
        if not (place / ARRAYS[name]).is_dir() and not download:
            raise missing(name, split, place)
        return Arrays(name, split, place, download=download)

    def find() -> Files | None:
        if name in OFFICIAL:
            return _find_official(OFFICIAL[name].layout(name, split, options), place)
        return _find(name, split, place)

    files = find()
    if files is None and download:
        _download(name, split, place)
        files = find()
    if files is None:
        raise missing(name, split, place)
    if name in OFFICIAL:
        return OFFICIAL[name](name, split, files, margin=1, **options)
    if name == "tiny-imagenet":
        return TinyImageNet(name, split, files, margin=1)
    return ByFolder(name, split, files, margin=1 if name == "folder" else 256 / 224)


def missing(name: str, split: str, root: str | Path | None) -> DatasetError:
    """The error that says what to do about a set that is not there."""
    layout, page = KNOWN[name]
    where = f"are not in {root}" if root else "have no folder to be looked for in"
    return DatasetError(
        f"The {split} images of {name} {where}. Accepted there: {layout}. Get it from {page}, and let the environment "
        "variable NEURON_CONSISTENCY_DATA (or the argument root) name the folder that holds it."
    )


def _find(name: str, split: str, root: Path) -> Files | None:
    """The first place at or in `root` that has the layout of the set, folders before archives."""
    patterns = {
        "tiny-imagenet": r"tiny-imagenet.*",
        "imagenet": r"(imagenet(?!te).*|ILSVRC.*)",
        "imagenette": r"imagenette2?.*",
        "folder": r"(?!)",
    }
    inside = (
        sorted(root.iterdir(), key=lambda p: (p.is_file(), p.name != "tiny-imagenet-200", p.name))
        if root.is_dir()
        else []
    )
    named = [p for p in inside if re.fullmatch(patterns[name], p.name) and (p.is_dir() or p.suffix == ".zip")]
    for place in [root, *named]:
        files = Files(place)
        below = [*files.folders()] if files.zip or place in named else []
        for inner in [files, *(files.within(folder) for folder in below)]:
            if name == "tiny-imagenet":
                fits = inner.has("wnids.txt") and inner.has(f"{split}/")
            elif name == "folder":
                fits = any(inner.has(f) for f in ("train/", "val/", "synsets.csv", "synsets.tsv")) or not files.zip
            else:
                fits = inner.has(f"{split}/") and bool(re.match(r"n\d{8}", "".join(inner.folders(f"{split}/")[:1])))
            if fits:
                return inner
    return None


def _find_official(layout: Layout, root: Path) -> Files | None:
    """The first folder at or in `root` that has the marks, unpacked folders before archives."""
    inside = sorted(root.iterdir(), key=lambda p: (p.is_file(), p.name)) if root.is_dir() else []
    named = [p for p in inside if re.fullmatch(layout.archives, p.name)]
    for place in [root, *named]:
        if place.is_file() and re.search(r"\.(tar(\.\w+)?|tgz)$", place.name):
            place = unpacked(place)
        elif place.is_file() and place.suffix != ".zip":
            continue
        files = Files(place)
        for folder, mark in layout.places:
            if files.has(f"{folder}/{mark}" if folder else mark):
                return files.within(folder) if folder else files
    return None


def _download(name: str, split: str, root: Path) -> None:
    from torchvision.datasets import Imagenette, VOCDetection
    from torchvision.datasets.utils import download_url

    if name not in ("tiny-imagenet", "imagenette", "cub200", *VOC_SETS):
        raise missing(name, split, root)
    try:
        if name == "imagenette":
            Imagenette(root, split, size="320px", download=True)
        elif name in VOC_SETS:
            VOCDetection(root, year=name[3:], image_set=VOC_SETS[name][split], download=True)
        else:
            address, checksum = BIRDS if name == "cub200" else TINY
            download_url(address, root, md5=checksum)
    except (OSError, RuntimeError) as error:
        raise DatasetError(f"{name} cannot be downloaded ({error}). Get it from {KNOWN[name][1]}.") from error
