"""What a split of a classification set holds: one kind of source for each layout."""

import difflib
import os
import re
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from neuron_consistency import taxonomy
from neuron_consistency.data.archive import Files, unpacked
from neuron_consistency.data.decode import decode_image, fit
from neuron_consistency.errors import DatasetError, ParameterError

SPLITS = ("train", "val")
IMAGES = (".jpeg", ".jpg", ".jfif", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
UNREAD = (".gif", ".heic", ".heif", ".avif", ".jp2", ".tga", ".svg", ".psd", ".raw", ".dng", ".cr2", ".nef", ".npy")
Box = tuple[int, int, int, int]
Known = dict[str, tuple[str, str]]  # a class by what it is called in the files: its name and its synset


@dataclass(frozen=True)
class Listing:
    """The chosen images of a split: `items` are what the source reads them by.

    Shape:
        labels: (N,) int64, or (N, K) float32 of 0 and 1 where an image may have several; items: (N,) names or numbers;
        boxes: (N, 4) in a unit square, or None; owners: (M, 2) int64, the image and the class of each of M boxes where
        an image may have several.
    """

    classes: tuple[str, ...]
    synsets: tuple[str, ...]
    labels: Tensor
    items: np.ndarray
    boxes: Tensor | None = None
    owners: Tensor | None = None


class Source(ABC):
    """One split of a set, found but not read. A class of sources serves the `sets` it names, and registers by that.

    Attributes:
        sets: names of the sets, each with what is accepted on disk and where it is to be had.
        options: names of what may be chosen beside the split.
        tells: what its sets know of an image ("boxes", "masks"), and under what condition ("" is always).
        strange: what is said of other options.
        processes: worker processes that read a set into memory; 0 is threads, which serve files well.
        fitting: how images are fitted, where that was chosen; part of the fingerprint then.
    """

    sets: ClassVar[dict[str, tuple[str, str]]] = {}
    options: ClassVar[tuple[str, ...]] = ()
    tells: ClassVar[dict[str, str]] = {}
    strange: ClassVar[str] = "Options that {!r} does not have"
    name: str
    split: str
    file_backed = False
    has_masks = False
    processes = 0
    fitting: tuple[Any, ...] = ()

    @classmethod
    def open(cls, name: str, split: str, root: Path | None, *, download: bool, **options: Any) -> "Source | None":
        """The split in the folder `root`, fetched where that is wanted and possible; None where it is not there."""
        raise NotImplementedError

    @abstractmethod
    def signature(self) -> str:
        """A hash that changes with the content, found without decoding an image."""

    @abstractmethod
    def listing(self, classes: int | Sequence[str] | None, per_class: int | None) -> Listing:
        """The first `per_class` images of each of the chosen classes."""

    @abstractmethod
    def read(self, item: Any, size: int, classes: Sequence[str]) -> tuple[Tensor, list[Box]]:
        """A listed image (3, size, size) uint8; and its boxes, from a source that knows them only then.

        `classes` are those of its listing.
        """

    def has_mask(self, item: Any) -> bool:
        """Whether `mask` can read one."""
        return self.has_masks

    def mask(self, item: Any, size: int, classes: Sequence[str]) -> Tensor:
        """Where the objects of an image are: (size, size) uint8, 0 the background, c + 1 the c-th class (or just 1)."""
        raise DatasetError(f"{self.name} has no masks of its objects.")


@dataclass(frozen=True)
class Layout:
    """Where a split may be.

    Attributes:
        archives: a pattern of the names of the set's folders and archives.
        folders: at or in these, the folders that may hold it; "*" is every one directly inside.
        known: whether a folder holds it.
        first: a name taken before the others.
        tar: whether it is also found in tar archives, which are unpacked.
    """

    archives: str
    folders: tuple[str, ...]
    known: Callable[[Files], bool]
    first: str = ""
    tar: bool = False

    def find(self, root: Path) -> Files | None:
        """The fitting folder at or in `root`, folders before archives.

        Raises:
            DatasetError: several folders, or several zips, fit.
        """
        named = [path for path in (root.iterdir() if root.is_dir() else ()) if re.fullmatch(self.archives, path.name)]
        found: dict[Path, Files] = {}
        for place in [root, *sorted(named, key=lambda path: (_packed(path), path.name != self.first, path.name))]:
            if found and _packed(place) and (_is_tar(place) or not any(map(_packed, found))):
                break
            if self.tar and place.is_file() and _is_tar(place):
                place = unpacked(place)
            elif place.is_file() and place.suffix != ".zip" and (self.tar or place != root):
                continue
            if (inner := self._within(Files(place), below=place != root)) is not None:
                found[place] = inner
                if place in (root, root / self.first):
                    break
        if len(found) > 1:
            raise DatasetError(
                f"{root} holds several such sets: {', '.join(path.name for path in found)}. Name the one that is meant "
                "as the folder of the data, or move the others away."
            )
        return next(iter(found.values()), None)

    def _within(self, files: Files, *, below: bool) -> Files | None:
        inside = files.folders() if "*" in self.folders and (files.zip or below) else []
        names = [name for folder in self.folders for name in (inside if folder == "*" else [folder])]
        places = (files.within(name) if name else files for name in names)
        return next((place for place in places if self.known(place)), None)


def _is_tar(path: Path) -> bool:
    return bool(re.search(r"\.(tar(\.\w+)?|t[gbx]z2?)$", path.name))


def _packed(path: Path) -> bool:
    """Whether it is an archive, or was unpacked from one beside it."""
    return path.is_file() or path.suffix == ".unpacked"


class FileSource(Source):
    """Image files, each read and fitted as asked for."""

    archive: ClassVar[tuple[str, str] | None] = None  # address and MD5 of one that holds the set
    margin: float | None = 1
    interpolation = "bilinear"

    def __init__(self, name: str, split: str, files: Files) -> None:
        self.name, self.split, self.files, self.unread = name, split, files, Counter[str]()

    @staticmethod
    @abstractmethod
    def layout(name: str, split: str, **options: Any) -> Layout:
        """Where the split may be.

        Raises:
            ParameterError: an option has an impossible value.
        """

    @classmethod
    def open(cls, name: str, split: str, root: Path | None, *, download: bool, **options: Any) -> "Source | None":
        layout = cls.layout(name, split, **options)
        if root is None:
            return None
        files = layout.find(root)
        if files is None and download:
            try:
                cls.download(name, split, root)
            except (OSError, RuntimeError) as error:
                raise DatasetError(
                    f"{name} cannot be downloaded ({error}). Get it from {cls.sets[name][1]}."
                ) from error
            files = layout.find(root)
        return None if files is None else cls(name, split, files, **options)

    @classmethod
    def download(cls, name: str, split: str, root: Path) -> None:
        """Fetches the split into the folder, where it has a public address."""
        from torchvision.datasets.utils import download_url

        if cls.archive is not None:
            download_url(cls.archive[0], root, md5=cls.archive[1])

    def require(self, *folders: str) -> None:
        """Raise DatasetError where a folder of the layout is not there."""
        if missing := [folder for folder in folders if not self.files.has(folder)]:
            raise DatasetError(f"{self.files} has no folder {missing[0]}: unpack the official archive there again.")

    def images_in(self, folder: str) -> list[str]:
        """Names of the image files below a folder; those of kinds that are not read are counted."""
        names = self.files.names(f"{folder}/") if self.files.has(f"{folder}/") else []
        self.unread.update(name[name.rindex(".") :] for name in names if name.lower().endswith(UNREAD))
        return [name for name in names if name.lower().endswith(IMAGES)]

    def read(self, item: Any, size: int, classes: Sequence[str]) -> tuple[Tensor, list[Box]]:
        name = os.fsdecode(item)
        image = decode_image(self.files.read(name), f"{self.files}/{name}")
        return fit(image, size, margin=self.margin, interpolation=self.interpolation), []


def choose(known: Known, classes: int | Sequence[str] | None, dataset: str) -> Known:
    """The chosen classes: all, `classes` evenly spaced ones, or those named (by name, synset or lemma)."""
    keys, synsets = list(known), [wnid for _, wnid in known.values()]
    if classes is None:
        return known
    if isinstance(classes, int):
        if not 1 <= classes <= len(keys):
            raise ParameterError(f"classes={classes}, but this copy of {dataset} has {len(keys)} classes.")
        return {key: known[key] for key in (keys[place * len(keys) // classes] for place in range(classes))}
    shown = display([name for name, _ in known.values()], synsets)
    exact, loose = dict[str, list[str]](), dict[str, list[str]]()
    for (key, (name, wnid)), said in zip(known.items(), shown, strict=True):
        alone = wnid and synsets.count(wnid) == 1  # a synset that several classes share names none of them
        own = [taxonomy.lemma(wnid), taxonomy.synset_name(wnid), wnid] if alone else []
        for called in {name, said, *own[1:]}:
            exact.setdefault(called, []).append(key)
        for called in {word.lower() for word in (name, said, *own)}:
            loose.setdefault(called, []).append(key)
    chosen: dict[str, str] = {}
    for asked in classes:
        keys = exact.get(asked) or loose.get(asked.lower(), [])
        if not keys:
            close = ", ".join(difflib.get_close_matches(asked.lower()[: taxonomy.COMPARED], loose, n=3, cutoff=0.4))
            names = ", ".join([name for name, _ in known.values()][:10])
            raise DatasetError(f"Unknown class {asked[: taxonomy.COMPARED]!r} of {dataset}. Closest: {close or names}.")
        if len(keys) > 1:
            which = ", ".join(f"{known[key][0]} ({known[key][1]})" for key in keys)
            raise DatasetError(f"The class {asked!r} of {dataset} may be each of {which}. Name the one that is meant.")
        if keys[0] in chosen:
            raise DatasetError(f"The classes {chosen[keys[0]]!r} and {asked!r} of {dataset} are one: name it once.")
        chosen[keys[0]] = asked
    return {key: known[key] for key in chosen}


def gather(
    source: Source, chosen: Known, images: Mapping[str, Sequence[str] | Sequence[int]], per_class: int | None
) -> Listing:
    """The first `per_class` images of each of the chosen classes as one list."""
    if unread := getattr(source, "unread", None):
        kinds = ", ".join(f"{count} of {kind}" for kind, count in sorted(unread.items()))
        warnings.warn(f"Left out of {source.name}, as no kind of image that is read here: {kinds}.", stacklevel=3)
    names, synsets = zip(*chosen.values(), strict=True) if chosen else ((), ())
    empty = [name for key, (name, _) in chosen.items() if not images[key]]
    if empty or not names:
        kind = f"{source.split} " if source.split in SPLITS else ""
        raise DatasetError(f"{source.name} has no {kind}images of {', '.join(empty[:5]) or 'any class'}.")
    kept = [images[key][:per_class] for key in chosen]
    items = [os.fsencode(item) if isinstance(item, str) else item for own in kept for item in own]
    labels = torch.repeat_interleave(torch.arange(len(kept)), torch.tensor([len(own) for own in kept]))
    return Listing(display(names, synsets), synsets, labels, np.array(items))


def display(names: Sequence[str], synsets: Iterable[str]) -> tuple[str, ...]:
    """Class names for tables: a wnid becomes its lemma, with the wnid where two share it (crane, maillot).

    The name of a class without a synset ("") stays as it is.
    """
    shown = [
        taxonomy.lemma(wnid) if name == wnid else name.replace("_", " ") if wnid else name
        for name, wnid in zip(names, synsets, strict=True)
    ]
    return tuple(f"{text} ({name})" if shown.count(text) > 1 else text for text, name in zip(shown, names, strict=True))
